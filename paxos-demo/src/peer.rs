//! What replicas say to each other beside the fast path's Prepare, PrepareOk and Commit.
//!
//! | message | from, to | when |
//! |---|---|---|
//! | Hello | any, any | until the other's Welcome has arrived |
//! | Welcome | any, any | answers every acceptable Hello |
//! | Refused | any, any | answers a Hello or NeedPrepares that cannot be served, and says why |
//! | NeedPrepares | follower, leader | ops are missing (a gap in what arrived) |
//! | Stable | leader, followers | every member holds these ops: a log may forget them |
//!
//! The sender's index and incarnation travel in the fast path's header and are not repeated here.

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
    },
    /// "I know you, and I am the incarnation that sends this."
    Welcome {
        /// Hash of what all members must agree on.
        config_hash: u64,
        /// The incarnation that is welcome: an answer to an earlier life is not for this one.
        incarnation: u32,
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
        /// Nobody will ever ask for this op or an earlier one.
        op: OpNumber,
    },
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
    /// It asked for ops that the leader's log no longer holds.
    LogTruncated {
        /// Oldest op that the leader could send.
        oldest: OpNumber,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restarted { known } => write!(
                f,
                "this replica restarted and lost its state (it is known as incarnation {known}); \
                 recovery is not implemented yet: restart the whole group"
            ),
            Self::ConfigMismatch { theirs, yours } => write!(
                f,
                "configurations differ (hash {theirs:#018x} there, {yours:#018x} here): \
                 give all replicas the same file"
            ),
            Self::LogTruncated { oldest } => write!(
                f,
                "this replica is too far behind: the leader's log starts at op {oldest}, and state transfer \
                 is not implemented yet: restart the whole group"
            ),
        }
    }
}
