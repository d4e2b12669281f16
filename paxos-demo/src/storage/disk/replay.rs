//! From files to a log.

use std::collections::VecDeque;

use bytes::Bytes;
use electrode::types::{OpNumber, View};

use super::ledger::{Ledger, Span};
use super::record::Record;
use super::segment::{self, Scan};
use super::snapshot_file::{self, SnapshotRef};
use super::{Owner, Placed};
use crate::log::LogEntry;
use crate::storage::StorageError;
use crate::storage::files::Files;

/// What the files say.
pub(super) struct Replayed {
    /// Numbers of all segments, in a row.
    pub(super) segments: VecDeque<u64>,
    /// The last of them.
    pub(super) last: Scan,
    pub(super) ledger: Ledger<(LogEntry, Placed)>,
    /// The snapshot, and the segment whose record refers to it.
    pub(super) snapshot: Option<(SnapshotRef, u64)>,
    pub(super) snapshot_bytes: Option<Bytes>,
    /// View of the newest installation that is found; the last normal view is at least this.
    pub(super) installed: View,
    pub(super) warnings: Vec<String>,
}

impl Replayed {
    /// Whether there is nothing in the log, and never was.
    pub(super) fn is_empty(&self) -> bool {
        self.snapshot.is_none() && self.ledger.end() == OpNumber(0)
    }
}

impl Span for (LogEntry, Placed) {
    fn ops(&self) -> (OpNumber, OpNumber) {
        self.0.ops()
    }
}

/// Reads segments and snapshot; `None` if there is no segment. Changes nothing.
pub(super) fn replay(files: &dyn Files, owner: Owner) -> Result<Option<Replayed>, StorageError> {
    let names = files.list().map_err(StorageError::io("listing", files.path("")))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else { return Ok(None) };
    if let Some(missing) = (first..=last).zip(&numbers).find_map(|(n, is)| (n != *is).then_some(n)) {
        return Err(StorageError::Damaged {
            path: files.path(&segment::name(missing)),
            offset: 0,
            reason: "it is missing".into(),
        });
    }
    let mut state: Option<State> = None;
    let mut read = |number| {
        let scan = segment::scan(files, owner, number, number == last)?;
        let state = state.get_or_insert_with(|| State::new(scan.end));
        if state.ledger.end() != scan.end {
            let (path, reason) =
                (files.path(&segment::name(number)), "it does not continue the one before it");
            return Err(StorageError::Damaged { path, offset: 0, reason: reason.into() });
        }
        state.apply_all(files, number, &scan)?;
        Ok(scan)
    };
    for number in first..last {
        read(number)?;
    }
    let scan = read(last)?;

    let State { ledger, snapshot, installed, .. } = state.expect("there is a segment");
    let mut warnings = Vec::new();
    if let Some(reason) = scan.torn {
        warnings.push(format!(
            "{}: {reason} at byte {}; the last {} bytes were never acknowledged and are dropped",
            files.path(&segment::name(last)).display(),
            scan.good,
            scan.bytes.len() - scan.good
        ));
    }
    if ledger.has_hole() {
        return Err(StorageError::Damaged {
            path: files.path(&segment::name(first)),
            offset: 0,
            reason: "what was before it is missing and in no snapshot".into(),
        });
    }
    let snapshot_bytes =
        snapshot.map(|(snapshot, _)| snapshot_file::read(files, owner, snapshot)).transpose()?;
    let segments = numbers.into();
    Ok(Some(Replayed { segments, last: scan, ledger, snapshot, snapshot_bytes, installed, warnings }))
}

struct State {
    ledger: Ledger<(LogEntry, Placed)>,
    snapshot: Option<(SnapshotRef, u64)>,
    staged_to_come: u64,
    installed: View,
}

impl State {
    fn new(end_of_deleted: OpNumber) -> Self {
        Self {
            ledger: Ledger::of_deleted(end_of_deleted),
            snapshot: None,
            staged_to_come: 0,
            installed: View(0),
        }
    }

    fn apply_all(&mut self, files: &dyn Files, number: u64, scan: &Scan) -> Result<(), StorageError> {
        for (at, record) in &scan.records {
            self.apply(number, record).map_err(|reason| StorageError::Damaged {
                path: files.path(&segment::name(number)),
                offset: *at as u64,
                reason,
            })?;
        }
        Ok(())
    }

    fn apply(&mut self, segment: u64, record: &Record) -> Result<(), String> {
        if (self.staged_to_come > 0) != matches!(record, Record::Staged(_)) {
            return Err("records of an installation stand in wrong order".into());
        }
        let placed = |entry: &LogEntry| (entry.clone(), Placed::new(entry, segment));
        match record {
            Record::Entry(entry) => self.ledger.append(placed(entry)).map_err(|e| e.to_string()),
            Record::Staged(entry) => {
                self.staged_to_come -= 1;
                self.ledger.stage(placed(entry)).map_err(|e| e.to_string())
            }
            Record::Install(install) => {
                self.staged_to_come = install.entries;
                self.installed = install.view;
                self.ledger.cut(install.keep);
                if let Some(snapshot) = install.snapshot {
                    self.ledger.snapshot(snapshot.op);
                    self.snapshot = Some((snapshot, segment));
                }
                Ok(())
            }
            Record::Snapshot(snapshot) => {
                self.ledger.snapshot(snapshot.op);
                self.snapshot = Some((*snapshot, segment));
                Ok(())
            }
        }
    }
}
