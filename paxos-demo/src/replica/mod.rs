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
//! count of a quorum arrive as facts. What is left is Viewstamped Replication: `leader` turns requests into
//! ops, `follower` applies what the leader ordered, `formation` finds the members. One file each; this
//! one holds what they share. Leader failure is not handled yet, but everything that depends on the view
//! takes it from [`Replica::view`].

mod action;
mod config;
mod follower;
mod formation;
mod leader;
mod resend;
#[cfg(test)]
mod tests;

pub use action::{Action, BatchFlaw, Fatal, GateRole, Warning};
pub use config::{CLIENT_SESSIONS_MAX, ReplicaConfig, ReplicaConfigError, WINDOW_OPS};

use crate::batch;
use crate::log::{Log, LogEntry};
use crate::message::{ClientReply, ReplyStatus};
use crate::peer::PeerMessage;
use crate::service::Service;
use crate::state_machine::fitting;
use crate::status::{Counters, RoleName, Status};
use action::Outbox;
use electrode::types::{OpNumber, ReplicaId, View};
use follower::Follower;
use formation::Formation;
use leader::Leader;

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

/// What a replica does in its view.
#[derive(Debug)]
enum Role {
    Forming,
    Leader(Box<Leader>),
    Follower(Follower),
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
    outbox: Outbox,
    counters: Counters,
}

impl Replica {
    /// A replica without state that starts looking for its peers.
    pub fn new(now: u64, config: ReplicaConfig) -> Result<Self, ReplicaConfigError> {
        config.validate()?;
        let mut replica = Self {
            now,
            wall_clock_ms: 0,
            view: View(0),
            last_normal_view: View(0),
            role: Role::Forming,
            formation: Formation::new(now, &config),
            log: Log::default(),
            commit: OpNumber(0),
            applied: OpNumber(0),
            service: Service::new(config.client_sessions_max),
            outbox: Outbox::default(),
            counters: Counters::default(),
            config,
        };
        replica.formation_tick();
        Ok(replica)
    }

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
            Role::Forming => NEVER,
            Role::Leader(leader) => leader.deadline(),
            Role::Follower(follower) => follower.deadline(),
        };
        let deadline = role.min(self.formation.deadline());
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
        match self.role {
            Role::Leader(_) => self.leader_tick(),
            Role::Follower(_) => self.follower_tick(),
            Role::Forming | Role::Stopped => {}
        }
    }

    /// A message of another member arrived; `from` and `incarnation` are those of the packet's header.
    pub fn on_peer_message(&mut self, now: u64, from: ReplicaId, incarnation: u32, message: PeerMessage) {
        self.advance(now);
        let stranger = from.index() >= self.config.members || from == self.config.me || incarnation == 0;
        if stranger || matches!(self.role, Role::Stopped) {
            self.counters.ignored += 1;
            return;
        }
        match message {
            PeerMessage::Hello { config_hash } => self.on_hello(from, incarnation, config_hash),
            PeerMessage::Welcome { config_hash, incarnation: mine } => {
                self.on_welcome(from, incarnation, config_hash, mine);
            }
            PeerMessage::Refused { incarnation: mine, reason } => self.on_refused(from, mine, reason),
            // What follows is only for those who introduced themselves: a late message of an earlier life
            // says nothing about this one.
            _ if self.formation.incarnation(from) != Some(incarnation) => self.counters.ignored += 1,
            PeerMessage::NeedPrepares { view, have, upto } => self.on_need_prepares(from, view, have, upto),
            PeerMessage::Stable { view, op } => self.on_stable(from, view, op),
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
                Role::Forming => RoleName::Forming,
                Role::Leader(_) => RoleName::Leader,
                Role::Follower(_) => RoleName::Follower,
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

    /// Applies committed ops in order; a leader answers whoever waits for them.
    fn apply_committed(&mut self) {
        while self.applied < self.commit {
            let next = self.applied.next();
            let entry = self.log.get(next).expect("only applied ops are forgotten").clone();
            if let Err(flaw) = self.apply_batch(&entry) {
                let LogEntry { view, first, last, .. } = entry;
                return self.stop(Fatal::MalformedBatch { view, first, last, flaw });
            }
        }
    }

    /// Applies what is committed and not yet applied of one batch.
    fn apply_batch(&mut self, batch: &LogEntry) -> Result<(), BatchFlaw> {
        let upto = batch.last.min(self.commit);
        let mut op = batch.first;
        let (time_ms, entries) = batch::open(&batch.payload)?;
        for entry in entries {
            let entry = entry?;
            if op > batch.last {
                return Err(BatchFlaw::Count);
            }
            if op > upto {
                break;
            }
            if op > self.applied {
                let result = self.service.apply(op, time_ms, entry);
                self.applied = op;
                self.counters.ops_applied += 1;
                if let Role::Leader(leader) = &mut self.role
                    && let Some(to) = leader.in_flight.complete(entry.client, entry.request)
                    && let Some(result) = result
                {
                    let reply = ClientReply {
                        status: ReplyStatus::Ok,
                        leader: self.config.me,
                        view: self.view,
                        client: entry.client,
                        request: entry.request,
                        result: fitting(result, self.config.command_bytes_max()),
                    };
                    self.outbox.reply(to, &reply);
                }
            }
            op = op.next();
        }
        if self.applied < upto { Err(BatchFlaw::Count) } else { Ok(()) }
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
