//! What a replica wants done: the outputs of the core, carried out by the driver in order.

use crate::arena::Arena;
use crate::log::{LogEntry, NotContiguous};
use crate::message::{ClientReply, MessageError};
use crate::peer::{PeerMessage, Refusal};
use crate::snapshot::Snapshot;
use bytes::{Bytes, BytesMut};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use std::collections::VecDeque;
use std::net::SocketAddr;
use thiserror::Error;

/// How a gate is opened.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum GateRole {
    /// Count acknowledgements.
    Lead,
    /// Log and acknowledge the leader's Prepares.
    Follow,
}

/// One output.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Broadcast a Prepare to all other members, who vote on it together with this replica.
    Prepare {
        /// First op of the batch.
        first: OpNumber,
        /// Last op of the batch.
        last: OpNumber,
        /// Commit number that rides along.
        commit: OpNumber,
        /// The batch.
        payload: Bytes,
    },
    /// Send a Prepare again (L6): identical but for the commit number, so the round tag must be a function
    /// of what is repeated here.
    Resend {
        /// First op of the batch.
        first: OpNumber,
        /// Last op of the batch.
        last: OpNumber,
        /// Commit number that rides along.
        commit: OpNumber,
        /// The batch.
        payload: Bytes,
        /// Who misses it.
        targets: ReplicaSet,
    },
    /// Broadcast the commit number to all other members.
    CommitNotice {
        /// Everything up to here is committed.
        commit: OpNumber,
    },
    /// Send a message to one member.
    Send {
        /// The member.
        to: ReplicaId,
        /// The message.
        message: PeerMessage,
    },
    /// Send an encoded reply to a client.
    Reply {
        /// Where the request came from.
        to: SocketAddr,
        /// The datagram.
        bytes: Bytes,
    },
    /// Open the gate.
    OpenGate {
        /// As what.
        role: GateRole,
        /// In which view.
        view: View,
        /// Leader of the view.
        leader: ReplicaId,
        /// Last op of the log.
        last_op: OpNumber,
        /// Last committed op.
        commit: OpNumber,
    },
    /// Close the gate, hand over everything that it acknowledged, then call `Replica::on_frozen` (U1, U2).
    Freeze,
    /// Sync to disk before anything that follows is carried out: this member was met for the first time (D6).
    SaveMember {
        /// The member.
        peer: ReplicaId,
        /// Incarnation in which its memory begins.
        born: u32,
    },
    /// Sync this to disk before anything that follows is carried out (D3).
    SaveState {
        /// Current view.
        view: View,
        /// Last view in which the replica was in normal operation (U4).
        last_normal_view: View,
    },
    /// `disk`: queue a batch behind the stored log. `Replica::on_durable` tells when it is on disk.
    LogAppend(LogEntry),
    /// Another log took the place of what was behind `keep`. `disk`: replace what is stored; on disk before
    /// anything that follows is carried out.
    InstallLog {
        /// The view whose log it is.
        view: View,
        /// The stored log is kept up to here.
        keep: OpNumber,
        /// Stands for everything up to its op.
        snapshot: Option<(OpNumber, Bytes)>,
        /// What follows.
        entries: Vec<LogEntry>,
    },
    /// `disk`: store a snapshot, at leisure; the stored log may forget what it stands for.
    StoreSnapshot {
        /// Its last op.
        op: OpNumber,
        /// The encoded snapshot.
        bytes: Bytes,
    },
    /// `disk`: everything up to here is on disk; acknowledge it.
    Acknowledge {
        /// Last op.
        op: OpNumber,
    },
    /// Encode a snapshot, best on another thread, and hand it to `Replica::on_snapshot`.
    EncodeSnapshot(Box<Snapshot>),
    /// From now on this incarnation of a member counts, and no other (L2).
    ExpectIncarnation {
        /// The member.
        peer: ReplicaId,
        /// Its incarnation.
        incarnation: u32,
    },
    /// Tell the operator; nothing else follows from it.
    Warn(Warning),
    /// Stop: this replica can do no more. It ignores all further input.
    Fatal(Fatal),
}

/// Something that an operator should know.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum Warning {
    /// A member with another configuration.
    #[error("replica {peer} has another configuration (hash {theirs:#018x}, here {ours:#018x}): turned away")]
    PeerConfigMismatch {
        /// The member.
        peer: ReplicaId,
        /// Its hash.
        theirs: u64,
        /// The hash here.
        ours: u64,
    },
    /// A member that came back as if it had never been there.
    #[error("replica {peer} came back without any memory (incarnation {now}, known as {known}): turned away")]
    PeerRestarted {
        /// The member.
        peer: ReplicaId,
        /// Its known incarnation.
        known: u32,
        /// The incarnation that it has now.
        now: u32,
    },
    /// A member turned this replica away, and this replica can do without it.
    #[error("turned away by replica {by}: {reason}")]
    TurnedAway {
        /// The member.
        by: ReplicaId,
        /// Why.
        reason: Refusal,
    },
}

/// Why a replica stops.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fatal {
    /// Turned away by a member without which it cannot work.
    #[error("turned away by replica {by}: {reason}")]
    TurnedAway {
        /// The member.
        by: ReplicaId,
        /// Why.
        reason: Refusal,
    },
    /// A batch that no correct leader sends; its ops were acknowledged, so they cannot be skipped.
    #[error("ops {first}..={last} of view {view} are malformed ({flaw}): the leader is faulty or forged")]
    MalformedBatch {
        /// View.
        view: View,
        /// First op.
        first: OpNumber,
        /// Last op.
        last: OpNumber,
        /// What is wrong with it.
        flaw: BatchFlaw,
    },
    /// Too many members lost their memory at once.
    #[error(
        "the state is lost: {lost} of {members} replicas lost their memory at the same time, and the others \
         cannot tell what was committed. Start the group anew with empty data directories; durability `disk` \
         survives this"
    )]
    StateLost {
        /// Members without memory.
        lost: usize,
        /// All members.
        members: usize,
    },
    /// A snapshot that no correct replica sends.
    #[error("a snapshot could not be used: {reason}; its donor is faulty or of another version")]
    Snapshot {
        /// What is wrong with it.
        reason: String,
    },
    /// The fast path handed over ops out of order.
    #[error("the fast path broke its promise of order: {0}")]
    OutOfOrder(#[from] NotContiguous),
}

/// What can be wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchFlaw {
    /// An entry cannot be read.
    #[error(transparent)]
    Entry(#[from] MessageError),
    /// More or fewer entries than ops.
    #[error("number of entries is not number of ops")]
    Count,
}

/// Queue of outputs, and the memory of encoded replies.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    actions: VecDeque<Action>,
    replies: Arena,
}

impl Outbox {
    pub(super) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn pop(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    pub(super) fn send(&mut self, to: ReplicaId, message: PeerMessage) {
        self.push(Action::Send { to, message });
    }

    pub(super) fn reply(&mut self, to: SocketAddr, reply: &ClientReply<'_>) {
        self.message(to, reply.encoded_bytes(), |out| reply.encode(out));
    }

    /// A datagram for a client, of at most `bytes_max`.
    pub(super) fn message(&mut self, to: SocketAddr, bytes_max: usize, write: impl FnOnce(&mut BytesMut)) {
        let bytes = self.replies.build(bytes_max, write);
        self.push(Action::Reply { to, bytes });
    }
}
