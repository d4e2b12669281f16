//! Commands and results that do not fit a datagram.
//!
//! | on its way | how | here |
//! |---|---|---|
//! | from the client to the leader | numbered parts, in windows; the leader says what it has | [`Assemblies`] |
//! | through the log | consecutive ops, each whole and in one Prepare; executed with the last | [`Partial`] |
//! | from the leader to the client | the result of a read is kept for a while and pulled, in windows | [`Results`] |
//!
//! Nothing of this touches the fast path: an op never has more than one packet, so an ack still says that
//! all of the op is there (F9), and no op waits for another to be acknowledged.

mod assemblies;
mod kept;
mod partial;
mod results;

pub use assemblies::{Added, Assemblies};
pub use partial::Partial;
pub use results::Results;

use crate::digest::Chain;
use crate::state_machine::VALUE_BYTES_MAX;

/// Longest command: a value of the greatest length, and what belongs to it.
pub const COMMAND_BYTES_MAX: usize = VALUE_BYTES_MAX + 64 * 1024;
/// Longest result of a read.
pub const RESULT_BYTES_MAX: usize = 2 * VALUE_BYTES_MAX + 64 * 1024;
/// Parts that are sent before the other side has to say what it has.
pub const WINDOW_PARTS: usize = 16;

/// By this a client knows that the parts of a result belong together: a read may be executed twice, and find
/// two values of the same length.
pub fn checksum(result: &[u8]) -> u64 {
    Chain::seeded(0x7265_7375_6c74).bytes(result).value()
}

/// Longest command of a group whose batches hold `part_bytes` of one and in which `window_ops` ops may be in
/// flight: it takes half of them, so that it is not shut out by others.
pub fn command_bytes_max(part_bytes: usize, window_ops: u64) -> usize {
    let parts = usize::try_from(window_ops / 2).unwrap_or(usize::MAX).clamp(1, usize::from(u16::MAX));
    part_bytes.saturating_mul(parts).min(COMMAND_BYTES_MAX)
}
