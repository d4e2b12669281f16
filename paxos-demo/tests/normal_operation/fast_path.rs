//! A tiny stand-in for the library, for one replica: Prepares become `Logged` in order, acknowledgements
//! become a quorum, and what a packet could not say is simply not there. No kernel, no view changes.

use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};
use paxos_demo::replica::GateRole;
use std::collections::{BTreeMap, VecDeque};

/// What travels between the fast paths.
#[derive(Clone, Debug)]
pub enum Frame {
    Prepare { view: View, batch: Batch, commit: OpNumber },
    PrepareOk { view: View, op: OpNumber },
    Commit { view: View, commit: OpNumber },
}

/// What a resend must repeat exactly (L6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub first: OpNumber,
    pub last: OpNumber,
    pub payload: Bytes,
}

/// What the library hands to the replica.
#[derive(Clone, Debug)]
pub enum Event {
    Logged { view: View, batch: Batch, commit: OpNumber },
    Commit { view: View, commit: OpNumber },
    Gap { have: OpNumber, seen: OpNumber },
}

/// Prepares that arrived early are kept up to this many.
const REORDER_BATCHES: usize = 8;

#[derive(Debug)]
pub struct FastPath {
    gate: Option<(GateRole, View, ReplicaId)>,
    expected: Vec<u32>,
    /// Follower: last contiguous op. Leader: last op sent.
    tail: OpNumber,
    early: BTreeMap<OpNumber, (Batch, OpNumber)>,
    acked: Vec<OpNumber>,
    /// Not yet seen by the replica, which looks when it is woken.
    pub events: VecDeque<Event>,
}

impl FastPath {
    pub fn new(members: usize) -> Self {
        Self {
            gate: None,
            expected: vec![0; members],
            tail: OpNumber(0),
            early: BTreeMap::new(),
            acked: vec![OpNumber(0); members],
            events: VecDeque::new(),
        }
    }

    pub fn open(&mut self, role: GateRole, view: View, leader: ReplicaId, last_op: OpNumber) {
        assert!(self.gate.is_none(), "a gate is opened once in normal operation");
        self.gate = Some((role, view, leader));
        self.tail = last_op;
    }

    pub fn expect(&mut self, peer: ReplicaId, incarnation: u32) {
        self.expected[peer.index()] = incarnation;
    }

    pub fn acked(&self) -> &[OpNumber] {
        &self.acked
    }

    /// The leader's own copy: it votes with what it sends.
    pub fn prepared(&mut self, first: OpNumber, last: OpNumber) {
        assert_eq!(first, self.tail.next(), "Prepares are numbered without gaps");
        assert!(matches!(self.gate, Some((GateRole::Lead, ..))), "a Prepare before the gate is open");
        self.tail = last;
    }

    /// L4: every op up to here is held by a majority, the own log counted.
    pub fn quorum(&self, me: ReplicaId) -> OpNumber {
        let mut held = self.acked.clone();
        held[me.index()] = self.tail;
        held.sort_unstable();
        held[(held.len() - 1) / 2]
    }

    /// A frame arrives. Returns the acknowledgement that answers it, if any.
    pub fn receive(&mut self, from: ReplicaId, incarnation: u32, frame: Frame) -> Option<Frame> {
        let (role, view, leader) = self.gate?;
        match frame {
            Frame::Prepare { view: of, batch, commit }
                if role == GateRole::Follow && of == view && from == leader =>
            {
                self.prepare(view, batch, commit)
            }
            Frame::Commit { view: of, commit }
                if role == GateRole::Follow && of == view && from == leader =>
            {
                self.events.push_back(Event::Commit { view, commit });
                None
            }
            Frame::PrepareOk { view: of, op } if role == GateRole::Lead && of == view => {
                if self.expected[from.index()] == incarnation {
                    let acked = &mut self.acked[from.index()];
                    *acked = op.max(*acked);
                }
                None
            }
            _ => None,
        }
    }

    fn prepare(&mut self, view: View, batch: Batch, commit: OpNumber) -> Option<Frame> {
        if batch.last <= self.tail {
            return Some(Frame::PrepareOk { view, op: batch.last });
        }
        if batch.first > self.tail.next() {
            let seen = OpNumber(batch.first.0 - 1);
            if self.early.len() < REORDER_BATCHES {
                self.early.insert(batch.first, (batch, commit));
            }
            self.events.push_back(Event::Gap { have: self.tail, seen });
            return None;
        }
        assert_eq!(batch.first, self.tail.next(), "batch boundaries never change (L6)");
        self.log(view, batch, commit);
        while let Some((batch, commit)) = self.early.remove(&self.tail.next()) {
            self.log(view, batch, commit);
        }
        self.early.retain(|first, _| *first > self.tail);
        Some(Frame::PrepareOk { view, op: self.tail })
    }

    fn log(&mut self, view: View, batch: Batch, commit: OpNumber) {
        self.tail = batch.last;
        self.events.push_back(Event::Logged { view, batch, commit });
    }
}
