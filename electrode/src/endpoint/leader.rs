//! The leader's user-space half: rounds in flight and the recount that alone completes them (L4).

use std::collections::VecDeque;

use super::Plants;
use crate::abi::{self, Header};
use crate::backend::FastPath;
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};

/// One broadcast that waits for its quorum.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// First op of the batch.
    pub first: OpNumber,
    /// Last op of the batch.
    pub last: OpNumber,
    /// Highest committed op; rides along (F10).
    pub commit: OpNumber,
    /// Chosen by the caller and echoed in acks: tells a fresh round from an old one (L9).
    pub tag: u64,
    /// Who gets a copy.
    pub targets: ReplicaSet,
    /// Whose votes count; the sender itself has none.
    pub voters: ReplicaSet,
    /// How many votes complete the round.
    pub threshold: u32,
    /// `false`: acks are cumulative, rounds complete in order (a replicated log). `true`: each round stands
    /// alone and completes by its own acks (EPaxos, Accord).
    pub independent: bool,
}

struct InFlight {
    round: Round,
    /// Votes that arrived in user space.
    votes: ReplicaSet,
}

/// A round that has its quorum.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completed {
    pub first: OpNumber,
    pub last: OpNumber,
    pub tag: u64,
}

#[derive(Default)]
pub(crate) struct Leader {
    rounds: VecDeque<InFlight>,
    independent: usize,
    acked: [OpNumber; abi::MEMBERS_MAX],
    /// An ack came to user space since somebody asked ([`super::Plants::no_scan`]).
    ack_arrived: bool,
    epoch: Epoch,
    /// Last op broadcast in this opening: nobody can hold more.
    sent: OpNumber,
}

impl Leader {
    pub fn restart(&mut self, epoch: Epoch) {
        *self = Self { epoch, ..Self::default() };
    }

    /// Why a round cannot begin now, if so.
    pub fn obstacle(&self, round: &Round, window: u32) -> Option<&'static str> {
        let oldest = self.rounds.front()?;
        if (self.independent > 0) != round.independent {
            return Some("independent and cumulative rounds do not mix while any is in flight");
        }
        // L1: a slot is reused only when its round is over.
        let slot = |op: OpNumber| op.0 % u64::from(window);
        let taken = if round.independent {
            self.rounds.iter().any(|r| slot(r.round.last) == slot(round.last))
        } else {
            round.last.0 >= oldest.round.first.0 + u64::from(window)
        };
        if taken {
            return Some("the quorum window is full: wait for rounds to complete, or raise `quorum_window`");
        }
        let newest = self.rounds.back().map_or(OpNumber(0), |r| r.round.last);
        (!round.independent && round.first <= newest).then_some("cumulative rounds come in order")
    }

    pub fn begin(&mut self, round: Round) {
        self.independent += usize::from(round.independent);
        self.sent = self.sent.max(round.last);
        self.rounds.push_back(InFlight { round, votes: ReplicaSet::EMPTY });
    }

    /// An ack that passed L2's checks in user space.
    pub fn on_ack(&mut self, peer: ReplicaId, header: &Header) {
        self.ack_arrived = true;
        if header.last() > self.sent {
            return;
        }
        let acked = &mut self.acked[peer.index()];
        *acked = (*acked).max(header.last());
        if self.independent > 0 {
            let same =
                |r: &&mut InFlight| r.round.last == header.last() && r.round.tag == header.round_tag.get();
            if let Some(in_flight) = self.rounds.iter_mut().find(same) {
                in_flight.votes = in_flight.votes.with(peer);
            }
        }
    }

    /// Highest op that a peer acknowledged in this opening, to the kernel or to us.
    pub fn acked(&self, path: &dyn FastPath, peer: ReplicaId) -> OpNumber {
        self.acked[peer.index()].max(path.acked(self.epoch, peer))
    }

    /// Whether an ack came to user space since the last time.
    pub fn take_ack_arrived(&mut self) -> bool {
        std::mem::take(&mut self.ack_arrived)
    }

    /// L4: recounts, and takes the rounds that are complete. Plants: none but in a simulation.
    pub fn recount(
        &mut self,
        path: &dyn FastPath,
        members: usize,
        plants: Plants,
        mut done: impl FnMut(Completed),
    ) {
        if self.rounds.is_empty() {
            return;
        }
        let mut acked = [OpNumber(0); abi::MEMBERS_MAX];
        for (peer, acked) in acked.iter_mut().enumerate().take(members) {
            *acked = self.acked(path, ReplicaId(peer as u8));
        }
        while let Some(InFlight { round, .. }) = self.rounds.front() {
            let holders = round.voters.iter().filter(|p| acked[p.index()] >= round.last).count();
            let threshold = if plants.single_vote_commits { 1 } else { round.threshold as usize };
            let holders = match plants.count_by_bits {
                true => holders.max(path.votes(self.epoch, round.last).len()),
                false => holders,
            };
            if round.independent || holders < threshold {
                break;
            }
            done(Completed { first: round.first, last: round.last, tag: round.tag });
            self.rounds.pop_front();
        }
        if self.independent > 0 {
            let epoch = self.epoch;
            let before = self.rounds.len();
            self.rounds.retain(|in_flight| {
                let round = &in_flight.round;
                let kernel = path.votes(epoch, round.last);
                let votes = ReplicaSet::from_mask(kernel.mask() | in_flight.votes.mask());
                let complete =
                    round.independent && votes.intersection(round.voters).len() >= round.threshold as usize;
                if complete {
                    done(Completed { first: round.first, last: round.last, tag: round.tag });
                }
                !complete
            });
            self.independent -= before - self.rounds.len();
        }
    }

    /// Whether a recount would complete a round.
    pub fn would_complete(&self, path: &dyn FastPath) -> bool {
        let complete = |in_flight: &InFlight| {
            let round = &in_flight.round;
            let votes = if round.independent {
                let kernel = path.votes(self.epoch, round.last).mask();
                ReplicaSet::from_mask(kernel | in_flight.votes.mask()).intersection(round.voters).len()
            } else {
                round.voters.iter().filter(|p| self.acked(path, *p) >= round.last).count()
            };
            votes >= round.threshold as usize
        };
        let looked_at = if self.independent > 0 { self.rounds.len() } else { 1 };
        self.rounds.iter().take(looked_at).any(complete)
    }

    pub fn in_flight(&self) -> usize {
        self.rounds.len()
    }

    /// Header check of L2 that needs no members: this opening, this view.
    pub fn is_for_us(&self, view: View, header: &Header) -> bool {
        header.view() == view && header.leader_epoch() == self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::udp::Udp;
    use crate::wire::{Batch, Origin};

    fn round(op: u64, threshold: u32, independent: bool) -> Round {
        Round {
            first: OpNumber(op),
            last: OpNumber(op),
            commit: OpNumber(0),
            tag: if independent { op } else { 0 },
            targets: ReplicaSet::all(5),
            voters: ReplicaSet::all(5).without(ReplicaId(0)),
            threshold,
            independent,
        }
    }

    fn ack(op: u64, tag: u64, from: u8) -> Header {
        let origin = Origin { group: 1, config_hash: 0, sender: Some(ReplicaId(from)), incarnation: 1 };
        let batch = Batch {
            view: View(0),
            first: OpNumber(op),
            last: OpNumber(op),
            round_tag: tag,
            leader_epoch: Epoch(1),
        };
        origin.prepare_ok(&batch, Some(ReplicaId(0)))
    }

    fn completed(leader: &mut Leader) -> Vec<u64> {
        let mut ops = vec![];
        leader.recount(&Udp { multicast: None }, 5, Plants::default(), |c| ops.push(c.last.0));
        ops
    }

    #[test]
    fn cumulative_rounds_complete_in_order_and_heal() {
        let mut leader = Leader::default();
        leader.restart(Epoch(1));
        (1..=3).for_each(|op| leader.begin(round(op, 2, false)));
        leader.on_ack(ReplicaId(1), &ack(3, 0, 1));
        assert!(completed(&mut leader).is_empty());
        leader.on_ack(ReplicaId(2), &ack(2, 0, 2));
        assert_eq!(completed(&mut leader), [1, 2], "the ack for 2 covers 1, whose own was lost");
        leader.on_ack(ReplicaId(2), &ack(3, 0, 2));
        assert_eq!(completed(&mut leader), [3]);
    }

    #[test]
    fn one_peer_twice_is_one_vote() {
        let mut leader = Leader::default();
        leader.restart(Epoch(1));
        leader.begin(round(1, 2, false));
        leader.on_ack(ReplicaId(1), &ack(1, 0, 1));
        leader.on_ack(ReplicaId(1), &ack(1, 0, 1));
        assert!(completed(&mut leader).is_empty());
    }

    #[test]
    fn independent_rounds_complete_by_their_own_acks() {
        let mut leader = Leader::default();
        leader.restart(Epoch(1));
        (1..=2).for_each(|op| leader.begin(round(op, 1, true)));
        leader.on_ack(ReplicaId(1), &ack(2, 2, 1));
        assert_eq!(completed(&mut leader), [2], "an ack of round 2 says nothing about round 1");
        leader.on_ack(ReplicaId(1), &ack(1, 7, 1));
        assert!(completed(&mut leader).is_empty(), "another tag is another round");
        leader.on_ack(ReplicaId(3), &ack(1, 1, 3));
        assert_eq!(completed(&mut leader), [1]);
    }

    #[test]
    fn the_window_bounds_what_is_in_flight() {
        let mut leader = Leader::default();
        leader.restart(Epoch(1));
        leader.begin(round(1, 1, false));
        assert_eq!(leader.obstacle(&round(16, 1, false), 16), None);
        assert!(leader.obstacle(&round(17, 1, false), 16).unwrap().contains("window"));
        assert!(leader.obstacle(&round(1, 1, false), 16).unwrap().contains("order"));
        assert!(leader.obstacle(&round(2, 1, true), 16).unwrap().contains("mix"));
    }

    #[test]
    fn independent_rounds_share_no_slot() {
        let mut leader = Leader::default();
        leader.restart(Epoch(1));
        leader.begin(round(21, 1, true));
        assert!(leader.obstacle(&round(5, 1, true), 16).unwrap().contains("window"));
        assert_eq!(leader.obstacle(&round(6, 1, true), 16), None);
    }

    #[test]
    fn an_ack_for_what_was_never_sent_is_ignored() {
        let mut leader = Leader::default();
        leader.restart(Epoch(1));
        leader.begin(round(1, 1, false));
        leader.on_ack(ReplicaId(1), &ack(1 << 40, 0, 1));
        assert!(completed(&mut leader).is_empty());
    }
}
