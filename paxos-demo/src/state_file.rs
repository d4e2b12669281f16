//! What a replica remembers across its lives: view, last normal view, incarnation and configuration (D3).
//!
//! One small file in the data directory, written whole, synced, and renamed into place before the gate
//! opens. A replica that finds one has lived before; it may have acknowledged ops that it no longer has, so
//! until recovery exists it does not join (D4, D6).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use electrode::types::{ReplicaId, View};
use serde::{Deserialize, Serialize};

const FILE: &str = "replica.json";
const SCHEMA: u32 = 1;

/// The file's contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    schema: u32,
    /// Index of the replica.
    pub id: ReplicaId,
    /// Number of this life.
    pub incarnation: u32,
    /// Current view.
    pub view: View,
    /// Last view in which the replica was in normal operation (U4).
    pub last_normal_view: View,
    /// Hash of the configuration.
    pub config_hash: u64,
}

/// Why a replica cannot start from its data directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error("{what} {}: {source}; is the data directory writable, and the disk not full?", path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The replica has lived before.
    #[error(
        "replica {id} has run before (incarnation {incarnation}, {}): what it acknowledged then was in memory \
         and is gone, so it must not join again. Recovery is not implemented yet: start the whole group anew \
         with empty data directories", path.display()
    )]
    LivedBefore {
        /// Index of the replica.
        id: ReplicaId,
        /// Its last life.
        incarnation: u32,
        /// The file that says so.
        path: PathBuf,
    },
    /// The file cannot be understood.
    #[error("{} is damaged ({reason}); it belongs to another program or version", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Writes the first state of a new replica into `dir`, which is created; refuses a replica that has lived
/// before.
pub fn first_life(
    dir: &Path,
    id: ReplicaId,
    incarnation: u32,
    config_hash: u64,
) -> Result<StateFile, StateError> {
    let path = dir.join(FILE);
    let io = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| StateError::Io { what, path, source }
    };
    fs::create_dir_all(dir).map_err(io("creating", dir))?;
    match fs::read(&path) {
        Ok(bytes) => {
            let state: StateFile = serde_json::from_slice(&bytes)
                .map_err(|e| StateError::Damaged { path: path.clone(), reason: e.to_string() })?;
            return Err(StateError::LivedBefore { id: state.id, incarnation: state.incarnation, path });
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io("reading", &path)(e)),
    }
    let state =
        StateFile { schema: SCHEMA, id, incarnation, view: View(0), last_normal_view: View(0), config_hash };
    let new = dir.join(format!("{FILE}.new"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&state).map_err(io::Error::other)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io("writing", &path))?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_lives_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("r0");
        let state = first_life(&data, ReplicaId(0), 7, 9).unwrap();
        assert_eq!((state.incarnation, state.view), (7, View(0)));
        let error = first_life(&data, ReplicaId(0), 8, 9).unwrap_err();
        assert!(matches!(error, StateError::LivedBefore { incarnation: 7, .. }), "{error}");
        assert!(error.to_string().contains("must not join again"));
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"{\"schema\":").unwrap();
        let error = first_life(dir.path(), ReplicaId(0), 1, 1).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), b"{\"schema\":");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = first_life(Path::new("/proc/none/such"), ReplicaId(0), 1, 1).unwrap_err();
        assert!(error.to_string().contains("/proc/none/such"), "{error}");
    }
}
