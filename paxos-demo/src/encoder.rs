//! Encoding snapshots away from the thread that commits.

use bytes::Bytes;
use electrode::types::OpNumber;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::snapshot::Snapshot;

/// Encodes snapshots while commits go on.
pub trait Encoder: Send {
    /// Begins to encode.
    fn encode(&mut self, snapshot: Box<Snapshot>);

    /// A snapshot that is done, with its op.
    fn take(&mut self) -> Option<(OpNumber, Bytes)>;
}

/// One thread each: there is seldom more than one.
#[derive(Debug)]
pub struct ThreadEncoder {
    done: Receiver<(OpNumber, Bytes)>,
    sender: Sender<(OpNumber, Bytes)>,
}

impl Default for ThreadEncoder {
    fn default() -> Self {
        let (sender, done) = channel();
        Self { done, sender }
    }
}

/// A snapshot that never comes would be waited for: then rather none of us.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Encoder for ThreadEncoder {
    fn encode(&mut self, snapshot: Box<Snapshot>) {
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let _ends_with_us = AbortOnPanic;
            // Nobody listens any more: the replica has ended.
            let _ = sender.send((snapshot.op(), snapshot.encode()));
        });
    }

    fn take(&mut self) -> Option<(OpNumber, Bytes)> {
        self.done.try_recv().ok()
    }
}
