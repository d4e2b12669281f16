//! A directory of the file system, locked while it is in use.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{FileWriter, Files};
use crate::storage::StorageError;

/// A directory that belongs to this process.
#[derive(Debug)]
pub struct RealFiles {
    path: PathBuf,
    /// Its descriptor holds the lock, which the kernel gives up with the process, however that dies.
    dir: File,
}

impl RealFiles {
    /// Makes the directory if it is not there, and locks it.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let io = |what| StorageError::io(what, path.to_owned());
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).count();
        fs::create_dir_all(path).map_err(io("creating"))?;
        // A directory is durable once its parent is synced; so all that were just made.
        for parent in path.ancestors().skip(1).take(missing) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(io("creating"))?;
        }
        let dir = File::open(path).map_err(io("opening"))?;
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), dir }),
            Err(e) if e == rustix::io::Errno::WOULDBLOCK => {
                Err(StorageError::Locked { path: path.to_owned() })
            }
            Err(e) => Err(io("locking")(e.into())),
        }
    }
}

impl Files for RealFiles {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A name that is not text is none of ours.
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn FileWriter>> {
        Ok(Box::new(RealWriter(File::create(self.path.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }
}

struct RealWriter(File);

impl FileWriter for RealWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = RealFiles::open(&path).unwrap();
        assert!(matches!(RealFiles::open(&path), Err(StorageError::Locked { .. })));
        drop(first);
        RealFiles::open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = RealFiles::open(Path::new("/proc/none/such")).unwrap_err();
        assert!(error.to_string().contains("/proc/none/such"), "{error}");
    }
}
