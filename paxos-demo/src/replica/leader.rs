//! The leader in normal operation: requests become ops, ops become Prepares, quorums become replies.

use super::contact::Contact;
use super::reads::Read;
use super::resend::Resender;
use super::{Action, Intent, NEVER, Replica, ReplicaConfig, Role};
use crate::batcher::{Batcher, Batching};
use crate::client_table::Lookup;
use crate::in_flight::{InFlight, InFlightLookup};
use crate::large::{Assemblies, Results};
use crate::log::LogEntry;
use crate::message::{ClientReply, ClientRequest, ReplyStatus};
use crate::peer::{PeerMessage, ViewStart};
use crate::plant::Plant;
use crate::session::READ;
use crate::state_machine::{Command, fitting};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Batches in flight before more parts of a long command leave. They are full as they are, so nothing is gained
/// by waiting, and a follower's buffers hold them.
const PIPELINE_PARTS: usize = 32;

/// What only a leader has. It is made when the gate opens and dies with the leadership.
#[derive(Debug)]
pub(super) struct Leader {
    /// How the view began (VR section 4.2, StartView).
    pub(super) start: ViewStart,
    pub(super) batcher: Batcher,
    pub(super) in_flight: InFlight,
    pub(super) reads: VecDeque<Read>,
    pub(super) reads_bytes: usize,
    /// When proven reads that were too many for one step are answered.
    pub(super) reads_at: u64,
    /// Requests that arrive in parts.
    pub(super) assemblies: Assemblies,
    /// Results that leave in parts.
    pub(super) results: Results,
    /// Last op of each batch that is not committed.
    pub(super) rounds: VecDeque<OpNumber>,
    /// Since when ops wait for a quorum and none of them got it; not at all if none waits.
    stuck_since: u64,
    /// When a member was last given what it misses: a quorum may depend on that, however long it takes.
    pub(super) helped_at: u64,
    pub(super) contact: Contact,
    /// Last op that has its quorum; what of it is committed depends on the own log, too (L4).
    pub(super) quorum: OpNumber,
    pub(super) resender: Resender,
    /// When the followers are told of a commit that no Prepare took along.
    pub(super) notice_at: u64,
    /// When the followers hear from this leader again, whatever happens.
    heartbeat_at: u64,
    /// Last op that the followers were told to be everywhere.
    told_stable: OpNumber,
    /// When the log is looked through for what can be forgotten.
    housekeeping_at: u64,
    /// What was written on the last batch, in milliseconds, and when.
    clock: Option<(u64, u64)>,
}

impl Leader {
    pub(super) fn new(now: u64, config: &ReplicaConfig, view: View, last_op: OpNumber) -> Self {
        Self {
            start: ViewStart { origin: view, length: last_op, last_op, commit: OpNumber(0) },
            batcher: Batcher::new(config.batching, config.batch_bytes_max()),
            in_flight: InFlight::default(),
            reads: VecDeque::new(),
            reads_bytes: 0,
            reads_at: NEVER,
            assemblies: Assemblies::default(),
            results: Results::default(),
            rounds: VecDeque::new(),
            stuck_since: NEVER,
            helped_at: 0,
            contact: Contact::new(now, config),
            quorum: OpNumber(0),
            resender: Resender::new(config, last_op),
            notice_at: NEVER,
            heartbeat_at: now + config.heartbeat_ns,
            told_stable: OpNumber(0),
            housekeeping_at: NEVER,
            clock: None,
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        let told = self.notice_at.min(self.heartbeat_at).min(self.contact.deadline()).min(self.reads_at);
        told.min(self.housekeeping_at).min(self.resender.deadline())
    }

    /// A member is given what it misses. Its question may be an old one that somebody sends again: what counts is
    /// when it was really heard.
    pub(super) fn helped(&mut self, member: ReplicaId) {
        self.helped_at = self.helped_at.max(self.contact.heard_at(member));
    }

    /// The packet that leaves now tells the followers what is committed.
    fn told(&mut self, now: u64, config: &ReplicaConfig) {
        self.notice_at = NEVER;
        self.heartbeat_at = now + config.heartbeat_ns;
    }
}

impl Replica {
    /// A client's request arrived.
    pub fn on_request(&mut self, now: u64, from: SocketAddr, request: ClientRequest<'_>) {
        self.advance(now);
        self.counters.requests += 1;
        match &self.role {
            Role::Leader(_) => {
                self.lead_request(from, request);
            }
            _ => self.turn_down(from, request),
        }
    }

    /// Only a leader serves.
    pub(super) fn turn_down(&mut self, from: SocketAddr, request: ClientRequest<'_>) {
        match &self.role {
            Role::Leader(_) => {}
            Role::Follower(_) => {
                self.counters.requests_not_leader += 1;
                self.answer(from, request, ReplyStatus::NotLeader);
            }
            Role::Forming(_) | Role::Freezing(_) | Role::ViewChange(_) | Role::Recovering(_) => {
                self.counters.requests_try_again += 1;
                self.answer(from, request, ReplyStatus::TryAgain);
            }
            Role::Stopped => self.counters.ignored += 1,
        }
    }

    /// The library counted a quorum for every op up to `op` (L4), this replica's own vote included.
    pub fn on_quorum(&mut self, now: u64, op: OpNumber) {
        self.advance(now);
        let Role::Leader(leader) = &mut self.role else {
            self.counters.ignored += 1;
            return;
        };
        debug_assert!(op <= self.log.last_op(), "a quorum for an op that was never prepared");
        leader.quorum = leader.quorum.max(op.min(self.log.last_op()));
        let quorum = leader.quorum;
        self.commit_upto(quorum);
    }

    /// A quorum of others holds every op up to `quorum`; this replica's own vote is what it has stored (L4).
    pub(super) fn commit_upto(&mut self, quorum: OpNumber) {
        let Role::Leader(leader) = &mut self.role else { return };
        let commit = if self.config.durable { quorum.min(self.durable) } else { quorum };
        if commit <= self.commit {
            return;
        }
        self.commit = commit;
        while leader.rounds.front().is_some_and(|last| *last <= commit) {
            leader.rounds.pop_front();
        }
        leader.stuck_since = if leader.rounds.is_empty() { NEVER } else { self.now };
        if leader.notice_at == NEVER {
            leader.notice_at = self.now + self.config.commit_notice_delay_ns;
        }
        self.apply_committed();
        self.answer_reads();
    }

    /// The library's highest acknowledgement of a member; to be passed before a tick.
    pub fn on_acked(&mut self, peer: ReplicaId, op: OpNumber) {
        if let Role::Leader(leader) = &mut self.role
            && leader.resender.acked(peer, op.min(self.log.last_op()))
        {
            leader.contact.hear(self.now, peer);
        }
    }

    /// A request arrived at the leader, and all of it is there. Whether the same is to be tried again later.
    pub(super) fn lead_request(&mut self, from: SocketAddr, request: ClientRequest<'_>) -> bool {
        let ClientRequest { client, request: number, command, .. } = request;
        // Client 0 is the leader's own (no-ops).
        let fits = number != 0 && client != 0 && command.len() <= self.config.command_bytes_max();
        match Command::parse(command) {
            Ok(command) if fits && command.is_read() => {
                self.lead_read(from, request);
                return false;
            }
            // Numbers of reads are not for writes: a session would skip over those between.
            Ok(_) if fits && number & READ == 0 => {}
            _ => {
                self.counters.requests_bad += 1;
                self.answer(from, request, ReplyStatus::BadRequest);
                return false;
            }
        }
        if !self.is_new(from, request) {
            return false;
        }
        let Role::Leader(leader) = &mut self.role else { return false };
        // One bound for what waits and what is in flight: the round slots of the fast path (L1).
        let uncommitted = self.log.last_op().0 - self.commit.0 + leader.batcher.queued_ops();
        if uncommitted + leader.batcher.ops_of(command) as u64 > self.config.window_ops {
            self.counters.requests_try_again += 1;
            self.answer(from, request, ReplyStatus::TryAgain);
            return true;
        }
        self.counters.requests_accepted += 1;
        leader.batcher.push_request(client, number, command);
        leader.in_flight.insert(client, number, from);
        if self.planted(Plant::B4) {
            self.accepted.insert(client, number);
        }
        false
    }

    /// Whether a write was not seen before. If it was, it is answered as far as there is an answer.
    pub(super) fn is_new(&mut self, from: SocketAddr, request: ClientRequest<'_>) -> bool {
        let ClientRequest { client, request: number, .. } = request;
        if self.planted(Plant::B4) && self.accepted.get(&client).is_some_and(|accepted| *accepted >= number) {
            self.counters.requests_stale += 1;
            return false;
        }
        let Role::Leader(leader) = &mut self.role else { return false };

        // What is in flight is newer than what the table knows, so it is asked first.
        match leader.in_flight.lookup(client, number, from) {
            InFlightLookup::Newer => return true,
            InFlightLookup::Duplicate => self.counters.requests_in_flight += 1,
            InFlightLookup::Stale => self.counters.requests_stale += 1,
            InFlightLookup::Absent => match self.service.lookup(client, number) {
                Lookup::New => return true,
                Lookup::Unknown if number == 1 => return true,
                // What was inherited may hold the session's first request; it is not applied yet.
                Lookup::Unknown if self.applied < leader.start.length => {
                    self.counters.requests_try_again += 1;
                    self.answer(from, request, ReplyStatus::TryAgain);
                }
                Lookup::Unknown => {
                    self.counters.requests_session_unknown += 1;
                    self.answer(from, request, ReplyStatus::SessionUnknown);
                }
                Lookup::Stale => self.counters.requests_stale += 1,
                Lookup::Cached(result) => {
                    self.counters.requests_cached += 1;
                    let (status, leader, view) = (ReplyStatus::Ok, self.config.me, self.view);
                    let result = fitting(result, self.config.part_bytes_max());
                    let ClientRequest { attempt, .. } = request;
                    let reply =
                        ClientReply { status, leader, view, client, request: number, attempt, result };
                    self.outbox.reply(from, &reply);
                }
            },
        }
        false
    }

    /// The time that is written on a batch: the leader's clock, but the replicated one never goes back, and it
    /// goes on where the leader's is behind it. Otherwise nothing would expire until that had caught up.
    fn replicated_time_ms(&mut self) -> u64 {
        let (now, wall, replicated) = (self.now, self.wall_clock_ms, self.service.clock_ms());
        let Role::Leader(leader) = &mut self.role else { return replicated };
        let (at, time_ms) = leader.clock.get_or_insert((now, replicated));
        // Whole milliseconds only, or looking often would stop it.
        let passed = (now - *at) / 1_000_000;
        *at += passed * 1_000_000;
        *time_ms = time_ms.saturating_add(passed).max(wall).max(replicated);
        *time_ms
    }

    /// Turns waiting requests into Prepares, as far as the pipeline has room.
    pub(super) fn prepare_waiting(&mut self) {
        self.barrier_for_reads();
        let pipeline = match self.config.batching {
            Batching::Auto => self.config.pipeline_batches,
            // The window bounds it.
            Batching::One => usize::MAX,
        };
        let time_ms = self.replicated_time_ms();
        while let Role::Leader(leader) = &mut self.role
            && leader.rounds.len()
                < if leader.batcher.next_holds_part() { pipeline.max(PIPELINE_PARTS) } else { pipeline }
            && let Some(batch) = leader.batcher.take(time_ms)
        {
            let first = self.log.last_op().next();
            let last = OpNumber(first.0 + batch.ops - 1);
            let entry = LogEntry { view: self.view, first, last, payload: batch.payload.clone() };
            self.log.append(entry.clone()).expect("numbered to continue the log");
            leader.rounds.push_back(last);
            leader.stuck_since = leader.stuck_since.min(self.now);
            leader.resender.sent(self.now);
            leader.told(self.now, &self.config);
            if leader.housekeeping_at == NEVER {
                leader.housekeeping_at = self.now + self.config.heartbeat_ns;
            }
            self.counters.prepares += 1;
            self.outbox.push(Action::Prepare { first, last, commit: self.commit, payload: batch.payload });
            self.store(&entry);
        }
    }

    pub(super) fn leader_tick(&mut self) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        if now >= leader.reads_at {
            self.answer_reads();
        }
        let Role::Leader(leader) = &mut self.role else { return };
        leader.assemblies.expire(now);
        leader.results.expire(now);
        self.counters.resends += leader.resender.tick(now, &self.log, self.commit, &mut self.outbox);
        if now >= leader.notice_at || now >= leader.heartbeat_at {
            leader.told(now, &self.config);
            self.counters.commit_notices += 1;
            self.outbox.push(Action::CommitNotice { commit: self.commit });
        }
        let (question, lost) = leader.contact.tick(now, &self.config);
        // A quorum of others is waited for, and who gets help may be part of it; not if the own disk is what is slow.
        let others_wait = self.config.durable && self.durable < leader.quorum;
        let waits_since = leader.stuck_since.max(if others_wait { 0 } else { leader.helped_at });
        let stuck = now >= waits_since.saturating_add(self.config.step_down_ns);
        if now >= leader.housekeeping_at {
            self.forget_prefix();
        }
        if let Some(question) = question {
            self.send_to_others(&question);
        }
        // It may be heard and not hear, and then nobody else would end its view. With two members nobody could begin
        // the next one either, and the other may need this one to recover.
        if (stuck || lost) && self.config.members > 2 {
            self.counters.steps_down += 1;
            let view = self.view.next();
            self.freeze_for(Intent::ChangeView { view, suspicion: false });
        }
    }

    /// Forgets what every member holds, tells the members, and keeps the log within its bound.
    fn forget_prefix(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let stable = leader.resender.acked_by_all().min(self.applied);
        let kept = self.donor.keeps_after().unwrap_or(stable);
        self.log.truncate_prefix(stable.min(kept));
        if stable > leader.told_stable {
            leader.told_stable = stable;
            for peer in ReplicaSet::all(self.config.members).without(self.config.me).iter() {
                self.outbox.send(peer, PeerMessage::Stable { view: self.view, op: stable });
            }
        }
        self.shrink_log();
        let Role::Leader(leader) = &mut self.role else { return };
        let done = self.log.is_empty();
        leader.housekeeping_at = if done { NEVER } else { self.now + self.config.heartbeat_ns };
    }

    /// A follower misses batches and knows it: it gets them at once, without waiting for the resend timer.
    pub(super) fn on_need_prepares(&mut self, from: ReplicaId, view: View, have: OpNumber, upto: OpNumber) {
        let Role::Leader(leader) = &mut self.role else {
            self.counters.ignored += 1;
            return;
        };
        if view != self.view {
            self.counters.ignored += 1;
            return;
        }
        leader.helped(from);
        let oldest = self.log.first_op();
        if have.next() < oldest {
            return self.outbox.send(from, PeerMessage::StateGone { view, oldest });
        }
        self.counters.repairs +=
            leader.resender.repair(self.now, from, have, upto, &self.log, self.commit, &mut self.outbox);
    }

    /// The copies of a broadcast that ended in `op` did not leave for these members (L7): they get it at once.
    pub fn on_missed(&mut self, op: OpNumber, targets: ReplicaSet) {
        let (Role::Leader(_), Some(entry)) = (&self.role, self.log.get(op)) else { return };
        let (first, last, payload) = (entry.first, entry.last, entry.payload.clone());
        self.counters.repairs += 1;
        self.outbox.push(Action::Resend { first, last, commit: self.commit, payload, targets });
    }

    pub(super) fn answer(&mut self, to: SocketAddr, request: ClientRequest<'_>, status: ReplyStatus) {
        let ClientRequest { client, request, attempt, .. } = request;
        let (leader, view) = (self.leader(), self.view);
        self.outbox.reply(to, &ClientReply { status, leader, view, client, request, attempt, result: &[] });
    }
}
