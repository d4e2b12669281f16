//! The follower in normal operation: it applies what its leader ordered, and asks for what is missing.
//!
//! The fast path has logged and acknowledged before this code runs; what it cannot do is to know that
//! something was lost. Gaps are normal (a packet overtook another), so asking costs no timeout: the first
//! sign of a gap asks, and each arrival that completes an answer asks for the next part.

use super::fetch::{Chunk, Progress, SnapshotFetch};
use super::install::Refused;
use super::suspicion::Silence;
use super::{Action, GateRole, Intent, NEVER, Replica, ReplicaConfig, Role};
use crate::log::LogEntry;
use crate::peer::PeerMessage;
use crate::plant::Plant;
use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};

/// What only a follower has.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) silence: Silence,
    /// A snapshot on its way, because the leader's log begins too late.
    catch_up: Option<SnapshotFetch>,
    /// Highest commit number heard; what of it is held is `Replica::commit`.
    commit_heard: OpNumber,
    /// Highest op known to exist. Beyond the log: something is missing.
    exists: OpNumber,
    /// Last op asked for; once it arrives, the next question is due. 0: no question is open.
    asked_upto: OpNumber,
    /// When to ask (again), unless there is progress.
    ask_at: u64,
    /// Current time between two questions without an answer.
    retry_ns: u64,
    /// Every member holds this op: the log may forget what is applied of it.
    stable: OpNumber,
}

impl Follower {
    pub(super) fn new(now: u64, commit: OpNumber, config: &ReplicaConfig) -> Self {
        Self {
            silence: Silence::new(now, config.leader_timeout_ns),
            catch_up: None,
            commit_heard: commit,
            exists: OpNumber(0),
            asked_upto: OpNumber(0),
            ask_at: NEVER,
            retry_ns: config.repair_retry_ns,
            stable: OpNumber(0),
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        self.ask_at.min(self.silence.deadline())
    }
}

impl Replica {
    /// The fast path logged a batch of the view's leader: contiguous, in order and acknowledged.
    pub fn on_logged(
        &mut self,
        now: u64,
        view: View,
        first: OpNumber,
        last: OpNumber,
        commit: OpNumber,
        payload: &[u8],
    ) {
        self.advance(now);
        if view != self.view || !matches!(self.role, Role::Follower(_) | Role::Freezing(_)) {
            self.counters.ignored += 1;
            return;
        }
        let payload = self.payloads.copy(payload);
        let entry = LogEntry { view, first, last, payload };
        if let Err(error) = self.log.append(entry.clone()) {
            return self.stop(error.into());
        }
        self.counters.batches_logged += 1;
        self.store(&entry);
        // Freezing: what the gate acknowledged belongs to the log, whatever comes next (U2).
        let Role::Follower(follower) = &mut self.role else { return };
        if follower.ask_at != NEVER {
            let answered = follower.asked_upto > OpNumber(0) && last >= follower.asked_upto;
            if answered || last >= follower.exists {
                self.ask_for_missing();
            } else {
                // It flows: a long log is handed over in parts, an answer comes in many packets.
                follower.retry_ns = self.config.repair_retry_ns;
                follower.ask_at = self.now + follower.retry_ns;
            }
        }
        self.hear_commit(commit);
    }

    /// The highest commit number heard from the view's leader.
    pub fn on_commit(&mut self, view: View, commit: OpNumber) {
        if view != self.view || !matches!(self.role, Role::Follower(_)) {
            self.counters.ignored += 1;
            return;
        }
        self.hear_commit(commit);
    }

    /// Ops `have + 1 ..= seen` are missing: something later has arrived.
    pub fn on_gap(&mut self, now: u64, have: OpNumber, seen: OpNumber) {
        self.advance(now);
        let Role::Follower(follower) = &mut self.role else {
            self.counters.ignored += 1;
            return;
        };
        // An unanswered question covers the front of the gap; its answer triggers the next one.
        let asked = follower.asked_upto > have.max(self.log.last_op());
        follower.exists = follower.exists.max(seen);
        if !asked {
            self.ask_for_missing();
        }
    }

    /// The leader says that every member holds these ops: nobody will ask for them.
    pub(super) fn on_stable(&mut self, from: ReplicaId, view: View, op: OpNumber) {
        let by_leader = from == self.leader() && view == self.view;
        match &mut self.role {
            Role::Follower(follower) if by_leader => {
                follower.stable = follower.stable.max(op);
                self.log.truncate_prefix(follower.stable.min(self.applied));
            }
            _ => self.counters.ignored += 1,
        }
    }

    pub(super) fn follower_tick(&mut self) {
        let Role::Follower(follower) = &mut self.role else { return };
        if self.now >= follower.ask_at {
            follower.retry_ns = (follower.retry_ns * 2).min(self.config.resend_max_ns);
            self.ask_for_missing();
        }
        self.suspicion_tick();
    }

    /// Asks the leader for the first part of what is missing; does nothing if nothing is.
    fn ask_for_missing(&mut self) {
        let (leader, have) = (self.leader(), self.log.last_op());
        let Role::Follower(follower) = &mut self.role else { return };
        if follower.exists <= have {
            follower.ask_at = NEVER;
            follower.asked_upto = OpNumber(0);
            follower.retry_ns = self.config.repair_retry_ns;
            return;
        }
        if let Some(snapshot) = &mut follower.catch_up {
            follower.ask_at = self.now + follower.retry_ns;
            return snapshot.ask(leader, &mut self.outbox);
        }
        let upto = follower.exists.min(OpNumber(have.0 + self.config.repair_ops));
        follower.asked_upto = upto;
        follower.ask_at = self.now + follower.retry_ns;
        self.counters.repairs_asked += 1;
        self.outbox.send(leader, PeerMessage::NeedPrepares { view: self.view, have, upto });
    }

    /// Applies what is both committed and held (F10). What is committed and not held is missing.
    pub(super) fn hear_commit(&mut self, commit: OpNumber) {
        let Role::Follower(follower) = &mut self.role else { return };
        follower.commit_heard = follower.commit_heard.max(commit);
        follower.exists = follower.exists.max(follower.commit_heard);
        if follower.exists > self.log.last_op() && follower.ask_at == NEVER {
            // The Prepare may just have been overtaken, or wait in the kernel's log: give it a moment.
            follower.ask_at = self.now + follower.retry_ns;
        }
        let commit = follower.commit_heard.min(self.log.last_op());
        if commit > self.commit {
            let stable = follower.stable;
            self.commit = commit;
            self.apply_committed();
            self.log.truncate_prefix(stable.min(self.applied));
            self.shrink_log();
        }
    }

    /// The leader's log begins later than what is missing here: its snapshot has it. (If that answers a late
    /// copy of an old question, the snapshot will bring nothing new, and is dropped.)
    pub(super) fn begin_catch_up(&mut self, from: ReplicaId, view: View, oldest: OpNumber) {
        let by_leader = from == self.leader() && view == self.view;
        match &mut self.role {
            Role::Follower(follower) if by_leader && self.log.last_op().next() < oldest => {
                if follower.catch_up.is_none() {
                    follower.catch_up = Some(SnapshotFetch::default());
                    follower.exists = follower.exists.max(OpNumber(oldest.0 - 1));
                    follower.retry_ns = self.config.repair_retry_ns;
                    self.ask_for_missing();
                }
            }
            _ => self.counters.ignored += 1,
        }
    }

    /// Part of the snapshot that this follower asked for.
    pub(super) fn on_catch_up_chunk(&mut self, chunk: &Chunk) {
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(snapshot) = &mut follower.catch_up else { return };
        match snapshot.on_chunk(chunk) {
            Progress::None => {}
            Progress::Some => {
                follower.retry_ns = self.config.repair_retry_ns;
                follower.ask_at = self.now + follower.retry_ns;
            }
            Progress::AskNext => {
                follower.retry_ns = self.config.repair_retry_ns;
                self.ask_for_missing();
            }
            Progress::Complete(bytes) => {
                follower.catch_up = None;
                if chunk.op > self.log.last_op() || self.planted(Plant::P5) {
                    self.freeze_for(Intent::CatchUp { op: chunk.op, snapshot: bytes });
                } else {
                    self.ask_for_missing();
                }
            }
        }
    }

    /// Gate frozen and drained: the snapshot takes the place of a log that ends before it. Of committed ops
    /// only, so nothing is lost (U6: a state of the same view only appends).
    pub(super) fn catch_up(&mut self, op: OpNumber, snapshot: Bytes) {
        let short = self.planted(Plant::P5) && op > self.applied;
        if op > self.log.last_op() || short {
            match self.restore(op, &snapshot) {
                Ok(service) => {
                    self.service = service;
                    (self.applied, self.commit) = (op, op);
                    self.log.reset(op);
                    self.counters.catch_ups += 1;
                }
                // Its log is as it was: the gap shows again, and the leader is asked again.
                Err(Refused::Again) => return self.open_gate(GateRole::Follow),
                Err(Refused::Stopped) => return,
            }
            let (keep, snapshot, entries) = (OpNumber(0), Some((op, snapshot)), Vec::new());
            let view = self.view;
            self.outbox.push(Action::InstallLog { view, keep, snapshot, entries });
            if self.config.durable {
                self.durable = op;
            }
        }
        self.open_gate(GateRole::Follow);
    }
}
