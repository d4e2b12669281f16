//! Who is woken, and who comes by itself.

use std::time::Duration;

/// A follower has looked so often in vain before it counts as idle.
const QUIET_LOOKS: u32 = 8;

/// A follower under load looks at its log so often. No multiple of a kernel's tick (1, 4 or 10 ms): what always ran between
/// two ticks would be missed by whoever counts CPU time by them.
const FOLLOWER_TICK: Duration = Duration::from_micros(4100);

/// How long it is until `member` of `members` looks at its log again, by a clock that replicas of one host share.
///
/// They take turns. All at once they would keep every CPU of a small host from the leader, and they would stay so: timers
/// that are due at nearly the same time fire together. Several groups on a host have different ports, and so other turns.
pub(super) fn until_turn(now_ns: u64, member: usize, members: usize, port: u16) -> Duration {
    let period = FOLLOWER_TICK.as_nanos() as u64;
    let of_member = period * member as u64 / members.max(1) as u64;
    // Multiples of the golden ratio lie apart, however many there are.
    let of_group = (period * u64::from(port.wrapping_mul(40_503))) >> 16;
    let turn = (of_member + of_group) % period;
    Duration::from_nanos(period - (now_ns + period - turn) % period)
}

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
    fn followers_of_one_host_take_turns() {
        let period = FOLLOWER_TICK.as_nanos() as u64;
        for (members, port) in [(3, 7000), (5, 7000), (7, 7001), (5, u16::MAX)] {
            for now in [0, 1, 12_345_678_901, period - 1, u64::MAX / 2] {
                let mut turns: Vec<_> =
                    (0..members).map(|m| until_turn(now, m, members, port).as_nanos() as u64).collect();
                assert!(turns.iter().all(|t| (1..=period).contains(t)), "each has one within a tick");
                turns.sort_unstable();
                let apart = turns.windows(2).map(|two| two[1] - two[0]).min();
                assert!(apart >= Some(period / members as u64 - 1), "{members} at {now}: {turns:?}");
                assert_eq!(until_turn(now, 0, members, port), until_turn(now + period, 0, members, port));
            }
        }
    }

    #[test]
    fn members_of_several_groups_take_turns_too() {
        let mut turns: Vec<_> = (7000..7008).map(|port| until_turn(0, 1, 5, port)).collect();
        turns.sort_unstable();
        assert!(turns.windows(2).all(|two| two[1] - two[0] > FOLLOWER_TICK / 40), "{turns:?}");
    }

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
