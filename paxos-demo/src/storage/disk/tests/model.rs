//! A dumb second implementation of what the storage should hold, and what may be found after a crash.

use std::sync::Arc;

use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};

use crate::log::LogEntry;
use crate::storage::disk::Stepper;
use crate::storage::files::SimFiles;
use crate::storage::{Opened, StorageError, open_stepped};

pub(super) const ID: ReplicaId = ReplicaId(2);
pub(super) const HASH: u64 = 0x0123_4567_89ab_cdef;
/// Small, so that segments end often.
pub(super) const SEGMENT_BYTES: u64 = 1500;

pub(super) fn open(files: &SimFiles) -> Result<(Opened, Stepper), StorageError> {
    open_stepped(Arc::new(files.clone()), ID, HASH, true, SEGMENT_BYTES)
}

/// A batch of ops `first..=last`; `nonce` makes it unlike others of the same ops.
pub(super) fn batch(first: u64, last: u64, nonce: u64) -> LogEntry {
    let length = (nonce as usize * 37) % 300;
    let payload = nonce.to_le_bytes().into_iter().cycle().take(8 + length).collect();
    LogEntry { view: View(nonce % 7), first: OpNumber(first), last: OpNumber(last), payload }
}

/// A snapshot at `op`.
pub(super) fn state_at(op: u64, nonce: u64) -> (OpNumber, Bytes) {
    (OpNumber(op), Bytes::from(format!("state {nonce} at {op} ").repeat(20)))
}

/// What one moment's log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Held {
    /// The snapshot that came with an installation.
    pub(super) installed: Option<(OpNumber, Bytes)>,
    pub(super) batches: Vec<LogEntry>,
}

impl Held {
    pub(super) fn base(&self) -> u64 {
        self.installed.as_ref().map_or(0, |(op, _)| op.0)
    }

    pub(super) fn end(&self) -> u64 {
        self.batches.last().map_or(self.base(), |batch| batch.last.0)
    }

    /// Last op of a batch, `op` or the next one below.
    pub(super) fn boundary(&self, op: u64) -> u64 {
        self.batches.iter().rev().map(|b| b.last.0).find(|last| *last <= op).unwrap_or(self.base())
    }

    pub(super) fn append(&mut self, batch: LogEntry) {
        self.batches.push(batch);
    }

    pub(super) fn install(&mut self, keep: u64, snapshot: Option<(OpNumber, Bytes)>, entries: &[LogEntry]) {
        self.batches.retain(|batch| batch.last.0 <= keep);
        if let Some((op, bytes)) = snapshot {
            self.batches.retain(|batch| batch.last > op);
            self.installed = Some((op, bytes));
        }
        self.batches.extend_from_slice(entries);
    }

    /// Whether this is what was found. Own snapshots, taken of ops that no installation ever takes back, may
    /// stand for the beginning of the log.
    pub(super) fn matches(&self, found: &Opened, own: &[(OpNumber, Bytes)]) -> bool {
        let base = found.snapshot.as_ref().map_or(OpNumber(0), |(op, _)| *op);
        let snapshot_known = found.snapshot == self.installed
            || (base.0 > self.base() && own.iter().any(|own| found.snapshot.as_ref() == Some(own)));
        let behind: Vec<_> = self.batches.iter().filter(|batch| batch.last > base).collect();
        snapshot_known && base.0 <= self.end() && behind == found.log.iter().collect::<Vec<_>>()
    }
}
