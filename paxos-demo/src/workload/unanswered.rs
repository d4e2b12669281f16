//! Requests that have no answer when the window ends.

use std::time::Instant;

use hdrhistogram::Histogram;

/// Which of them count, with the time until then. To leave out whoever has no answer yet would hide the slowest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// In an open loop: every request that has arrived.
    All,
    /// In a closed loop the sessions have mostly just asked, which says nothing of how long it will take; only what has
    /// already taken longer than all answers does.
    SlowerThanAnswers,
}

impl Unanswered {
    /// Adds to the latencies (in nanoseconds) those of requests that arrived at these times.
    pub fn record(self, arrived: impl Iterator<Item = Instant>, now: Instant, latency: &mut Histogram<u64>) {
        let least = match self {
            Self::All => 0,
            Self::SlowerThanAnswers => latency.max() + 1,
        };
        for waited in arrived.map(|arrived| now.saturating_duration_since(arrived).as_nanos() as u64) {
            if waited >= least {
                latency.saturating_record(waited);
            }
        }
    }
}
