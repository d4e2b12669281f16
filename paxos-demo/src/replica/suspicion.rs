//! When a leader counts as gone.
//!
//! A follower that has not heard its leader for `leader_timeout_ns` says so (Suspect), and a quorum of
//! such voices starts a view change. So one follower that lost its connection, or was stopped for a while,
//! does not end a view that works for the others, and does not run ahead in view numbers while it is alone.
//! The fast path hears the leader where the process does not; its clock counts (U9).

use super::{GateRole, Intent, NEVER, Replica, ReplicaConfig, Role};
use crate::peer::PeerMessage;
use electrode::types::{ReplicaId, View};

/// The silence of a leader, at a follower or at one that wants to become one.
#[derive(Debug)]
pub(super) struct Silence {
    heard_at: u64,
    /// When to say so, again and again.
    tell_at: u64,
}

impl Silence {
    pub(super) fn new(now: u64, timeout_ns: u64) -> Self {
        Self { heard_at: now, tell_at: now + timeout_ns }
    }

    pub(super) fn deadline(&self) -> u64 {
        self.tell_at
    }

    pub(super) fn is_long(&self, now: u64, config: &ReplicaConfig) -> bool {
        now >= self.heard_at.saturating_add(config.leader_timeout_ns)
    }
}

impl Replica {
    /// U9: when a valid packet of the view's leader was heard last, whoever absorbed it.
    pub fn on_leader_heard(&mut self, at: u64) {
        let Role::Follower(follower) = &mut self.role else { return };
        let silence = &mut follower.silence;
        if at > silence.heard_at {
            silence.heard_at = at;
            silence.tell_at = at + self.config.leader_timeout_ns;
        }
    }

    /// Says that the leader is silent, as long as it is.
    pub(super) fn suspicion_tick(&mut self) {
        let silence = match &mut self.role {
            Role::Follower(follower) => &mut follower.silence,
            Role::Forming(silence) => silence,
            _ => return,
        };
        if self.now < silence.tell_at {
            return;
        }
        silence.tell_at = self.now + self.config.suspect_ns();
        let view = self.view;
        if self.leader() != self.config.me {
            self.suspects[self.config.me.index()] = self.now;
        }
        self.send_to_others(&PeerMessage::Suspect { view });
        self.leave_if_suspected();
    }

    pub(super) fn on_suspect(&mut self, from: ReplicaId, view: View) {
        match view.cmp(&self.view) {
            std::cmp::Ordering::Less => self.tell_start(from),
            // A view that has begun, and whose leader may be gone: to leave for it tells its leader, who answers
            // with its start, and it tells those who wait for one voice more that the leader is silent.
            std::cmp::Ordering::Greater => self.freeze_for(Intent::ChangeView { view, suspicion: false }),
            std::cmp::Ordering::Equal => {
                self.suspects[from.index()] = self.now;
                if let Role::Leader(leader) = &mut self.role {
                    // Not gone: let it be heard.
                    leader.notice_at = leader.notice_at.min(self.now);
                }
                self.leave_if_suspected();
            }
        }
    }

    /// Starts a view change once a quorum, this replica among it, finds the leader silent.
    pub(super) fn leave_if_suspected(&mut self) {
        let silent = match &self.role {
            Role::Follower(follower) => follower.silence.is_long(self.now, &self.config),
            Role::Forming(silence) => self.now >= silence.heard_at + self.config.formation_timeout_ns,
            _ => false,
        };
        if !silent || self.leader() == self.config.me {
            return;
        }
        let recent = self.now.saturating_sub(self.config.leader_timeout_ns);
        let suspects = self.suspects.iter().filter(|at| **at != NEVER && **at >= recent).count();
        if suspects >= self.config.quorum() {
            let view = self.view.next();
            self.freeze_for(Intent::ChangeView { view, suspicion: true });
        }
    }

    /// Nobody is suspected in a view that has just begun.
    pub(super) fn forget_suspicions(&mut self) {
        self.suspects.fill(NEVER);
    }

    /// The gate was closed on a suspicion, and the leader spoke while it closed (U9): go on as before.
    pub(super) fn leader_is_back(&mut self, last_leader_ns: u64) -> bool {
        let back = last_leader_ns.saturating_add(self.config.leader_timeout_ns) > self.now;
        if back {
            self.forget_suspicions();
            self.open_gate(GateRole::Follow);
        }
        back
    }
}
