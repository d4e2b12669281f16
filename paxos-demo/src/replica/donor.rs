//! State transfer, the giving side: answers questions in bounded portions.
//!
//! Batches of an uncommitted log are given to whoever needs them in the view they belong to: by the leader
//! in its view, and by a voter to the leader of the view that it voted for. A snapshot holds committed ops
//! only and is good for anybody. It is encoded elsewhere (`Action::EncodeSnapshot`), so a large state does
//! not hold up the commits, and kept as long as somebody asks for it.

use super::fetch::SNAPSHOT_WINDOW_BYTES;
use super::{Action, NEVER, Replica, Role};
use crate::peer::PeerMessage;
use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};

/// A snapshot that nobody asked for during this time is dropped.
const SNAPSHOT_KEPT_NS: u64 = 10_000_000_000;

/// The snapshot that is being given away, if any.
#[derive(Debug, Default)]
pub(super) struct Donor {
    snapshot: Option<(OpNumber, Bytes)>,
    /// Last op of the one that is being encoded.
    encoding: Option<OpNumber>,
    used_at: u64,
}

impl Donor {
    pub(super) fn deadline(&self) -> u64 {
        if self.snapshot.is_some() { self.used_at + SNAPSHOT_KEPT_NS } else { NEVER }
    }

    /// Length of the snapshot that is being given away, or about that of the one that is being encoded of a state
    /// of `state_bytes`.
    pub(super) fn snapshot_bytes(&self, state_bytes: u64) -> usize {
        let encoding = self.encoding.map_or(0, |_| usize::try_from(state_bytes).unwrap_or(usize::MAX));
        self.snapshot.as_ref().map_or(encoding, |(_, bytes)| bytes.len())
    }

    /// Ops after this one are wanted behind the snapshot that is being given away.
    pub(super) fn keeps_after(&self) -> Option<OpNumber> {
        self.snapshot.as_ref().map(|(op, _)| *op).or(self.encoding)
    }
}

impl Replica {
    pub(super) fn on_get_state(&mut self, from: ReplicaId, view: View, after: OpNumber, upto: OpNumber) {
        let may = view == self.view
            && match &self.role {
                Role::Leader(_) => true,
                // What was voted for does not change while the vote stands (U6).
                Role::ViewChange(change) => change.voted && from == self.leader(),
                _ => false,
            };
        if !may {
            self.counters.ignored += 1;
            return;
        }
        self.note_help(from);
        let oldest = self.log.first_op();
        if after.next() < oldest && after < self.log.last_op() {
            return self.outbox.send(from, PeerMessage::StateGone { view, oldest });
        }
        let mut ops = 0;
        for entry in self.log.entries_from(after.next()) {
            if entry.first > upto || ops >= self.config.repair_ops {
                break;
            }
            ops += entry.last.0 - entry.first.0 + 1;
            let message = PeerMessage::NewState {
                view,
                ordered_in: entry.view,
                first: entry.first,
                last: entry.last,
                payload: entry.payload.clone(),
            };
            self.outbox.send(from, message);
        }
    }

    pub(super) fn on_get_snapshot(&mut self, from: ReplicaId, op: OpNumber, offset: u64) {
        if matches!(self.role, Role::Recovering(_) | Role::Stopped) {
            self.counters.ignored += 1;
            return;
        }
        self.donor.used_at = self.now;
        self.note_help(from);
        let oldest = self.log.first_op();
        // What follows the snapshot must still be in the log.
        let useful = self.donor.snapshot.as_ref().filter(|(have, _)| have.next() >= oldest);
        let Some((have, bytes)) = useful else {
            self.donor.snapshot = None;
            self.encode_snapshot();
            return self.tell_that_it_is_encoded(from);
        };
        let (have, total_bytes) = (*have, bytes.len() as u64);
        let mut offset = if op == have { offset } else { 0 };
        let upto = total_bytes.min(offset.saturating_add(SNAPSHOT_WINDOW_BYTES));
        let bytes = bytes.clone();
        while offset < upto {
            let next = upto.min(offset + self.config.chunk_bytes() as u64);
            let part = bytes.slice(offset as usize..next as usize);
            let view = self.view;
            let chunk = PeerMessage::SnapshotChunk { view, op: have, total_bytes, offset, bytes: part };
            self.outbox.send(from, chunk);
            offset = next;
        }
    }

    /// A leader whose quorum depends on one that misses much does not step down while that one gets it.
    fn note_help(&mut self, member: ReplicaId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.helped(member);
        }
    }

    /// Who waits for a snapshot hears that it is on its way, by an empty part.
    fn tell_that_it_is_encoded(&mut self, to: ReplicaId) {
        if let Some(op) = self.donor.encoding {
            let (view, total_bytes, offset, bytes) = (self.view, 0, 0, Bytes::new());
            self.outbox.send(to, PeerMessage::SnapshotChunk { view, op, total_bytes, offset, bytes });
        }
    }

    /// Has the state encoded, unless that is under way.
    pub(super) fn encode_snapshot(&mut self) {
        if self.donor.encoding.is_none() && self.applied > OpNumber(0) {
            self.donor.encoding = Some(self.applied);
            self.outbox.push(Action::EncodeSnapshot(Box::new(self.service.snapshot(self.applied))));
        }
    }

    /// The encoded snapshot of the state after `op`.
    pub fn on_snapshot(&mut self, now: u64, op: OpNumber, bytes: Bytes) {
        self.advance(now);
        self.donor.encoding = None;
        if self.wants_stored_snapshot() {
            self.store_snapshot(op, bytes.clone());
        }
        let wanted = now < self.donor.used_at.saturating_add(SNAPSHOT_KEPT_NS) && self.donor.used_at > 0;
        let oldest = self.log.first_op();
        // One that is being fetched stays, or a large one would never arrive: storage has one made now and then.
        let being_given = self.donor.snapshot.as_ref().is_some_and(|(have, _)| have.next() >= oldest);
        if wanted && !being_given {
            self.donor.snapshot = Some((op, bytes));
        }
    }

    pub(super) fn donor_tick(&mut self) {
        if self.now >= self.donor.deadline() {
            self.donor.snapshot = None;
        }
    }
}
