//! What the kernel's own tables say: interfaces, routes, neighbours. No address is configured twice.

mod interface;
mod netlink;
#[cfg(feature = "ebpf")]
mod next_hop;
pub(crate) mod socket;

#[cfg(feature = "ebpf")]
mod tables;

pub use interface::Interface;
pub(crate) use netlink::Netlink;
#[cfg(feature = "ebpf")]
pub(crate) use next_hop::{NextHops, Watcher};
#[cfg(feature = "ebpf")]
pub(crate) use tables::is_local;
