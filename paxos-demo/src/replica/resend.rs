//! Who misses what, and when it is sent again (L6).
//!
//! The leader knows of each member the highest op that it acknowledged; acknowledgements are cumulative, so
//! that is all there is to know. A member that is behind and makes no progress for `resend_ns` gets the
//! batches that it misses. If even that brings no progress it is silent, perhaps dead: it gets a probe of a
//! few batches at growing intervals. Whoever asks gets an answer at once ([`Resender::repair`]).
//!
//! A batch leaves the log as it went in, so a resend is identical to the first send.

use super::action::Outbox;
use super::{Action, NEVER, ReplicaConfig};
use crate::log::Log;
use electrode::abi::MEMBERS_MAX;
use electrode::types::{OpNumber, ReplicaId, ReplicaSet};

#[derive(Copy, Clone, Debug)]
struct Progress {
    /// Introduced itself; before that it holds nothing and its gate is closed.
    known: bool,
    /// Highest op acknowledged in this view.
    acked: OpNumber,
    /// `acked` grew since `due` was set.
    progressed: bool,
    /// When the missing batches are sent again.
    due: u64,
    /// Current interval between resends.
    interval_ns: u64,
    /// Last op sent on request, and when.
    repaired: OpNumber,
    repaired_at: u64,
}

#[derive(Debug)]
pub(super) struct Resender {
    peers: Vec<Progress>,
    me: ReplicaId,
    interval_ns: u64,
    interval_max_ns: u64,
    quiet_ns: u64,
    batches: usize,
    repair_batches: usize,
    probe_batches: usize,
    /// Last op with which the view began: whoever entered the view holds it.
    inherited: OpNumber,
}

impl Resender {
    pub(super) fn new(config: &ReplicaConfig, inherited: OpNumber) -> Self {
        let peer = Progress {
            known: false,
            acked: OpNumber(0),
            progressed: false,
            due: NEVER,
            interval_ns: config.resend_ns,
            repaired: OpNumber(0),
            repaired_at: 0,
        };
        Self {
            peers: vec![peer; config.members],
            me: config.me,
            interval_ns: config.resend_ns,
            interval_max_ns: config.resend_max_ns,
            quiet_ns: config.repair_quiet_ns,
            batches: config.resend_batches,
            repair_batches: config.repair_ops as usize,
            probe_batches: config.probe_batches,
            inherited,
        }
    }

    /// A member introduced itself: if there is a log, it needs all of it.
    pub(super) fn introduce(&mut self, now: u64, peer: ReplicaId, last_op: OpNumber) {
        let due = now + self.interval_ns;
        let peer = &mut self.peers[peer.index()];
        peer.known = true;
        if last_op > peer.acked {
            peer.due = peer.due.min(due);
        }
    }

    /// The library's maximum for a member; it only grows. Whether it did.
    pub(super) fn acked(&mut self, peer: ReplicaId, op: OpNumber) -> bool {
        let Some(peer) = self.peers.get_mut(peer.index()) else { return false };
        let grew = op > peer.acked;
        if grew {
            peer.acked = op;
            peer.progressed = true;
        }
        grew
    }

    /// A Prepare leaves for everybody: whoever held everything now has something to acknowledge.
    pub(super) fn sent(&mut self, now: u64) {
        for peer in &mut self.peers {
            if peer.known && peer.due == NEVER {
                peer.due = now + peer.interval_ns;
            }
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        self.peers.iter().map(|peer| peer.due).min().unwrap_or(NEVER)
    }

    /// Everybody holds this op and all before it.
    pub(super) fn acked_by_all(&self) -> OpNumber {
        self.others().map(|peer| self.peers[peer.index()].acked).min().unwrap_or(OpNumber(u64::MAX))
    }

    /// Sends again to those whose time has come. Returns the number of batches sent.
    pub(super) fn tick(&mut self, now: u64, log: &Log, commit: OpNumber, outbox: &mut Outbox) -> u64 {
        let mut wanted = [(OpNumber(0), 0); MEMBERS_MAX];
        for (peer, (next, batches)) in self.peers.iter_mut().zip(&mut wanted) {
            if now < peer.due {
                continue;
            }
            if peer.progressed || peer.acked >= log.last_op() {
                peer.progressed = false;
                peer.interval_ns = self.interval_ns;
                peer.due = if peer.acked >= log.last_op() { NEVER } else { now + peer.interval_ns };
                continue;
            }
            let silent = peer.interval_ns > self.interval_ns;
            *batches = if silent { self.probe_batches } else { self.batches };
            *next = peer.acked.max(self.inherited).next().max(log.first_op());
            peer.interval_ns = (peer.interval_ns * 2).min(self.interval_max_ns);
            peer.due = now + peer.interval_ns;
        }
        // Each batch leaves once, for all who miss it: always the oldest that anybody still wants.
        let mut sent = 0;
        while let Some(oldest) = wanted.iter().filter(|(_, left)| *left > 0).map(|(next, _)| *next).min()
            && let Some(entry) = log.get(oldest)
        {
            let mut targets = ReplicaSet::EMPTY;
            for (index, (next, left)) in wanted.iter_mut().enumerate() {
                if *left > 0 && *next <= entry.last {
                    targets = targets.with(ReplicaId(index as u8));
                    *next = entry.last.next();
                    *left = if entry.last < log.last_op() { *left - 1 } else { 0 };
                }
            }
            let (first, last, payload) = (entry.first, entry.last, entry.payload.clone());
            outbox.push(Action::Resend { first, last, commit, payload, targets });
            sent += 1;
        }
        sent
    }

    /// Sends a member the batches that it asked for, oldest first and not more than one chunk. What was sent
    /// a moment ago is on its way and not sent again. Returns the number of batches sent.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn repair(
        &mut self,
        now: u64,
        from: ReplicaId,
        have: OpNumber,
        upto: OpNumber,
        log: &Log,
        commit: OpNumber,
        outbox: &mut Outbox,
    ) -> u64 {
        let peer = &mut self.peers[from.index()];
        let on_its_way = now < peer.repaired_at.saturating_add(self.quiet_ns);
        let start = if on_its_way { have.max(peer.repaired) } else { have };
        let mut sent = 0;
        // All that was asked for: whoever gets less than that waits for the rest until a timer asks again.
        for entry in log.entries_from(start.next()).take(self.repair_batches) {
            if entry.first > upto {
                break;
            }
            let (first, last, payload) = (entry.first, entry.last, entry.payload.clone());
            let targets = ReplicaSet::EMPTY.with(from);
            outbox.push(Action::Resend { first, last, commit, payload, targets });
            peer.repaired = last;
            sent += 1;
        }
        if sent > 0 {
            peer.repaired_at = now;
            // It is alive: no probe is needed, and what was just sent need not be sent by the timer.
            peer.interval_ns = self.interval_ns;
            peer.due = now + self.interval_ns;
        }
        sent
    }

    fn others(&self) -> impl Iterator<Item = ReplicaId> {
        ReplicaSet::all(self.peers.len()).without(self.me).iter()
    }
}
