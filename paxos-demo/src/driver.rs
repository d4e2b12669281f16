//! One driver for both backends: the endpoint's events go into the replica, its actions come back out.
//!
//! A single thread polls, acts and sleeps. How long a follower sleeps is what keeps it cheap: while the
//! kernel acknowledges for it, it looks at the log a few hundred times a second whatever the load.

mod inbox;
mod tick;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use electrode::types::{OpNumber, ReplicaSet};
use electrode::{Endpoint, Patience, Round};

pub use self::inbox::Observer;
use self::inbox::{Asked, Inbox};
use self::tick::{FollowerLoad, until_turn};
use crate::codec;
use crate::encoder::{Encoder, ThreadEncoder};
use crate::key_file::reload::KeySource;
use crate::node::{Node, NodeStatus};
use crate::plant::{Plant, Plants};
use crate::replica::{Action, Fatal, GateRole, Replica};
use crate::storage::{Storage, StorageError};

/// Datagrams taken between two looks at the replica's actions.
const POLL_BUDGET: usize = 256;
/// Longest sleep: signals are noticed within it.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// A follower is woken before its tick when this part of the kernel log is full.
const LOG_PART: u64 = 4;

/// Why a replica ends.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The endpoint failed.
    #[error(transparent)]
    Endpoint(#[from] electrode::Error),
    /// The replica can do no more.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// What must not be lost could not be kept (D5).
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A replica with its endpoint.
pub struct Driver {
    endpoint: Endpoint,
    replica: Replica,
    incarnation: u32,
    plants: Plants,
    peers: ReplicaSet,
    members: usize,
    log_slots: u64,
    /// L5: a quarter of the resend time.
    scan_interval: Duration,
    quiet: u32,
    /// Last ops of the rounds that were queued since the last send.
    broadcast: Vec<OpNumber>,
    storage: Box<dyn Storage>,
    encoder: Box<dyn Encoder>,
    inbox: Inbox,
    keys: Option<KeySource>,
}

impl Driver {
    /// Joins an open endpoint, a fresh replica and its storage.
    pub fn new(
        mut endpoint: Endpoint,
        replica: Replica,
        storage: Box<dyn Storage>,
        log_slots: u32,
    ) -> Result<Self, DriverError> {
        if let Some(fd) = storage.fd() {
            endpoint.wake_on(fd)?;
        }
        let config = replica.config();
        let (me, members, incarnation) = (config.me, config.members, config.incarnation);
        let plants = config.plants;
        Ok(Self {
            endpoint,
            incarnation,
            plants,
            peers: ReplicaSet::all(members).without(me),
            members,
            log_slots: log_slots.into(),
            scan_interval: Duration::from_nanos(config.resend_ns / 4),
            replica,
            quiet: 0,
            broadcast: Vec::new(),
            storage,
            encoder: Box::new(ThreadEncoder::default()),
            inbox: Inbox::default(),
            keys: None,
        })
    }

    /// Runs until `stop` is set.
    pub fn run(&mut self, stop: &Arc<AtomicBool>) -> Result<(), DriverError> {
        while !stop.load(Ordering::Relaxed) {
            if let Some((timeout, patience)) = self.step()? {
                self.endpoint.wait(timeout, patience)?;
            }
            self.renew_keys();
        }
        Ok(())
    }

    /// Says where the endpoint's keys came from: they are read again on SIGHUP.
    pub fn renew_from(&mut self, keys: Option<KeySource>) {
        self.keys = keys;
    }

    /// A file that is refused is no reason to stop: the group goes on with the keys that it has.
    fn renew_keys(&mut self) {
        match self.keys.as_mut().and_then(|keys| keys.renew(&mut self.endpoint)) {
            Some(Ok(news)) => println!("{news}"),
            Some(Err(warning)) => self.inbox.warn(&warning),
            None => {}
        }
    }

    /// One round of all that there is to do. How long to sleep then, and what to be woken for; `None`: not at all.
    pub fn step(&mut self) -> Result<Option<(Duration, Patience)>, DriverError> {
        let events = self.poll()?;
        self.tick();
        self.act()?;
        self.send()?;
        self.answer_status()?;
        Ok(self.sleep(events))
    }

    /// Encodes snapshots otherwise than on threads: for a simulation, where every thread but one is a surprise.
    pub fn encode_with(&mut self, encoder: Box<dyn Encoder>) {
        self.encoder = encoder;
    }

    /// The endpoint.
    pub fn endpoint_mut(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    /// The replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Shows everything that crosses the boundary of the replica to `observer`.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.inbox.observer = Some(observer);
    }

    fn poll(&mut self) -> Result<usize, DriverError> {
        let now = self.endpoint.now_ns();
        self.replica.set_wall_clock(self.endpoint.unix_ms());
        let Self { endpoint, replica, inbox, .. } = self;
        let events =
            endpoint.elec_poll_message(POLL_BUDGET, &mut |event| inbox.take(replica, now, &event))?;
        if replica.config().durable {
            let progress = self.storage.poll()?;
            self.replica.on_durable(now, progress.durable);
        }
        if let Some((op, bytes)) = self.encoder.take() {
            self.replica.on_snapshot(now, op, bytes);
        }
        Ok(events)
    }

    fn tick(&mut self) {
        let now = self.endpoint.now_ns();
        // U9: the kernel may have heard the leader where this process did not.
        self.replica.on_leader_heard(self.endpoint.last_leader_ns());
        if self.replica.next_deadline().is_some_and(|at| at <= now) {
            if self.replica.is_leading() {
                for peer in self.peers.iter() {
                    self.replica.on_acked(peer, self.endpoint.acked(peer));
                }
            }
            self.replica.on_tick(now);
        }
    }

    /// A round of this replica's log: one tag for all, for its acks are cumulative (F9).
    fn round(&self, first: OpNumber, last: OpNumber, commit: OpNumber) -> Round {
        Round {
            first,
            last,
            commit,
            tag: 0,
            targets: self.peers,
            voters: self.peers,
            // A majority of all, of which the leader is one (L4).
            threshold: if self.plants.has(Plant::A6) { 1 } else { (self.members / 2) as u32 },
            independent: false,
        }
    }

    fn act(&mut self) -> Result<(), DriverError> {
        while let Some(action) = self.replica.next_action() {
            if let Some(observer) = &mut self.inbox.observer {
                observer.action(&action);
            }
            match action {
                Action::Prepare { first, last, commit, payload } => {
                    let round = self.round(first, last, commit);
                    self.endpoint.elec_broadcast(&round, &payload)?;
                    self.broadcast.push(last);
                }
                Action::Resend { first, last, commit, payload, targets } => {
                    let round = self.round(first, last, commit);
                    self.endpoint.resend(&round, targets, &payload)?;
                }
                Action::CommitNotice { commit } => self.endpoint.send_commit(commit, self.peers)?,
                Action::Send { to, message } => {
                    match self.endpoint.send_to_member(to, &codec::encode(&message)) {
                        // What a faulty leader made too long to be passed on: who misses it is no reason to stop.
                        Err(error @ electrode::Error::TooLarge { .. }) => self.inbox.warn(&error.to_string()),
                        sent => sent?,
                    }
                }
                Action::Reply { to, bytes } => self.endpoint.send_message(to, &bytes)?,
                Action::OpenGate { role, view, leader, last_op, .. } => {
                    if self.plants.has(Plant::A4) {
                        self.endpoint.gate().freeze(&mut |_| {})?;
                    }
                    match role {
                        GateRole::Lead => self.endpoint.gate().lead(view, last_op)?,
                        GateRole::Follow => self.endpoint.gate().follow(view, leader, last_op)?,
                    };
                }
                Action::Freeze => self.freeze()?,
                Action::SaveState { view, last_normal_view } => {
                    self.storage.save_state(view, last_normal_view)?;
                }
                Action::SaveMember { peer, born } => self.storage.save_member(peer, born)?,
                Action::LogAppend(entry) => self.storage.append(&entry)?,
                Action::InstallLog { view, keep, snapshot, entries } => {
                    self.storage.install(view, keep, snapshot, &entries)?;
                }
                Action::StoreSnapshot { op, bytes } => self.storage.snapshot(op, bytes)?,
                Action::Acknowledge { op } => self.endpoint.acknowledge(op)?,
                Action::EncodeSnapshot(snapshot) => self.encoder.encode(snapshot),
                Action::ExpectIncarnation { peer, incarnation } => {
                    self.endpoint.expect_incarnation(peer, incarnation);
                }
                Action::Warn(warning) => self.inbox.warn(&warning.to_string()),
                Action::Fatal(fatal) => {
                    // What is queued tells the others why.
                    self.endpoint.flush()?;
                    return Err(fatal.into());
                }
            }
        }
        Ok(())
    }

    /// U1 to U3: freeze, drain, and only then read when the leader was heard last.
    fn freeze(&mut self) -> Result<(), DriverError> {
        // What was said before is said in the view that it belongs to.
        self.endpoint.flush()?;
        let now = self.endpoint.now_ns();
        let Self { endpoint, replica, inbox, .. } = self;
        endpoint.gate().freeze(&mut |event| inbox.take(replica, now, &event))?;
        replica.on_frozen(now, endpoint.last_leader_ns());
        Ok(())
    }

    /// Sends what is queued, and once more what did not leave for somebody (L7).
    fn send(&mut self) -> Result<(), DriverError> {
        self.endpoint.flush()?;
        while let Some(op) = self.broadcast.pop() {
            let missed = self.endpoint.take_missed(op);
            if !missed.is_empty() {
                self.replica.on_missed(op, missed);
            }
        }
        self.act()
    }

    fn answer_status(&mut self) -> Result<(), DriverError> {
        while let Some(Asked { by, nonce, bytes_max }) = self.inbox.asked.pop_front() {
            let bytes_max = bytes_max.min(self.endpoint.payload_bytes_max());
            if let Some(reply) = self.status()?.into_reply(nonce, bytes_max) {
                self.endpoint.send_message(by, &reply)?;
            }
        }
        Ok(())
    }

    fn status(&self) -> Result<NodeStatus, DriverError> {
        let node = Node::of(&self.endpoint)?;
        let keys = self.keys.as_ref().map(|keys| keys.held().clone());
        Ok(NodeStatus {
            replica: self.replica.status(),
            node: Node { incarnation: self.incarnation, keys, ..node },
        })
    }

    fn sleep(&mut self, events: usize) -> Option<(Duration, Patience)> {
        let now = self.endpoint.now_ns();
        let until_deadline = self
            .replica
            .next_deadline()
            .map_or(SLEEP_MAX, |at| Duration::from_nanos(at.saturating_sub(now)).min(SLEEP_MAX));
        // L5: a wake-up that got lost costs one look.
        let until_deadline = if self.endpoint.rounds_in_flight() > 0 {
            until_deadline.min(self.scan_interval)
        } else {
            until_deadline
        };
        self.quiet = if events > 0 { 0 } else { self.quiet.saturating_add(1) };
        let config = self.replica.config();
        let load = FollowerLoad {
            quiet_looks: self.quiet,
            durable: config.durable,
            storing: self.replica.is_storing(),
        };
        let follows_log = !self.replica.is_leading() && self.endpoint.logs_in_kernel();
        let (timeout, patience) = if follows_log && load.comes_by_itself() {
            let turn = until_turn(now, config.me.index(), self.members, self.endpoint.local_addr().port());
            (until_deadline.min(turn), Patience::Batch(self.log_slots / LOG_PART))
        } else {
            (until_deadline, Patience::Eager)
        };
        (!timeout.is_zero()).then_some((timeout, patience))
    }
}
