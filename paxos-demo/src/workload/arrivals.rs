//! Open loop: requests arrive at a fixed rate, whether or not earlier ones have been answered.
//!
//! A closed loop asks less of a system that is slow, and so hides how slow it is (coordinated omission). Here every
//! request has a time at which it arrives, and its latency counts from there: also while it waits for a session, and
//! also if this thread was late.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// Has the calling thread woken when it asked to be: by default the kernel may be 50 us late, which would count as
/// latency of what arrived meanwhile.
pub fn be_punctual() -> io::Result<()> {
    const SLACK_NS: libc::c_ulong = 1;
    // SAFETY: takes numbers only.
    match unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, SLACK_NS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The requests' arrival, and who may take them.
pub struct Arrivals {
    start: Instant,
    interval_ns: f64,
    /// Requests that have arrived.
    count: u64,
    /// Of those, the ones that wait for a session.
    waiting: VecDeque<Instant>,
    /// Sessions that wait for a request.
    idle: Vec<usize>,
}

impl Arrivals {
    /// `rate` requests a second from `start` on, for `sessions` of which all are idle.
    pub fn new(start: Instant, rate: f64, sessions: usize) -> Self {
        Self {
            start,
            interval_ns: 1e9 / rate,
            count: 0,
            waiting: VecDeque::new(),
            idle: (0..sessions).rev().collect(),
        }
    }

    /// When the next request arrives.
    pub fn next_at(&self) -> Instant {
        self.start + Duration::from_nanos((self.count as f64 * self.interval_ns) as u64)
    }

    /// Time passed: what was to arrive has.
    pub fn advance(&mut self, now: Instant) {
        while self.next_at() <= now {
            self.waiting.push_back(self.next_at());
            self.count += 1;
        }
    }

    /// A session and the request that it takes, with its time of arrival.
    pub fn assign(&mut self) -> Option<(usize, Instant)> {
        if self.waiting.is_empty() || self.idle.is_empty() {
            return None;
        }
        self.idle.pop().zip(self.waiting.pop_front())
    }

    /// A session has its answer.
    pub fn is_idle(&mut self, session: usize) {
        self.idle.push(session);
    }

    /// Arrival of those that have no session yet.
    pub fn waiting(&self) -> impl Iterator<Item = Instant> {
        self.waiting.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_punctual_thread_has_no_slack() {
        // SAFETY: takes numbers only.
        let slack_ns = || unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
        assert!(slack_ns() > 1);
        be_punctual().unwrap();
        assert_eq!(slack_ns(), 1);
    }

    #[test]
    fn requests_arrive_by_the_clock_and_wait_for_a_session() {
        let start = Instant::now();
        let at = |us| start + Duration::from_micros(us);
        let mut arrivals = Arrivals::new(start, 10_000.0, 2);
        arrivals.advance(at(0));
        assert_eq!(arrivals.assign(), Some((0, start)));
        assert_eq!(arrivals.assign(), None, "nothing has arrived");
        assert_eq!(arrivals.next_at(), at(100));
        // The thread was late: four have arrived, each at its time.
        arrivals.advance(at(450));
        assert_eq!(arrivals.assign(), Some((1, at(100))));
        assert_eq!(arrivals.assign(), None, "no session is idle");
        assert_eq!(arrivals.waiting().collect::<Vec<_>>(), [at(200), at(300), at(400)]);
        arrivals.is_idle(0);
        assert_eq!(arrivals.assign(), Some((0, at(200))));
        assert_eq!(arrivals.next_at(), at(500));
    }
}
