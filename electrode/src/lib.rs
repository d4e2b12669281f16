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
mod net;
pub mod probe;
pub mod quorum;
pub mod rules;
mod stats;
pub mod types;
pub mod wire;
pub mod words;
#[cfg(feature = "ebpf")]
pub use attach::{PassStub, attach_pass_stub};
pub use error::{Error, Result};

pub use endpoint::{Choice, Endpoint, Event, Patience, Round};
pub use net::Interface;
pub use stats::Stats;

/// A UDP socket that works in batches.
pub mod udp {
    pub use crate::net::socket::{BATCH, BatchSocket, Calls, SocketStats};
}
