//! A directory in memory that behaves as badly as a real one may: what was not synced is lost, cut or torn
//! when the machine stops, an operation can fail, and what a failed fsync did not write stays unwritten although
//! the next fsync succeeds and reads still show it.
//!
//! Everything follows from the calls and a seed.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use super::{FileWriter, Files};

/// Unit in which a disk writes: what is torn, is torn at multiples of it.
const SECTOR_BYTES: usize = 512;

/// What happens to an operation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, the operations after it do not.
    Fails,
    /// It fails, and so do all that would write, from now on.
    Full,
    /// It does not happen, or half; nothing happens after it. [`SimFiles::lose_power`] or
    /// [`SimFiles::kill`] is to follow.
    Stops,
}

/// Shared by its clones; [`SimFiles::fork`] makes a copy.
#[derive(Clone, Debug, Default)]
pub struct SimFiles(Arc<Mutex<Disk>>);

#[derive(Clone, Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    /// Names as of the last sync of the directory, and what was changed since.
    synced_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    /// Number of this power-up: writers of an earlier one are dead.
    life: u64,
    /// Operations so far, and what happens to which.
    operations: u64,
    fault: Option<(u64, Fault)>,
    stopped: bool,
    full: bool,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What a read shows.
    bytes: Vec<u8>,
    /// How many of them an fsync has covered.
    synced: usize,
    /// Covered by an fsync that failed: never written.
    holes: Vec<Range<usize>>,
}

/// One change of the directory: applied whole or not at all.
#[derive(Clone, Debug)]
struct Change {
    unlink: Option<String>,
    link: Option<(String, usize)>,
}

impl Change {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        if let Some(name) = self.unlink {
            names.remove(&name);
        }
        if let Some((name, inode)) = self.link {
            names.insert(name, inode);
        }
    }
}

impl SimFiles {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy that goes its own way.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.disk().clone())))
    }

    /// Operations that changed or synced something, so far.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Lets `fault` happen to the operation with this number (the first is 0).
    pub fn fault_at(&self, operation: u64, fault: Fault) {
        self.disk().fault = Some((operation, fault));
    }

    /// The process dies: what it wrote stays, its descriptors do not. Faults end.
    pub fn kill(&self) {
        let mut disk = self.disk();
        disk.life += 1;
        disk.fault = None;
        disk.stopped = false;
        disk.full = false;
    }

    /// The machine loses its power: of what was not synced, anything may be left.
    pub fn lose_power(&self, rng: &mut Rng) {
        self.kill();
        let disk = &mut *self.disk();
        let mut names = std::mem::take(&mut disk.synced_names);
        for change in disk.changes.drain(..) {
            if rng.bool() {
                change.apply(&mut names);
            }
        }
        disk.names = names.clone();
        disk.synced_names = names;
        disk.inodes.iter_mut().for_each(|inode| inode.lose_power(rng));
    }

    /// Puts a file there, as if it always had been.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let disk = &mut *self.disk();
        let synced = bytes.len();
        disk.inodes.push(Inode { bytes, synced, holes: Vec::new() });
        let inode = disk.inodes.len() - 1;
        disk.names.insert(name.into(), inode);
        disk.synced_names.insert(name.into(), inode);
    }

    /// Takes a file away, as if it never had been.
    pub fn take(&self, name: &str) {
        let disk = &mut *self.disk();
        disk.names.remove(name);
        disk.synced_names.remove(name);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inode {
    /// Of the bytes that are not synced a prefix remains, in which sectors may be missing.
    fn lose_power(&mut self, rng: &mut Rng) {
        let kept = rng.usize(self.synced..=self.bytes.len());
        self.bytes.truncate(kept);
        if rng.bool() {
            let mut at = self.synced;
            while at < kept {
                let end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                if rng.u8(..4) == 0 {
                    self.bytes[at..end.min(kept)].fill(0);
                }
                at = end;
            }
        }
        for hole in self.holes.drain(..) {
            let end = hole.end.min(kept);
            self.bytes[hole.start.min(end)..end].fill(0);
        }
        self.synced = kept;
    }

    fn sync(&mut self) {
        self.synced = self.bytes.len();
    }

    /// The kernel reports the error once, and holds the bytes for written.
    fn fail_to_sync(&mut self) {
        self.holes.push(self.synced..self.bytes.len());
        self.synced = self.bytes.len();
    }
}

/// Whether an operation goes through.
enum Verdict {
    Happens,
    Fails(io::Error),
}

impl Disk {
    /// Counts an operation and decides about it.
    fn operation(&mut self, writes: bool) -> Verdict {
        if self.stopped {
            return Verdict::Fails(io::Error::other("the machine has stopped"));
        }
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some((at, Fault::Fails)) if at == number => {
                return Verdict::Fails(io::Error::from_raw_os_error(5));
            }
            Some((at, Fault::Full)) if at == number => self.full = true,
            Some((at, Fault::Stops)) if at == number => {
                self.stopped = true;
                return Verdict::Fails(io::Error::other("the machine has stopped"));
            }
            _ => {}
        }
        if self.full && writes {
            return Verdict::Fails(io::ErrorKind::StorageFull.into());
        }
        Verdict::Happens
    }

    fn change(&mut self, writes: bool, change: Change) -> io::Result<()> {
        match self.operation(writes) {
            Verdict::Happens => {
                change.clone().apply(&mut self.names);
                self.changes.push(change);
                Ok(())
            }
            Verdict::Fails(e) => Err(e),
        }
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for SimFiles {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        Ok(disk.inodes[disk.inode(name)?].bytes.clone())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn FileWriter>> {
        let disk = &mut *self.disk();
        let inode = disk.inodes.len();
        disk.change(true, Change { unlink: None, link: Some((name.into(), inode)) })?;
        disk.inodes.push(Inode::default());
        Ok(Box::new(SimWriter { files: self.clone(), inode, life: disk.life }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let disk = &mut *self.disk();
        let inode = disk.inode(from)?;
        disk.change(false, Change { unlink: Some(from.into()), link: Some((to.into(), inode)) })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let disk = &mut *self.disk();
        disk.inode(name)?;
        disk.change(false, Change { unlink: Some(name.into()), link: None })
    }

    fn sync_dir(&self) -> io::Result<()> {
        let disk = &mut *self.disk();
        match disk.operation(false) {
            Verdict::Happens => {
                disk.changes.clear();
                disk.synced_names = disk.names.clone();
                Ok(())
            }
            Verdict::Fails(e) => Err(e),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("sim").join(name)
    }
}

struct SimWriter {
    files: SimFiles,
    inode: usize,
    life: u64,
}

impl FileWriter for SimWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let disk = &mut *self.files.disk();
        if self.life != disk.life {
            return Err(io::Error::other("the process has died"));
        }
        let was_stopped = disk.stopped;
        let (written, result) = match disk.operation(true) {
            Verdict::Happens => (bytes.len(), Ok(())),
            Verdict::Fails(e) if was_stopped => (0, Err(e)),
            // Half of it may have been written.
            Verdict::Fails(e) => (bytes.len() / 2, Err(e)),
        };
        disk.inodes[self.inode].bytes.extend_from_slice(&bytes[..written]);
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let disk = &mut *self.files.disk();
        if self.life != disk.life {
            return Err(io::Error::other("the process has died"));
        }
        match disk.operation(false) {
            Verdict::Happens => {
                disk.inodes[self.inode].sync();
                Ok(())
            }
            Verdict::Fails(e) => {
                if !disk.stopped {
                    disk.inodes[self.inode].fail_to_sync();
                }
                Err(e)
            }
        }
    }
}
