//! Electrode: the repetitive jobs of a consensus protocol, done in the Linux kernel with eBPF.

pub mod abi;
#[cfg(feature = "fabric")]
pub mod fabric;
pub mod quorum;
pub mod rules;
pub mod types;
pub mod wire;
pub mod words;
