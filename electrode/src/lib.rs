//! Electrode: the repetitive jobs of a consensus protocol, done in the Linux kernel with eBPF.

pub mod abi;
#[cfg(feature = "ebpf")]
mod attach;
mod backend;
pub mod clock;
pub mod config;
pub mod endpoint;
mod error;
pub mod net;
pub mod probe;
pub mod model;
pub mod quorum;
pub mod rules;
mod stats;
#[cfg(feature = "fabric")]
pub mod fabric;
pub mod types;
pub mod wire;
pub mod words;
pub use error::{Error, Result};
pub(crate) fn privileged(_: &str) -> bool {
    true
}

pub use endpoint::{Choice, Endpoint, Event, Round};
pub use stats::Stats;
