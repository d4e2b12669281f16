//! Why a replica cannot start from its data directory, or cannot go on with it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Durability;
use electrode::types::{OpNumber, ReplicaId};

/// What is wrong with the storage. All but [`StorageError::NotContiguous`] are final (D5): nothing is tried
/// again, and a storage that has returned one returns it for ever.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A file operation failed. After a failed fsync nobody knows what is on disk, so it is never repeated.
    #[error(
        "{what} {}: {source}; the replica stops, since what it would acknowledge might not be on disk: is the \
         directory writable, is the disk full or failing?", path.display()
    )]
    Io {
        /// The operation.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Another process has the directory.
    #[error(
        "{} is in use by another process: two replicas must not share a data directory", path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Nothing says who this replica was (D6).
    #[error(
        "{} does not exist. If replica {id} has never run, start it once with --bootstrap; if it has, its disk \
         was lost and with it what it promised to the others: bring back the directory, or start the whole \
         group anew", path.display()
    )]
    NoState {
        /// Index of the replica.
        id: ReplicaId,
        /// The missing file.
        path: PathBuf,
    },
    /// A log without the state file that belongs to it.
    #[error(
        "{} holds a log without the replica.json that belongs to it: a file was lost, and --bootstrap does not \
         help; bring back the file, or choose an empty directory if the log is not needed", path.display()
    )]
    OrphanLog {
        /// The directory.
        path: PathBuf,
    },
    /// A state file without its log.
    #[error(
        "{} was made with durability disk but holds no log: files were lost, and with them acknowledged \
         writes; bring back the directory", path.display()
    )]
    NoLog {
        /// The directory.
        path: PathBuf,
    },
    /// The directory of another replica.
    #[error("{} belongs to replica {found}, this is replica {expected}: check --id and --data-dir", path.display())]
    WrongReplica {
        /// The file that says so.
        path: PathBuf,
        /// Whose it is.
        found: ReplicaId,
        /// Who asked.
        expected: ReplicaId,
    },
    /// The directory of another group, or of this one with another configuration.
    #[error(
        "{} was written under another configuration (hash {found:016x}, now {expected:016x}): start with the \
         configuration file that it was made with", path.display()
    )]
    WrongConfig {
        /// The file that says so.
        path: PathBuf,
        /// Hash in the file.
        found: u64,
        /// Hash of the configuration now.
        expected: u64,
    },
    /// A directory of another durability mode.
    #[error(
        "{} was made with durability {found}, not {expected}: the mode of a group cannot change, choose \
         another directory or the old mode", path.display()
    )]
    WrongDurability {
        /// The file that says so.
        path: PathBuf,
        /// Mode of the directory.
        found: Durability,
        /// Mode that was asked for.
        expected: Durability,
    },
    /// A mode that does not exist yet.
    #[error("durability {0} is not implemented yet: use memory or disk")]
    Unsupported(Durability),
    /// Bytes that were on disk are no longer what they were.
    #[error(
        "{} is damaged at byte {offset} ({reason}). What this replica acknowledged may be gone: start it from a \
         good copy of its directory, not from this one", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The caller's mistake; nothing was written, and the storage is as before.
    #[error("batch {first}..={last} does not continue a stored log that ends at op {end}")]
    NotContiguous {
        /// First op of the batch.
        first: OpNumber,
        /// Last op of the batch.
        last: OpNumber,
        /// Last op of the log.
        end: OpNumber,
    },
}

impl StorageError {
    /// For `map_err`: `what` was tried on `path`.
    pub(crate) fn io(what: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path, source: Arc::new(source) }
    }
}
