//! What a simulation replaces: network, kernel programs, clock. For this project's own tests; no stable interface.

#[cfg(feature = "ebpf")]
pub use crate::backend::ebpf::test_run::{Bytecode, TestHook, TestRunError, outcome};
pub use crate::backend::{FastPath, Heard, Logged, Opening, RoundSlot, Wake};
pub use crate::clock::Clock;
pub use crate::endpoint::Plants as EndpointPlants;
pub use crate::net::socket::Transport;

/// Whether kernel programs can be loaded by this process, and if not, why.
pub fn kernel_programs() -> crate::Result<()> {
    crate::probe::missing().map_or(Ok(()), Err)
}
