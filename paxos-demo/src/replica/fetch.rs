//! State transfer, the receiving side (VR section 5.2): pulled in bounded chunks from one donor.
//!
//! What arrives is staged here and touches nothing until all of it is there (U6, P7): until then votes go
//! by the old log. A donor whose log begins too late offers a snapshot instead; what follows it comes as
//! batches again. Nothing is pushed, so a receiver that is slow or away costs the donor nothing.

use super::action::Outbox;
use super::{Intent, NEVER, Replica, ReplicaConfig, Role};
use crate::log::LogEntry;
use crate::peer::{PeerMessage, ViewStart};
use crate::plant::Plant;
use bytes::{Bytes, BytesMut};
use electrode::types::{OpNumber, ReplicaId, View};
use std::collections::BTreeMap;

/// Batches that may wait for earlier ones.
const EARLY_MAX: usize = 1024;

/// Bytes of a snapshot asked for at once.
pub(super) const SNAPSHOT_WINDOW_BYTES: u64 = 32 * 1024;

/// What a transfer brought.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The own log is kept up to here.
    pub keep: OpNumber,
    /// Stands for everything up to its op.
    pub snapshot: Option<(OpNumber, Bytes)>,
    /// What follows, contiguous.
    pub entries: Vec<LogEntry>,
}

/// A transfer under way.
#[derive(Debug)]
pub(super) struct Fetch {
    pub donor: ReplicaId,
    view: View,
    upto: OpNumber,
    fetched: Fetched,
    early: BTreeMap<OpNumber, LogEntry>,
    snapshot: Option<SnapshotFetch>,
    asked_upto: OpNumber,
    pub ask_at: u64,
    retry_ns: u64,
}

impl Fetch {
    /// Ops `keep + 1 ..= upto` of the log that `donor` holds in (or for) `view`.
    pub fn new(donor: ReplicaId, view: View, keep: OpNumber, upto: OpNumber) -> Self {
        Self {
            donor,
            view,
            upto,
            fetched: Fetched { keep, snapshot: None, entries: Vec::new() },
            early: BTreeMap::new(),
            snapshot: None,
            asked_upto: OpNumber(0),
            ask_at: NEVER,
            retry_ns: 0,
        }
    }

    /// The own log is kept up to here.
    pub fn keep(&self) -> OpNumber {
        self.fetched.keep
    }

    /// Last op that is there.
    fn have(&self) -> OpNumber {
        let snapshot = self.fetched.snapshot.as_ref().map_or(self.fetched.keep, |(op, _)| *op);
        self.fetched.entries.last().map_or(snapshot, |entry| entry.last)
    }

    /// Whether all is there.
    pub fn is_done(&self) -> bool {
        self.snapshot.is_none() && self.have() >= self.upto
    }

    /// What was brought, once it is done.
    pub fn take(self) -> Fetched {
        debug_assert!(self.is_done());
        self.fetched
    }

    /// Asks for the next part, or again for what did not come.
    pub fn ask(&mut self, now: u64, config: &ReplicaConfig, outbox: &mut Outbox) {
        self.retry_ns = (self.retry_ns * 2).clamp(config.repair_retry_ns, config.resend_max_ns);
        self.ask_at = now + self.retry_ns;
        if let Some(snapshot) = &mut self.snapshot {
            return snapshot.ask(self.donor, outbox);
        }
        let after = self.have();
        self.asked_upto = self.upto.min(OpNumber(after.0 + config.repair_ops));
        let (view, upto) = (self.view, self.asked_upto);
        outbox.send(self.donor, PeerMessage::GetState { view, after, upto });
    }

    /// A batch arrived. Whether it brings the transfer on.
    pub fn on_batch(
        &mut self,
        now: u64,
        view: View,
        entry: LogEntry,
        config: &ReplicaConfig,
        outbox: &mut Outbox,
    ) -> bool {
        if view != self.view || self.snapshot.is_some() || entry.last < entry.first {
            return false;
        }
        if entry.first > self.have() && self.early.len() < EARLY_MAX {
            self.early.insert(entry.first, entry);
        }
        let before = self.have();
        while let Some(entry) = self.early.remove(&self.have().next()) {
            self.fetched.entries.push(entry);
        }
        let have = self.have();
        self.early.retain(|first, _| *first > have);
        if have > before {
            self.retry_ns = 0;
            if !self.is_done() && have >= self.asked_upto {
                self.ask(now, config, outbox);
            }
        }
        have > before
    }

    /// The donor's log begins at `oldest`, later than what is needed: take its snapshot. Whether that is news.
    pub fn on_gone(
        &mut self,
        now: u64,
        view: View,
        oldest: OpNumber,
        config: &ReplicaConfig,
        outbox: &mut Outbox,
    ) -> bool {
        let news = view == self.view && self.snapshot.is_none() && oldest > self.have().next();
        if news {
            self.snapshot = Some(SnapshotFetch::default());
            self.retry_ns = 0;
            self.ask(now, config, outbox);
        }
        news
    }

    /// Part of a snapshot arrived. Whether it brings the transfer on.
    pub fn on_chunk(&mut self, now: u64, chunk: Chunk, config: &ReplicaConfig, outbox: &mut Outbox) -> bool {
        let Some(snapshot) = &mut self.snapshot else { return false };
        match snapshot.on_chunk(&chunk) {
            Progress::None => return false,
            Progress::Some => self.retry_ns = 0,
            Progress::AskNext => {
                self.retry_ns = 0;
                self.ask(now, config, outbox);
            }
            Progress::Complete(bytes) => {
                self.snapshot = None;
                self.retry_ns = 0;
                if chunk.op > self.have() {
                    self.fetched.entries.clear();
                    self.early.clear();
                    self.fetched.snapshot = Some((chunk.op, bytes));
                }
                if !self.is_done() {
                    self.ask(now, config, outbox);
                }
            }
        }
        true
    }
}

/// A part of a snapshot.
#[derive(Debug)]
pub(super) struct Chunk {
    pub view: View,
    pub op: OpNumber,
    pub total_bytes: u64,
    pub offset: u64,
    pub bytes: Bytes,
}

/// What a chunk brought.
#[derive(Debug)]
pub(super) enum Progress {
    None,
    Some,
    AskNext,
    Complete(Bytes),
}

/// A snapshot on its way.
#[derive(Debug, Default)]
pub(super) struct SnapshotFetch {
    /// Which one, once the first chunk has told.
    op: OpNumber,
    bytes: BytesMut,
    asked_upto: u64,
}

impl SnapshotFetch {
    pub fn ask(&mut self, donor: ReplicaId, outbox: &mut Outbox) {
        let offset = self.bytes.len() as u64;
        self.asked_upto = offset + SNAPSHOT_WINDOW_BYTES;
        outbox.send(donor, PeerMessage::GetSnapshot { op: self.op, offset });
    }

    pub fn on_chunk(&mut self, chunk: &Chunk) -> Progress {
        if chunk.op != self.op {
            // The donor has another one by now: begin anew, if it is a beginning.
            if chunk.offset != 0 || chunk.op < self.op {
                return Progress::None;
            }
            *self = Self { op: chunk.op, asked_upto: SNAPSHOT_WINDOW_BYTES, ..Self::default() };
        }
        if chunk.total_bytes == 0 {
            // It is being encoded.
            return Progress::Some;
        }
        if chunk.offset != self.bytes.len() as u64 || chunk.bytes.is_empty() {
            return Progress::None;
        }
        self.bytes.extend_from_slice(&chunk.bytes);
        let have = self.bytes.len() as u64;
        if have >= chunk.total_bytes {
            Progress::Complete(std::mem::take(&mut self.bytes).freeze())
        } else if have >= self.asked_upto {
            Progress::AskNext
        } else {
            Progress::Some
        }
    }
}

impl Replica {
    /// Goes on if everything is there. `flows`: the transfer came on. What arrives once more, or is sent again by
    /// somebody who kept it, does not hold up the next attempt.
    fn after_fetch(&mut self, flows: bool) {
        match self.role {
            Role::ViewChange(_) => self.enter_if_fetched(flows),
            Role::Recovering(_) => self.recover_if_fetched(flows),
            _ => {}
        }
    }

    pub(super) fn on_new_state(&mut self, from: ReplicaId, view: View, entry: LogEntry) {
        if self.planted(Plant::P5) && view == self.view && matches!(self.role, Role::Follower(_)) {
            let (length, commit) = (entry.last, self.commit);
            let start = ViewStart { origin: view, length, last_op: length, commit };
            return self.freeze_for(Intent::EnterView { view, start });
        }
        self.with_fetch(from, |fetch, now, config, outbox| fetch.on_batch(now, view, entry, config, outbox));
    }

    pub(super) fn on_state_gone(&mut self, from: ReplicaId, view: View, oldest: OpNumber) {
        if matches!(self.role, Role::Follower(_)) {
            return self.begin_catch_up(from, view, oldest);
        }
        self.with_fetch(from, |fetch, now, config, outbox| fetch.on_gone(now, view, oldest, config, outbox));
    }

    pub(super) fn on_snapshot_chunk(&mut self, from: ReplicaId, chunk: Chunk) {
        if matches!(self.role, Role::Follower(_)) {
            if chunk.view == self.view && from == self.leader() {
                self.on_catch_up_chunk(&chunk);
            }
            return;
        }
        if !self.fetches_in(chunk.view) {
            return self.counters.ignored += 1;
        }
        self.with_fetch(from, |fetch, now, config, outbox| fetch.on_chunk(now, chunk, config, outbox));
    }

    /// Whether a transfer of the log of `view` is under way.
    fn fetches_in(&self, view: View) -> bool {
        let fetch = match &self.role {
            Role::ViewChange(change) => change.fetch.as_ref(),
            Role::Recovering(recovery) => recovery.fetch.as_ref(),
            _ => None,
        };
        fetch.is_some_and(|fetch| fetch.view == view)
    }

    fn with_fetch(
        &mut self,
        from: ReplicaId,
        f: impl FnOnce(&mut Fetch, u64, &ReplicaConfig, &mut Outbox) -> bool,
    ) {
        let fetch = match &mut self.role {
            Role::ViewChange(change) => change.fetch.as_mut(),
            Role::Recovering(recovery) => recovery.fetch.as_mut(),
            _ => None,
        };
        let flows = match fetch.filter(|fetch| fetch.donor == from) {
            Some(fetch) => f(fetch, self.now, &self.config, &mut self.outbox),
            None => return self.counters.ignored += 1,
        };
        self.after_fetch(flows);
    }
}
