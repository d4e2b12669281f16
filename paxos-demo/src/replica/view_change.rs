//! View change (VR section 4.2) under the rules of the fast path: freeze, drain, persist, then vote (U3).
//!
//! ```text
//!  Normal ── a quorum suspects the leader, or somebody left ──> Freezing ──on_frozen──> ViewChange
//!  ViewChange, leader of the view:  votes of a quorum ──> fetch the best log ──> Normal (Leader)
//!  ViewChange, everybody else:      StartView ──> fetch what is missing ──> Normal (Follower)
//! ```
//!
//! A vote says what its sender holds, not what is in it: the new leader fetches what it lacks from the voter
//! with the best log, whose log stays as it is while the vote stands. Old log and old `last_normal_view` are
//! replaced together, once everything is there (U6).

use super::fetch::Fetch;
use super::{GateRole, Intent, NEVER, Replica, Role};
use crate::peer::{PeerMessage, ViewStart, Vote};
use crate::plant::Plant;
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};

/// Between two views.
#[derive(Debug)]
pub(super) struct ViewChange {
    /// This replica has promised: its log stands until the view has begun.
    pub voted: bool,
    /// Members known to be in this view.
    seen: ReplicaSet,
    /// At the leader of the view.
    votes: Vec<Option<Vote>>,
    /// The view's log, on its way here.
    pub fetch: Option<Fetch>,
    /// What the view begins with, once that is known.
    pub start: Option<ViewStart>,
    tell_at: u64,
    give_up_at: u64,
}

impl ViewChange {
    pub(super) fn deadline(&self) -> u64 {
        self.tell_at.min(self.give_up_at).min(self.fetch.as_ref().map_or(NEVER, |fetch| fetch.ask_at))
    }
}

impl Replica {
    /// The gate is frozen and the log drained (U1, U2): leave for `view` and vote.
    pub(super) fn start_view_change(&mut self, view: View) {
        debug_assert!(view > self.view);
        self.view = view;
        self.counters.view_changes += 1;
        self.enter_view_change(true);
        // D3: on disk before anybody hears of it.
        if !self.planted(Plant::P3) {
            self.save_state();
        }
        self.tell_view_change();
        if self.leader() == self.config.me {
            let vote = self.vote();
            self.on_vote(self.config.me, vote);
        }
    }

    /// Between the views, in the current one. With `voted` the caller sees to it that the vote is told.
    pub(super) fn enter_view_change(&mut self, voted: bool) {
        let config = &self.config;
        // Fewer in a row than it takes to overflow: the time doubles with every attempt up to eightfold.
        let attempts = self.attempts.min(3);
        self.attempts += 1;
        self.role = Role::ViewChange(Box::new(ViewChange {
            voted,
            seen: ReplicaSet::EMPTY.with(config.me),
            votes: vec![None; config.members],
            fetch: None,
            start: None,
            tell_at: self.now + config.resend_ns,
            give_up_at: self.now + (config.view_change_timeout_ns << attempts),
        }));
        self.forget_suspicions();
    }

    fn vote(&self) -> Vote {
        let (last_op, commit) = (self.log.last_op(), self.commit);
        let last_normal_view = match self.log.get(last_op) {
            Some(entry) if self.planted(Plant::B1) => entry.view,
            _ => self.last_normal_view,
        };
        Vote { last_normal_view, last_op, commit }
    }

    fn tell_view_change(&mut self) {
        let (view, leader) = (self.view, self.leader());
        self.send_to_others(&PeerMessage::StartViewChange { view });
        self.tell_vote(leader);
    }

    /// To one who could not know this life before.
    pub(super) fn tell_view_change_to(&mut self, to: ReplicaId) {
        let view = self.view;
        self.outbox.send(to, PeerMessage::StartViewChange { view });
        if to == self.leader() {
            self.tell_vote(to);
        }
    }

    fn tell_vote(&mut self, leader: ReplicaId) {
        let Role::ViewChange(change) = &self.role else { return };
        if change.voted && leader != self.config.me {
            let (view, vote) = (self.view, self.vote());
            self.outbox.send(leader, PeerMessage::DoViewChange { view, vote });
        }
    }

    pub(super) fn on_start_view_change(&mut self, from: ReplicaId, view: View) {
        match view.cmp(&self.view) {
            std::cmp::Ordering::Less => self.tell_start(from),
            std::cmp::Ordering::Greater => {
                self.freeze_for(Intent::ChangeView { view, suspicion: false });
            }
            std::cmp::Ordering::Equal => {
                if let Role::ViewChange(change) = &mut self.role {
                    change.seen = change.seen.with(from);
                    if from == self.leader() {
                        // It may have come too late for the vote.
                        self.tell_vote(from);
                    }
                } else {
                    // It waits for the view to begin, so its leader is silent for it, too. Without its voice
                    // those who entered might never be a quorum once the leader is gone.
                    self.suspects[from.index()] = self.now;
                    self.tell_start(from);
                    self.leave_if_suspected();
                }
            }
        }
    }

    pub(super) fn on_do_view_change(&mut self, from: ReplicaId, view: View, vote: Vote) {
        if super::leader_of(view, self.config.members) != self.config.me || view < self.view {
            self.counters.ignored += 1;
            return;
        }
        if view > self.view {
            // The voter tells again once it hears that we follow.
            return self.freeze_for(Intent::ChangeView { view, suspicion: false });
        }
        match &self.role {
            Role::ViewChange(_) => self.on_vote(from, vote),
            Role::Leader(_) => self.tell_start(from),
            _ => self.counters.ignored += 1,
        }
    }

    /// A vote for the view that this replica is to lead.
    fn on_vote(&mut self, from: ReplicaId, vote: Vote) {
        let quorum = self.config.quorum();
        let Role::ViewChange(change) = &mut self.role else { return };
        change.seen = change.seen.with(from);
        if !change.voted || vote.last_normal_view >= self.view {
            self.counters.ignored += 1;
            return;
        }
        change.votes[from.index()] = Some(vote);
        if change.start.is_none() && change.votes.iter().flatten().count() >= quorum {
            self.choose();
        }
    }

    /// Votes of a quorum are here: the best log among them holds all that was ever committed.
    fn choose(&mut self) {
        let own = self.vote();
        let (me, view) = (self.config.me, self.view);
        let Role::ViewChange(change) = &mut self.role else { return };
        let rank = |vote: &Vote| (vote.last_normal_view, vote.last_op);
        let mut best = (me, own);
        let mut commit = own.commit;
        for (index, vote) in change.votes.iter().enumerate() {
            let Some(vote) = vote else { continue };
            commit = commit.max(vote.commit);
            if rank(vote) > rank(&best.1) {
                best = (ReplicaId(index as u8), *vote);
            }
        }
        let (donor, vote) = best;
        let start = ViewStart {
            origin: vote.last_normal_view,
            length: vote.last_op,
            last_op: vote.last_op,
            commit: commit.min(vote.last_op),
        };
        change.start = Some(start);
        let keep = self.common_with(&start);
        self.fetch_for_view(Fetch::new(donor, view, keep, start.length));
    }

    /// How much of the own log is surely in the log that a view begins with. Within one view all logs are
    /// prefixes of its leader's; of anything else only what is committed is sure (B2).
    fn common_with(&self, start: &ViewStart) -> OpNumber {
        let common = if self.planted(Plant::B2) {
            self.log.last_op().min(start.length)
        } else if self.last_normal_view == self.view && (self.planted(Plant::P4) || self.planted(Plant::P5)) {
            self.log.last_op().min(start.last_op)
        } else if self.last_normal_view == self.view {
            // Of this very view, before a restart: all of it, for what the leader said may be old.
            self.log.last_op()
        } else if self.last_normal_view == start.origin {
            self.log.last_op().min(start.length)
        } else {
            self.commit
        };
        common.max(self.commit)
    }

    /// The leader of the view has its quorum and fetches the log, which may take its time. It gives up by itself
    /// when nothing comes; to leave before that would throw away what it has.
    pub(super) fn on_fetching(&mut self, from: ReplicaId, view: View) {
        let by_leader = from == self.leader() && view == self.view;
        match &mut self.role {
            Role::ViewChange(change) if by_leader && change.start.is_none() => {
                change.give_up_at = change.give_up_at.max(self.now + self.config.view_change_timeout_ns);
            }
            _ => self.counters.ignored += 1,
        }
    }

    /// The view has begun, says its leader.
    pub(super) fn on_start_view(&mut self, from: ReplicaId, view: View, start: ViewStart) {
        if super::leader_of(view, self.config.members) != from || view < self.view {
            self.counters.ignored += 1;
            return;
        }
        if view > self.view {
            return self.freeze_for(Intent::EnterView { view, start });
        }
        // U6, P4: in normal operation the view has begun here too, and more may have been logged since.
        if matches!(&self.role, Role::ViewChange(change) if change.start.is_none()) {
            self.follow_start(start);
        } else if self.planted(Plant::P4) && matches!(self.role, Role::Follower(_)) {
            self.freeze_for(Intent::EnterView { view, start });
        } else {
            self.counters.ignored += 1;
        }
    }

    /// Gate frozen: leaves for a view that has begun already.
    pub(super) fn enter_view(&mut self, view: View, start: ViewStart) {
        self.view = view;
        self.enter_view_change(true);
        self.save_state();
        self.follow_start(start);
    }

    /// Gate frozen: fetch what is missing of the view's log, as its follower.
    fn follow_start(&mut self, start: ViewStart) {
        let (donor, view) = (self.leader(), self.view);
        let keep = self.common_with(&start);
        let Role::ViewChange(change) = &mut self.role else { return };
        change.start = Some(start);
        self.fetch_for_view(Fetch::new(donor, view, keep, start.last_op));
    }

    fn fetch_for_view(&mut self, mut fetch: Fetch) {
        if self.planted(Plant::P7) {
            self.log.truncate_suffix(fetch.keep());
        }
        let Role::ViewChange(change) = &mut self.role else { return };
        if !fetch.is_done() {
            fetch.ask(self.now, &self.config, &mut self.outbox);
        }
        change.fetch = Some(fetch);
        self.enter_if_fetched(true);
    }

    /// Everything is here: the view begins for this replica. If not, and it `flows`, there is time.
    pub(super) fn enter_if_fetched(&mut self, flows: bool) {
        let view = self.view;
        let Role::ViewChange(change) = &mut self.role else { return };
        let Some(start) = change.start else { return };
        let Some(fetch) = change.fetch.take_if(|fetch| fetch.is_done()) else {
            if change.fetch.is_some() && flows {
                // However long it takes.
                change.give_up_at = change.give_up_at.max(self.now + self.config.view_change_timeout_ns);
            }
            return;
        };
        if !self.install(fetch.take(), view) {
            return;
        }
        if self.leader() == self.config.me {
            self.lead(start);
        } else {
            self.open_gate(GateRole::Follow);
            self.hear_commit(start.commit);
        }
    }

    /// Opens as leader and tells the others how the view began (L8: nothing of an older view counts).
    fn lead(&mut self, start: ViewStart) {
        self.open_gate(GateRole::Lead);
        self.commit = self.commit.max(start.commit);
        self.apply_committed();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.start = start;
        let view = self.view;
        let start = self.view_start();
        self.send_to_others(&PeerMessage::StartView { view, start });
        // L10: the inherited ops commit with this one, by acks of this view.
        self.prepare_barrier();
    }

    /// How the view began, at its leader.
    pub(super) fn view_start(&self) -> ViewStart {
        let Role::Leader(leader) = &self.role else { unreachable!("asked of leaders only") };
        ViewStart { last_op: self.log.last_op(), commit: self.commit, ..leader.start }
    }

    /// Whoever is behind hears from the leader how its view began.
    pub(super) fn tell_start(&mut self, to: ReplicaId) {
        if matches!(self.role, Role::Leader(_)) {
            let (view, start) = (self.view, self.view_start());
            self.outbox.send(to, PeerMessage::StartView { view, start });
        } else {
            self.counters.ignored += 1;
        }
    }

    /// A packet of a later view went by: ask how it began. Its leader knows; who claims it does not matter.
    pub fn on_newer_view(&mut self, now: u64, view: View) {
        self.advance(now);
        let leader = super::leader_of(view, self.config.members);
        let waits = matches!(self.role, Role::Stopped | Role::Recovering(_) | Role::Freezing(_));
        if view <= self.view || leader == self.config.me || waits || self.now < self.ask_view_at {
            return;
        }
        self.ask_view_at = self.now + self.config.repair_retry_ns;
        self.outbox.send(leader, PeerMessage::AskStartView { view });
    }

    pub(super) fn view_change_tick(&mut self) {
        let leader = self.leader();
        let Role::ViewChange(change) = &mut self.role else { return };
        if let Some(fetch) = &mut change.fetch
            && self.now >= fetch.ask_at
        {
            fetch.ask(self.now, &self.config, &mut self.outbox);
        }
        if self.now >= change.give_up_at {
            let began = change.start.is_some() && leader != self.config.me;
            if !began && change.seen.len() >= self.config.quorum() {
                let view = self.view.next();
                return self.start_view_change(view);
            }
            // The view began, but its leader or what it sends is slow, perhaps gone: it is asked again, and if
            // it does not answer either, the next view is tried. Alone a higher number would help nobody.
            change.give_up_at = self.now + self.config.view_change_timeout_ns;
            if leader != self.config.me {
                (change.fetch, change.start) = (None, None);
            }
        }
        if self.now >= change.tell_at {
            // Often enough for one that is lost not to matter.
            change.tell_at =
                self.now + self.config.resend_ns.min(self.config.view_change_timeout_ns / 4).max(1);
            let fetching = change.fetch.is_some() && leader == self.config.me;
            self.tell_view_change();
            if fetching {
                let view = self.view;
                self.send_to_others(&PeerMessage::Fetching { view });
            }
        }
    }
}
