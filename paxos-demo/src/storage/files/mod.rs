//! File operations behind a seam: the storage works on the names of one flat directory, and tests and the
//! simulation put a directory there that loses, tears and refuses ([`SimFiles`]).

mod real;
mod sim;

pub use real::RealFiles;
pub use sim::{Fault, SimFiles};

use std::io;
use std::path::PathBuf;

use crate::storage::StorageError;

/// Suffix of a file that is not finished. Such files are removed at start.
pub const UNFINISHED: &str = ".new";

/// Bytes after which a long file is synced while it is written, so that one sync at its end does not hold up
/// the syncs of the log for seconds.
const SYNC_EVERY_BYTES: usize = 8 << 20;

/// One directory.
pub trait Files: Send + Sync {
    /// Names of all regular files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A file's bytes.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Makes a file, empties it if it is there.
    fn create(&self, name: &str) -> io::Result<Box<dyn FileWriter>>;
    /// Renames a file, over another one if need be.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// How messages call the file; the directory itself for an empty name.
    fn path(&self, name: &str) -> PathBuf;
}

/// A file that is being written. It keeps its identity when it is renamed.
pub trait FileWriter: Send {
    /// Appends all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// On disk when it returns.
    fn sync(&mut self) -> io::Result<()>;
}

/// Writes a file so that its name stands for all of it or for what it was before, and returns it open at its
/// end.
pub(crate) fn write_whole(
    files: &dyn Files,
    name: &str,
    parts: &[&[u8]],
) -> Result<Box<dyn FileWriter>, StorageError> {
    let unfinished = format!("{name}{UNFINISHED}");
    let write = || -> io::Result<_> {
        let mut file = files.create(&unfinished)?;
        for chunk in parts.iter().flat_map(|part| part.chunks(SYNC_EVERY_BYTES)) {
            file.write(chunk)?;
            if chunk.len() == SYNC_EVERY_BYTES {
                file.sync()?;
            }
        }
        file.sync()?;
        files.rename(&unfinished, name)?;
        files.sync_dir()?;
        Ok(file)
    };
    write().map_err(StorageError::io("writing", files.path(name)))
}

/// Removes files for good, one after the other: after a crash a later one is never gone while an earlier
/// one is there.
pub(crate) fn remove_in_order(files: &dyn Files, names: &[String]) -> Result<(), StorageError> {
    for name in names {
        files
            .remove(name)
            .and_then(|()| files.sync_dir())
            .map_err(StorageError::io("removing", files.path(name)))?;
    }
    Ok(())
}

/// A file's bytes, `None` if there is none.
pub(crate) fn read_if_there(files: &dyn Files, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
    match files.read(name) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StorageError::io("reading", files.path(name))(e)),
    }
}
