//! What is in the log.

use bytes::Bytes;
use omnipaxos::storage::{Entry, NoSnapshot};
use serde::{Deserialize, Serialize};

/// One entry: a client's request. Copies share the command, for the library makes one for each follower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// Session; 0 if this does nothing.
    pub client: u64,
    /// Number within the session.
    pub request: u64,
    /// What to execute.
    pub command: Bytes,
}

impl Op {
    /// Bytes that an entry takes in a message at most, besides its command: two numbers and a length.
    pub const OVERHEAD_BYTES: usize = 9 + 9 + 3;

    /// An entry that does nothing.
    pub const fn no_op() -> Self {
        Self { client: 0, request: 0, command: Bytes::new() }
    }
}

impl Entry for Op {
    type Snapshot = NoSnapshot;
}
