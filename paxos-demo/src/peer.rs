//! What replicas say to each other beside the fast path's Prepare, PrepareOk and Commit.
//!
//! | message | from, to | when |
//! |---|---|---|
//! | Hello | any, any | until the other's Welcome has arrived; at once when a life is heard of that is news |
//! | Welcome | any, any | answers every acceptable Hello |
//! | Refused | any, any | answers a Hello that cannot be accepted, and says why |
//! | NeedPrepares | follower, leader | ops are missing (a gap in what arrived) |
//! | Stable | leader, followers | every member holds these ops: a log may forget them |
//! | Suspect | follower, any | the leader is silent; a quorum of these starts a view change |
//! | StartViewChange | any, any | "I left for this view" (VR section 4.2) |
//! | DoViewChange | any, new leader | the vote: what I hold |
//! | Fetching | new leader, any | a quorum voted, and the log is on its way to the leader |
//! | StartView | leader, any | the view has begun with this log |
//! | AskStartView | any, leader | "your view is news to me" |
//! | Recovery, RecoveryResponse | restarted, any; back | VR section 4.3, D4 |
//! | NotNormal | any, recovering | "I cannot help: I lost my state too, or am between two views" |
//! | GetState, NewState, StateGone | any, any | state transfer in chunks, pulled (VR section 5.2) |
//! | GetSnapshot, SnapshotChunk | any, any | likewise, for what the log no longer holds |
//!
//! The sender's index and incarnation travel in the fast path's header and are not repeated here.

mod plausible;
mod repeated;

use bytes::Bytes;
use electrode::types::{OpNumber, View};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A message between replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// "I exist, in this incarnation and with this configuration."
    Hello {
        /// Hash of what all members must agree on.
        config_hash: u64,
        /// Incarnation in which the sender's memory begins: if the receiver knows an earlier one, what was
        /// promised in that one is lost (D6).
        born: u32,
    },
    /// "You said Hello, and I am the incarnation that sends this." Proof to whoever it names that its sender has lived
    /// since; nothing else is.
    Welcome {
        /// Hash of what all members must agree on.
        config_hash: u64,
        /// The incarnation that is welcome: an answer to an earlier life is not for this one.
        incarnation: u32,
        /// As in Hello, of the sender.
        born: u32,
    },
    /// "I do not deal with you."
    Refused {
        /// The incarnation that is refused: an answer to an earlier life is not for this one.
        incarnation: u32,
        /// Why.
        reason: Refusal,
    },
    /// "I hold 1..=have in this view; send the batches that hold ops up to `upto`."
    NeedPrepares {
        /// View of the asking follower; another view's leader does not answer.
        view: View,
        /// Last op that the follower holds.
        have: OpNumber,
        /// Last op that it asks for now.
        upto: OpNumber,
    },
    /// "All members hold 1..=op in this view."
    Stable {
        /// View of the leader.
        view: View,
        /// A member that asks for this op or an earlier one has lost its log, and gets a snapshot.
        op: OpNumber,
    },
    /// "The leader of this view has been silent for too long." No promise is given with it.
    Suspect {
        /// View of the sender.
        view: View,
    },
    /// "I left for this view and acknowledge nothing below it any more."
    StartViewChange {
        /// The view.
        view: View,
    },
    /// The vote for a view: what its sender held when it left.
    DoViewChange {
        /// The view.
        view: View,
        /// What is held.
        vote: Vote,
    },
    /// "A quorum voted for this view, and its log is on its way here: wait."
    Fetching {
        /// The view, which the sender is to lead.
        view: View,
    },
    /// "The view has begun; this is its log."
    StartView {
        /// The view.
        view: View,
        /// Its log.
        start: ViewStart,
    },
    /// "I am not in your view: tell me how it began."
    AskStartView {
        /// The view.
        view: View,
    },
    /// "I lost my state; which view is it?"
    Recovery {
        /// Names this attempt; answers to another one do not count.
        nonce: u64,
        /// The last view that the sender remembers.
        view: View,
    },
    /// Answers a Recovery, in normal operation only.
    RecoveryResponse {
        /// The attempt.
        nonce: u64,
        /// View of the sender.
        view: View,
        /// From the view's leader: its log.
        start: Option<ViewStart>,
    },
    /// Answers a Recovery outside normal operation: no help to be had here, not now.
    NotNormal {
        /// The attempt.
        nonce: u64,
        /// The sender lost its state, too; otherwise it is between two views.
        recovering: bool,
    },
    /// "Send me the batches that hold ops `after + 1 ..= upto`."
    GetState {
        /// View of the sender; the answer is the log of that view, or the one that was left for it.
        view: View,
        /// Last op that is there.
        after: OpNumber,
        /// Last op wanted now.
        upto: OpNumber,
    },
    /// One batch of a log.
    NewState {
        /// View of the GetState.
        view: View,
        /// View whose leader ordered the batch.
        ordered_in: View,
        /// First op.
        first: OpNumber,
        /// Last op.
        last: OpNumber,
        /// The batch.
        payload: Bytes,
    },
    /// Answers a GetState or NeedPrepares: the log begins later. A snapshot is to be had.
    StateGone {
        /// View of the question.
        view: View,
        /// Oldest op that is still in the log.
        oldest: OpNumber,
    },
    /// "Send me the bytes of a snapshot from `offset` on."
    GetSnapshot {
        /// Which one: its last op. 0: the newest.
        op: OpNumber,
        /// First byte wanted.
        offset: u64,
    },
    /// Part of a snapshot: of committed ops alone, so it is good in any view.
    SnapshotChunk {
        /// View of the sender. Of a later one than the view that is entered, the snapshot may hold ops that
        /// the log of that view never had.
        view: View,
        /// Last op of the snapshot.
        op: OpNumber,
        /// Its length. 0: it is not encoded yet.
        total_bytes: u64,
        /// Where these bytes belong.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
}

/// What a replica held when it left its last normal view.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// The view of its log (U4: stored, not derived from the log).
    pub last_normal_view: View,
    /// Last op held.
    pub last_op: OpNumber,
    /// Last op known to be committed.
    pub commit: OpNumber,
}

/// How a view began, and how far it has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ViewStart {
    /// The view whose log the new one began with. Logs of one view are prefixes of its leader's, so whoever
    /// was normal in that view need not fetch what it has.
    pub origin: View,
    /// Length of that log.
    pub length: OpNumber,
    /// Last op of the leader's log now.
    pub last_op: OpNumber,
    /// Last op committed.
    pub commit: OpNumber,
}

/// Why a replica is turned away.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// It is known in another incarnation, so what it had acknowledged is lost.
    Restarted {
        /// The incarnation that is known.
        known: u32,
    },
    /// Its configuration differs.
    ConfigMismatch {
        /// Hash at the replica that refuses.
        theirs: u64,
        /// Hash at the replica that is refused.
        yours: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restarted { known } => write!(
                f,
                "this replica was started as if for the first time, but is known as incarnation {known}: its \
                 data directory was lost or another one given. What it acknowledged is gone, and so is the \
                 view that it promised not to go behind: give it its directory back, or replace the group"
            ),
            Self::ConfigMismatch { theirs, yours } => write!(
                f,
                "configurations differ (hash {theirs:#018x} there, {yours:#018x} here): \
                 give all replicas the same file"
            ),
        }
    }
}
