//! Two ways to run the fast path under one trait.
#[cfg(feature = "ebpf")]
pub(crate) mod ebpf;
