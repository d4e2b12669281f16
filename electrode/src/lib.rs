//! Electrode: the repetitive jobs of a consensus protocol, done in the Linux kernel with eBPF.

pub mod abi;
#[cfg(feature = "fabric")]
pub mod fabric;
pub mod types;
pub mod words;
