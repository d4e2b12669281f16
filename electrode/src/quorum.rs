//! Thresholds and recounts; no I/O, no packets.
//!
//! The bits and packets of a round are hints (L4): what is committed is recounted here, from each
//! member's highest acknowledged op. A threshold of zero is refused rather than met at once, as
//! everywhere zero means "no" (D1).

use crate::abi;
use crate::types::{OpNumber, ReplicaId, ReplicaSet};

/// How many of `members` are needed so that any two such groups overlap: more than half.
pub fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// How many members may be lost before a majority is: f of 2f + 1.
pub fn tolerated_failures(members: usize) -> usize {
    members.saturating_sub(1) / 2
}

/// The highest op that at least `threshold` of `voters` have acknowledged, 0 if there is none.
///
/// `acked[i]` is the highest op that member i acknowledged in this view and epoch; acks are cumulative
/// (F9), so that one number says it all. The leader's own entry is its own (durable) length (L4).
/// Voters without an entry have acknowledged nothing.
pub fn quorum_point(acked: &[OpNumber], voters: ReplicaSet, threshold: usize) -> OpNumber {
    let mut ops = [OpNumber(0); abi::MEMBERS_MAX];
    let mut count = 0;
    for (slot, id) in ops.iter_mut().zip(voters.iter()) {
        *slot = acked.get(id.index()).copied().unwrap_or_default();
        count += 1;
    }
    if threshold == 0 || threshold > count {
        return OpNumber(0);
    }
    ops[..count].sort_unstable_by(|a, b| b.cmp(a));
    ops[threshold - 1]
}

/// What a leader that holds ops up to `own` may commit: the quorum point with its own vote in it, and
/// never beyond its own log, whatever the others claim.
///
/// `threshold` includes the leader's vote.
pub fn commit_point(
    acked: &[OpNumber],
    me: ReplicaId,
    own: OpNumber,
    voters: ReplicaSet,
    threshold: usize,
) -> OpNumber {
    let mut all = [OpNumber(0); abi::MEMBERS_MAX];
    for (slot, op) in all.iter_mut().zip(acked) {
        *slot = *op;
    }
    all[me.index()] = own;
    quorum_point(&all, voters.with(me), threshold).min(own)
}

/// Whether `votes` complete a round: distinct members of `voters` only.
pub fn is_quorum(votes: ReplicaSet, voters: ReplicaSet, threshold: usize) -> bool {
    threshold != 0 && votes.intersection(voters).len() >= threshold
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word for word: try every op that anybody named and count who holds it.
    fn quorum_point_by_trial(acked: &[OpNumber], voters: ReplicaSet, threshold: usize) -> OpNumber {
        let mut best = OpNumber(0);
        for candidate in acked {
            let mut holders = 0;
            for member in 0..32u8 {
                let holds = acked.get(usize::from(member)).is_some_and(|op| op >= candidate);
                if voters.contains(ReplicaId(member)) && holds {
                    holders += 1;
                }
            }
            if threshold > 0 && holders >= threshold && *candidate > best {
                best = *candidate;
            }
        }
        best
    }

    fn ops(list: &[u64]) -> Vec<OpNumber> {
        list.iter().copied().map(OpNumber).collect()
    }

    #[test]
    fn majorities_overlap_and_survive_f_failures() {
        for members in 1..=abi::MEMBERS_MAX {
            assert!(2 * majority(members) > members);
            assert!(2 * (majority(members) - 1) <= members);
            assert_eq!(majority(members) + tolerated_failures(members), members);
        }
        assert_eq!([1, 2, 3, 4, 5, 7].map(majority), [1, 2, 2, 3, 3, 4]);
        assert_eq!([1, 2, 3, 4, 5, 7].map(tolerated_failures), [0, 0, 1, 1, 2, 3]);
    }

    #[test]
    fn quorum_point_reads_like_the_paper() {
        let three = ReplicaSet::all(3);
        assert_eq!(quorum_point(&ops(&[9, 7, 5]), three, 2), OpNumber(7));
        assert_eq!(quorum_point(&ops(&[9, 0, 0]), three, 2), OpNumber(0));
        assert_eq!(quorum_point(&ops(&[9, 7, 5]), three, 3), OpNumber(5));
        assert_eq!(quorum_point(&ops(&[9, 7, 5]), three, 4), OpNumber(0), "more than there are");
        assert_eq!(quorum_point(&ops(&[9, 7, 5]), three, 0), OpNumber(0), "zero is refused");
        assert_eq!(quorum_point(&ops(&[9, 7, 5]), ReplicaSet::from_mask(0b110), 1), OpNumber(7));
        assert_eq!(quorum_point(&ops(&[9]), three, 1), OpNumber(9), "missing entries hold nothing");
    }

    #[test]
    fn a_leader_commits_nothing_that_it_does_not_hold() {
        let three = ReplicaSet::all(3);
        assert_eq!(commit_point(&ops(&[0, 9, 9]), ReplicaId(0), OpNumber(4), three, 2), OpNumber(4));
        assert_eq!(commit_point(&ops(&[0, 3, 0]), ReplicaId(0), OpNumber(4), three, 2), OpNumber(3));
        assert_eq!(commit_point(&ops(&[7, 3, 0]), ReplicaId(0), OpNumber(4), three, 1), OpNumber(4));
    }

    proptest! {
        #[test]
        fn quorum_point_agrees_with_the_definition(
            acked in proptest::collection::vec(0u64..12, 0..=32),
            mask: u32,
            threshold in 0usize..=33,
        ) {
            let (acked, voters) = (ops(&acked), ReplicaSet::from_mask(mask));
            prop_assert_eq!(
                quorum_point(&acked, voters, threshold),
                quorum_point_by_trial(&acked, voters, threshold)
            );
        }

        #[test]
        fn bits_and_maxima_tell_the_same(
            acked in proptest::collection::vec(0u64..6, 1..=7),
            mask in 0u32..128,
            threshold in 0usize..=7,
            op in 1u64..6,
        ) {
            let (acked, voters, op) = (ops(&acked), ReplicaSet::from_mask(mask), OpNumber(op));
            let holders: ReplicaSet =
                (0..acked.len()).filter(|i| acked[*i] >= op).map(|i| ReplicaId(i as u8)).collect();
            prop_assert_eq!(
                is_quorum(holders, voters, threshold),
                quorum_point(&acked, voters, threshold) >= op
            );
        }
    }
}
