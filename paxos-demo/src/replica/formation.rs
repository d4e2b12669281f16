//! How a group forms, and who may join it.
//!
//! Every replica says Hello to every other until it is welcomed. The leader of view 0 opens its gate once a
//! quorum has welcomed this life of it, a follower once its leader has. Members that come later are added as they
//! come.
//!
//! ```text
//!  one that comes ── Hello ──────────────────> the others: a life that is news
//!       <── Welcome (of this Hello), Hello ───
//!  knows them ── Welcome (of their Hello) ───> know it
//! ```
//!
//! Nobody is believed to live because of a Hello: it says nothing about when it was said, and whoever kept it can
//! say it again for ever, with keys too. A Welcome names the life of ours that it answers, so whoever sent it has
//! lived after this life began. So a Hello is answered and, if its life is news, returned; only the Welcome to our own
//! makes a life known, and its memory noted (D6).
//!
//! A member that comes back says so: its incarnation is higher, and its memory begins where it did when it was
//! met. Once it has answered only the new life counts (L2, F4, D4), and if it led the view, the view is over (L11). If
//! it is another memory, what was promised before is lost: it is turned away, in this life and in all that
//! follow (D6). That the two differ counts, not their order: incarnations come from clocks, which are put back.

use super::{Action, Fatal, GateRole, Intent, NEVER, Replica, ReplicaConfig, Role, Warning};
use crate::peer::{PeerMessage, Refusal};
use crate::plant::Plant;
use electrode::types::{ReplicaId, ReplicaSet};

#[derive(Debug)]
pub(super) struct Formation {
    /// The life in which each member has welcomed this one, 0 before it has. The own one is known.
    incarnations: Vec<u32>,
    /// The latest life in which each member has said Hello: word of a life, no proof that it lasts.
    heard_of: Vec<u32>,
    /// Incarnation in which the memory of each member begins that this or an earlier life met; 0: never met.
    met: Vec<u32>,
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
            heard_of: vec![0; config.members],
            met,
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

    /// Members that have welcomed this life, itself among them.
    fn welcomed_by(&self) -> usize {
        self.incarnations.iter().filter(|incarnation| **incarnation != 0).count()
    }

    /// Members whose Welcome is waited for: unknown ones, and those of whom a later life was heard.
    fn strangers(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        let waits = |(known, heard_of): (&u32, &u32)| *known == 0 || known < heard_of;
        let strangers: Vec<bool> = self.incarnations.iter().zip(&self.heard_of).map(waits).collect();
        (0..).map(ReplicaId).zip(strangers).filter_map(|(id, waits)| waits.then_some(id))
    }

    /// Notes word of a life; whether it is news.
    fn hear_of(&mut self, peer: ReplicaId, incarnation: u32) -> bool {
        let heard_of = &mut self.heard_of[peer.index()];
        let news = incarnation > *heard_of;
        *heard_of = incarnation.max(*heard_of);
        news
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
            self.formation.hello_at = NEVER;
            for to in self.formation.strangers() {
                self.say_hello(to);
                self.formation.hello_at = self.now + self.formation.hello_interval_ns;
            }
            let interval = self.formation.hello_interval_ns;
            self.formation.hello_interval_ns = (interval * 2).min(self.config.hello_max_ns);
        }
        self.open_when_formed();
    }

    fn say_hello(&mut self, to: ReplicaId) {
        let (config_hash, born) = (self.config.config_hash, self.config.born);
        self.outbox.send(to, PeerMessage::Hello { config_hash, born });
    }

    /// Answered in any case, for who asks may be alive; but nothing is made of it, for it may be old.
    pub(super) fn on_hello(&mut self, from: ReplicaId, incarnation: u32, config_hash: u64, born: u32) {
        if !self.is_acceptable(from, incarnation, config_hash, born) {
            return;
        }
        if self.planted(Plant::K2) && self.formation.incarnation(from) != Some(incarnation) {
            self.meet(from, incarnation, born);
            self.open_when_formed();
        }
        let (config_hash, mine) = (self.config.config_hash, self.config.born);
        self.outbox.send(from, PeerMessage::Welcome { config_hash, incarnation, born: mine });
        // Once a life, for somebody may say it again and again: later ones are in the hands of the timer.
        if !self.formation.hear_of(from, incarnation) {
            return;
        }
        if self.formation.incarnation(from) != Some(incarnation) {
            self.say_hello(from);
            self.formation.hello_interval_ns = self.config.hello_ns;
            self.formation.hello_at = self.formation.hello_at.min(self.now + self.config.hello_ns);
        }
        self.repeat_to(from);
    }

    /// What this replica said to everybody before a member knew it, it heard nothing of: once more, now that it has
    /// the Welcome, instead of when the time for it comes.
    fn repeat_to(&mut self, to: ReplicaId) {
        match self.role {
            Role::ViewChange(_) => self.tell_view_change_to(to),
            Role::Recovering(_) => self.ask_recovery_of(to),
            _ => {}
        }
    }

    /// A Welcome to this life: its sender has lived since this life began. Meets it in the life that it has now.
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
        } else if self.is_acceptable(from, incarnation, config_hash, born) {
            if self.formation.incarnation(from) != Some(incarnation) {
                self.meet(from, incarnation, born);
            }
            if self.formation.strangers().next().is_none() {
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

    /// Whether a member may be dealt with in this life of it; if not, it is told why. A life that is over, whose Hello
    /// somebody kept, does not hear it, and for the present one the refusal is not meant.
    fn is_acceptable(&mut self, peer: ReplicaId, incarnation: u32, config_hash: u64, born: u32) -> bool {
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
        if before == Some(incarnation) {
            return true;
        }
        // D6: with its memory went what it promised, to this replica or to another.
        let is_lost = met != 0 && born != met && !self.planted(Plant::A17);
        if incarnation < known || is_lost {
            if incarnation > known && self.formation.warn_once(peer) {
                let now = incarnation;
                self.outbox.push(Action::Warn(Warning::PeerRestarted { peer, known, now }));
            }
            let reason = Refusal::Restarted { known };
            self.outbox.send(peer, PeerMessage::Refused { incarnation, reason });
            return false;
        }
        true
    }

    /// From now on this life of a member counts, and no other.
    fn meet(&mut self, peer: ReplicaId, incarnation: u32, born: u32) {
        let before = self.formation.incarnation(peer);
        self.formation.incarnations[peer.index()] = incarnation;
        if self.formation.met[peer.index()] == 0 {
            self.formation.met[peer.index()] = born;
            self.outbox.push(Action::SaveMember { peer, born });
        }
        self.outbox.push(Action::ExpectIncarnation { peer, incarnation });
        if let Role::Leader(leader) = &mut self.role {
            leader.resender.introduce(self.now, peer, self.log.last_op());
        }
        let resumes = self.planted(Plant::P11) || self.planted(Plant::A17);
        if before.is_some() && !resumes && peer == self.leader() && matches!(self.role, Role::Follower(_)) {
            // L11: whoever led this view in an earlier life will not go on with it.
            let view = self.view.next();
            self.freeze_for(Intent::ChangeView { view, suspicion: false });
        }
    }

    fn open_when_formed(&mut self) {
        if !matches!(self.role, Role::Forming(_)) {
            self.formation.open_at = NEVER;
            return;
        }
        let (leader, welcomed) = (self.leader(), self.formation.welcomed_by());
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
