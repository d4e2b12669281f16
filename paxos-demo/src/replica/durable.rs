//! Durability `disk`: what is acknowledged is on disk.
//!
//! Batches go to storage as they come; one sync covers all that came meanwhile, and one cumulative ack tells
//! of it (D5 is the storage's: after a failed sync there is no progress, ever). The leader's own vote is its
//! own durable length (L4). In `memory` mode none of this happens.

use super::{Action, Replica, Role};
use crate::log::LogEntry;
use bytes::Bytes;
use electrode::types::OpNumber;

/// What storage holds behind its last snapshot.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// Payload bytes appended since then.
    bytes: u64,
    /// A new one was asked for.
    asked: bool,
}

impl Stored {
    /// A log of this length.
    pub(super) fn of(payload_bytes: usize) -> Self {
        Self { bytes: payload_bytes as u64, asked: false }
    }
}

impl Replica {
    /// Everything up to `op` is on disk.
    pub fn on_durable(&mut self, now: u64, op: OpNumber) {
        self.advance(now);
        let op = op.min(self.log.last_op());
        if !self.config.durable || op <= self.durable {
            return;
        }
        self.durable = op;
        match &self.role {
            Role::Follower(_) => self.outbox.push(Action::Acknowledge { op }),
            Role::Leader(leader) => {
                let quorum = leader.quorum;
                self.commit_upto(quorum);
            }
            _ => {}
        }
    }

    /// Whether storage has been given what is not on disk yet: there will be news of it.
    pub fn is_storing(&self) -> bool {
        self.config.durable && self.durable < self.log.last_op()
    }

    /// Hands a batch to storage.
    pub(super) fn store(&mut self, entry: &LogEntry) {
        if !self.config.durable {
            return;
        }
        self.stored.bytes += entry.payload.len() as u64;
        self.outbox.push(Action::LogAppend(entry.clone()));
        if self.stored.bytes >= self.config.snapshot_bytes && !self.stored.asked {
            self.stored.asked = true;
            self.encode_snapshot();
        }
    }

    pub(super) fn wants_stored_snapshot(&self) -> bool {
        self.stored.asked
    }

    /// The log up to `op` may be deleted once the snapshot is on disk.
    pub(super) fn store_snapshot(&mut self, op: OpNumber, bytes: Bytes) {
        self.stored = Stored::default();
        self.outbox.push(Action::StoreSnapshot { op, bytes });
    }
}
