//! Closing the gate, and what it is closed for.
//!
//! Closing takes the driver ([`Action::Freeze`]): it freezes, hands over what was acknowledged (U2) and then
//! calls [`Replica::on_frozen`]. Until then this replica is in neither view: it takes what is handed over and
//! answers nobody.

use super::follower::Follower;
use super::leader::Leader;
use super::{Action, GateRole, Replica, Role};
use crate::peer::ViewStart;
use crate::plant::Plant;
use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaSet, View};

/// What the gate is being closed for.
#[derive(Debug)]
pub(super) enum Intent {
    /// To leave for another view.
    ChangeView {
        view: View,
        /// On this replica's own observation that the leader is silent.
        suspicion: bool,
    },
    /// To enter a view that has begun.
    EnterView { view: View, start: ViewStart },
    /// To put a snapshot in place of what this follower missed.
    CatchUp { op: OpNumber, snapshot: Bytes },
}

impl Intent {
    fn view(&self) -> View {
        match self {
            Self::ChangeView { view, .. } | Self::EnterView { view, .. } => *view,
            Self::CatchUp { .. } => View(0),
        }
    }
}

/// Between the decision to close the gate and the drained log.
#[derive(Debug)]
pub(super) struct Freezing {
    intent: Intent,
    followed: bool,
}

impl Replica {
    /// Closes the gate, if it is open, and then does what is intended.
    pub(super) fn freeze_for(&mut self, intent: Intent) {
        match &self.role {
            // U5: no part in view changes.
            Role::Recovering(_) if self.planted(Plant::B3) => self.carry_out(intent),
            Role::Stopped | Role::Recovering(_) => self.counters.ignored += 1,
            Role::Freezing(_) => {
                if let Role::Freezing(freezing) = &mut self.role
                    && intent.view() > freezing.intent.view()
                {
                    freezing.intent = intent;
                }
            }
            // The gate is closed.
            Role::Forming(_) | Role::ViewChange(_) => self.carry_out(intent),
            Role::Leader(_) | Role::Follower(_) if self.planted(Plant::A4) => self.carry_out(intent),
            Role::Leader(_) | Role::Follower(_) => {
                let followed = matches!(self.role, Role::Follower(_));
                self.role = Role::Freezing(Freezing { intent, followed });
                self.outbox.push(Action::Freeze);
            }
        }
    }

    /// The gate is frozen (U1) and everything that it acknowledged has been handed over (U2).
    /// `last_leader_ns` was read after that (U3).
    pub fn on_frozen(&mut self, now: u64, last_leader_ns: u64) {
        self.advance(now);
        if !matches!(self.role, Role::Freezing(_)) {
            return;
        }
        let Role::Freezing(Freezing { intent, followed }) = std::mem::replace(&mut self.role, Role::Stopped)
        else {
            unreachable!("looked at above")
        };
        let suspicion = matches!(intent, Intent::ChangeView { suspicion: true, .. });
        if suspicion && followed && self.leader_is_back(last_leader_ns) {
            return;
        }
        self.carry_out(intent);
    }

    fn carry_out(&mut self, intent: Intent) {
        match intent {
            Intent::ChangeView { view, .. } => self.start_view_change(view),
            Intent::EnterView { view, start } => self.enter_view(view, start),
            Intent::CatchUp { op, snapshot } => self.catch_up(op, snapshot),
        }
    }

    /// Enters normal operation in the current view; the log is that of the view.
    pub(super) fn open_gate(&mut self, role: GateRole) {
        let forms = matches!(self.role, Role::Forming(_));
        self.attempts = 0;
        self.formation.has_formed();
        self.forget_suspicions();
        self.role = match role {
            GateRole::Lead => {
                let mut leader = Leader::new(self.now, &self.config, self.view, self.log.last_op());
                for peer in ReplicaSet::all(self.config.members).without(self.config.me).iter() {
                    if self.formation.incarnation(peer).is_some() {
                        leader.resender.introduce(self.now, peer, self.log.last_op());
                    }
                }
                Role::Leader(Box::new(leader))
            }
            GateRole::Follow => Role::Follower(Follower::new(self.now, self.commit, &self.config)),
        };
        if forms {
            // D3: from here on there is something to remember.
            self.save_state();
        }
        let (view, leader) = (self.view, self.leader());
        let (last_op, commit) = (self.log.last_op(), self.commit);
        self.outbox.push(Action::OpenGate { role, view, leader, last_op, commit });
        if self.config.durable && role == GateRole::Follow {
            // F8: what is on disk is forgotten with each opening.
            self.outbox.push(Action::Acknowledge { op: self.durable });
        }
    }
}
