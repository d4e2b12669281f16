//! The disk of a machine, and the storage of a simulated replica on it.
//!
//! What is queued and not yet synced is partly there after a crash: any beginning of it. What storage promises
//! to be on disk is on disk; that the real one keeps this promise is for its own tests.

use std::os::fd::BorrowedFd;

use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};
use fastrand::Rng;

use super::effect::{effect, pass_time};
use super::world::{Happening, Shared, World, lock};
use crate::log::LogEntry;
use crate::storage::{Progress, Storage, StorageError};

/// What is on one disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// Incarnation of the first life here, once there was one.
    pub born: Option<u32>,
    /// Incarnation in which each member was first met.
    pub met: Vec<u32>,
    /// Current view and last normal view, once anything was promised (D3).
    pub state: Option<(View, View)>,
    pub snapshot: Option<(OpNumber, Bytes)>,
    pub log: Vec<LogEntry>,
    /// Last op that is safe.
    pub durable: OpNumber,
    /// Last op that the sync under way will make safe.
    syncing: Option<OpNumber>,
    writing: Option<(OpNumber, Bytes)>,
}

impl Disk {
    /// Last op, safe or not.
    pub(super) fn end(&self) -> OpNumber {
        let snapshot = self.snapshot.as_ref().map_or(OpNumber(0), |(op, _)| *op);
        self.log.last().map_or(snapshot, |entry| entry.last.max(snapshot))
    }

    /// The process is gone: what was not safe is there up to some point.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let safe = self.log.iter().take_while(|entry| entry.last <= self.durable).count();
        let kept = rng.usize(safe..=self.log.len());
        self.log.truncate(kept);
        self.durable = self.end();
        self.syncing = None;
        self.writing = None;
    }

    fn put_snapshot(&mut self, op: OpNumber, bytes: Bytes) {
        if self.snapshot.as_ref().is_none_or(|(old, _)| op > *old) {
            self.log.retain(|entry| entry.last > op);
            self.snapshot = Some((op, bytes));
            self.durable = self.durable.max(op);
        }
    }
}

impl World {
    /// A sync is over; the next one begins if more is queued.
    pub(super) fn synced(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        if let Some(op) = machine.disk.syncing.take() {
            machine.disk.durable = machine.disk.durable.max(op);
        }
        if let Some((op, bytes)) = machine.disk.writing.take() {
            machine.disk.put_snapshot(op, bytes);
        }
        self.begin_sync(node);
        let now = self.now;
        self.wake(node, now);
    }

    fn begin_sync(&mut self, node: usize) {
        let disk = &mut self.nodes[node].disk;
        if disk.syncing.is_none() && (disk.end() > disk.durable || disk.writing.is_some()) {
            disk.syncing = Some(disk.end());
            let life = self.nodes[node].life;
            let at = self.now + self.rng.u64(1..=self.weather.fsync_ns_max);
            self.plan(at, Happening::Synced { node, life });
        }
    }
}

/// Storage of one life.
pub(super) struct SimStorage {
    pub shared: Shared,
    pub node: usize,
}

impl SimStorage {
    /// A write that is on disk when this returns; the process may die before and after.
    fn sync(&self, what: &'static str, write: impl FnOnce(&mut Disk)) {
        effect(&self.shared, self.node, what);
        let most = lock(&self.shared).weather.fsync_ns_max;
        pass_time(&self.shared, self.node, most);
        write(&mut lock(&self.shared).nodes[self.node].disk);
        effect(&self.shared, self.node, "a write that is done");
    }
}

impl Storage for SimStorage {
    fn save_state(&mut self, view: View, last_normal_view: View) -> Result<(), StorageError> {
        self.sync("saving the state", |disk| {
            disk.durable = disk.end();
            disk.state = Some((view, last_normal_view));
        });
        Ok(())
    }

    fn save_member(&mut self, peer: ReplicaId, born: u32) -> Result<(), StorageError> {
        self.sync("noting a member", |disk| {
            disk.met.resize(disk.met.len().max(peer.index() + 1), 0);
            disk.met[peer.index()] = born;
        });
        Ok(())
    }

    fn append(&mut self, entry: &LogEntry) -> Result<(), StorageError> {
        effect(&self.shared, self.node, "appending");
        let mut world = lock(&self.shared);
        world.nodes[self.node].disk.log.push(entry.clone());
        world.begin_sync(self.node);
        Ok(())
    }

    fn install(
        &mut self,
        view: View,
        keep: OpNumber,
        snapshot: Option<(OpNumber, Bytes)>,
        entries: &[LogEntry],
    ) -> Result<(), StorageError> {
        let memory = lock(&self.shared).memory_only();
        if memory {
            return Ok(());
        }
        self.sync("installing a log", |disk| {
            disk.syncing = None;
            disk.log.retain(|entry| entry.last <= keep);
            if let Some((op, bytes)) = snapshot {
                disk.log.clear();
                disk.snapshot = Some((op, bytes));
            }
            disk.log.extend_from_slice(entries);
            if let Some((_, last_normal_view)) = &mut disk.state {
                *last_normal_view = view.max(*last_normal_view);
            }
            disk.durable = disk.end();
        });
        Ok(())
    }

    fn snapshot(&mut self, op: OpNumber, bytes: Bytes) -> Result<(), StorageError> {
        effect(&self.shared, self.node, "storing a snapshot");
        let mut world = lock(&self.shared);
        world.nodes[self.node].disk.writing = Some((op, bytes));
        world.begin_sync(self.node);
        Ok(())
    }

    fn poll(&mut self) -> Result<Progress, StorageError> {
        let world = lock(&self.shared);
        let disk = &world.nodes[self.node].disk;
        let snapshot = disk.snapshot.as_ref().map_or(OpNumber(0), |(op, _)| *op);
        Ok(Progress { durable: disk.durable, snapshot })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
