//! What must hold at every step (`paper-notes/safety.md`, C1 to C11), judged from outside: frames, calls of the
//! fast path and the disk, what is handed to a replica and what it wants done.
//!
//! | checker | says | looked at |
//! |---|---|---|
//! | C1 | one value per committed op | when a replica's commit number grows |
//! | C2 | an ack says what the log holds, as the view's leader ordered it | when it is promised: F7's swap, or the frame itself |
//! | C3 | a vote holds all that was acknowledged, and nothing is acknowledged below it after | votes and acks |
//! | C4 | a commit has a quorum of acks of distinct members | when the library tells the leader |
//! | C5 | one leader a view | openings as leader, Prepares |
//! | C6 | logs have no holes, one appender at a time | drains, openings, what is logged |
//! | C8 | a drain returns all that was acknowledged | openings |
//! | C9 | answers agree with exactly-once replay ([`replay`]) | at the end |
//! | C10 | without faults everyone converges | at the end |
//! | C11 | a restart loses nothing that its mode promises | acks against the disk, votes against the state |
//!
//! C7 (a passed frame is byte-identical) holds in a model by construction; the fixtures of crate `electrode` check
//! it on the programs.

mod life;
mod log;
pub(super) mod replay;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use electrode::abi::Kind;
use electrode::model::frame;
use electrode::types::{OpNumber, View};
use electrode::wire;

use crate::config::Durability;
use witness::Witness;

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// C1 to C11, or `panic`.
    pub checker: &'static str,
    /// Replica that it was seen at.
    pub node: usize,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(super) fn new(checker: &'static str, node: usize, what: impl Into<String>) -> Self {
        Self { checker, node, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at replica {}: {}", self.checker, self.node, self.what)
    }
}

type Checked = Result<(), Violation>;

/// "I hold 1..=op as the leader of `view` ordered them" (F9).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub view: View,
    pub op: OpNumber,
    pub incarnation: u32,
}

impl Promise {
    /// What a program that works on this frame will acknowledge, if it is a Prepare.
    pub(super) fn of(bytes: &[u8], own: SocketAddr) -> Option<Self> {
        let datagram = frame::parse(bytes, own).ok()?;
        let (header, _) = wire::parse(datagram.payload(bytes)).ok()?;
        (header.kind() == Some(Kind::Prepare)).then_some(Self {
            view: header.view(),
            op: header.last(),
            incarnation: 0,
        })
    }

    /// What a frame acknowledges, if it does.
    pub(super) fn in_ack(frame: &[u8]) -> Option<Self> {
        let (header, _) = wire::parse(super::wire::datagram(frame)?).ok()?;
        (header.kind() == Some(Kind::PrepareOk)).then_some(Self {
            view: header.view(),
            op: header.last(),
            incarnation: header.incarnation.get(),
        })
    }
}

/// What the leader of a view ordered.
#[derive(Debug)]
struct Order {
    leader: usize,
    life: u32,
    /// Ops that the view began with.
    inherited: usize,
    /// Value of op `i + 1`.
    values: Vec<u64>,
}

/// A committed op.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    pub value: u64,
    pub client: u64,
    pub request: u64,
    /// All of the command, or this part of so many.
    pub command: Vec<u8>,
    pub part: u16,
    pub parts: u16,
}

/// How much happened of what is seldom: a simulation in which nothing goes wrong shows nothing.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Lives that began.
    pub lives: u64,
    /// Views that began, at their leaders.
    pub views: u64,
    /// Logs that took the place of another.
    pub installs: u64,
    /// Snapshots among them.
    pub snapshots: u64,
    /// Frames of earlier lives that somebody played back.
    pub played_back: u64,
}

impl std::ops::AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.lives += other.lives;
        self.views += other.views;
        self.installs += other.installs;
        self.snapshots += other.snapshots;
        self.played_back += other.played_back;
    }
}

/// Everything that checkers know.
#[derive(Debug)]
pub(super) struct Checker {
    pub coverage: Coverage,
    members: usize,
    durability: Durability,
    witnesses: Vec<Witness>,
    orders: BTreeMap<View, Order>,
    /// Highest op that left in an ack, by view and member.
    acks: BTreeMap<View, Vec<OpNumber>>,
    /// What is committed, from op 1.
    pub committed: Vec<Committed>,
    /// Contents of every value that was ever in a log.
    contents: BTreeMap<u64, Committed>,
}

impl Checker {
    pub(super) fn new(members: usize, durability: Durability) -> Self {
        Self {
            coverage: Coverage::default(),
            members,
            durability,
            witnesses: (0..members).map(|_| Witness::default()).collect(),
            orders: BTreeMap::new(),
            acks: BTreeMap::new(),
            committed: Vec::new(),
            contents: BTreeMap::new(),
        }
    }
}
