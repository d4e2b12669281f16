//! Whether carriers get to the program that makes copies of them.
//!
//! A packet filter that refuses multicast, another program in front that ends the line, somebody who removes
//! the qdisc: then no copy leaves, and nothing else would tell. The program runs inside the call that sends,
//! so right after it the program's count must have kept up.

/// Flushes in a row that lost a carrier before single copies take over: a full socket buffer loses one too.
const LOSSES_MAX: u32 = 3;
/// Broadcasts that leave as single copies before a carrier is tried again.
const PAUSE: u32 = 1024;

/// Carriers sent and met.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    /// Queued since the endpoint was opened, less those known to be lost.
    sent: u64,
    met: u64,
    losses: u32,
    pause: u32,
}

impl Carriers {
    /// Whether the next broadcast may use a carrier; if so it is counted as sent.
    pub fn may_send(&mut self) -> bool {
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        self.sent += 1;
        true
    }

    /// After a flush: `met` is the program's own count. Returns how many were lost.
    pub fn settle(&mut self, met: u64) -> u64 {
        let lost = self.sent.saturating_sub(met);
        let arrived = met > self.met;
        self.met = met;
        if lost == 0 {
            if arrived {
                self.losses = 0;
            }
            return 0;
        }
        self.sent = met;
        self.losses += 1;
        if self.losses >= LOSSES_MAX {
            // One more loss after the pause is enough for the next.
            self.losses = LOSSES_MAX - 1;
            self.pause = PAUSE;
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_copies_take_over_when_carriers_keep_getting_lost() {
        let mut c = Carriers::default();
        for met in 1..=5 {
            assert!(c.may_send());
            assert_eq!(c.settle(met), 0);
        }
        for _ in 0..LOSSES_MAX {
            assert!(c.may_send());
            assert_eq!(c.settle(5), 1);
        }
        for _ in 0..PAUSE {
            assert!(!c.may_send());
            assert_eq!(c.settle(5), 0);
        }
        assert!(c.may_send(), "it may have been mended");
        assert_eq!(c.settle(5), 1);
        assert!(!c.may_send(), "it was not");
    }

    #[test]
    fn a_loss_now_and_then_changes_nothing() {
        let mut c = Carriers::default();
        let mut met = 0;
        for round in 0..20 {
            assert!(c.may_send());
            met += u64::from(round % 2 == 0);
            c.settle(met);
        }
    }
}
