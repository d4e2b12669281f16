//! The threads: news by the descriptor, order, backpressure, and the end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use electrode::types::{OpNumber, View};
use rustix::event::{PollFd, PollFlags};

use super::model::{HASH, ID, batch, state_at};
use crate::config::Durability;
use crate::log::LogEntry;
use crate::storage::disk::queue::QUEUED_BYTES_MAX;
use crate::storage::files::{FileWriter, Files, SimFiles};
use crate::storage::{Opened, Progress, Storage, StorageError, open_files};

fn open(files: impl Files + 'static) -> Opened {
    open_files(Arc::new(files), Durability::Disk, ID, HASH, true).unwrap()
}

/// Sleeps until there is news.
fn news(storage: &mut dyn Storage) -> Result<Progress, StorageError> {
    let fd = storage.fd().expect("a descriptor");
    rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).unwrap();
    storage.poll()
}

#[test]
fn the_descriptor_tells_when_a_batch_is_on_disk() {
    let mut opened = open(SimFiles::new());
    let storage = &mut *opened.storage;
    for op in 1..=50 {
        storage.append(&batch(op, op, op)).unwrap();
        while news(storage).unwrap().durable < OpNumber(op) {}
    }
    let fd = storage.fd().unwrap();
    let mut polled = [PollFd::new(&fd, PollFlags::IN)];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&zero)).unwrap(), 0, "no news, not readable");
    let (op, bytes) = state_at(30, 1);
    storage.snapshot(op, bytes).unwrap();
    while news(storage).unwrap().snapshot < op {}
}

#[test]
fn what_was_queued_is_on_disk_before_a_view_is() {
    let files = SimFiles::new();
    let mut opened = open(files.clone());
    for op in 1..=200 {
        opened.storage.append(&batch(op, op, op)).unwrap();
    }
    opened.storage.save_state(View(2), View(2)).unwrap();
    assert_eq!(opened.storage.poll().unwrap().durable, OpNumber(200));
    opened.storage.install(View(0), OpNumber(100), None, &[batch(101, 101, 7)]).unwrap();
    assert_eq!(opened.storage.poll().unwrap().durable, OpNumber(101));
    let error = opened.storage.append(&batch(103, 103, 7)).unwrap_err();
    assert!(matches!(error, StorageError::NotContiguous { end: OpNumber(101), .. }), "{error}");
    let error = opened.storage.install(View(0), OpNumber(50), None, &[batch(52, 52, 7)]).unwrap_err();
    assert!(matches!(error, StorageError::NotContiguous { end: OpNumber(50), .. }), "{error}");
    opened.storage.append(&batch(102, 102, 7)).expect("a refusal changes nothing");
    drop(opened);
    assert_eq!(open(files).log.len(), 102, "what is queued at the end is written");
}

/// A directory whose syncs wait for a signal once it is closed, and that can panic.
#[derive(Clone, Default)]
struct Slow {
    files: SimFiles,
    gate: Arc<(Mutex<bool>, Condvar)>,
    panics: Arc<AtomicBool>,
}

struct SlowWriter(Box<dyn FileWriter>, Slow);

impl Slow {
    fn shut(&self, shut: bool) {
        *self.gate.0.lock().unwrap() = shut;
        self.gate.1.notify_all();
    }
}

impl FileWriter for SlowWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert!(!self.1.panics.load(Ordering::Relaxed), "as asked for");
        self.0.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        drop(self.1.gate.1.wait_while(self.1.gate.0.lock().unwrap(), |shut| *shut).unwrap());
        self.0.sync()
    }
}

impl Files for Slow {
    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.files.read(name)
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn FileWriter>> {
        Ok(Box::new(SlowWriter(self.files.create(name)?, self.clone())))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.files.sync_dir()
    }
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.files.path(name)
    }
}

#[test]
fn a_slow_disk_makes_the_replica_wait() {
    let files = Slow::default();
    let mut opened = open(files.clone());
    files.shut(true);
    const BATCH_BYTES: usize = 1 << 20;
    let payload = Bytes::from(vec![1; BATCH_BYTES]);
    let (queued, count) = std::sync::mpsc::channel();
    let batches = (5 * QUEUED_BYTES_MAX / 2 / BATCH_BYTES) as u64;
    let appender = std::thread::spawn(move || {
        for op in (1..=batches).map(OpNumber) {
            let entry = LogEntry { view: View(0), first: op, last: op, payload: payload.clone() };
            opened.storage.append(&entry).unwrap();
            queued.send(()).unwrap();
        }
        opened
    });
    // A group that is being written, and a full queue behind it, are all that gets through. Looking too early
    // finds fewer.
    let mut sent = 0;
    while count.recv_timeout(std::time::Duration::from_millis(300)).is_ok() {
        sent += 1;
    }
    files.shut(false);
    let mut opened = appender.join().unwrap();
    while news(&mut *opened.storage).unwrap().durable < OpNumber(batches) {}
    let most = 2 * QUEUED_BYTES_MAX / BATCH_BYTES + 1;
    assert!(sent <= most, "{sent} batches queued before a disk that does not move");
}

#[test]
fn batches_that_wait_share_one_fsync() {
    let files = Slow::default();
    let mut opened = open(files.clone());
    files.shut(true);
    for op in 1..=1000 {
        opened.storage.append(&batch(op, op, op)).unwrap();
    }
    let before = files.files.operations();
    files.shut(false);
    while news(&mut *opened.storage).unwrap().durable < OpNumber(1000) {}
    // The group that was under way and the one behind it: a write and a sync each.
    let operations = files.files.operations() - before;
    assert!(operations <= 4, "{operations} operations for 1000 batches");
}

#[test]
fn a_thread_that_panics_ends_the_storage() {
    let files = Slow::default();
    let mut opened = open(files.clone());
    files.panics.store(true, Ordering::Relaxed);
    opened.storage.append(&batch(1, 1, 1)).unwrap();
    assert!(news(&mut *opened.storage).is_err());
    assert!(opened.storage.install(View(0), OpNumber(0), None, &[]).is_err(), "and nobody waits for it");
}
