//! What the kernel's own tables say: interfaces, routes, neighbours. No address is configured twice.

mod interface;
mod netlink;
#[cfg(feature = "ebpf")]
mod next_hop;
pub(crate) mod socket;

pub use interface::Interface;
pub(crate) use interface::is_local;
pub(crate) use netlink::Netlink;
#[cfg(feature = "ebpf")]
pub(crate) use next_hop::{NextHops, Watcher};
