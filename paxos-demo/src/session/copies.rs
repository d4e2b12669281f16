//! Which copies of a request may still be applied.
//!
//! A replica that turns a copy down says which one it means. Once every copy is turned down, none that was sent
//! is left that could be applied. The network may have doubled one, and the double may meet a replica that takes it:
//! what is held back for longer than a retry is taken not to be delivered any more, as TCP takes it of its
//! segments. What this cannot see is a copy that was taken while its double was turned down, by a leader that fell at
//! that moment, if everything later is turned down as well.

use std::time::{Duration, Instant};

/// Copies that are told apart. Those beyond it count as never answered.
const TOLD_APART: u16 = 63;

/// Copies of the request under way that are whole: of a command in parts, those of its last part.
#[derive(Debug)]
pub(super) struct Copies {
    sent: u32,
    /// Not turned down, by attempt.
    open: u64,
    last_sent: Instant,
}

impl Copies {
    pub fn none(now: Instant) -> Self {
        Self { sent: 0, open: 0, last_sent: now }
    }

    /// Number of copies.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// Number of the next copy, from 1.
    pub fn next_attempt(&self) -> u16 {
        u16::try_from(self.sent + 1).unwrap_or(u16::MAX)
    }

    /// That copy is sent.
    pub fn send(&mut self, now: Instant) {
        self.open |= 1 << (self.next_attempt() - 1).min(TOLD_APART);
        self.sent += 1;
        self.last_sent = now;
    }

    /// A replica did nothing with this copy. 0: no copy.
    pub fn turned_down(&mut self, attempt: u16) {
        if (1..=TOLD_APART).contains(&attempt) {
            self.open &= !(1 << (attempt - 1));
        }
    }

    /// Whether a copy is not turned down.
    pub fn is_open(&self) -> bool {
        self.open != 0
    }

    /// Whether none can be applied any more.
    pub fn is_settled(&self, now: Instant, linger: Duration) -> bool {
        !self.is_open() && (self.sent == 0 || now.saturating_duration_since(self.last_sent) >= linger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(5);

    #[test]
    fn each_copy_is_turned_down_by_itself() {
        let start = Instant::now();
        let mut copies = Copies::none(start);
        assert!(copies.is_settled(start, LINGER), "nothing was sent");
        copies.send(start);
        copies.send(start);
        for attempt in [0, 1, 1, 3] {
            copies.turned_down(attempt);
            assert!(copies.is_open());
        }
        copies.turned_down(2);
        assert!(!copies.is_open() && !copies.is_settled(start, LINGER), "just sent");
        assert!(copies.is_settled(start + LINGER, LINGER));
    }

    #[test]
    fn more_copies_than_are_told_apart_stay_open() {
        let start = Instant::now();
        let mut copies = Copies::none(start);
        for count in [62, 63, 64, 70_000] {
            while copies.sent() < count {
                copies.send(start);
            }
            (0..=u16::MAX).for_each(|attempt| copies.turned_down(attempt));
            assert_eq!(copies.is_open(), count > 63);
        }
    }
}
