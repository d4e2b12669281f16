//! What the replica and the threads behind it share: work to do, work done.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use electrode::types::{OpNumber, View};
use rustix::event::{EventfdFlags, eventfd};

use super::snapshot_file::SnapshotRef;
use crate::log::LogEntry;
use crate::storage::{Progress, StorageError};

/// Payload bytes that may wait for the disk; beyond them the replica waits too.
pub(super) const QUEUED_BYTES_MAX: usize = 64 << 20;

/// Work for the writer, in order.
pub(super) enum Command {
    Append(LogEntry),
    Install(Installation),
    Adopt(SnapshotRef),
}

/// [`crate::storage::Storage::install`], and who waits for it.
pub(super) struct Installation {
    pub(super) view: View,
    pub(super) keep: OpNumber,
    pub(super) snapshot: Option<(OpNumber, Bytes)>,
    pub(super) entries: Vec<LogEntry>,
    pub(super) done: Sender<Result<Progress, StorageError>>,
}

/// Under the lock.
pub(super) struct Queue {
    pub(super) commands: VecDeque<Command>,
    /// Payload bytes in `commands`.
    pub(super) bytes: usize,
    /// Commands that ever were queued, and of them those that are done.
    pub(super) queued: u64,
    pub(super) done: u64,
    pub(super) progress: Progress,
    pub(super) failed: Option<StorageError>,
    /// A snapshot that waits to be written; a newer one takes its place.
    pub(super) snapshot: Option<(OpNumber, Bytes)>,
    /// Files to be removed, in order.
    pub(super) garbage: VecDeque<String>,
    pub(super) closing: bool,
    /// Whether the descriptor is readable.
    news: bool,
}

/// The queue, its lock and its bells.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Work for the writer.
    pub(super) to_write: Condvar,
    /// A snapshot to write, files to delete.
    pub(super) to_keep: Condvar,
    /// Work is done.
    pub(super) done: Condvar,
    pub(super) fd: OwnedFd,
}

impl Shared {
    pub(super) fn new(progress: Progress) -> std::io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(Queue {
                commands: VecDeque::new(),
                bytes: 0,
                queued: 0,
                done: 0,
                progress,
                failed: None,
                snapshot: None,
                garbage: VecDeque::new(),
                closing: false,
                news: false,
            }),
            to_write: Condvar::new(),
            to_keep: Condvar::new(),
            done: Condvar::new(),
            fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// A poisoned lock is no obstacle: nothing under it is ever half changed.
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everyone who waits looks again.
    pub(super) fn wake_all(&self) {
        for bell in [&self.to_write, &self.to_keep, &self.done] {
            bell.notify_all();
        }
    }

    /// Puts a command behind the others.
    pub(super) fn push(&self, queue: &mut Queue, command: Command) {
        if let Command::Append(entry) = &command {
            queue.bytes += entry.payload.len();
        }
        queue.commands.push_back(command);
        queue.queued += 1;
        if queue.commands.len() == 1 {
            self.to_write.notify_one();
        }
    }

    /// Makes the descriptor readable.
    pub(super) fn tell(&self, queue: &mut Queue) {
        if !queue.news {
            queue.news = true;
            rustix::io::write(&self.fd, &1u64.to_ne_bytes()).expect("the counter was zero");
        }
    }

    /// The storage ends here (D5). The first error is the one that is told.
    pub(super) fn fail(&self, error: StorageError) {
        let mut queue = self.lock();
        queue.failed.get_or_insert(error);
        queue.commands.clear();
        queue.snapshot = None;
        self.tell(&mut queue);
        self.wake_all();
    }

    /// What is on disk; the descriptor is not readable any more.
    pub(super) fn poll(&self) -> Result<Progress, StorageError> {
        let mut queue = self.lock();
        if queue.news {
            queue.news = false;
            let mut counter = [0; 8];
            rustix::io::read(&self.fd, &mut counter).expect("the counter was one");
        }
        queue.failed.clone().map_or(Ok(queue.progress), Err)
    }
}
