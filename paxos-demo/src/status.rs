//! How a replica is: what `StatusReply` carries as JSON, and what tests compare.

use crate::digest::Digest;
use electrode::types::{OpNumber, ReplicaId, View};
use serde::{Deserialize, Serialize};

/// What a replica is doing.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Looking for the other members; the gate is frozen.
    Forming,
    /// Between two views.
    #[serde(rename = "view-change")]
    ViewChange,
    /// Lost its log and looks for it.
    Recovering,
    /// Leader of the view.
    Leader,
    /// Follower in the view.
    Follower,
    /// Stopped by a fatal error.
    Stopped,
}

/// A replica's state in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Own index.
    pub id: ReplicaId,
    /// Current view.
    pub view: View,
    /// Last view in which this replica was in normal operation (U4).
    pub last_normal_view: View,
    /// What it is doing.
    pub role: RoleName,
    /// Leader of the view.
    pub leader: ReplicaId,
    /// Last op of the log.
    pub last_op: OpNumber,
    /// Last op known to be committed and held.
    pub commit: OpNumber,
    /// Last op applied.
    pub applied: OpNumber,
    /// Fingerprint after `applied`.
    pub digest: Digest,
    /// Oldest op of the log.
    pub log_first_op: OpNumber,
    /// Payload bytes in the log.
    pub log_bytes: u64,
    /// Keys in the store.
    pub keys: u64,
    /// Client sessions known.
    pub client_sessions: u64,
    /// Events so far.
    pub counters: Counters,
}

/// Events since the replica was made.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Requests that arrived.
    pub requests: u64,
    /// ... that were accepted and will get an op.
    pub requests_accepted: u64,
    /// ... that were answered from the client table.
    pub requests_cached: u64,
    /// ... that were in flight already.
    pub requests_in_flight: u64,
    /// ... that were older than what their session did since.
    pub requests_stale: u64,
    /// ... of a session that is not known.
    pub requests_session_unknown: u64,
    /// ... that made no sense.
    pub requests_bad: u64,
    /// Reads accepted; they take no op.
    pub reads: u64,
    /// Ops that do nothing but prove reads, or commit what was inherited.
    pub barriers: u64,
    /// ... told to try again.
    pub requests_try_again: u64,
    /// ... told to ask the leader.
    pub requests_not_leader: u64,
    /// Prepares broadcast.
    pub prepares: u64,
    /// Batches sent again because time passed.
    pub resends: u64,
    /// Batches sent again because a follower asked.
    pub repairs: u64,
    /// NeedPrepares sent.
    pub repairs_asked: u64,
    /// Commit notices broadcast.
    pub commit_notices: u64,
    /// Batches received from the leader.
    pub batches_logged: u64,
    /// Views that this replica left for a higher one.
    pub view_changes: u64,
    /// Views that this replica gave up as their leader, for want of a quorum.
    pub steps_down: u64,
    /// Recoveries that came to an end.
    pub recoveries: u64,
    /// Snapshots taken over because the leader's log began too late.
    pub catch_ups: u64,
    /// Snapshots that could not be used, and were fetched again.
    pub snapshots_refused: u64,
    /// Ops applied.
    pub ops_applied: u64,
    /// Inputs that were ignored: another view, role or incarnation.
    pub ignored: u64,
}
