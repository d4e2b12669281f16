//! What a replica must be told; checked once, here.

use crate::batcher::Batching;
use crate::large;
use crate::message::{PEER_MESSAGE_ROOM, TRAVEL_BYTES, part_bytes_max};
use crate::plant::Plants;
use crate::state_machine::COMMAND_HEADER_BYTES;
use electrode::abi;
use electrode::types::ReplicaId;
use thiserror::Error;

/// Ops that may be in flight by default.
pub const WINDOW_OPS: u64 = 4096;
/// Client sessions that are remembered by default.
pub const CLIENT_SESSIONS_MAX: usize = 1 << 16;

const MS: u64 = 1_000_000;

/// Configuration of a [`super::Replica`]. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Own index.
    pub me: ReplicaId,
    /// Number of members.
    pub members: usize,
    /// Number of this life of the replica, from 1; must grow with each restart.
    pub incarnation: u32,
    /// Incarnation in which the replica's memory begins: the first one that its data directory knows (D6).
    pub born: u32,
    /// Incarnation in which the memory of each member begins that was met (D6); 0, or too short: never met.
    pub met: Vec<u32>,
    /// Hash of what all members must agree on. `client_sessions_max` belongs to it.
    pub config_hash: u64,
    /// Largest payload of a datagram.
    pub payload_bytes_max: usize,
    /// Requests that may be accepted and not yet committed; must be below the endpoint's quorum window (L1).
    pub window_ops: u64,
    /// How many requests share a Prepare.
    pub batching: Batching,
    /// With [`Batching::Auto`]: batches in flight before requests begin to queue.
    pub pipeline_batches: usize,
    /// Client sessions that are remembered.
    pub client_sessions_max: usize,
    /// Payload bytes of applied ops that are kept for members that do not acknowledge. Beyond that the
    /// oldest are forgotten, and such a member gets a snapshot.
    pub log_bytes_max: usize,
    /// Silence after which an idle leader tells what it committed.
    pub commit_notice_delay_ns: u64,
    /// Longest silence of a leader.
    pub heartbeat_ns: u64,
    /// Time without progress after which a member gets missing batches again (L6).
    pub resend_ns: u64,
    /// Longest time between two resends to a silent member.
    pub resend_max_ns: u64,
    /// Batches of one resend.
    pub resend_batches: usize,
    /// Batches that probe a silent member.
    pub probe_batches: usize,
    /// Ops that a follower asks for at once, and most batches of an answer.
    pub repair_ops: u64,
    /// Time after which a follower asks again for what is missing; doubles up to `resend_max_ns`.
    pub repair_retry_ns: u64,
    /// Time within which the leader does not send the same batch to the same member twice on request.
    pub repair_quiet_ns: u64,
    /// First interval between Hellos; doubles up to `hello_max_ns`.
    pub hello_ns: u64,
    /// Longest interval between Hellos.
    pub hello_max_ns: u64,
    /// Silence after which a follower suspects its leader; several heartbeats.
    pub leader_timeout_ns: u64,
    /// How long a leader goes on without a quorum for anything that it sent.
    pub step_down_ns: u64,
    /// How long a view change may take before the next view is tried; doubles with each attempt, up to eightfold.
    pub view_change_timeout_ns: u64,
    /// How long a group may take to form before it does without the leader of view 0.
    pub formation_timeout_ns: u64,
    /// D4: before this nothing is said of a recovery, for programs of the earlier life may still acknowledge.
    pub recover_at_ns: u64,
    /// How long too many members must be without memory before that counts as the end of the group.
    pub lost_after_ns: u64,
    /// Acks wait for the disk (mode `disk`).
    pub durable: bool,
    /// `disk`: payload bytes in the stored log after which a snapshot takes their place.
    pub snapshot_bytes: u64,
    /// Rules broken on purpose; none but in tests.
    pub plants: Plants,
    /// How long a leader that knows a quorum waits for the other members before it opens without them.
    pub formation_wait_ns: u64,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplicaConfigError {
    /// Too few or too many members.
    #[error("{0} members; 1 to {max} are possible", max = abi::MEMBERS_MAX)]
    Members(usize),
    /// The own index is no member's.
    #[error("replica {me} of {members} members; indexes start at 0")]
    Me {
        /// The index.
        me: ReplicaId,
        /// Number of members.
        members: usize,
    },
    /// A number that has to be at least `min`.
    #[error("{name} is {value}, at least {min} is needed")]
    TooSmall {
        /// Field.
        name: &'static str,
        /// Its value.
        value: u64,
        /// Its least value.
        min: u64,
    },
}

/// Room for a command that can do something.
const PAYLOAD_BYTES_MIN: usize = TRAVEL_BYTES + COMMAND_HEADER_BYTES + 64;

impl ReplicaConfig {
    /// Defaults for a LAN.
    pub fn new(me: ReplicaId, members: usize, incarnation: u32, config_hash: u64) -> Self {
        Self {
            me,
            members,
            incarnation,
            born: incarnation,
            met: Vec::new(),
            config_hash,
            // What fits over IPv6 as well, so that a group may mix both.
            payload_bytes_max: abi::PAYLOAD_BYTES_MAX - 20,
            window_ops: WINDOW_OPS,
            batching: Batching::Auto,
            pipeline_batches: 4,
            client_sessions_max: CLIENT_SESSIONS_MAX,
            log_bytes_max: 64 << 20,
            commit_notice_delay_ns: MS,
            heartbeat_ns: 50 * MS,
            resend_ns: 20 * MS,
            resend_max_ns: 1000 * MS,
            resend_batches: 64,
            probe_batches: 2,
            repair_ops: 256,
            repair_retry_ns: 5 * MS,
            repair_quiet_ns: MS,
            hello_ns: 20 * MS,
            hello_max_ns: 1000 * MS,
            formation_wait_ns: 200 * MS,
            leader_timeout_ns: 300 * MS,
            step_down_ns: 600 * MS,
            view_change_timeout_ns: 300 * MS,
            formation_timeout_ns: 3000 * MS,
            recover_at_ns: 0,
            lost_after_ns: 1000 * MS,
            durable: false,
            snapshot_bytes: 64 << 20,
            plants: Plants::NONE,
        }
    }

    /// Members that make a quorum: any two share a member.
    pub fn quorum(&self) -> usize {
        self.members / 2 + 1
    }

    /// Answers to a Recovery that share a member with every quorum, the asker not counted (D4: f + 1).
    pub fn recovery_quorum(&self) -> usize {
        self.members - self.quorum() + 1
    }

    /// Time between two words of a replica that its leader is silent. A word counts for `leader_timeout_ns`, so
    /// those of several replicas meet.
    pub fn suspect_ns(&self) -> u64 {
        self.resend_ns.min(self.leader_timeout_ns / 4).max(1)
    }

    /// Bytes of a snapshot that fit a datagram.
    pub fn chunk_bytes(&self) -> usize {
        self.payload_bytes_max - PEER_MESSAGE_ROOM
    }

    /// Largest payload of a Prepare: state transfer must be able to send it on.
    pub fn batch_bytes_max(&self) -> usize {
        self.payload_bytes_max - PEER_MESSAGE_ROOM
    }

    /// Longest command of one op, or part of a longer one; longest result in one datagram.
    pub fn part_bytes_max(&self) -> usize {
        part_bytes_max(self.payload_bytes_max)
    }

    /// Longest command that is accepted.
    pub fn command_bytes_max(&self) -> usize {
        large::command_bytes_max(self.part_bytes_max(), self.window_ops)
    }

    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), ReplicaConfigError> {
        if self.members == 0 || self.members > abi::MEMBERS_MAX {
            return Err(ReplicaConfigError::Members(self.members));
        }
        if self.me.index() >= self.members {
            return Err(ReplicaConfigError::Me { me: self.me, members: self.members });
        }
        for (name, value, min) in [
            // 0 means "unknown" where acks are counted (L2).
            ("incarnation", u64::from(self.incarnation), 1),
            ("payload_bytes_max", self.payload_bytes_max as u64, PAYLOAD_BYTES_MIN as u64),
            ("window_ops", self.window_ops, 1),
            ("pipeline_batches", self.pipeline_batches as u64, 1),
            ("client_sessions_max", self.client_sessions_max as u64, 1),
            ("heartbeat_ns", self.heartbeat_ns, 1),
            ("resend_ns", self.resend_ns, 1),
            ("resend_max_ns", self.resend_max_ns, self.resend_ns),
            ("resend_batches", self.resend_batches as u64, 1),
            ("probe_batches", self.probe_batches as u64, 1),
            ("repair_ops", self.repair_ops, 1),
            ("repair_retry_ns", self.repair_retry_ns, 1),
            ("hello_ns", self.hello_ns, 1),
            ("leader_timeout_ns", self.leader_timeout_ns, self.heartbeat_ns.max(self.resend_ns) + 1),
            ("view_change_timeout_ns", self.view_change_timeout_ns, 1),
            ("snapshot_bytes", self.snapshot_bytes, 1),
            ("hello_max_ns", self.hello_max_ns, self.hello_ns),
        ] {
            if value < min {
                return Err(ReplicaConfigError::TooSmall { name, value, min });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_named() {
        let good = ReplicaConfig::new(ReplicaId(0), 3, 1, 0);
        assert_eq!(good.validate(), Ok(()));
        let error = |change: fn(&mut ReplicaConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(error(|c| c.members = 33), "33 members; 1 to 32 are possible");
        assert_eq!(error(|c| c.me = ReplicaId(3)), "replica 3 of 3 members; indexes start at 0");
        assert_eq!(error(|c| c.incarnation = 0), "incarnation is 0, at least 1 is needed");
        assert_eq!(error(|c| c.payload_bytes_max = 98), "payload_bytes_max is 98, at least 146 is needed");
    }

    #[test]
    fn two_quorums_share_a_member() {
        for members in 1..=32 {
            let quorum = ReplicaConfig::new(ReplicaId(0), members, 1, 0).quorum();
            assert!(2 * quorum > members && quorum <= members);
        }
    }
}
