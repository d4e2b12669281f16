//! What the kernel's own tables say: interfaces, routes, neighbours. No address is configured twice.

mod ethtool;
mod filters;
mod interface;
mod netlink;
#[cfg(feature = "ebpf")]
mod next_hop;
#[cfg(feature = "ebpf")]
mod qdisc_lock;
mod raw_addr;
#[cfg(feature = "ebpf")]
mod raw_tc;
pub(crate) mod socket;

#[cfg(feature = "ebpf")]
mod tables;
mod xdp_features;

#[cfg(feature = "fabric")]
pub(crate) use ethtool::ethtool;
pub(crate) use ethtool::joins_received;
pub use filters::Direction;
pub(crate) use filters::{ClsactFilter, clsact_filters};
pub use interface::{Interface, XdpMode, XdpProgram};
pub(crate) use netlink::Netlink;
#[cfg(feature = "ebpf")]
pub(crate) use next_hop::{NextHops, Watcher};
#[cfg(feature = "ebpf")]
pub(crate) use qdisc_lock::QdiscLock;
#[cfg(feature = "ebpf")]
pub(crate) use raw_tc::{FilterAt, RawTc};
pub use socket::SocketStats;
#[cfg(feature = "ebpf")]
pub(crate) use tables::is_local;
pub(crate) use xdp_features::native_xdp;
