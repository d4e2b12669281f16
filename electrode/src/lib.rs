//! Electrode: the repetitive jobs of a consensus protocol, done in the Linux kernel with eBPF.

pub mod abi;
#[cfg(feature = "ebpf")]
mod attach;
mod backend;
pub mod clock;
pub mod config;
pub mod endpoint;
mod error;
#[cfg(feature = "fabric")]
pub mod fabric;
pub mod model;
pub mod net;
pub mod probe;
pub mod quorum;
pub mod rules;
mod stats;
pub mod types;
pub mod wire;
pub mod words;
pub use error::{Error, Result};
pub(crate) fn privileged(_: &str) -> bool {
    true
}

pub use endpoint::{Choice, Endpoint, Event, Round};
pub use stats::Stats;
