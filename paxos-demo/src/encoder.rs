//! Encoding snapshots away from the thread that commits.

use bytes::Bytes;
use electrode::types::OpNumber;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::snapshot::Snapshot;

/// Encodes snapshots, one thread each (there is seldom more than one), or at once.
#[derive(Debug)]
pub struct Encoder {
    at_once: bool,
    done: Receiver<(OpNumber, Bytes)>,
    sender: Sender<(OpNumber, Bytes)>,
}

impl Default for Encoder {
    fn default() -> Self {
        let (sender, done) = channel();
        Self { at_once: false, done, sender }
    }
}

impl Encoder {
    /// Encodes on the caller's thread: for a simulation, where every thread but one is a surprise.
    pub fn at_once() -> Self {
        Self { at_once: true, ..Self::default() }
    }

    /// Begins to encode.
    pub fn encode(&self, snapshot: Box<Snapshot>) {
        let sender = self.sender.clone();
        let work = move || {
            // Nobody listens any more: the replica has ended.
            let _ = sender.send((snapshot.op(), snapshot.encode()));
        };
        if self.at_once {
            work();
        } else {
            std::thread::spawn(work);
        }
    }

    /// A snapshot that is done.
    pub fn take(&self) -> Option<(OpNumber, Bytes)> {
        self.done.try_recv().ok()
    }
}
