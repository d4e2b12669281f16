//! The follower's user-space half: Prepares that no kernel program took (U7, U8).
//!
//! With sockets alone that is every Prepare; with the kernel's help it is what it passed up: gaps, a full
//! log, a payload beyond the slot. Batches that came too early wait here until those before them are there.

use std::collections::BTreeMap;

use crate::abi::{FLAG_ACK_LATER, Header};
use crate::config::Acks;
use crate::rules::{self, Append};
use crate::types::{Epoch, OpNumber, ReplicaId, View};
use crate::wire::{self, Batch};

/// Batches that may wait for earlier ones; more are dropped and sent again by the leader (L6).
const EARLY_MAX: usize = 4096;

/// An ack to send, and how far it reaches.
#[derive(Copy, Clone, Debug)]
pub(super) struct Ack {
    pub header: Header,
}

/// What the follower holds and waits for.
#[derive(Default)]
pub(super) struct Follower {
    /// Last contiguous op that was handed over.
    pub held: OpNumber,
    early: BTreeMap<u64, (Header, Box<[u8]>)>,
    acks: Vec<Ack>,
    /// Highest commit number seen in a packet that passed F1 to F4.
    pub commit: OpNumber,
    /// Last missing op of the gap that was reported last.
    reported: Option<OpNumber>,
    /// Batches dropped because too many waited, or cut across what is held.
    pub dropped: u64,
    /// F8: the last op that the caller has acknowledged in this opening, where that is the caller's business
    /// ([`crate::config::Acks::ByCaller`]).
    durable: Option<OpNumber>,
}

/// What to do with a Prepare that arrived in user space.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next batch: take the log over, then [`Follower::take`] it.
    Next,
    /// Answered, kept or dropped; nothing to append.
    Done,
}

impl Follower {
    /// `acks`: who acknowledges.
    pub fn new(acks: Acks) -> Self {
        Self { durable: (acks == Acks::ByCaller).then_some(OpNumber(0)), ..Self::default() }
    }

    pub fn restart(&mut self, held: OpNumber) {
        let durable = self.durable.map(|_| OpNumber(0));
        *self = Self { held, dropped: self.dropped, durable, ..Self::default() };
    }

    /// The caller has made ops up to `op` durable.
    pub fn make_durable(&mut self, op: OpNumber) {
        self.durable = self.durable.map(|durable| durable.max(op));
    }

    /// What the caller has made durable, if it is the caller that acknowledges.
    pub fn durable(&self) -> Option<OpNumber> {
        self.durable
    }

    /// Sorts a Prepare that passed F1 to F4. What the kernel logged has been drained before.
    pub fn arrive(&mut self, header: &Header, payload: &[u8]) -> Arrival {
        match rules::position(self.held, header.first(), header.last()) {
            Append::New => Arrival::Next,
            Append::Duplicate => {
                self.ack(*header);
                Arrival::Done
            }
            Append::Gap => {
                if self.early.len() < EARLY_MAX {
                    self.early.insert(header.first().0, (*header, payload.into()));
                } else {
                    self.dropped += 1;
                }
                Arrival::Done
            }
            // Batches keep their boundaries (L6), so this is no resend of ours.
            _ => {
                self.dropped += 1;
                Arrival::Done
            }
        }
    }

    /// The batch is in the caller's log now: acknowledge it (U7), unless a later one's ack says so too.
    pub fn take(&mut self, header: &Header) {
        self.held = header.last();
        if header.flags & FLAG_ACK_LATER == 0 {
            self.ack(*header);
        }
    }

    /// The early batch that comes next, if it is here.
    pub fn next_early(&mut self) -> Option<(Header, Box<[u8]>)> {
        while let Some(entry) = self.early.first_entry() {
            if *entry.key() > self.held.0 + 1 {
                break;
            }
            let (header, payload) = entry.remove();
            if header.first() == self.held.next() {
                return Some((header, payload));
            }
            // Held already, through the kernel: that acknowledged it.
        }
        None
    }

    /// Whether batches wait for earlier ones.
    pub fn waits_for_gap(&self) -> bool {
        !self.early.is_empty()
    }

    /// Remembers an ack. Acks are cumulative (F9), so within one round tag the latest says all; rounds with
    /// tags of their own are answered one by one.
    fn ack(&mut self, header: Header) {
        if rules::duplicate(header.last(), self.durable) == Append::NotDurable {
            return;
        }
        match self.acks.last_mut() {
            Some(last)
                if last.header.round_tag == header.round_tag
                    && last.header.leader_epoch == header.leader_epoch
                    && last.header.view == header.view =>
            {
                if last.header.last() < header.last() {
                    last.header = header;
                }
            }
            _ => self.acks.push(Ack { header }),
        }
    }

    /// Acks to send now: PrepareOk headers.
    pub fn take_acks(&mut self, me: ReplicaId, incarnation: u32) -> impl Iterator<Item = Header> + '_ {
        self.acks.drain(..).map(move |ack| wire::prepare_ok(&ack.header, me, incarnation, ack.header.last()))
    }

    /// A gap that has not been reported: (held, last missing op). Looked for at every poll, for closing one
    /// may show the next.
    pub fn take_gap(&mut self) -> Option<(OpNumber, OpNumber)> {
        let (first, _) = self.early.first_key_value()?;
        let missing = OpNumber(first - 1);
        if missing <= self.held || self.reported == Some(missing) {
            return None;
        }
        self.reported = Some(missing);
        Some((self.held, missing))
    }
}

/// The batch that an ack by the caller answers.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct LastBatch {
    view: View,
    round_tag: u64,
    leader_epoch: Epoch,
}

impl LastBatch {
    pub fn note(&mut self, view: View, round_tag: u64, leader_epoch: Epoch) {
        *self = Self { view, round_tag, leader_epoch };
    }

    /// Whether a batch of this view was logged.
    pub fn is_of(&self, view: View) -> bool {
        self.view == view && self.leader_epoch != Epoch(0)
    }

    pub fn batch(&self, op: OpNumber) -> Batch {
        Batch {
            view: self.view,
            first: op,
            last: op,
            round_tag: self.round_tag,
            leader_epoch: self.leader_epoch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ReplicaSet;
    use crate::wire::Origin;

    fn prepare(first: u64, last: u64, tag: u64) -> Header {
        let origin = Origin { group: 1, config_hash: 0, sender: Some(ReplicaId(0)), incarnation: 1 };
        let batch = Batch {
            view: View(0),
            first: OpNumber(first),
            last: OpNumber(last),
            round_tag: tag,
            leader_epoch: Epoch(1),
        };
        origin.prepare(&batch, OpNumber(0), ReplicaSet::EMPTY, 0)
    }

    fn acked(f: &mut Follower) -> Vec<u64> {
        f.take_acks(ReplicaId(1), 1).map(|h| h.last().0).collect()
    }

    #[test]
    fn early_batches_wait_and_follow_in_order() {
        let mut f = Follower::default();
        assert_eq!(f.arrive(&prepare(3, 4, 0), b""), Arrival::Done);
        assert_eq!(f.arrive(&prepare(5, 5, 0), b""), Arrival::Done);
        assert_eq!(f.take_gap(), Some((OpNumber(0), OpNumber(2))));
        assert!(acked(&mut f).is_empty(), "nothing is acknowledged over a gap");
        assert_eq!(f.arrive(&prepare(1, 2, 0), b""), Arrival::Next);
        f.take(&prepare(1, 2, 0));
        let mut lasts = vec![];
        while let Some((h, _)) = f.next_early() {
            lasts.push(h.last().0);
            f.take(&h);
        }
        assert_eq!(lasts, [4, 5]);
        assert_eq!(acked(&mut f), [5], "one cumulative ack");
        assert!(!f.waits_for_gap());
    }

    #[test]
    fn where_the_caller_acknowledges_only_durable_duplicates_are_answered() {
        let mut f = Follower::new(Acks::ByCaller);
        for op in 1..=3 {
            f.take(&prepare(op, op, 0));
        }
        f.make_durable(OpNumber(2));
        assert!(acked(&mut f).is_empty());
        f.arrive(&prepare(2, 2, 0), b"");
        f.arrive(&prepare(3, 3, 0), b"");
        assert_eq!(acked(&mut f), [2], "an ack beyond does not swallow the one that may be sent");
    }

    #[test]
    fn a_gap_behind_a_gap_is_reported_too() {
        let mut f = Follower::default();
        f.arrive(&prepare(2, 2, 0), b"");
        f.arrive(&prepare(5, 5, 0), b"");
        assert_eq!(f.take_gap(), Some((OpNumber(0), OpNumber(1))));
        f.take(&prepare(1, 1, 0));
        let (two, _) = f.next_early().unwrap();
        f.take(&two);
        assert_eq!(f.take_gap(), Some((OpNumber(2), OpNumber(4))));
    }

    #[test]
    fn a_gap_is_reported_once() {
        let mut f = Follower::default();
        f.arrive(&prepare(3, 3, 0), b"");
        assert!(f.take_gap().is_some());
        f.arrive(&prepare(4, 4, 0), b"");
        assert_eq!(f.take_gap(), None);
    }

    #[test]
    fn rounds_with_their_own_tags_get_their_own_acks() {
        let mut f = Follower::default();
        for op in 1..=3 {
            f.take(&prepare(op, op, op));
        }
        assert_eq!(acked(&mut f), [1, 2, 3]);
    }

    #[test]
    fn duplicates_are_acknowledged_and_overlaps_dropped() {
        let mut f = Follower::default();
        f.restart(OpNumber(10));
        f.arrive(&prepare(9, 10, 0), b"");
        assert_eq!(acked(&mut f), [10]);
        f.arrive(&prepare(10, 11, 0), b"");
        assert!(acked(&mut f).is_empty());
        assert_eq!(f.dropped, 1);
    }
}
