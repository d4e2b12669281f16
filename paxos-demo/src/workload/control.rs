//! The phases of a run, and how its owner moves it through them.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a run is doing; the owner moves it forward.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub enum Phase {
    /// Requests run, nothing is recorded.
    WarmUp = 0,
    /// Requests are recorded.
    Measure = 1,
    /// No new requests; what is under way ends, then every key is read once more.
    Drain = 2,
    /// Stop at once, whatever is under way.
    Abort = 3,
}

/// The owner's side of a run that goes on in another thread.
#[derive(Debug, Default)]
pub struct Control {
    phase: AtomicU8,
    answered: AtomicU64,
}

impl Control {
    /// Moves the run to a later phase; it never goes back.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// Requests answered so far, for display.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Tells the owner how many requests were answered so far.
    pub fn count(&self, answered: u64) {
        self.answered.store(answered, Ordering::Relaxed);
    }

    /// Where the run is to be.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Measure,
            2 => Phase::Drain,
            _ => Phase::Abort,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_told_to_stop_at_once_does_not_drain() {
        let control = Control::default();
        for (phase, then) in [
            (Phase::Measure, Phase::Measure),
            (Phase::WarmUp, Phase::Measure),
            (Phase::Abort, Phase::Abort),
            (Phase::Drain, Phase::Abort),
        ] {
            control.enter(phase);
            assert_eq!(control.phase(), then);
        }
    }
}
