//! How a group forms, and who may join it.
//!
//! Every replica says Hello to every other until it is welcomed. The leader of view 0 opens its gate once a
//! quorum has welcomed this life of it; a follower opens as soon as it knows the leader's incarnation. Members that come later
//! are added as they come.
//!
//! A member that comes back says so: its incarnation is higher, and its memory begins where it did when it was
//! met. From then on only the new life counts (L2, F4, D4), and if it led the view, the view is over (L11). If
//! it is another memory, what was promised before is lost: it is turned away, in this life and in all that
//! follow (D6). That the two differ counts, not their order: incarnations come from clocks, which are put back.

use super::{Action, Fatal, GateRole, Intent, NEVER, Replica, ReplicaConfig, Role, Warning};
use crate::peer::{PeerMessage, Refusal};
use crate::plant::Plant;
use electrode::types::{ReplicaId, ReplicaSet};

#[derive(Debug)]
pub(super) struct Formation {
    /// Incarnation of each member, 0 while unknown. The own one is known.
    incarnations: Vec<u32>,
    /// Incarnation in which the memory of each member begins that this or an earlier life met; 0: never met.
    met: Vec<u32>,
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
        let mut met = config.met.clone();
        met.resize(config.members, 0);
        Self {
            incarnations,
            met,
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

    /// A gate was opened: nothing is waited for any more.
    pub(super) fn has_formed(&mut self) {
        self.open_at = NEVER;
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
                let (config_hash, born) = (self.config.config_hash, self.config.born);
                self.outbox.send(to, PeerMessage::Hello { config_hash, born });
            }
            let interval = self.formation.hello_interval_ns;
            self.formation.hello_at = if strangers.is_empty() { NEVER } else { self.now + interval };
            self.formation.hello_interval_ns = (interval * 2).min(self.config.hello_max_ns);
        }
        self.open_when_formed();
    }

    pub(super) fn on_hello(&mut self, from: ReplicaId, incarnation: u32, config_hash: u64, born: u32) {
        if self.meet(from, incarnation, config_hash, born) {
            let (config_hash, born) = (self.config.config_hash, self.config.born);
            self.outbox.send(from, PeerMessage::Welcome { config_hash, incarnation, born });
            self.open_when_formed();
        }
    }

    pub(super) fn on_welcome(
        &mut self,
        from: ReplicaId,
        incarnation: u32,
        config_hash: u64,
        mine: u32,
        born: u32,
    ) {
        if mine != self.config.incarnation {
            self.counters.ignored += 1;
        } else if self.meet(from, incarnation, config_hash, born) {
            self.formation.welcomed_by = self.formation.welcomed_by.with(from);
            if self.formation.welcomed_by.len() == self.config.members {
                self.formation.hello_at = NEVER;
            }
            self.open_when_formed();
        }
    }

    /// Turned away. What was lost is lost, whoever says so (D6). Whether another configuration is the end depends
    /// on who says it: a follower cannot work without its leader, nor a leader without a quorum.
    pub(super) fn on_refused(&mut self, by: ReplicaId, life: u32, mine: u32, reason: Refusal) {
        // It answers a Hello of this life of ours, and not in a life of its own that is over: another
        // configuration may be what it was started again for.
        let over = self.formation.incarnation(by).is_some_and(|known| life < known);
        if mine != self.config.incarnation || over {
            self.counters.ignored += 1;
            return;
        }
        let first = !self.formation.refused_by.contains(by);
        let fatal = match reason {
            // At any time: a leader that finds out late that it led before must not go on either (L11).
            Refusal::Restarted { .. } => true,
            Refusal::ConfigMismatch { .. } => {
                self.formation.refused_by = self.formation.refused_by.with(by);
                let left = self.config.members - self.formation.refused_by.len();
                let needed = by == self.leader() || left < self.config.quorum();
                // One that is part of a group leaves it to the newcomer to stop.
                needed && matches!(self.role, Role::Forming(_) | Role::Recovering(_))
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
    fn meet(&mut self, peer: ReplicaId, incarnation: u32, config_hash: u64, born: u32) -> bool {
        let (ours, theirs) = (self.config.config_hash, config_hash);
        if theirs != ours {
            if self.formation.warn_once(peer) {
                self.outbox.push(Action::Warn(Warning::PeerConfigMismatch { peer, theirs, ours }));
            }
            let reason = Refusal::ConfigMismatch { theirs: ours, yours: theirs };
            self.outbox.send(peer, PeerMessage::Refused { incarnation, reason });
            return false;
        }
        let met = self.formation.met[peer.index()];
        let before = self.formation.incarnation(peer);
        let known = before.unwrap_or(met);
        match before {
            Some(before) if before == incarnation => true,
            // D6: with its memory went what it promised, to this replica or to another.
            _ if incarnation < known || met != 0 && born != met && !self.planted(Plant::A17) => {
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
                if met == 0 {
                    self.formation.met[peer.index()] = born;
                    self.outbox.push(Action::SaveMember { peer, born });
                }
                // Its earlier life may have welcomed this replica; this one has not.
                self.formation.welcomed_by = self.formation.welcomed_by.without(peer);
                self.formation.hello_at = self.formation.hello_at.min(self.now + self.config.hello_ns);
                self.outbox.push(Action::ExpectIncarnation { peer, incarnation });
                if let Role::Leader(leader) = &mut self.role {
                    leader.resender.introduce(self.now, peer, self.log.last_op());
                }
                let resumes = self.planted(Plant::P11) || self.planted(Plant::A17);
                if before.is_some()
                    && !resumes
                    && peer == self.leader()
                    && matches!(self.role, Role::Follower(_))
                {
                    // L11: whoever led this view in an earlier life will not go on with it.
                    let view = self.view.next();
                    self.freeze_for(Intent::ChangeView { view, suspicion: false });
                }
                true
            }
        }
    }

    fn open_when_formed(&mut self) {
        if !matches!(self.role, Role::Forming(_)) {
            self.formation.open_at = NEVER;
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
        } else {
            self.formation.open_at = NEVER;
        }
    }
}
