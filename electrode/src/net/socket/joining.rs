//! Whether datagrams that may leave together do: what the kernel refused before is tried less and less often.

/// Flushes for which datagrams leave one by one after a refusal; twice as many after each that follows.
const PAUSE_MIN: u32 = 64;
/// Seconds of full load; a way on which nothing can be cut costs next to nothing.
const PAUSE_MAX: u32 = 1 << 16;

/// One address whose way cannot be cut for (a tunnel, a device without checksums) must not make the others' datagrams
/// leave one by one for ever, nor may whoever sends from an address that cannot be answered.
#[derive(Debug)]
pub(super) struct Joining {
    /// Flushes until it is tried again.
    pause: u32,
    next_pause: u32,
    /// First of the datagrams that the kernel did not cut in this flush. Whether it was for the cutting shows when it
    /// leaves alone.
    suspect: Option<usize>,
}

impl Joining {
    pub fn new() -> Self {
        Self { pause: 0, next_pause: PAUSE_MIN, suspect: None }
    }

    pub fn is_on(&self) -> bool {
        self.pause == 0
    }

    /// What begins with datagram `at` was not cut.
    pub fn refused(&mut self, at: usize) {
        self.suspect = Some(at);
    }

    /// Datagrams `from` to `to` have left, some of them together or none.
    pub fn left(&mut self, from: usize, to: usize, together: bool) {
        if together {
            self.next_pause = PAUSE_MIN;
        }
        if self.suspect.is_some_and(|suspect| (from..to).contains(&suspect)) {
            self.suspect = None;
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(PAUSE_MAX);
        }
    }

    /// Everything has left or is lost.
    pub fn flushed(&mut self) {
        self.suspect = None;
        self.pause = self.pause.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(joining: &mut Joining) {
        joining.refused(3);
        joining.left(0, 3, false);
        assert!(joining.is_on());
        joining.left(3, 4, false);
        assert!(!joining.is_on());
    }

    fn paused(joining: &mut Joining) -> u32 {
        let mut flushes = 0;
        while !joining.is_on() {
            joining.flushed();
            flushes += 1;
        }
        flushes
    }

    #[test]
    fn what_is_refused_is_tried_less_and_less_often() {
        let mut joining = Joining::new();
        for pause in [PAUSE_MIN, PAUSE_MIN * 2, PAUSE_MIN * 4] {
            refuse(&mut joining);
            assert_eq!(paused(&mut joining), pause);
        }
        joining.left(0, 9, true);
        for n in 0..20 {
            refuse(&mut joining);
            assert_eq!(paused(&mut joining), (PAUSE_MIN << n).min(PAUSE_MAX));
        }
    }

    #[test]
    fn what_does_not_leave_alone_either_says_nothing() {
        let mut joining = Joining::new();
        joining.refused(3);
        joining.left(4, 9, false);
        joining.flushed();
        joining.left(3, 4, false);
        assert!(joining.is_on());
    }
}
