//! How a group forms, and who may join it.
//!
//! Every replica says Hello to every other until it is welcomed. The leader of view 0 opens its gate once a
//! quorum has welcomed this life of it; a follower opens as soon as it knows the leader's incarnation. Members that come later
//! are added as they come.
//!
//! **A restarted replica stays out.** What it had acknowledged is lost, so it must not be counted as if it
//! held it; until recovery exists it is refused. What matters is each pair of leader and follower: a leader
//! that is open remembers its followers, and a follower remembers its leader (L11: a restarted leader never
//! leads its view again): it welcomes no other life, its kernel hears none (F4), and a Welcome names the life
//! that it is for. A leader that restarts and is welcomed by a quorum of followers of which none has met its
//! earlier life would not be caught; that takes members that were never up before. Against the likelier
//! form of it, some of them being slow to answer, the leader waits `formation_wait_ns` for all members before
//! it is content with a quorum. Persisted state closes the rest (D6).

use super::follower::Follower;
use super::leader::Leader;
use super::{Action, Fatal, GateRole, NEVER, Replica, ReplicaConfig, Role, Warning};
use crate::peer::{PeerMessage, Refusal};
use electrode::types::{ReplicaId, ReplicaSet};

#[derive(Debug)]
pub(super) struct Formation {
    /// Incarnation of each member, 0 while unknown. The own one is known.
    incarnations: Vec<u32>,
    /// Members that have welcomed this incarnation.
    welcomed_by: ReplicaSet,
    /// Members that have turned this replica away, and members that were warned about: once is enough.
    refused_by: ReplicaSet,
    warned_about: ReplicaSet,
    hello_at: u64,
    hello_interval_ns: u64,
    /// When a leader is content with a quorum.
    open_at: u64,
}

impl Formation {
    pub(super) fn new(now: u64, config: &ReplicaConfig) -> Self {
        let mut incarnations = vec![0; config.members];
        incarnations[config.me.index()] = config.incarnation;
        Self {
            incarnations,
            welcomed_by: ReplicaSet::EMPTY.with(config.me),
            refused_by: ReplicaSet::EMPTY,
            warned_about: ReplicaSet::EMPTY,
            hello_at: now,
            hello_interval_ns: config.hello_ns,
            open_at: NEVER,
        }
    }

    pub(super) fn incarnation(&self, id: ReplicaId) -> Option<u32> {
        self.incarnations.get(id.index()).copied().filter(|incarnation| *incarnation != 0)
    }

    pub(super) fn deadline(&self) -> u64 {
        self.hello_at.min(self.open_at)
    }

    /// True the first time for each member.
    fn warn_once(&mut self, about: ReplicaId) -> bool {
        let first = !self.warned_about.contains(about);
        self.warned_about = self.warned_about.with(about);
        first
    }
}

impl Replica {
    pub(super) fn formation_tick(&mut self) {
        if self.now >= self.formation.hello_at {
            let strangers = ReplicaSet::all(self.config.members).difference(self.formation.welcomed_by);
            for to in strangers.iter() {
                self.outbox.send(to, PeerMessage::Hello { config_hash: self.config.config_hash });
            }
            let interval = self.formation.hello_interval_ns;
            self.formation.hello_at = if strangers.is_empty() { NEVER } else { self.now + interval };
            self.formation.hello_interval_ns = (interval * 2).min(self.config.hello_max_ns);
        }
        self.open_when_formed();
    }

    pub(super) fn on_hello(&mut self, from: ReplicaId, incarnation: u32, config_hash: u64) {
        if self.meet(from, incarnation, config_hash) {
            let config_hash = self.config.config_hash;
            self.outbox.send(from, PeerMessage::Welcome { config_hash, incarnation });
            self.open_when_formed();
        }
    }

    pub(super) fn on_welcome(&mut self, from: ReplicaId, incarnation: u32, config_hash: u64, mine: u32) {
        if mine != self.config.incarnation {
            self.counters.ignored += 1;
        } else if self.meet(from, incarnation, config_hash) {
            self.formation.welcomed_by = self.formation.welcomed_by.with(from);
            if self.formation.welcomed_by.len() == self.config.members {
                self.formation.hello_at = NEVER;
            }
            self.open_when_formed();
        }
    }

    /// Turned away. Whether that is the end depends on who says it: a follower cannot work without its leader,
    /// nor a leader without a quorum.
    pub(super) fn on_refused(&mut self, by: ReplicaId, mine: u32, reason: Refusal) {
        if mine != self.config.incarnation {
            self.counters.ignored += 1;
            return;
        }
        let first = !self.formation.refused_by.contains(by);
        let fatal = match reason {
            Refusal::LogTruncated { oldest } => return self.on_log_truncated(by, oldest),
            // At any time: a leader that finds out late that it led before must not go on either (L11).
            Refusal::Restarted { .. } => by == self.leader() || self.config.me == self.leader(),
            Refusal::ConfigMismatch { .. } => {
                self.formation.refused_by = self.formation.refused_by.with(by);
                let left = self.config.members - self.formation.refused_by.len();
                let needed = by == self.leader() || left < self.config.quorum();
                // One that is part of a group leaves it to the newcomer to stop.
                needed && matches!(self.role, Role::Forming)
            }
        };
        if fatal {
            self.stop(Fatal::TurnedAway { by, reason });
        } else if first {
            self.formation.refused_by = self.formation.refused_by.with(by);
            self.outbox.push(Action::Warn(Warning::TurnedAway { by, reason }));
        }
    }

    /// Whether a member may be dealt with in the incarnation that it has now; if not, it is told why.
    fn meet(&mut self, peer: ReplicaId, incarnation: u32, config_hash: u64) -> bool {
        let (ours, theirs) = (self.config.config_hash, config_hash);
        if theirs != ours {
            if self.formation.warn_once(peer) {
                self.outbox.push(Action::Warn(Warning::PeerConfigMismatch { peer, theirs, ours }));
            }
            let reason = Refusal::ConfigMismatch { theirs: ours, yours: theirs };
            self.outbox.send(peer, PeerMessage::Refused { incarnation, reason });
            return false;
        }
        match self.formation.incarnation(peer) {
            Some(known) if known == incarnation => true,
            Some(known) if !self.may_replace(peer, known, incarnation) => {
                if incarnation > known && self.formation.warn_once(peer) {
                    let now = incarnation;
                    self.outbox.push(Action::Warn(Warning::PeerRestarted { peer, known, now }));
                }
                let reason = Refusal::Restarted { known };
                self.outbox.send(peer, PeerMessage::Refused { incarnation, reason });
                false
            }
            _ => {
                self.formation.incarnations[peer.index()] = incarnation;
                // Its earlier life may have welcomed this replica; this one has not.
                self.formation.welcomed_by = self.formation.welcomed_by.without(peer);
                self.formation.hello_at = self.formation.hello_at.min(self.now + self.config.hello_ns);
                self.outbox.push(Action::ExpectIncarnation { peer, incarnation });
                if let Role::Leader(leader) = &mut self.role {
                    leader.resender.introduce(self.now, peer, self.log.last_op());
                }
                true
            }
        }
    }

    /// Whether a restart of `peer` has cost nothing: it never acknowledged anything to this replica, nor did
    /// this replica to it. Incarnations grow, so a late Hello of an earlier life cannot undo it.
    fn may_replace(&self, peer: ReplicaId, known: u32, incarnation: u32) -> bool {
        let between_followers = peer != self.leader() && self.config.me != self.leader();
        incarnation > known && (between_followers || matches!(self.role, Role::Forming))
    }

    fn open_when_formed(&mut self) {
        if !matches!(self.role, Role::Forming) {
            return;
        }
        // A Welcome echoes this life; a Hello may have been meant for an earlier one, whose acks its sender
        // still remembers.
        let (leader, welcomed) = (self.leader(), self.formation.welcomed_by.len());
        if leader != self.config.me {
            if self.formation.incarnation(leader).is_some() {
                self.open_gate(GateRole::Follow);
            }
        } else if welcomed == self.config.members {
            self.open_gate(GateRole::Lead);
        } else if welcomed >= self.config.quorum() {
            if self.formation.open_at == NEVER {
                self.formation.open_at = self.now + self.config.formation_wait_ns;
            }
            if self.now >= self.formation.open_at {
                self.open_gate(GateRole::Lead);
            }
        }
    }

    /// Enters normal operation in the current view.
    fn open_gate(&mut self, role: GateRole) {
        self.formation.open_at = NEVER;
        self.last_normal_view = self.view;
        self.role = match role {
            GateRole::Lead => {
                let mut leader = Leader::new(self.now, &self.config);
                for peer in ReplicaSet::all(self.config.members).without(self.config.me).iter() {
                    if self.formation.incarnation(peer).is_some() {
                        leader.resender.introduce(self.now, peer, self.log.last_op());
                    }
                }
                Role::Leader(Box::new(leader))
            }
            GateRole::Follow => Role::Follower(Follower::new(self.commit, self.config.repair_retry_ns)),
        };
        let (view, leader) = (self.view, self.leader());
        let (last_op, commit) = (self.log.last_op(), self.commit);
        self.outbox.push(Action::OpenGate { role, view, leader, last_op, commit });
    }
}
