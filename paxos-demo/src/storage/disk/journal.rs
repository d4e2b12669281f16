//! The log on disk, written by one caller at a time: batches are gathered and become durable with
//! [`Journal::sync`]. Knows nothing of threads.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use electrode::types::{OpNumber, View};

use super::ledger::{Ledger, Span};
use super::record::{self, Install};
use super::replay::Replayed;
use super::segment;
use super::snapshot_file::{self, SnapshotRef};
use super::{Numbers, Owner, Placed};
use crate::log::LogEntry;
use crate::storage::files::{FileWriter, Files, write_whole};
use crate::storage::{Progress, StorageError};

/// Length from which the next group goes to a new segment.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Gathered bytes that are written before the group is complete.
const BUFFER_BYTES: usize = 1 << 20;

pub(super) struct Journal {
    files: Arc<dyn Files>,
    owner: Owner,
    numbers: Numbers,
    ledger: Ledger<Placed>,
    /// Numbers of all segments, in a row; the last one is written to.
    segments: VecDeque<u64>,
    segment_bytes_max: u64,
    file: Box<dyn FileWriter>,
    salt: u32,
    /// Length of the file, and how much of it is synced.
    written: u64,
    synced: u64,
    buffer: Vec<u8>,
    /// The snapshot, and the segment whose record refers to it.
    snapshot: Option<(SnapshotRef, u64)>,
    /// Snapshot files that the next sync makes superfluous.
    replaced: Vec<String>,
    garbage: Vec<String>,
}

impl Journal {
    /// The first segment of a new log.
    pub(super) fn create(files: &dyn Files, owner: Owner) -> Result<(), StorageError> {
        let header = segment::header(owner, 1, fastrand::u32(..), OpNumber(0));
        write_whole(files, &segment::name(1), &[&header]).map(drop)
    }

    /// Goes on behind what was read. The last segment is written again: if its last fsync failed, the page
    /// cache may show what is not on disk (D5), and a torn end goes away with it.
    pub(super) fn resume(
        files: Arc<dyn Files>,
        owner: Owner,
        numbers: Numbers,
        replayed: Replayed,
        segment_bytes_max: Option<u64>,
    ) -> Result<(Self, Vec<LogEntry>), StorageError> {
        let Replayed { segments, last, ledger, snapshot, .. } = replayed;
        let current = *segments.back().expect("a log has a segment");
        let file = write_whole(&*files, &segment::name(current), &[&last.bytes[..last.good]])?;
        let mut placed = Ledger::of_snapshot(ledger.base());
        let mut log = Vec::new();
        for (entry, place) in ledger.into_spans() {
            placed.stage(place).expect("it was in order");
            log.push(entry);
        }
        let mut journal = Self {
            files,
            owner,
            numbers,
            ledger: placed,
            segments,
            segment_bytes_max: segment_bytes_max.unwrap_or(SEGMENT_BYTES),
            file,
            salt: last.salt,
            written: last.good as u64,
            synced: last.good as u64,
            buffer: Vec::new(),
            snapshot,
            replaced: Vec::new(),
            garbage: Vec::new(),
        };
        journal.find_obsolete();
        Ok((journal, log))
    }

    /// What is on disk, if all is synced.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            durable: self.ledger.end(),
            snapshot: self.snapshot.map_or(OpNumber(0), |(snapshot, _)| snapshot.op),
        }
    }

    /// Files that nothing on disk refers to any more, the oldest first; they must be removed in this order.
    pub(super) fn take_garbage(&mut self) -> Vec<String> {
        std::mem::take(&mut self.garbage)
    }

    pub(super) fn append(&mut self, entry: &LogEntry) -> Result<(), StorageError> {
        self.ledger.append(Placed::new(entry, self.current()))?;
        record::put_entry(&mut self.buffer, self.salt, self.synced, entry, false);
        self.write_if_large()
    }

    /// See [`crate::storage::Storage::install`]; durable after the next sync. The records form one unit: a
    /// reader that finds only a part takes none of it.
    pub(super) fn install(
        &mut self,
        view: View,
        keep: OpNumber,
        snapshot: Option<(OpNumber, Bytes)>,
        entries: &[LogEntry],
    ) -> Result<(), StorageError> {
        // One that is not newer than ours says nothing new.
        let snapshot = snapshot.filter(|(op, _)| *op > self.ledger.base());
        let mut ledger = self.ledger.clone();
        ledger.cut(keep);
        // A batch that `keep` parts is gone whole. The reader may no longer see it, so it is told.
        let keep = ledger.end();
        if let Some((op, _)) = &snapshot {
            ledger.snapshot(*op);
        }
        let base = ledger.base();
        let entries = || entries.iter().filter(|entry| entry.last > base);
        for entry in entries() {
            ledger.stage(Placed::new(entry, self.current()))?;
        }
        // The file takes effect with the record that refers to it.
        let snapshot = snapshot
            .map(|(op, bytes)| {
                snapshot_file::write(&*self.files, self.owner, self.numbers.next(), op, &bytes)
            })
            .transpose()?;
        let install = Install { view, keep, snapshot, entries: entries().count() as u64 };
        record::put_install(&mut self.buffer, self.salt, self.synced, &install);
        for entry in entries() {
            record::put_entry(&mut self.buffer, self.salt, self.synced, entry, true);
            self.write_if_large()?;
        }
        self.ledger = ledger;
        if let Some(snapshot) = snapshot {
            self.refer_to(snapshot);
        }
        Ok(())
    }

    /// A snapshot of this log has been written: from the next sync on it takes the place of the log up to its
    /// op.
    pub(super) fn adopt(&mut self, snapshot: SnapshotRef) -> Result<(), StorageError> {
        if snapshot.op <= self.ledger.base() || self.ledger.end() < snapshot.op {
            // An installation came between.
            self.garbage.push(snapshot_file::name(snapshot.number));
            return Ok(());
        }
        self.ledger.snapshot(snapshot.op);
        record::put_snapshot(&mut self.buffer, self.salt, self.synced, snapshot);
        self.refer_to(snapshot);
        Ok(())
    }

    /// All before is on disk when it returns.
    pub(super) fn sync(&mut self) -> Result<Progress, StorageError> {
        self.write_buffer()?;
        if self.synced < self.written {
            let failed = self.failed("syncing");
            self.file.sync().map_err(failed)?;
            self.synced = self.written;
            self.find_obsolete();
            self.garbage.append(&mut self.replaced);
        }
        if self.written >= self.segment_bytes_max {
            self.begin_segment()?;
        }
        Ok(self.progress())
    }

    fn current(&self) -> u64 {
        *self.segments.back().expect("a log has a segment")
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(std::io::Error) -> StorageError + use<> {
        StorageError::io(what, self.files.path(&segment::name(self.current())))
    }

    fn refer_to(&mut self, snapshot: SnapshotRef) {
        if let Some((old, _)) = self.snapshot.replace((snapshot, self.current())) {
            self.replaced.push(snapshot_file::name(old.number));
        }
    }

    fn write_if_large(&mut self) -> Result<(), StorageError> {
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.write_buffer() }
    }

    fn write_buffer(&mut self) -> Result<(), StorageError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let failed = self.failed("writing");
        self.file.write(&self.buffer).map_err(failed)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), StorageError> {
        let number = self.current() + 1;
        let salt = fastrand::u32(..);
        let header = segment::header(self.owner, number, salt, self.ledger.end());
        self.file = write_whole(&*self.files, &segment::name(number), &[&header])?;
        self.salt = salt;
        self.written = header.len() as u64;
        self.synced = self.written;
        self.segments.push_back(number);
        Ok(())
    }

    /// A segment is needed while it, or one before it, holds a batch of the log or the record that refers to
    /// the snapshot.
    fn find_obsolete(&mut self) {
        let of_log = self.ledger.front().map_or(self.current(), |placed| placed.segment);
        let of_snapshot = self.snapshot.map_or(self.current(), |(_, segment)| segment);
        while self.segments.front().is_some_and(|&oldest| oldest < of_log.min(of_snapshot)) {
            self.garbage.extend(self.segments.pop_front().map(segment::name));
        }
    }
}

impl Span for Placed {
    fn ops(&self) -> (OpNumber, OpNumber) {
        (self.first, self.last)
    }
}
