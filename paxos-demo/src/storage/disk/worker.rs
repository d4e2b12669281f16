//! The work in the background, in steps: a writer for the log, and a second worker for what takes long and can
//! wait, which is snapshots and deleting. Threads or the simulation call the steps.

use std::collections::VecDeque;
use std::sync::Arc;

use super::journal::Journal;
use super::queue::{Command, Shared};
use super::snapshot_file;
use super::{Numbers, Owner};
use crate::storage::files::{Files, remove_in_order};
use crate::storage::{Progress, StorageError};

/// Writes the log.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
}

impl Writer {
    /// One group: writes and syncs all that is queued by now. False if there was nothing to do, or nothing
    /// will ever be done again.
    pub(super) fn step(&mut self) -> bool {
        let commands = {
            let mut queue = self.shared.lock();
            if queue.failed.is_some() || queue.commands.is_empty() {
                return false;
            }
            queue.bytes = 0;
            std::mem::take(&mut queue.commands)
        };
        let count = commands.len() as u64;
        match self.group(commands) {
            Ok((progress, garbage)) => {
                let mut queue = self.shared.lock();
                queue.progress = progress;
                queue.done += count;
                if !garbage.is_empty() {
                    queue.garbage.extend(garbage);
                    self.shared.to_keep.notify_one();
                }
                self.shared.tell(&mut queue);
                self.shared.done.notify_all();
                true
            }
            Err(error) => {
                self.shared.fail(error);
                false
            }
        }
    }

    fn group(&mut self, commands: VecDeque<Command>) -> Result<(Progress, Vec<String>), StorageError> {
        let mut answers = Vec::new();
        for command in commands {
            match command {
                Command::Append(entry) => self.journal.append(&entry)?,
                Command::Adopt(snapshot) => self.journal.adopt(snapshot)?,
                Command::Install(install) => {
                    match self.journal.install(install.view, install.keep, install.snapshot, &install.entries)
                    {
                        Ok(()) => answers.push((install.done, None)),
                        // The caller's mistake, nothing has happened.
                        Err(error @ StorageError::NotContiguous { .. }) => {
                            answers.push((install.done, Some(error)));
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        let progress = self.journal.sync()?;
        for (done, refused) in answers {
            // Nobody waits any more if the replica is going down.
            let _ = done.send(refused.map_or(Ok(progress), Err));
        }
        Ok((progress, self.journal.take_garbage()))
    }
}

/// Writes snapshots and deletes files.
pub(super) struct Housekeeper {
    pub(super) shared: Arc<Shared>,
    pub(super) files: Arc<dyn Files>,
    pub(super) owner: Owner,
    pub(super) numbers: Numbers,
}

impl Housekeeper {
    /// One snapshot, or all that is to be deleted. False as in [`Writer::step`].
    pub(super) fn step(&mut self) -> bool {
        let (garbage, snapshot) = {
            let mut queue = self.shared.lock();
            if queue.failed.is_some() || (queue.garbage.is_empty() && queue.snapshot.is_none()) {
                return false;
            }
            (std::mem::take(&mut queue.garbage), queue.snapshot.take())
        };
        let result = remove_in_order(&*self.files, &Vec::from(garbage)).and_then(|()| {
            snapshot
                .map(|(op, bytes)| {
                    snapshot_file::write(&*self.files, self.owner, self.numbers.next(), op, &bytes)
                })
                .transpose()
        });
        match result {
            Ok(Some(snapshot)) => {
                let mut queue = self.shared.lock();
                self.shared.push(&mut queue, Command::Adopt(snapshot));
                true
            }
            Ok(None) => true,
            Err(error) => {
                self.shared.fail(error);
                false
            }
        }
    }
}
