//! A new log takes the place of the old one, in one step (U6).

use super::fetch::Fetched;
use super::{Action, Fatal, Replica, Role, Stored};
use crate::plant::Plant;
use crate::service::Service;
use bytes::Bytes;
use electrode::types::{OpNumber, View};

/// Snapshots in a row that may be useless: bytes may be bent on their way, those of a faulty donor always are.
const SNAPSHOT_TRIES: u32 = 3;

/// A snapshot could not be used.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is to be fetched again.
    Again,
    /// It was not the first one: the replica stopped.
    Stopped,
}

impl Replica {
    /// Keeps the log up to `fetched.keep` (all of it is in the new log too), puts what was fetched behind it,
    /// and enters normal operation in `view` as far as storage is concerned: the log is on disk before
    /// `last_normal_view` says so (D3, P6). Returns false if it could not be used.
    pub(super) fn install(&mut self, fetched: Fetched, view: View) -> bool {
        let Fetched { keep, snapshot, entries } = fetched;
        assert!(keep >= self.commit, "what is committed is never given up");
        if let Some((op, bytes)) = &snapshot {
            match self.restore(*op, bytes) {
                Ok(service) => {
                    self.service = service;
                    self.applied = *op;
                    self.commit = self.commit.max(*op);
                    self.log.reset(*op);
                }
                Err(Refused::Again) => {
                    match &mut self.role {
                        Role::ViewChange(change) => change.start = None,
                        Role::Recovering(recovery) => recovery.begin(self.now, &self.config),
                        _ => {}
                    }
                    return false;
                }
                Err(Refused::Stopped) => return false,
            }
        } else {
            self.log.truncate_suffix(keep);
        }
        for entry in &entries {
            if let Err(error) = self.log.append(entry.clone()) {
                self.stop(error.into());
                return false;
            }
        }
        self.view = view;
        if self.planted(Plant::P6) {
            self.last_normal_view = view;
            self.save_state();
        }
        self.outbox.push(Action::InstallLog { view, keep, snapshot, entries });
        if self.config.durable {
            self.durable = self.log.last_op();
            self.stored = Stored::of(self.log.payload_bytes());
        }
        self.last_normal_view = view;
        self.save_state();
        true
    }

    /// The state after `op`, from its snapshot.
    pub(super) fn restore(&mut self, op: OpNumber, bytes: &Bytes) -> Result<Service, Refused> {
        let reason = match Service::restore(bytes, self.config.client_sessions_max) {
            Ok((service, restored)) if restored == op && op > self.applied => {
                self.bad_snapshots = 0;
                return Ok(service);
            }
            Ok((_, restored)) => format!("it ends at op {restored}, not {op}"),
            Err(error) => error.to_string(),
        };
        self.counters.snapshots_refused += 1;
        self.bad_snapshots += 1;
        if self.bad_snapshots < SNAPSHOT_TRIES {
            return Err(Refused::Again);
        }
        self.stop(Fatal::Snapshot { reason });
        Err(Refused::Stopped)
    }

    /// D3: the driver goes on only when this is on disk.
    pub(super) fn save_state(&mut self) {
        let (view, last_normal_view) = (self.view, self.last_normal_view);
        self.outbox.push(Action::SaveState { view, last_normal_view });
    }
}
