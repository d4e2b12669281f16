//! Looking for an answer before sleeping until it comes.
//!
//! A thread that sleeps on an idle CPU takes tens of microseconds to wake. With one session in a closed loop all of that
//! lands in the latency and on no side of the comparison: it is the generator's, and the same for every backend. So a
//! session that is alone looks for a while first, as a leader does (`wait.rs` of the library's endpoint). With more
//! sessions it would take the CPU from the replicas and gather fewer answers at once.

use std::time::{Duration, Instant};

/// How long to look: most answers to one client come sooner.
const LOOK: Duration = Duration::from_micros(100);
/// A yield that takes longer has let somebody else run.
const YIELD_CONTENDED: Duration = Duration::from_micros(5);

/// A while of looking.
#[derive(Debug)]
pub struct Look(Instant);

impl Look {
    /// It begins now.
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Gives way to whoever wants this CPU; whether to look once more. Not if somebody did.
    pub fn goes_on(&self) -> bool {
        let before = Instant::now();
        std::thread::yield_now();
        worth_it(before.saturating_duration_since(self.0), before.elapsed())
    }
}

fn worth_it(looked: Duration, yielded: Duration) -> bool {
    looked < LOOK && yielded <= YIELD_CONTENDED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_ends_with_its_time_or_when_somebody_wants_the_cpu() {
        let us = Duration::from_micros;
        assert!(worth_it(us(0), us(1)));
        assert!(worth_it(us(99), us(5)));
        assert!(!worth_it(us(100), us(1)));
        assert!(!worth_it(us(10), us(6)));
        let look = Look::begin();
        while look.goes_on() {}
    }
}
