//! What a replica keeps across its lives.
//!
//! In every durability mode: view, last normal view, incarnation and configuration, in `replica.json`, on disk
//! before the replica answers for a view (D3). With durability `disk` also the log and a snapshot.
//!
//! A data directory belongs to one replica, one configuration and one durability mode, and to one process at a
//! time. Its first life has to be asked for (`bootstrap`): without a state file a replica cannot tell a first
//! start from a lost disk (D6). `bootstrap` with a state file is a restart like any other, so that a supervisor
//! may repeat its command line; but then it does not notice either when the disk is lost. The other members turn
//! such a replica away if they have met it before; whoever has not cannot tell, and so a replica that begins anew
//! under an old name can cost the group what it acknowledged. Leave `--bootstrap` out of what is repeated.

pub mod disk;
mod error;
pub mod files;
mod memory;
mod state_file;

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};

pub use error::StorageError;
pub use memory::MemoryStorage;
pub use state_file::FILE as STATE_FILE;

use crate::config::Durability;
use crate::log::LogEntry;
use files::{Files, RealFiles};

/// What is on disk before a replica answers for a view (D3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// Index of the replica.
    pub id: ReplicaId,
    /// Number of this life.
    pub incarnation: u32,
    /// Incarnation of the first life that this directory knows of.
    pub born: u32,
    /// Current view.
    pub view: View,
    /// Last view in which the replica was in normal operation (U4).
    pub last_normal_view: View,
    /// Hash of the configuration.
    pub config_hash: u64,
    /// Incarnation in which the memory of each member begins that was met; 0, or too short: never met (D6).
    pub met: Vec<u32>,
}

/// What is on disk of the log. Durability `memory` has no such thing: all zero.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Last op of the log that is on disk. It falls when an installed log is shorter.
    pub durable: OpNumber,
    /// Op of the newest snapshot on disk.
    pub snapshot: OpNumber,
}

/// Keeps what one replica must not forget.
pub trait Storage: Send {
    /// D3: on disk when it returns, and with it all that was appended before (P6: the last normal view never
    /// overtakes its log).
    fn save_state(&mut self, view: View, last_normal_view: View) -> Result<(), StorageError>;

    /// D6: that a member was met whose memory begins in this incarnation is on disk when it returns.
    fn save_member(&mut self, peer: ReplicaId, born: u32) -> Result<(), StorageError>;

    /// Queues a batch behind the log; [`Storage::poll`] tells when it is on disk. Blocks while too much is
    /// queued.
    fn append(&mut self, entry: &LogEntry) -> Result<(), StorageError>;

    /// Replaces all after `keep` by `entries`, and all up to its op by the snapshot, if there is one; on disk
    /// when it returns. After a crash either the old log is found or the new one, never a mixture (U6; P5,
    /// P6, P7). The new log is that of `view`: if it is found, so is a last normal view of at least this, or the
    /// replica would take it for the log of an older view.
    fn install(
        &mut self,
        view: View,
        keep: OpNumber,
        snapshot: Option<(OpNumber, Bytes)>,
        entries: &[LogEntry],
    ) -> Result<(), StorageError>;

    /// Writes a snapshot in the background; the log up to its op is deleted once it is on disk. A newer one
    /// takes the place of one that has not begun.
    fn snapshot(&mut self, op: OpNumber, bytes: Bytes) -> Result<(), StorageError>;

    /// What is on disk by now. An error in the background comes out here, and everywhere else from then on
    /// (D5: nothing is tried again).
    fn poll(&mut self) -> Result<Progress, StorageError>;

    /// Readable when [`Storage::poll`] has news.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// A storage, and what it found.
pub struct Opened {
    /// For this life.
    pub storage: Box<dyn Storage>,
    /// Whether this is the replica's first life: whatever life came before, it came to nothing.
    pub first_life: bool,
    /// The state, with this life's incarnation, on disk.
    pub persisted: Persisted,
    /// The log behind the snapshot, on disk. The first batch may begin at or before the snapshot's op.
    pub log: Vec<LogEntry>,
    /// The snapshot, if there is one.
    pub snapshot: Option<(OpNumber, Bytes)>,
    /// What was repaired, one line each, for the operator.
    pub warnings: Vec<String>,
}

impl Opened {
    fn new(storage: Box<dyn Storage>, first_life: bool, persisted: Persisted) -> Self {
        Self { storage, first_life, persisted, log: Vec::new(), snapshot: None, warnings: Vec::new() }
    }
}

/// Opens the data directory `dir` for the next life of replica `id`; see the module for `bootstrap`.
pub fn open(
    dir: &Path,
    mode: Durability,
    id: ReplicaId,
    config_hash: u64,
    bootstrap: bool,
) -> Result<Opened, StorageError> {
    if mode == Durability::Process {
        return Err(StorageError::Unsupported(mode));
    }
    open_files(Arc::new(RealFiles::open(dir)?), mode, id, config_hash, bootstrap)
}

/// [`open`] on a directory of another kind.
pub fn open_files(
    files: Arc<dyn Files>,
    mode: Durability,
    id: ReplicaId,
    config_hash: u64,
    bootstrap: bool,
) -> Result<Opened, StorageError> {
    match mode {
        Durability::Memory => MemoryStorage::open(files, id, config_hash, bootstrap),
        Durability::Disk => disk::open(files, id, config_hash, bootstrap, disk::Background::Threads, None)
            .map(|(opened, _)| opened),
        Durability::Process => Err(StorageError::Unsupported(mode)),
    }
}

/// Opens a storage of durability `disk` whose background work is done only by the [`disk::Stepper`]: for the
/// simulation, where everything must happen in a known order. Segments of `segment_bytes_max` bytes let it see
/// the end of one.
pub fn open_stepped(
    files: Arc<dyn Files>,
    id: ReplicaId,
    config_hash: u64,
    bootstrap: bool,
    segment_bytes_max: u64,
) -> Result<(Opened, disk::Stepper), StorageError> {
    let background = disk::Background::Steps;
    disk::open(files, id, config_hash, bootstrap, background, Some(segment_bytes_max))
        .map(|(opened, stepper)| (opened, stepper.expect("asked for")))
}

#[cfg(test)]
mod tests;
