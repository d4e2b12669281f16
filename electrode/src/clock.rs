//! The clock that kernel programs read too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    // SAFETY: all-zero is a valid timespec.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The time of day at which virtual time begins: as good as any.
const VIRTUAL_EPOCH_MS: u64 = 1_700_000_000_000;

/// What an endpoint takes for the time.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// CLOCK_MONOTONIC.
    #[default]
    Monotonic,
    /// A time that somebody else moves.
    Virtual(Arc<AtomicU64>),
}

impl Clock {
    /// Nanoseconds from the clock's origin.
    pub fn now_ns(&self) -> u64 {
        match self {
            Self::Monotonic => monotonic_ns(),
            Self::Virtual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// The time of day in milliseconds since 1970; a clock before that is a clock that was not set.
    pub fn unix_ms(&self) -> u64 {
        match self {
            Self::Monotonic => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                since.map_or(0, |since| since.as_millis() as u64)
            }
            Self::Virtual(_) => VIRTUAL_EPOCH_MS + self.now_ns() / 1_000_000,
        }
    }
}
