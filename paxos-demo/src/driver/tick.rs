//! Who is woken, and who comes by itself.

/// A follower has looked so often in vain before it counts as idle.
const QUIET_LOOKS: u32 = 8;

/// What a follower has to do with its time.
#[derive(Copy, Clone, Debug)]
pub(super) struct FollowerLoad {
    /// Looks in a row that found nothing.
    pub quiet_looks: u32,
    /// Durability `disk`.
    pub durable: bool,
    /// Ops are on their way to the disk.
    pub storing: bool,
}

impl FollowerLoad {
    /// Whether it looks at its log by a tick, many ops at a time, and need not be woken for one.
    ///
    /// Where the kernel acknowledges nobody waits for this process, so a busy one need not be woken. With durability `disk`
    /// the ack is its own: it is woken for the first op, and takes those that follow when the sync before them is done, which
    /// wakes it as well.
    pub(super) fn comes_by_itself(self) -> bool {
        if self.durable { self.storing } else { self.quiet_looks < QUIET_LOOKS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_an_ack_does_not_wait_for_a_tick() {
        for quiet_looks in [0, QUIET_LOOKS] {
            let disk = |storing| FollowerLoad { quiet_looks, durable: true, storing };
            assert!(!disk(false).comes_by_itself(), "the first op wakes it, busy or idle");
            assert!(disk(true).comes_by_itself(), "one sync for all that come meanwhile");
        }
        let memory = |quiet_looks| FollowerLoad { quiet_looks, durable: false, storing: false };
        assert!(memory(0).comes_by_itself(), "acked by the kernel");
        assert!(!memory(QUIET_LOOKS).comes_by_itself(), "an idle one learns of commits at once");
    }
}
