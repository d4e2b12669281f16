//! `replica.json`: what is on disk before a replica answers for a view (D3).
//!
//! One small file, written whole, synced, and renamed into place. It carries a checksum: a view with one digit
//! wrong would let the replica vote twice.

use std::time::{SystemTime, UNIX_EPOCH};

use electrode::types::{ReplicaId, View};
use serde::{Deserialize, Serialize};

use super::files::{Files, read_if_there, write_whole};
use super::{Persisted, StorageError};
use crate::config::Durability;

/// Its name.
pub const FILE: &str = "replica.json";

/// 3: with the incarnation in which the directory's memory begins, and those of the members that were met.
const SCHEMA: u32 = 3;

/// The file's contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    schema: u32,
    state: State,
    /// CRC-32C of `state` as compact JSON.
    crc32c: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    id: ReplicaId,
    durability: Durability,
    /// Anything was promised under this name: a start that came to nothing was no life.
    lived: bool,
    incarnation: u32,
    /// Incarnation of the first life in this directory.
    born: u32,
    view: View,
    last_normal_view: View,
    config_hash: u64,
    /// Incarnation in which the memory of each member begins that was met, 0: never met.
    met: Vec<u32>,
}

impl State {
    fn checksum(&self) -> u32 {
        crc32c::crc32c(&serde_json::to_vec(self).expect("numbers and words"))
    }
}

/// The state of a replica, and where it is kept.
#[derive(Debug)]
pub(super) struct StateFile {
    durability: Durability,
    lived: bool,
    persisted: Persisted,
}

impl StateFile {
    /// The state of the last life, if it is this replica's. Without a file this is the first life, for which
    /// `bootstrap` must be asked for (D6).
    pub(super) fn find(
        files: &dyn Files,
        durability: Durability,
        id: ReplicaId,
        config_hash: u64,
        bootstrap: bool,
    ) -> Result<Option<Self>, StorageError> {
        let found = Self::read(files)?;
        match &found {
            Some(state) => state.check(files, durability, id, config_hash)?,
            None if !bootstrap => return Err(StorageError::NoState { id, path: files.path(FILE) }),
            None => {}
        }
        Ok(found)
    }

    /// Begins the life after the one that was [found](StateFile::find): on disk when it returns. Also says
    /// whether it is the first.
    pub(super) fn begin_life(
        files: &dyn Files,
        durability: Durability,
        id: ReplicaId,
        config_hash: u64,
        found: Option<Self>,
    ) -> Result<(Self, bool), StorageError> {
        let lived = found.as_ref().is_some_and(|state| state.lived);
        let clock = incarnation_by_clock();
        let persisted = match found {
            None => {
                let (view, last_normal_view) = (View(0), View(0));
                let (born, met) = (clock, Vec::new());
                Persisted { id, incarnation: clock, born, view, last_normal_view, config_hash, met }
            }
            Some(Self { persisted: last, .. }) => {
                let next = last.incarnation.checked_add(1).expect("refused when it was found");
                Persisted { incarnation: clock.max(next), ..last }
            }
        };
        let state = Self { durability, lived, persisted };
        state.write(files)?;
        Ok((state, !lived))
    }

    /// The state in `files`, if there is one.
    fn read(files: &dyn Files) -> Result<Option<Self>, StorageError> {
        let Some(bytes) = read_if_there(files, FILE)? else { return Ok(None) };
        let damaged = |reason| StorageError::Damaged { path: files.path(FILE), offset: 0, reason };
        let contents: Contents = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if contents.schema != SCHEMA {
            let reason = format!("schema {}, this program writes {SCHEMA}", contents.schema);
            return Err(damaged(reason));
        }
        let state = contents.state;
        if contents.crc32c != state.checksum() {
            return Err(damaged("checksum wrong".into()));
        }
        let State { id, durability, lived, incarnation, born, view, last_normal_view, config_hash, met } =
            state;
        let persisted = Persisted { id, incarnation, born, view, last_normal_view, config_hash, met };
        Ok(Some(Self { durability, lived, persisted }))
    }

    /// Whether the file is this replica's, and another life can follow it.
    fn check(
        &self,
        files: &dyn Files,
        durability: Durability,
        id: ReplicaId,
        config_hash: u64,
    ) -> Result<(), StorageError> {
        let path = files.path(FILE);
        let found = &self.persisted;
        if found.id != id {
            return Err(StorageError::WrongReplica { path, found: found.id, expected: id });
        }
        // Before the hash, which the mode is part of: this message says more.
        if self.durability != durability {
            return Err(StorageError::WrongDurability { path, found: self.durability, expected: durability });
        }
        if found.config_hash != config_hash {
            return Err(StorageError::WrongConfig { path, found: found.config_hash, expected: config_hash });
        }
        // Here, and not when the next life begins: by then the end of the log may have been repaired.
        if found.incarnation == u32::MAX {
            return Err(StorageError::Damaged { path, offset: 0, reason: "no incarnation is left".into() });
        }
        Ok(())
    }

    /// What is on disk.
    pub(super) fn persisted(&self) -> &Persisted {
        &self.persisted
    }

    /// Replaces view and last normal view: on disk when it returns.
    pub(super) fn save(
        &mut self,
        files: &dyn Files,
        view: View,
        last_normal_view: View,
    ) -> Result<(), StorageError> {
        self.lived = true;
        self.persisted.view = view;
        self.persisted.last_normal_view = last_normal_view;
        self.write(files)
    }

    /// Notes where the memory of a member begins: on disk when it returns. Nothing is promised with it.
    pub(super) fn meet(&mut self, files: &dyn Files, peer: ReplicaId, born: u32) -> Result<(), StorageError> {
        let met = &mut self.persisted.met;
        if met.len() <= peer.index() {
            met.resize(peer.index() + 1, 0);
        }
        met[peer.index()] = born;
        self.write(files)
    }

    fn write(&self, files: &dyn Files) -> Result<(), StorageError> {
        let Persisted { id, incarnation, born, view, last_normal_view, config_hash, met } =
            self.persisted.clone();
        let Self { durability, lived, .. } = *self;
        let state =
            State { id, durability, lived, incarnation, born, view, last_normal_view, config_hash, met };
        let contents = Contents { schema: SCHEMA, crc32c: state.checksum(), state };
        let bytes = serde_json::to_vec_pretty(&contents).expect("numbers and words");
        write_whole(files, FILE, &[&bytes]).map(drop)
    }
}

/// A number that no earlier life is likely to have had, for a life that follows none on file: the clock in
/// hundredths of a second. Half the range, so that it never leaves later lives without numbers; never zero.
pub fn incarnation_by_clock() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ((since.as_millis() / 10) as u32 & (u32::MAX >> 1)).max(1)
}
