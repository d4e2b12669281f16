//! A new log takes the place of the old one, in one step (U6).

use super::fetch::Fetched;
use super::{Action, Fatal, Replica};
use crate::plant::Plant;
use crate::service::Service;
use electrode::types::View;

impl Replica {
    /// Keeps the log up to `fetched.keep` (all of it is in the new log too), puts what was fetched behind it,
    /// and enters normal operation in `view` as far as storage is concerned: the log is on disk before
    /// `last_normal_view` says so (D3, P6). Returns false if the replica had to stop.
    pub(super) fn install(&mut self, fetched: Fetched, view: View) -> bool {
        let Fetched { keep, snapshot, entries } = fetched;
        assert!(keep >= self.commit, "what is committed is never given up");
        if let Some((op, bytes)) = &snapshot {
            match Service::restore(bytes, self.config.client_sessions_max) {
                Ok((service, restored)) if restored == *op && *op > self.applied => {
                    self.service = service;
                    self.applied = *op;
                    self.commit = self.commit.max(*op);
                    self.log.reset(*op);
                }
                Ok((_, restored)) => {
                    return self.refuse_snapshot(format!("it ends at op {restored}, not {op}"));
                }
                Err(error) => return self.refuse_snapshot(error.to_string()),
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
        }
        self.last_normal_view = view;
        self.save_state();
        true
    }

    pub(super) fn refuse_snapshot(&mut self, reason: String) -> bool {
        self.stop(Fatal::Snapshot { reason });
        false
    }

    /// D3: the driver goes on only when this is on disk.
    pub(super) fn save_state(&mut self) {
        let (view, last_normal_view) = (self.view, self.last_normal_view);
        self.outbox.push(Action::SaveState { view, last_normal_view });
    }
}
