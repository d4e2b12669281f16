//! One machine: the memory that kernel and process share, two CPUs, a socket, a process, a disk.

use std::collections::VecDeque;
use std::net::SocketAddr;

use electrode::auth;
use electrode::config::Offloads;
use electrode::model::params::{BUSY_TRIES, SWAP_TRIES};
use electrode::model::{Kernel, Params, Plants as KernelPlants, Run};
use electrode::types::{OpNumber, ReplicaId, View};
use electrode::words::mac_word;

use super::bytecode::Object;
use super::disk::Disk;
use super::weather::Weather;
use super::wire::MAC;
use super::world::Frame;
use crate::config::{ClusterConfig, Durability};
use crate::driver::Driver;
use crate::plant::{Plant, Plants};

/// One CPU that handles ingress.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    /// Frames that wait for it.
    pub queue: VecDeque<Frame>,
    /// The program at work, and whether it has logged what it will acknowledge.
    pub run: Option<Run>,
    pub planned: bool,
    /// It stands until then, whenever it was to go on.
    pub held_until: u64,
}

/// The process of a machine.
pub(super) enum Process {
    /// There is none.
    Dead,
    /// It sleeps, or waits for its turn.
    Asleep(Box<Driver>),
    /// It is in the middle of a step, maybe interrupted there.
    Running,
}

/// What becomes of a replica once it has died.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It comes back with what is on its disk.
    Returns,
    /// It never does: so it is, too, where the data directory is lost and nobody asks for a first life (D6).
    Gone,
    /// Its data directory is lost, and its operator asks for a first life whenever it is started.
    BeginsAnew { wiped: bool },
}

/// L7: what a broadcast round missed; the word beside a round that only egress writes.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Missed {
    pub op: OpNumber,
    pub view: View,
    pub peers: u32,
}

/// One machine.
pub(super) struct Machine {
    pub addr: SocketAddr,
    /// Memory of the programs; where these are bytecode, a copy of it for those who check.
    pub kernel: Kernel,
    /// The programs of this life, where they are bytecode.
    pub object: Option<Object>,
    /// How often its memory went into the trace.
    pub memory_traced: u32,
    pub cpus: [Cpu; 2],
    /// Whether the programs are on their hooks.
    pub attached: bool,
    /// Programs of earlier lives that never left (only planted).
    pub ghosts: Vec<Kernel>,
    pub missed: Vec<Missed>,
    pub carriers: u64,
    /// What waits in the socket.
    pub inbox: VecDeque<(Vec<u8>, SocketAddr)>,
    pub disk: Disk,
    /// The step of the key file that its process has read.
    pub key_step: u32,
    pub process: Process,
    pub fate: Fate,
    /// Number of this life, 0 before the first.
    pub life: u32,
    /// The process shall die at this many more effects.
    pub dies_in: Option<u32>,
    /// It was killed while it was interrupted.
    pub doomed: bool,
    /// It was stopped until then.
    pub stopped_until: u64,
    /// Doorbells are armed.
    pub armed: bool,
    /// One rang.
    pub rang: bool,
    pub ticket: u64,
    pub wake_at: u64,
}

/// Offloads of every replica.
pub(super) const OFFLOADS: Offloads = Offloads::ALL;

impl Machine {
    pub(super) fn new(id: usize, config: &ClusterConfig, weather: &Weather) -> Self {
        Self {
            addr: config.replicas[id],
            kernel: memory(id, config, weather, 0, Plants::NONE),
            object: None,
            memory_traced: 0,
            cpus: Default::default(),
            attached: false,
            ghosts: Vec::new(),
            missed: vec![Missed::default(); config.quorum_window as usize],
            carriers: 0,
            inbox: VecDeque::new(),
            disk: Disk::default(),
            key_step: 0,
            process: Process::Dead,
            fate: Fate::Returns,
            life: 0,
            dies_in: None,
            doomed: false,
            stopped_until: 0,
            armed: false,
            rang: false,
            ticket: 0,
            wake_at: u64::MAX,
        }
    }

    /// Whether no program of this machine is at work or about to be.
    pub(super) fn quiet(&self) -> bool {
        !self.attached && self.cpus.iter().all(|cpu| cpu.run.is_none() && cpu.queue.is_empty())
    }

    /// L7: a carrier meets the program that makes copies of it.
    pub(super) fn meet_carrier(&mut self) {
        match &self.object {
            Some(object) => object.meet_carrier(),
            None => self.carriers += 1,
        }
    }

    /// L7: the copy for `peer` does not leave.
    pub(super) fn miss(&mut self, op: OpNumber, view: View, peer: usize) {
        if let Some(object) = &self.object {
            return object.miss(op, view, peer);
        }
        let missed = self.missed_at(op);
        if (missed.op, missed.view) == (op, view) {
            missed.peers |= 1 << peer;
        }
    }

    pub(super) fn missed_at(&mut self, op: OpNumber) -> &mut Missed {
        let index = op.0 as usize & (self.missed.len() - 1);
        &mut self.missed[index]
    }
}

/// Fresh kernel memory for a life (D1).
pub(super) fn memory(
    id: usize,
    config: &ClusterConfig,
    weather: &Weather,
    incarnation: u32,
    plants: Plants,
) -> Kernel {
    let mut kernel = Kernel::new(Params {
        config_hash: auth::config_hash(config.config_hash(), weather.authenticated),
        group: config.group,
        slots: config.log_slots,
        slot_payload_bytes: config.payload_bytes_max,
        window: config.quorum_window,
        incarnation,
        own: config.replicas[id],
        me: ReplicaId(id as u8),
        offload_fast_ack: OFFLOADS.fast_ack,
        offload_quorum: OFFLOADS.quorum,
        log_only: weather.durability == Durability::Disk,
        lease_required: false,
        authenticated: weather.authenticated,
        partial_checksums: false,
        busy_tries: BUSY_TRIES.min(4),
        swap_tries: SWAP_TRIES,
    });
    kernel.config.members = config.replicas.clone();
    kernel.control.own_mac = mac_word(Some(MAC));
    kernel.plants = KernelPlants {
        tag_unchecked: plants.has(Plant::K1),
        publish_before_fill: plants.has(Plant::A1),
        stale_scratch: plants.has(Plant::A2),
        shared_scratch: plants.has(Plant::A3),
        source_unchecked: plants.has(Plant::A7),
        vote_by_or: plants.has(Plant::A8) || plants.has(Plant::P13),
        untagged_maxima: plants.has(Plant::P13),
        reuse_unreleased: plants.has(Plant::A11),
        duplicate_unchecked: plants.has(Plant::P8),
        torn_gate: plants.has(Plant::P8),
        durable_ignored: plants.has(Plant::P10),
    };
    kernel
}
