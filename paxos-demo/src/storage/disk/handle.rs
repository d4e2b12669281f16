//! The replica's side of the storage on disk.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};

use super::journal::Journal;
use super::queue::{Command, Installation, QUEUED_BYTES_MAX, Queue, Shared};
use super::worker::{Housekeeper, Writer};
use super::{Background, Numbers, Owner};
use crate::log::LogEntry;
use crate::storage::files::Files;
use crate::storage::state_file::StateFile;
use crate::storage::{Progress, Storage, StorageError};

/// Durability `disk`.
pub(super) struct DiskStorage {
    files: Arc<dyn Files>,
    state: StateFile,
    shared: Arc<Shared>,
    workers: Workers,
    /// Last op that was queued.
    end: OpNumber,
}

enum Workers {
    Threads(Vec<JoinHandle<()>>),
    Steps(Stepper),
}

/// Does the background's work where everything must happen in a known order, as in the simulation: nothing
/// becomes durable between two steps, except in calls that wait for it.
#[derive(Clone)]
pub struct Stepper {
    writer: Arc<Mutex<Writer>>,
    housekeeper: Arc<Mutex<Housekeeper>>,
}

impl Stepper {
    /// Writes and syncs what is queued, as one group. False if there was nothing to do.
    pub fn write(&self) -> bool {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).step()
    }

    /// Writes the snapshot that waits, deletes what is no longer needed. False if there was nothing to do.
    pub fn keep_house(&self) -> bool {
        self.housekeeper.lock().unwrap_or_else(PoisonError::into_inner).step()
    }
}

impl DiskStorage {
    pub(super) fn start(
        files: Arc<dyn Files>,
        owner: Owner,
        numbers: Numbers,
        mut journal: Journal,
        state: StateFile,
        background: Background,
    ) -> Result<(Self, Option<Stepper>), StorageError> {
        let system = |what| StorageError::io(what, files.path(""));
        let progress = journal.progress();
        let shared = Arc::new(Shared::new(progress).map_err(system("making an eventfd for"))?);
        shared.lock().garbage.extend(journal.take_garbage());
        let writer = Writer { shared: Arc::clone(&shared), journal };
        let housekeeper =
            Housekeeper { shared: Arc::clone(&shared), files: Arc::clone(&files), owner, numbers };
        let (workers, stepper) = match background {
            Background::Threads => {
                let thread = |name: &str, worker: Box<dyn FnOnce() + Send>| {
                    thread::Builder::new()
                        .name(name.into())
                        .spawn(worker)
                        .map_err(system("starting a thread for"))
                };
                let threads = vec![
                    thread("wal", Box::new(move || run_writer(writer)))?,
                    thread("snapshots", Box::new(move || run_housekeeper(housekeeper)))?,
                ];
                (Workers::Threads(threads), None)
            }
            Background::Steps => {
                let stepper = Stepper {
                    writer: Arc::new(Mutex::new(writer)),
                    housekeeper: Arc::new(Mutex::new(housekeeper)),
                };
                (Workers::Steps(stepper.clone()), Some(stepper))
            }
        };
        Ok((Self { files, state, shared, workers, end: progress.durable }, stepper))
    }

    /// Waits until `ready` or the end.
    fn wait(&self, ready: impl Fn(&Queue) -> bool) -> Result<(), StorageError> {
        let mut queue = self.shared.lock();
        loop {
            if let Some(error) = &queue.failed {
                return Err(error.clone());
            }
            if ready(&queue) {
                return Ok(());
            }
            queue = match &self.workers {
                Workers::Threads(_) => wait(&self.shared.done, queue),
                Workers::Steps(stepper) => {
                    drop(queue);
                    stepper.write();
                    self.shared.lock()
                }
            };
        }
    }

    /// Waits until all that is queued by now is done.
    fn flush(&self) -> Result<(), StorageError> {
        let queued = self.shared.lock().queued;
        self.wait(|queue| queue.done >= queued)
    }
}

impl Storage for DiskStorage {
    fn save_state(&mut self, view: View, last_normal_view: View) -> Result<(), StorageError> {
        self.flush()?;
        self.state.save(&*self.files, view, last_normal_view).inspect_err(|e| self.shared.fail(e.clone()))
    }

    fn save_member(&mut self, peer: ReplicaId, born: u32) -> Result<(), StorageError> {
        self.wait(|_| true)?;
        self.state.meet(&*self.files, peer, born).inspect_err(|e| self.shared.fail(e.clone()))
    }

    fn append(&mut self, entry: &LogEntry) -> Result<(), StorageError> {
        let LogEntry { first, last, .. } = *entry;
        if first != self.end.next() || last < first {
            return Err(StorageError::NotContiguous { first, last, end: self.end });
        }
        self.wait(|queue| queue.bytes < QUEUED_BYTES_MAX)?;
        self.shared.push(&mut self.shared.lock(), Command::Append(entry.clone()));
        self.end = last;
        Ok(())
    }

    fn install(
        &mut self,
        view: View,
        keep: OpNumber,
        snapshot: Option<(OpNumber, Bytes)>,
        entries: &[LogEntry],
    ) -> Result<(), StorageError> {
        let (done, result) = mpsc::channel();
        let install = Installation { view, keep, snapshot, entries: entries.to_vec(), done };
        self.shared.push(&mut self.shared.lock(), Command::Install(install));
        self.flush()?;
        let progress = result.recv().expect("an answer comes before the command counts as done")?;
        self.end = progress.durable;
        Ok(())
    }

    fn snapshot(&mut self, op: OpNumber, bytes: Bytes) -> Result<(), StorageError> {
        let mut queue = self.shared.lock();
        if let Some(error) = &queue.failed {
            return Err(error.clone());
        }
        queue.snapshot = Some((op, bytes));
        self.shared.to_keep.notify_one();
        Ok(())
    }

    fn poll(&mut self) -> Result<Progress, StorageError> {
        self.shared.poll()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shared.fd.as_fd())
    }
}

impl Drop for DiskStorage {
    /// What is queued is still written.
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake_all();
        if let Workers::Threads(threads) = &mut self.workers {
            for thread in threads.drain(..) {
                // A panic of the thread has been reported by its hook.
                let _ = thread.join();
            }
        }
    }
}

fn run_writer(mut writer: Writer) {
    let shared = Arc::clone(&writer.shared);
    run(&shared, &shared.to_write, || writer.step(), |queue| !queue.commands.is_empty());
}

fn run_housekeeper(mut housekeeper: Housekeeper) {
    let shared = Arc::clone(&housekeeper.shared);
    run(
        &shared,
        &shared.to_keep,
        || housekeeper.step(),
        |queue| queue.snapshot.is_some() || !queue.garbage.is_empty(),
    );
}

/// Steps while there is work, then waits for more or the end.
fn run(shared: &Shared, bell: &Condvar, mut step: impl FnMut() -> bool, has_work: impl Fn(&Queue) -> bool) {
    /// A thread that panics must not leave the replica waiting.
    struct Guard<'a>(&'a Shared);
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                let path = std::path::PathBuf::from(thread::current().name().unwrap_or("storage"));
                let source = Arc::new(std::io::Error::other("it panicked"));
                self.0.fail(StorageError::Io { what: "thread", path, source });
            }
        }
    }
    let _guard = Guard(shared);
    loop {
        while step() {}
        let mut queue = shared.lock();
        while queue.failed.is_none() && !queue.closing && !has_work(&queue) {
            queue = wait(bell, queue);
        }
        if queue.failed.is_some() || (queue.closing && !has_work(&queue)) {
            return;
        }
    }
}

fn wait<'a>(bell: &Condvar, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    bell.wait(queue).unwrap_or_else(PoisonError::into_inner)
}
