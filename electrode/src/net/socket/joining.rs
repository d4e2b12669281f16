//! Whether datagrams that may leave together do: an address for which the kernel refused it is tried less and less often.

use crate::net::raw_addr::RawAddr;

/// Flushes for which datagrams to an address leave one by one after a refusal; twice as many after each that follows.
const PAUSE_MIN: u64 = 64;
/// Seconds of full load; a way on which nothing can be cut costs next to nothing.
const PAUSE_MAX: u64 = 1 << 16;
/// Addresses remembered. More than these at once are tried again and again: one call in vain each.
const REFUSED_MAX: usize = 16;

/// An address whose way cannot be cut for.
struct Refused {
    to: RawAddr,
    pause: u64,
    /// The flush from which on it is tried again.
    until: u64,
}

/// One address whose way cannot be cut for (a tunnel, a device without checksums) must not make the others' datagrams
/// leave one by one, nor may whoever sends from an address that cannot be answered.
#[derive(Default)]
pub(super) struct Joining {
    flushes: u64,
    refused: Vec<Refused>,
    /// First of the datagrams that the kernel did not cut in this flush, and where it goes. Whether it was for the cutting
    /// shows when it leaves alone.
    suspect: Option<(usize, RawAddr)>,
}

impl Joining {
    pub fn is_on_for(&self, to: &RawAddr) -> bool {
        !self.refused.iter().any(|refused| refused.to == *to && refused.until > self.flushes)
    }

    /// What begins with datagram `at` was not cut.
    pub fn suspect(&mut self, at: usize, to: RawAddr) {
        self.suspect = Some((at, to));
    }

    /// Datagrams `from` to `to` have left.
    pub fn left(&mut self, from: usize, to: usize) {
        if let Some((_, address)) = self.suspect.take_if(|(at, _)| (from..to).contains(at)) {
            self.refuse(address);
        }
    }

    fn refuse(&mut self, to: RawAddr) {
        if let Some(refused) = self.refused.iter_mut().find(|refused| refused.to == to) {
            refused.pause = (refused.pause * 2).min(PAUSE_MAX);
            refused.until = self.flushes + refused.pause;
            return;
        }
        let refused = Refused { to, pause: PAUSE_MIN, until: self.flushes + PAUSE_MIN };
        if self.refused.len() < REFUSED_MAX {
            self.refused.push(refused);
        } else if let Some(first) = self.refused.iter_mut().min_by_key(|refused| refused.until) {
            *first = refused;
        }
    }

    /// Everything has left or is lost.
    pub fn flushed(&mut self) {
        self.suspect = None;
        self.flushes += 1;
        // Whoever was not refused again for as long as it was paused is an address like any other.
        self.refused.retain(|refused| refused.until + refused.pause > self.flushes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> RawAddr {
        RawAddr::new(([192, 0, 2, 1], port).into())
    }

    fn refuse(joining: &mut Joining, to: RawAddr) {
        joining.suspect(3, to);
        joining.left(0, 3);
        assert!(joining.is_on_for(&to));
        joining.left(3, 4);
        assert!(!joining.is_on_for(&to));
    }

    fn paused(joining: &mut Joining, to: RawAddr) -> u64 {
        (0..)
            .find(|_| {
                joining.is_on_for(&to) || {
                    joining.flushed();
                    false
                }
            })
            .unwrap()
    }

    #[test]
    fn an_address_that_is_refused_is_tried_less_and_less_often() {
        let mut joining = Joining::default();
        for n in 0..20 {
            refuse(&mut joining, address(1));
            assert!(joining.is_on_for(&address(2)), "others are others");
            assert_eq!(paused(&mut joining, address(1)), (PAUSE_MIN << n).min(PAUSE_MAX));
        }
        (0..PAUSE_MAX).for_each(|_| joining.flushed());
        refuse(&mut joining, address(1));
        assert_eq!(paused(&mut joining, address(1)), PAUSE_MIN, "all is forgotten after a while");
    }

    #[test]
    fn what_does_not_leave_alone_either_says_nothing() {
        let mut joining = Joining::default();
        joining.suspect(3, address(1));
        joining.left(4, 9);
        joining.flushed();
        joining.left(3, 4);
        assert!(joining.is_on_for(&address(1)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut joining = Joining::default();
        for port in 0..1000 {
            refuse(&mut joining, address(port));
        }
        assert_eq!(joining.refused.len(), REFUSED_MAX);
    }
}
