//! Recovery (VR section 4.3, D4): a replica that lost its log comes back without having lied.
//!
//! It knows the last view that it promised anything in (D3) and nothing else. Until it holds all that the
//! leader of a view at least as high had when it answered, it votes for nothing, acknowledges nothing and
//! answers nothing (U5, B3). The nonce ties answers to this attempt: they were all given after it began.

use super::fetch::Fetch;
use super::{Fatal, GateRole, Intent, NEVER, Replica, ReplicaConfig, Role, leader_of};
use crate::peer::{PeerMessage, ViewStart};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};

/// Looking for the state that was lost.
#[derive(Debug)]
pub(super) struct Recovery {
    nonce: u64,
    answers: Vec<Option<(View, Option<ViewStart>)>>,
    /// Members that said that they are recovering too, since the last time that was asked.
    also: ReplicaSet,
    /// Members that said that they are between two views, since then.
    between: ReplicaSet,
    /// Since when that leaves nobody who could help.
    lost_since: u64,
    /// Where this replica will go on, once everything is there.
    goal: Option<(View, ViewStart)>,
    pub(super) fetch: Option<Fetch>,
    tell_at: u64,
    tell_interval_ns: u64,
    give_up_at: u64,
}

impl Recovery {
    pub(super) fn new(now: u64, config: &ReplicaConfig) -> Self {
        let mut recovery = Self {
            nonce: u64::from(config.incarnation) << 32,
            answers: Vec::new(),
            also: ReplicaSet::EMPTY,
            between: ReplicaSet::EMPTY,
            lost_since: NEVER,
            goal: None,
            fetch: None,
            tell_at: now.max(config.recover_at_ns),
            tell_interval_ns: config.resend_ns,
            give_up_at: NEVER,
        };
        recovery.start(config);
        recovery
    }

    /// Begins anew, now.
    pub(super) fn begin(&mut self, now: u64, config: &ReplicaConfig) {
        self.start(config);
        (self.tell_at, self.tell_interval_ns) = (now, config.resend_ns);
    }

    /// A new attempt: what was answered before does not count for it.
    fn start(&mut self, config: &ReplicaConfig) {
        self.nonce += 1;
        self.answers = vec![None; config.members];
        (self.goal, self.fetch, self.give_up_at) = (None, None, NEVER);
    }

    pub(super) fn deadline(&self) -> u64 {
        self.tell_at.min(self.give_up_at).min(self.fetch.as_ref().map_or(NEVER, |fetch| fetch.ask_at))
    }

    /// Where to go on: known once enough have answered, among them the leader of the highest view.
    fn choose(&self, config: &ReplicaConfig, persisted: View) -> Option<(View, ViewStart)> {
        let answers = self.answers.iter().flatten();
        if answers.clone().count() < config.recovery_quorum() {
            return None;
        }
        let view = answers.map(|(view, _)| *view).max()?;
        let leader = leader_of(view, config.members);
        match self.answers[leader.index()] {
            // D4: never behind what was promised in an earlier life.
            Some((of, Some(start))) if of == view && view >= persisted => Some((view, start)),
            _ => None,
        }
    }
}

impl Replica {
    /// A member lost its state and asks for help.
    pub(super) fn on_recovery(&mut self, from: ReplicaId, nonce: u64, view: View) {
        let start = match &self.role {
            // One that has its answers will be back, and then it can help.
            Role::Recovering(recovery) if recovery.goal.is_some() => return self.counters.ignored += 1,
            Role::Recovering(_) => {
                return self.outbox.send(from, PeerMessage::NotNormal { nonce, recovering: true });
            }
            // It leads, and that is heard: a late copy of what it asked in another view.
            Role::Follower(follower)
                if from == self.leader()
                    && view <= self.view
                    && !follower.silence.is_long(self.now, &self.config) =>
            {
                return self.counters.ignored += 1;
            }
            Role::Leader(_) => Some(self.view_start()),
            Role::Follower(_) => None,
            // Its view is about to begin, and then it can help.
            Role::ViewChange(change) if change.start.is_some() => return self.counters.ignored += 1,
            // Whoever is between two views has nothing to answer; a view that begins will end that.
            Role::ViewChange(_) => {
                return self.outbox.send(from, PeerMessage::NotNormal { nonce, recovering: false });
            }
            _ => return self.counters.ignored += 1,
        };
        if view > self.view || from == self.leader() {
            // D4: below what it promised, or in the view that it led, nobody could ever answer it.
            let next = self.view.next().max(view);
            let view = if leader_of(next, self.config.members) == from { next.next() } else { next };
            return self.freeze_for(Intent::ChangeView { view, suspicion: false });
        }
        self.outbox.send(from, PeerMessage::RecoveryResponse { nonce, view: self.view, start });
    }

    pub(super) fn on_recovery_response(
        &mut self,
        from: ReplicaId,
        nonce: u64,
        view: View,
        start: Option<ViewStart>,
    ) {
        let persisted = self.view;
        let Role::Recovering(recovery) = &mut self.role else {
            self.counters.ignored += 1;
            return;
        };
        if nonce != recovery.nonce || recovery.goal.is_some() {
            self.counters.ignored += 1;
            return;
        }
        recovery.also = recovery.also.without(from);
        recovery.between = recovery.between.without(from);
        recovery.answers[from.index()] = Some((view, start));
        let Some((view, start)) = recovery.choose(&self.config, persisted) else { return };
        recovery.goal = Some((view, start));
        recovery.give_up_at = self.now + self.config.view_change_timeout_ns;
        let leader = leader_of(view, self.config.members);
        let mut fetch = Fetch::new(leader, view, OpNumber(0), start.last_op);
        if !fetch.is_done() {
            fetch.ask(self.now, &self.config, &mut self.outbox);
        }
        recovery.fetch = Some(fetch);
        self.recover_if_fetched(true);
    }

    /// A member cannot help.
    pub(super) fn on_not_normal(&mut self, from: ReplicaId, nonce: u64, recovering: bool) {
        let Role::Recovering(recovery) = &mut self.role else {
            return self.counters.ignored += 1;
        };
        if nonce != recovery.nonce {
            return self.counters.ignored += 1;
        }
        let (set, other) = match recovering {
            true => (&mut recovery.also, &mut recovery.between),
            false => (&mut recovery.between, &mut recovery.also),
        };
        (*set, *other) = (set.with(from), other.without(from));
    }

    /// Everything that the leader held when it answered is here: this replica is whole again. If not, and it
    /// `flows`, there is time.
    pub(super) fn recover_if_fetched(&mut self, flows: bool) {
        let Role::Recovering(recovery) = &mut self.role else { return };
        let Some((view, start)) = recovery.goal else { return };
        let Some(fetch) = recovery.fetch.take_if(|fetch| fetch.is_done()) else {
            if flows {
                // However long it takes.
                recovery.give_up_at = recovery.give_up_at.max(self.now + self.config.view_change_timeout_ns);
            }
            return;
        };
        if !self.install(fetch.take(), view) {
            return;
        }
        self.counters.recoveries += 1;
        self.open_gate(GateRole::Follow);
        self.hear_commit(start.commit);
    }

    /// Asks one who could not know this life before. D4: not before the earlier life's programs are gone.
    pub(super) fn ask_recovery_of(&mut self, to: ReplicaId) {
        let Role::Recovering(recovery) = &self.role else { return };
        if recovery.goal.is_none() && self.now >= self.config.recover_at_ns {
            let (nonce, view) = (recovery.nonce, self.view);
            self.outbox.send(to, PeerMessage::Recovery { nonce, view });
        }
    }

    pub(super) fn recovery_tick(&mut self) {
        let view = self.view;
        let (members, quorum) = (self.config.members, self.config.quorum());
        let needed = self.config.recovery_quorum();
        let Role::Recovering(recovery) = &mut self.role else { return };
        if let Some(fetch) = &mut recovery.fetch
            && self.now >= fetch.ask_at
        {
            fetch.ask(self.now, &self.config, &mut self.outbox);
        }
        if self.now >= recovery.give_up_at {
            recovery.begin(self.now, &self.config);
        }
        if self.now < recovery.tell_at {
            return;
        }
        let lost = recovery.also.len() + 1;
        // A view needs a quorum that remembers. Without one only the leader of a view that still runs can
        // help, together with enough others; half of an even group may have that.
        let helpers = members - lost;
        let nobody_is_normal = helpers == recovery.between.len();
        if helpers >= quorum || (helpers >= needed && !nobody_is_normal) {
            recovery.lost_since = NEVER;
        } else if recovery.lost_since == NEVER {
            recovery.lost_since = self.now;
        } else if self.now >= recovery.lost_since.saturating_add(self.config.lost_after_ns) {
            return self.stop(Fatal::StateLost { lost, members });
        }
        (recovery.also, recovery.between) = (ReplicaSet::EMPTY, ReplicaSet::EMPTY);
        recovery.tell_at = self.now + recovery.tell_interval_ns;
        recovery.tell_interval_ns = (recovery.tell_interval_ns * 2).min(self.config.hello_max_ns / 4);
        if recovery.goal.is_none() {
            let nonce = recovery.nonce;
            self.send_to_others(&PeerMessage::Recovery { nonce, view });
        }
    }
}
