//! The follower in normal operation: it applies what its leader ordered, and asks for what is missing.
//!
//! The fast path has logged and acknowledged before this code runs; what it cannot do is to know that
//! something was lost. Gaps are normal (a packet overtook another), so asking costs no timeout: the first
//! sign of a gap asks, and each arrival that completes an answer asks for the next part.

use super::{Fatal, NEVER, Replica, Role};
use crate::arena::Arena;
use crate::log::LogEntry;
use crate::peer::{PeerMessage, Refusal};
use electrode::types::{OpNumber, ReplicaId, View};

/// What only a follower has.
#[derive(Debug)]
pub(super) struct Follower {
    payloads: Arena,
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
    /// The leader said that its log begins here, later than what this one misses; and where this log ended.
    refused: Option<(OpNumber, OpNumber)>,
}

impl Follower {
    pub(super) fn new(commit: OpNumber, retry_ns: u64) -> Self {
        Self {
            payloads: Arena::default(),
            commit_heard: commit,
            exists: OpNumber(0),
            asked_upto: OpNumber(0),
            ask_at: NEVER,
            retry_ns,
            stable: OpNumber(0),
            refused: None,
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        self.ask_at
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
        let Role::Follower(follower) = &mut self.role else {
            self.counters.ignored += 1;
            return;
        };
        if view != self.view {
            self.counters.ignored += 1;
            return;
        }
        let payload = follower.payloads.copy(payload);
        if let Err(error) = self.log.append(LogEntry { view, first, last, payload }) {
            return self.stop(error.into());
        }
        self.counters.batches_logged += 1;
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

    /// The leader says that it no longer has what was asked for. That may answer a late copy of an old
    /// question, and what is missing here may be in the kernel's log, not yet handed over. So it is the end
    /// only if nothing comes for a while.
    pub(super) fn on_log_truncated(&mut self, from: ReplicaId, oldest: OpNumber) {
        let by_leader = from == self.leader();
        match &mut self.role {
            Role::Follower(follower) if by_leader && self.log.last_op().next() < oldest => {
                follower.refused = Some((oldest, self.log.last_op()));
                follower.ask_at = follower.ask_at.min(self.now + self.config.repair_retry_ns);
            }
            _ => self.counters.ignored += 1,
        }
    }

    pub(super) fn follower_tick(&mut self) {
        let Role::Follower(follower) = &mut self.role else { return };
        if self.now >= follower.ask_at {
            if let Some((oldest, end)) = follower.refused.take()
                && end == self.log.last_op()
            {
                let reason = Refusal::LogTruncated { oldest };
                return self.stop(Fatal::TurnedAway { by: self.leader(), reason });
            }
            follower.retry_ns = (follower.retry_ns * 2).min(self.config.resend_max_ns);
            self.ask_for_missing();
        }
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
        let upto = follower.exists.min(OpNumber(have.0 + self.config.repair_ops));
        follower.asked_upto = upto;
        follower.ask_at = self.now + follower.retry_ns;
        self.counters.repairs_asked += 1;
        self.outbox.send(leader, PeerMessage::NeedPrepares { view: self.view, have, upto });
    }

    /// Applies what is both committed and held (F10). What is committed and not held is missing.
    fn hear_commit(&mut self, commit: OpNumber) {
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
            self.log.shrink_to(self.config.log_bytes_max, self.applied);
        }
    }
}
