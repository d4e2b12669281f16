//! Looking for an answer before sleeping until it comes.
//!
//! A thread that sleeps on an idle CPU takes tens of microseconds to wake. With one session in a closed loop all of that
//! lands in the latency, though it is the generator's and not what is compared. So a session that is alone looks for a
//! while first, as a leader does (`wait.rs` of the library's endpoint). The time spent looking is part of the CPU a
//! request, of every backend, and more of it where an answer takes longer: with one client that figure says little. With
//! more sessions looking would take the CPU from the replicas and gather fewer answers at once.

use std::time::{Duration, Instant};

use electrode::clock::gave_way;

/// How long to look: ten times the slowest median of our backends and OmniPaxos with one client (kernel UDP's, about
/// 100 us), and more than etcd's. A limit among the medians would have the slower ones pay for the wake-up alone.
const LOOK: Duration = Duration::from_millis(1);

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
        worth_it(self.0.elapsed(), gave_way())
    }
}

fn worth_it(looked: Duration, contended: bool) -> bool {
    looked < LOOK && !contended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_ends_with_its_time_or_when_somebody_wants_the_cpu() {
        let us = Duration::from_micros;
        assert!(worth_it(us(0), false));
        assert!(worth_it(us(999), false));
        assert!(!worth_it(us(1000), false));
        assert!(!worth_it(us(10), true));
        let look = Look::begin();
        while look.goes_on() {}
    }
}
