//! U9: who has been heard saying what, so that a sign of life is something new.
//!
//! Packets come twice, late, or again from somebody who kept them, and with keys an old one has a right tag for
//! ever. For agreement that makes no difference; but a dead leader would live for as long as somebody sends its old
//! packets, and a leader that nobody answers would believe that it is heard.
//!
//! A member counts its Commits and its messages together, for as long as it lives. So whatever counts less than a
//! message that was heard of this life left before it: what was captured earlier is known for old also by a process
//! that has only just started, or only just opened its gate, and was not there to hear it.

use std::cmp::Ordering;

use crate::abi::{Header, MEMBERS_MAX};
use crate::backend::Heard;
use crate::rules::{News, news};
use crate::types::{OpNumber, ReplicaId};

/// What was heard: of the view's leader, in packets that reached user space and in those that the kernel took, and
/// of every member's messages.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    leader: Heard,
    /// Highest count of each member's messages in its present life.
    messages: [u64; MEMBERS_MAX],
    /// Of each member, the latest life that was heard and is not the present one.
    strangers: [Stranger; MEMBERS_MAX],
}

/// A life of a member that does not count, or not yet.
#[derive(Copy, Clone, Debug, Default)]
struct Stranger {
    incarnation: u32,
    /// Highest count of its messages.
    count: u64,
}

impl Hearing {
    pub fn leader(&self) -> Heard {
        self.leader
    }

    /// The gate opens for `leader`. In the view that it was open in before, what was heard stays.
    pub fn open(&mut self, same_view: bool, leader: ReplicaId, last_op: OpNumber) {
        if !same_view {
            self.leader = Heard::default();
        }
        // What is held was heard of, and a Commit that left before a message was overtaken by it.
        self.leader.op = self.leader.op.max(last_op);
        self.leader.count = self.leader.count.max(self.messages[leader.index()]);
    }

    /// What the kernel heard counts too.
    pub fn keep(&mut self, kernel: Heard) {
        self.leader.op = self.leader.op.max(kernel.op);
        self.leader.count = self.leader.count.max(kernel.count);
    }

    /// A member lives another life now, which counts anew; what was heard of it before it was known stays heard.
    pub fn introduce(&mut self, member: ReplicaId, incarnation: u32, leads: bool) {
        let Stranger { incarnation: heard, count } = self.strangers[member.index()];
        let count = if heard == incarnation { count } else { 0 };
        self.messages[member.index()] = count;
        if leads {
            self.leader.count = count;
        }
    }

    /// Notes a message of a life that is not the member's present one; whether it is newer than all before it. Of the
    /// latest life alone, so that nobody makes us forget it with what an earlier one said. The life may be met in the
    /// same burst of datagrams, before anybody could tell us.
    pub fn is_new_of_stranger(&mut self, member: ReplicaId, incarnation: u32, count: u64) -> bool {
        let known = &mut self.strangers[member.index()];
        match incarnation.cmp(&known.incarnation) {
            Ordering::Greater => {
                *known = Stranger { incarnation, count };
                true
            }
            Ordering::Equal => grows(&mut known.count, count),
            Ordering::Less => false,
        }
    }

    /// Notes a Prepare or Commit of the leader; whether it says anything new.
    pub fn is_new_of_leader(&mut self, header: &Header) -> bool {
        match news(header) {
            News::Op(op) => grows(&mut self.leader.op, op),
            News::Count(count) => grows(&mut self.leader.count, count),
        }
    }

    /// Notes a member's message; whether it is newer than all before it.
    pub fn is_new_message(&mut self, member: ReplicaId, count: u64) -> bool {
        grows(&mut self.messages[member.index()], count)
    }
}

fn grows<T: Ord>(highest: &mut T, value: T) -> bool {
    let grows = value > *highest;
    if grows {
        *highest = value;
    }
    grows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Epoch, ReplicaSet, View};
    use crate::wire::{Batch, Origin};

    const LEADER: Origin = Origin { group: 1, config_hash: 0, sender: Some(ReplicaId(0)), incarnation: 1 };

    fn prepare(last: u64) -> Header {
        let [first, last] = [OpNumber(last); 2];
        let batch = Batch { view: View(0), first, last, round_tag: 99, leader_epoch: Epoch(1) };
        LEADER.prepare(&batch, OpNumber(0), ReplicaSet::EMPTY, 0)
    }

    fn commit(count: u64) -> Header {
        let header = LEADER.commit(View(0), Epoch(1), OpNumber(7), ReplicaSet::EMPTY);
        Header { round_tag: count.into(), ..header }
    }

    #[test]
    fn the_same_again_is_no_sign_of_life() {
        let mut hearing = Hearing::default();
        hearing.open(false, ReplicaId(0), OpNumber(5));
        let mut heard = |header: &Header| hearing.is_new_of_leader(header);
        assert!(!heard(&prepare(5)), "held when the view began");
        assert!(heard(&prepare(7)), "ahead of a gap");
        assert!(!heard(&prepare(7)) && !heard(&prepare(6)), "again, and what closes the gap");
        assert!(heard(&commit(1)) && !heard(&commit(1)));
        assert!(heard(&commit(4)) && !heard(&commit(3)), "overtaken");
        assert!(heard(&prepare(8)));
    }

    /// Otherwise freezing on a suspicion and opening again would make all that was kept new.
    #[test]
    fn another_opening_of_the_same_view_makes_nothing_new() {
        let mut hearing = Hearing::default();
        hearing.open(false, ReplicaId(0), OpNumber(5));
        hearing.keep(Heard { op: OpNumber(8), count: 3 });
        hearing.open(true, ReplicaId(0), OpNumber(6));
        assert!(!hearing.is_new_of_leader(&prepare(8)) && !hearing.is_new_of_leader(&commit(3)));
        assert!(hearing.is_new_of_leader(&prepare(9)) && hearing.is_new_of_leader(&commit(4)));
        hearing.open(false, ReplicaId(0), OpNumber(6));
        assert!(hearing.is_new_of_leader(&prepare(8)) && hearing.is_new_of_leader(&commit(1)));
    }

    #[test]
    fn a_member_in_another_life_counts_anew() {
        let mut hearing = Hearing::default();
        assert!(hearing.is_new_message(ReplicaId(2), 9) && !hearing.is_new_message(ReplicaId(2), 9));
        assert!(hearing.is_new_message(ReplicaId(1), 1), "each for itself");
        assert!(hearing.is_new_of_leader(&commit(5)));
        hearing.introduce(ReplicaId(2), 7, false);
        assert!(hearing.is_new_message(ReplicaId(2), 1) && !hearing.is_new_message(ReplicaId(1), 1));
        assert!(!hearing.is_new_of_leader(&commit(5)), "another one's life");
        hearing.introduce(ReplicaId(0), 7, true);
        assert!(hearing.is_new_of_leader(&commit(1)));
    }

    /// Somebody kept the leader's Commits; a replica that restarts, or opens for another view, was not there.
    #[test]
    fn a_commit_that_left_before_a_message_is_old() {
        let mut hearing = Hearing::default();
        hearing.introduce(ReplicaId(0), 7, false);
        assert!(hearing.is_new_message(ReplicaId(0), 20) && hearing.is_new_message(ReplicaId(1), 90));
        hearing.open(false, ReplicaId(0), OpNumber(5));
        assert!(!hearing.is_new_of_leader(&commit(1)) && !hearing.is_new_of_leader(&commit(19)));
        assert!(hearing.is_new_of_leader(&commit(21)));
        assert!(hearing.is_new_message(ReplicaId(0), 40));
        hearing.open(true, ReplicaId(0), OpNumber(5));
        assert!(!hearing.is_new_of_leader(&commit(39)), "nor in another opening of the same view");
    }

    /// The message by which a member is introduced comes before it is known, and those before it are old.
    #[test]
    fn what_was_heard_of_a_life_before_it_was_known_stays_heard() {
        let mut hearing = Hearing::default();
        assert!(hearing.is_new_of_stranger(ReplicaId(2), 7, 30));
        assert!(!hearing.is_new_of_stranger(ReplicaId(2), 7, 12));
        // An earlier life, which somebody plays back to make us forget.
        assert!(!hearing.is_new_of_stranger(ReplicaId(2), 6, 99));
        hearing.introduce(ReplicaId(2), 7, true);
        assert!(!hearing.is_new_message(ReplicaId(2), 30) && hearing.is_new_message(ReplicaId(2), 31));
        assert!(!hearing.is_new_of_leader(&commit(30)) && hearing.is_new_of_leader(&commit(31)));
        // Another life counts for itself.
        assert!(hearing.is_new_of_stranger(ReplicaId(2), 8, 3));
        hearing.introduce(ReplicaId(2), 9, false);
        assert!(hearing.is_new_message(ReplicaId(2), 1));
    }
}
