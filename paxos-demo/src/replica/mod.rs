//! The replica as a function of its inputs: no socket, no clock, no randomness.
//!
//! ```text
//!  requests, messages ──┐                           ┌── Prepare, Resend, CommitNotice
//!  Logged, Commit, Gap ─┼──> Replica ──next_action──┼── Reply
//!  Quorum, acked ───────┤                           ├── Send, ExpectIncarnation, OpenGate
//!  ticks ───────────────┘ <──next_deadline──        └── Warn, Fatal
//! ```
//!
//! A driver calls `on_*` for what happened, then [`Replica::next_action`] until there is none, then sleeps
//! until something happens or [`Replica::next_deadline`]. Time is in nanoseconds from any origin.
//!
//! What the fast path does (rules.md) is not repeated here: followers' acknowledgements, their order and the
//! count of a quorum arrive as facts. What is left is Viewstamped Replication, one concept a file:
//!
//! | file | what | paper (VR Revisited) |
//! |---|---|---|
//! | `leader`, `reads`, `resend` | requests become ops, reads get their proof, losses are repaired | 4.1 |
//! | `large` | commands and results that come in parts | |
//! | `follower` | takes what the leader ordered, asks for what is missing | 4.1 |
//! | `apply` | committed ops become state and replies | 4.1 |
//! | `suspicion`, `contact` | when a leader counts as gone, and when it finds itself alone | 4.2 |
//! | `gate` | closing and opening the fast path | rules U1 to U6 |
//! | `view_change`, `install` | the next view and its log | 4.2 |
//! | `fetch`, `donor` | state transfer, both sides | 5.2 |
//! | `recovery` | after a loss of memory | 4.3 |
//! | `durable` | mode `disk` | |
//! | `formation` | who the members are, in which life | |
//!
//! This file holds what they share.

mod action;
mod apply;
mod config;
mod contact;
mod donor;
mod durable;
mod fetch;
mod follower;
mod formation;
mod gate;
mod install;
mod large;
mod leader;
mod reads;
mod recovery;
mod resend;
mod start;
mod suspicion;
#[cfg(test)]
mod tests;
mod view_change;

pub use action::{Action, BatchFlaw, Fatal, GateRole, Warning};
pub use config::{CLIENT_SESSIONS_MAX, ReplicaConfig, ReplicaConfigError, WINDOW_OPS};
pub use start::{Memory, StartError};

use crate::arena::Arena;
use crate::log::{Log, LogEntry};
use crate::peer::PeerMessage;
use crate::plant::Plant;
use crate::service::Service;
use crate::status::{Counters, RoleName, Status};
use action::Outbox;
use donor::Donor;
use durable::Stored;
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use fetch::Chunk;
use follower::Follower;
use formation::Formation;
use gate::{Freezing, Intent};
use leader::Leader;
use recovery::Recovery;
use std::collections::BTreeMap;
use suspicion::Silence;
use view_change::ViewChange;

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

/// What a replica does in its view.
#[derive(Debug)]
enum Role {
    Forming(Silence),
    Leader(Box<Leader>),
    Follower(Follower),
    Freezing(Freezing),
    ViewChange(Box<ViewChange>),
    Recovering(Box<Recovery>),
    Stopped,
}

/// One member of the group.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    now: u64,
    /// Unix time, for what the leader stamps on its batches.
    wall_clock_ms: u64,
    view: View,
    /// Stored, not derived from the log (U4, B1).
    last_normal_view: View,
    role: Role,
    formation: Formation,
    log: Log,
    /// Last op that is committed and in the log.
    commit: OpNumber,
    applied: OpNumber,
    service: Service,
    /// `disk`: last op of the log that is on disk.
    durable: OpNumber,
    stored: Stored,
    donor: Donor,
    /// Snapshots in a row that could not be used.
    bad_snapshots: u32,
    /// When each member last found the leader silent.
    suspects: Vec<u64>,
    /// View changes since the last view that began.
    attempts: u32,
    /// No question for the start of a view before this.
    ask_view_at: u64,
    /// [`Plant::B4`]: last request accepted of each session.
    accepted: BTreeMap<u64, u64>,
    payloads: Arena,
    read_result: Vec<u8>,
    outbox: Outbox,
    counters: Counters,
}

impl Replica {
    /// The next thing to do; `None` if there is nothing to do until the next input.
    ///
    /// Waiting requests become Prepares here, when all else is done: a driver that hands over a burst of
    /// requests before it asks gets them in one batch.
    pub fn next_action(&mut self) -> Option<Action> {
        if self.outbox.is_empty() {
            self.prepare_waiting();
        }
        self.outbox.pop()
    }

    /// When [`Self::on_tick`] has something to do, if nothing else happens.
    pub fn next_deadline(&self) -> Option<u64> {
        let role = match &self.role {
            Role::Stopped => return None,
            Role::Freezing(_) => NEVER,
            Role::Forming(silence) => silence.deadline(),
            Role::Leader(leader) => leader.deadline(),
            Role::Follower(follower) => follower.deadline(),
            Role::ViewChange(change) => change.deadline(),
            Role::Recovering(recovery) => recovery.deadline(),
        };
        let deadline = role.min(self.formation.deadline()).min(self.donor.deadline());
        (deadline != NEVER).then_some(deadline)
    }

    /// Tells the time of day, once before each burst of inputs. Nothing but the expiry of keys depends on it,
    /// and only the leader's counts.
    pub fn set_wall_clock(&mut self, unix_ms: u64) {
        self.wall_clock_ms = unix_ms;
    }

    /// Time passed. Calling it early or often does no harm.
    pub fn on_tick(&mut self, now: u64) {
        self.advance(now);
        if matches!(self.role, Role::Stopped) {
            return;
        }
        self.formation_tick();
        self.donor_tick();
        match self.role {
            Role::Forming(_) => self.suspicion_tick(),
            Role::Leader(_) => self.leader_tick(),
            Role::Follower(_) => self.follower_tick(),
            Role::ViewChange(_) => self.view_change_tick(),
            Role::Recovering(_) => self.recovery_tick(),
            Role::Freezing(_) | Role::Stopped => {}
        }
    }

    /// A member said something that it had not said before: it can be heard now. An old message that arrives once
    /// more, or late, is none of that.
    pub fn on_member_heard(&mut self, now: u64, from: ReplicaId, incarnation: u32) {
        self.advance(now);
        if let Role::Leader(leader) = &mut self.role
            && self.formation.incarnation(from) == Some(incarnation)
        {
            leader.contact.hear(self.now, from);
        }
    }

    /// A message arrived that is not its sender's newest: doubled, overtaken, or sent again by somebody who kept it
    /// (U9). What is of its moment does not count.
    pub fn on_old_message(&mut self, now: u64, from: ReplicaId, incarnation: u32, message: PeerMessage) {
        if message.is_of_its_moment() {
            self.counters.ignored += 1;
        } else {
            self.on_peer_message(now, from, incarnation, message);
        }
    }

    /// A message of another member arrived; `from` and `incarnation` are those of the packet's header.
    pub fn on_peer_message(&mut self, now: u64, from: ReplicaId, incarnation: u32, message: PeerMessage) {
        self.advance(now);
        let stranger = from.index() >= self.config.members || from == self.config.me || incarnation == 0;
        if stranger || matches!(self.role, Role::Stopped) || !message.is_plausible(self.view) {
            self.counters.ignored += 1;
            return;
        }
        match message {
            PeerMessage::Hello { config_hash, born } => {
                self.on_hello(from, incarnation, config_hash, born);
            }
            PeerMessage::Welcome { config_hash, incarnation: mine, born } => {
                self.on_welcome(from, incarnation, config_hash, mine, born);
            }
            PeerMessage::Refused { incarnation: mine, reason } => {
                self.on_refused(from, incarnation, mine, reason);
            }
            // What follows is only for those who introduced themselves: a late message of an earlier life
            // says nothing about this one.
            _ if self.formation.incarnation(from) != Some(incarnation) => self.counters.ignored += 1,
            PeerMessage::NeedPrepares { view, have, upto } => self.on_need_prepares(from, view, have, upto),
            PeerMessage::Stable { view, op } => self.on_stable(from, view, op),
            PeerMessage::Suspect { view } => self.on_suspect(from, view),
            PeerMessage::StartViewChange { view } => self.on_start_view_change(from, view),
            PeerMessage::DoViewChange { view, vote } => self.on_do_view_change(from, view, vote),
            PeerMessage::Fetching { view } => self.on_fetching(from, view),
            PeerMessage::StartView { view, start } => self.on_start_view(from, view, start),
            PeerMessage::AskStartView { view } if view <= self.view => self.tell_start(from),
            PeerMessage::AskStartView { view } => self.on_newer_view(now, view),
            PeerMessage::Recovery { nonce, view } => self.on_recovery(from, nonce, view),
            PeerMessage::RecoveryResponse { nonce, view, start } => {
                self.on_recovery_response(from, nonce, view, start);
            }
            PeerMessage::NotNormal { nonce, recovering } => self.on_not_normal(from, nonce, recovering),
            PeerMessage::GetState { view, after, upto } => self.on_get_state(from, view, after, upto),
            PeerMessage::NewState { view, ordered_in, first, last, payload } => {
                // A copy: the datagram's buffer is larger than the batch.
                let payload = self.payloads.copy(&payload);
                self.on_new_state(from, view, LogEntry { view: ordered_in, first, last, payload });
            }
            PeerMessage::StateGone { view, oldest } => self.on_state_gone(from, view, oldest),
            PeerMessage::GetSnapshot { op, offset } => self.on_get_snapshot(from, op, offset),
            PeerMessage::SnapshotChunk { view, op, total_bytes, offset, bytes } => {
                self.on_snapshot_chunk(from, Chunk { view, op, total_bytes, offset, bytes });
            }
        }
    }

    /// The current view.
    pub fn view(&self) -> View {
        self.view
    }

    /// Leader of the current view.
    pub fn leader(&self) -> ReplicaId {
        leader_of(self.view, self.config.members)
    }

    /// Whether this replica leads the current view with an open gate.
    pub fn is_leading(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Last op that is committed and held.
    pub fn commit(&self) -> OpNumber {
        self.commit
    }

    /// Last op applied: what the fast path may forget (F6).
    pub fn applied(&self) -> OpNumber {
        self.applied
    }

    /// The configuration.
    pub fn config(&self) -> &ReplicaConfig {
        &self.config
    }

    /// Everything that can be said in numbers.
    pub fn status(&self) -> Status {
        Status {
            id: self.config.me,
            view: self.view,
            last_normal_view: self.last_normal_view,
            role: match self.role {
                Role::Forming(_) => RoleName::Forming,
                Role::Leader(_) => RoleName::Leader,
                Role::Follower(_) => RoleName::Follower,
                Role::Freezing(_) | Role::ViewChange(_) => RoleName::ViewChange,
                Role::Recovering(_) => RoleName::Recovering,
                Role::Stopped => RoleName::Stopped,
            },
            leader: self.leader(),
            last_op: self.log.last_op(),
            commit: self.commit,
            applied: self.applied,
            digest: self.service.digest(),
            log_first_op: self.log.first_op(),
            log_bytes: self.log.payload_bytes() as u64,
            keys: self.service.keys() as u64,
            client_sessions: self.service.client_sessions() as u64,
            counters: self.counters,
        }
    }

    /// Time never goes back, whatever the driver's clock does.
    fn advance(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// Whether a rule is broken on purpose.
    fn planted(&self, plant: Plant) -> bool {
        self.config.plants.has(plant)
    }

    /// The log, to look at.
    pub fn log(&self) -> &Log {
        &self.log
    }

    fn send_to_others(&mut self, message: &PeerMessage) {
        for to in ReplicaSet::all(self.config.members).without(self.config.me).iter() {
            self.outbox.send(to, message.clone());
        }
    }

    /// Keeps the log within its bound. Whoever misses what is forgotten gets a snapshot.
    fn shrink_log(&mut self) {
        let bytes_max = self.config.log_bytes_max;
        // What follows a snapshot that is being given away is kept, or a large one would be out of date before it
        // is there, again and again. But not at any price: no more than the snapshot itself takes.
        let kept = self.donor.keeps_after().unwrap_or(self.applied).min(self.applied);
        self.log.shrink_to(bytes_max, kept);
        let snapshot_bytes = self.donor.snapshot_bytes(self.service.state_bytes());
        self.log.shrink_to(bytes_max.saturating_add(bytes_max.max(snapshot_bytes)), self.applied);
    }

    /// Ends this replica. The gate is the driver's to freeze: it stops the process.
    fn stop(&mut self, reason: Fatal) {
        self.role = Role::Stopped;
        self.outbox.push(Action::Fatal(reason));
    }
}

/// VR section 4: the leader of a view is known from its number.
pub fn leader_of(view: View, members: usize) -> ReplicaId {
    ReplicaId((view.0 % members as u64) as u8)
}
