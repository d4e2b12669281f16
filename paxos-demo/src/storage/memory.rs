//! Durability `memory`: nothing but the state file outlives the process. A replica that comes back has lost
//! its log and asks the others for it (D4).

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};

use super::disk;
use super::files::Files;
use super::state_file::{StateFile, incarnation_by_clock};
use super::{Opened, Persisted, Progress, Storage, StorageError};
use crate::config::Durability;
use crate::log::LogEntry;

/// Keeps the state file, if there is a directory for it; log and snapshots stay in the replica's memory.
pub struct MemoryStorage {
    kept: Option<(Arc<dyn Files>, StateFile)>,
    failed: Option<StorageError>,
}

impl MemoryStorage {
    pub(super) fn open(
        files: Arc<dyn Files>,
        id: ReplicaId,
        config_hash: u64,
        bootstrap: bool,
    ) -> Result<Opened, StorageError> {
        let mode = Durability::Memory;
        let found = StateFile::find(&*files, mode, id, config_hash, bootstrap)?;
        if disk::has_log(&*files)? {
            return Err(StorageError::OrphanLog { path: files.path("") });
        }
        let (state, first_life) = StateFile::begin_life(&*files, mode, id, config_hash, found)?;
        let persisted = state.persisted().clone();
        let storage = Self { kept: Some((files, state)), failed: None };
        Ok(Opened::new(Box::new(storage), first_life, persisted))
    }

    /// A storage that keeps nothing at all, for a replica without a data directory. Such a replica has one
    /// life: started again it does not know what it promised (D3).
    pub fn without_directory(id: ReplicaId, config_hash: u64) -> Opened {
        let incarnation = incarnation_by_clock();
        let persisted = Persisted {
            id,
            incarnation,
            born: incarnation,
            view: View(0),
            last_normal_view: View(0),
            config_hash,
            met: Vec::new(),
        };
        Opened::new(Box::new(Self { kept: None, failed: None }), true, persisted)
    }
}

impl Storage for MemoryStorage {
    fn save_state(&mut self, view: View, last_normal_view: View) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some((files, state)) = &mut self.kept else { return Ok(()) };
        state.save(&**files, view, last_normal_view).inspect_err(|e| self.failed = Some(e.clone()))
    }

    fn save_member(&mut self, peer: ReplicaId, born: u32) -> Result<(), StorageError> {
        self.alive()?;
        let Some((files, state)) = &mut self.kept else { return Ok(()) };
        state.meet(&**files, peer, born).inspect_err(|e| self.failed = Some(e.clone()))
    }

    fn append(&mut self, _entry: &LogEntry) -> Result<(), StorageError> {
        self.alive()
    }

    fn install(
        &mut self,
        _view: View,
        _keep: OpNumber,
        _snapshot: Option<(OpNumber, Bytes)>,
        _entries: &[LogEntry],
    ) -> Result<(), StorageError> {
        self.alive()
    }

    fn snapshot(&mut self, _op: OpNumber, _bytes: Bytes) -> Result<(), StorageError> {
        self.alive()
    }

    fn poll(&mut self) -> Result<Progress, StorageError> {
        self.alive().map(|()| Progress::default())
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl MemoryStorage {
    fn alive(&self) -> Result<(), StorageError> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}
