//! Durability `disk`: log and snapshots on disk.
//!
//! # Files
//!
//! | name | |
//! |---|---|
//! | `replica.json` | the state (D3) |
//! | `wal-N` | segments of the log, in a row; only the last one grows, a new one is begun at 16 MiB |
//! | `snapshot-N` | the snapshot that the log refers to last |
//! | `*.new` | not finished; removed at start |
//!
//! # The log is a list of changes
//!
//! A segment is never written to anywhere but at its end. A record is a batch, a note that a snapshot of this log
//! is on disk, or an *installation*: how many ops to keep, the snapshot that goes with it, and the batches that
//! follow. An installation counts only with all its records, so there is no moment between the old log and the
//! new one (U6, P7), and its snapshot file, which was written before, has no effect without them. Segments are
//! deleted from the oldest on, once a snapshot covers what they hold.
//!
//! # What a crash may leave
//!
//! Records are gathered, written and synced as a group; the next group begins after the sync. Each record says
//! how much of its segment was synced when it was written. So after a crash the reader can tell two things
//! apart that look alike: the torn end of a group that was never acknowledged, which is cut off, and damage to
//! what had been acknowledged, with which a replica must not start. (The last group of all has no witness: if
//! it is damaged after its sync, it looks torn.)
//!
//! # What fails, stays failed (D5)
//!
//! After a failed write or fsync nobody knows what is on disk, and a second fsync may succeed without having
//! written anything. The storage returns that error for ever; the replica stops. For the same reason the
//! last segment is written anew at the next start: what a read shows need not be on disk.

mod handle;
mod journal;
mod ledger;
mod queue;
mod record;
mod replay;
mod segment;
mod snapshot_file;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use electrode::types::{OpNumber, ReplicaId};

pub use handle::Stepper;

use super::files::{Files, UNFINISHED, remove_in_order};
use super::state_file::{self, StateFile};
use super::{Opened, Persisted, StorageError};
use crate::config::Durability;
use crate::log::LogEntry;
use handle::DiskStorage;
use journal::Journal;
use replay::Replayed;

/// Whose files these are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Owner {
    id: ReplicaId,
    config_hash: u64,
}

/// A batch, and the segment that holds it.
#[derive(Copy, Clone, Debug)]
struct Placed {
    first: OpNumber,
    last: OpNumber,
    segment: u64,
}

impl Placed {
    fn new(entry: &LogEntry, segment: u64) -> Self {
        Self { first: entry.first, last: entry.last, segment }
    }
}

/// Numbers for snapshot files, none given out twice.
#[derive(Clone, Debug)]
struct Numbers(Arc<AtomicU64>);

impl Numbers {
    fn after(last: u64) -> Self {
        Self(Arc::new(AtomicU64::new(last)))
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// How the work in the background is done.
pub(super) enum Background {
    /// By threads.
    Threads,
    /// By whoever calls the [`Stepper`].
    Steps,
}

/// Opens log, snapshot and state. Files are changed only once all of them have been read and found good.
pub(super) fn open(
    files: Arc<dyn Files>,
    id: ReplicaId,
    config_hash: u64,
    bootstrap: bool,
    background: Background,
    segment_bytes_max: Option<u64>,
) -> Result<(Opened, Option<Stepper>), StorageError> {
    let owner = Owner { id, config_hash };
    let found = StateFile::find(&*files, Durability::Disk, id, config_hash, bootstrap)?;
    let replayed = match (replay::replay(&*files, owner)?, &found) {
        (Some(replayed), Some(_)) => replayed,
        (None, Some(_)) => return Err(StorageError::NoLog { path: files.path("") }),
        // The first start came to nothing.
        (Some(replayed), None) if replayed.is_empty() => replayed,
        (Some(_), None) => return Err(StorageError::OrphanLog { path: files.path("") }),
        (None, None) => {
            Journal::create(&*files, owner)?;
            replay::replay(&*files, owner)?.ok_or_else(|| StorageError::NoLog { path: files.path("") })?
        }
    };
    let warnings = replayed.warnings.clone();
    let installed = replayed.installed;
    let snapshot = replayed.snapshot.map(|(s, _)| s.op).zip(replayed.snapshot_bytes.clone());
    let numbers = remove_leftovers(&*files, &replayed)?;
    let (journal, log) =
        Journal::resume(Arc::clone(&files), owner, numbers.clone(), replayed, segment_bytes_max)?;
    // After the log, so that an interrupted first start can be begun again.
    let (mut state, first_life) = StateFile::begin_life(&*files, Durability::Disk, id, config_hash, found)?;
    let Persisted { view, last_normal_view, .. } = *state.persisted();
    if last_normal_view < installed {
        // A crash between an installation and the state that follows it. On disk before the record that tells
        // can be deleted.
        state.save(&*files, view.max(installed), installed)?;
    }
    let persisted = state.persisted().clone();
    let (storage, stepper) = DiskStorage::start(files, owner, numbers, journal, state, background)?;
    let opened = Opened { storage: Box::new(storage), first_life, persisted, log, snapshot, warnings };
    Ok((opened, stepper))
}

/// Whether there are files of a log.
pub(super) fn has_log(files: &dyn Files) -> Result<bool, StorageError> {
    let names = files.list().map_err(StorageError::io("listing", files.path("")))?;
    Ok(names.iter().any(|name| segment::number(name).is_some()))
}

/// Removes what an interrupted life left: unfinished files and snapshots without effect.
fn remove_leftovers(files: &dyn Files, replayed: &Replayed) -> Result<Numbers, StorageError> {
    let names = files.list().map_err(StorageError::io("listing", files.path("")))?;
    let kept = replayed.snapshot.map(|(snapshot, _)| snapshot.number);
    let snapshots = names.iter().filter_map(|name| snapshot_file::number(name));
    let last = snapshots.chain(kept).max().unwrap_or(0);
    let is_leftover = |name: &String| match name.strip_suffix(UNFINISHED) {
        Some(of) => {
            of == state_file::FILE || segment::number(of).is_some() || snapshot_file::number(of).is_some()
        }
        None => snapshot_file::number(name).is_some_and(|number| Some(number) != kept),
    };
    let leftovers: Vec<String> = names.into_iter().filter(is_leftover).collect();
    remove_in_order(files, &leftovers)?;
    Ok(Numbers::after(last))
}
