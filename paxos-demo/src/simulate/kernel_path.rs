//! The fast path over a modelled kernel: user space's side of the words in its memory, access by access as
//! `electrode/src/backend/ebpf` does it. Between any two accesses the programs may run ([`effect`]), unless
//! programs and calls are taken whole.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::BorrowedFd;

use electrode::Result;
use electrode::abi::{BUSY_SHIFT, Verdict};
use electrode::auth::Keys;
use electrode::model::{Kernel, Slot};
use electrode::simulation::{FastPath, Heard, Logged, Opening, RoundSlot, Wake};
use electrode::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use electrode::words::{self, GateState, GateWord};

use super::check::Violation;
use super::effect::{Killed, effect};
use super::machine::{Missed, OFFLOADS};
use super::weather::US;
use super::world::{Shared, World, lock};
use crate::plant::Plant;

/// Where carriers go: no machine has this address.
pub(super) const CARRIER: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(239, 192, 69, 67), 7000));

pub(super) struct SimKernel {
    pub shared: Shared,
    pub node: usize,
    pub members: Vec<SocketAddr>,
    /// Whether something may happen before each access; otherwise calls are whole.
    pub stepped: bool,
}

impl SimKernel {
    /// One access to kernel memory, after whatever happens before it.
    fn at<T>(&self, what: &'static str, access: impl FnOnce(&mut Kernel) -> T) -> T {
        if self.stepped {
            effect(&self.shared, self.node, what);
        }
        self.peek(access)
    }

    /// An access that nothing comes between.
    fn peek<T>(&self, access: impl FnOnce(&mut Kernel) -> T) -> T {
        access(&mut lock(&self.shared).nodes[self.node].kernel)
    }

    fn planted(&self, plant: Plant) -> bool {
        lock(&self.shared).plants.has(plant)
    }

    /// A broken promise of the fast path: the run is over.
    fn broken(&self, checker: &'static str, what: String) -> ! {
        let mut world = lock(&self.shared);
        world.violate(Err(Violation::new(checker, self.node, what)));
        drop(world);
        std::panic::resume_unwind(Box::new(Killed))
    }

    /// U1: until no program holds the log. What spins a millisecond waits for a grace period, and then nothing
    /// is left of a stopped program but its busy bit.
    fn wait_for_writers(&self) {
        if !self.peek(|kernel| kernel.gate().busy) {
            return;
        }
        effect(&self.shared, self.node, "a busy log");
        let mut world = lock(&self.shared);
        let later = world.now + 20 * US;
        world.set_now(later);
        for cpu in 0..world.nodes[self.node].cpus.len() {
            world.finish_cpu(self.node, cpu);
        }
        world.nodes[self.node].kernel.control.gate &= !(1 << BUSY_SHIFT);
    }

    fn write_config(&self, view: View, leader: ReplicaId) {
        self.at("writing the view", |kernel| kernel.config.view = view.0);
        self.at("writing the leader", |kernel| kernel.config.leader = leader.0.into());
        self.at("writing the members", |kernel| kernel.config.members = self.members.clone());
    }
}

impl FastPath for SimKernel {
    fn appends(&self) -> bool {
        OFFLOADS.fast_ack
    }

    fn freeze(&mut self) -> Result<()> {
        let was_frozen = self.at("freezing", |kernel| {
            let gate = kernel.gate();
            kernel.control.gate = GateWord { state: GateState::Frozen, ..gate }.pack();
            gate.state == GateState::Frozen
        });
        if self.stepped && !was_frozen {
            lock(&self.shared).hold_cpus(self.node);
        }
        Ok(())
    }

    fn drain(&mut self, from: OpNumber, sink: &mut dyn FnMut(Logged<'_>)) -> OpNumber {
        let gate = self.at("draining", |kernel| kernel.gate());
        let incomplete = self.planted(Plant::P1);
        let mut at = from;
        while at < gate.op {
            let slot = self.peek(|kernel| kernel.slot(at.next()).clone());
            let Slot { epoch, view, first, last, round_tag, leader_epoch, payload } = slot;
            if epoch != u64::from(gate.epoch.0) || first != at.0 + 1 || last < first {
                self.broken(
                    "C6",
                    format!("op {} is below the tail ({gate:?}), its slot holds {first}..={last} of epoch {epoch}", at.0 + 1),
                );
            }
            if incomplete && OpNumber(last) >= gate.op {
                break;
            }
            sink(Logged {
                view: View(view),
                first: OpNumber(first),
                last: OpNumber(last),
                round_tag,
                leader_epoch: Epoch(leader_epoch),
                payload: &payload,
            });
            at = OpNumber(last);
        }
        at
    }

    fn open(&mut self, opening: &Opening) -> Result<()> {
        let frozen = self.at("opening", |kernel| kernel.gate());
        if frozen.state != GateState::Frozen {
            self.broken("C6", format!("the gate is opened over {frozen:?}"));
        }
        if !self.planted(Plant::P12) {
            self.wait_for_writers();
        }
        let frozen = self.peek(|kernel| kernel.gate());
        if frozen.busy {
            let mut world = lock(&self.shared);
            let World { now, trace, .. } = &mut *world;
            trace.line(*now, |line| line.push_str(&format!("r{} opens over a busy log", self.node)));
        }
        let untagged = self.planted(Plant::P13);
        self.at("releasing all", |kernel| {
            kernel.control.released = opening.tail.0;
            kernel.control.commit = 0;
            kernel.control.durable = 0;
            kernel.control.heard_op = words::tagged(opening.epoch, opening.heard.op);
            kernel.control.heard_count = words::tagged(opening.epoch, OpNumber(opening.heard.count));
        });
        if opening.fresh {
            self.write_config(opening.view, opening.leader);
            self.peek(|kernel| {
                if !untagged {
                    kernel.control.acked.fill(0);
                }
                if opening.state == GateState::Lead {
                    kernel.rounds.iter_mut().for_each(|round| round.vote = 0);
                }
            });
        }
        let open = GateWord { state: opening.state, busy: false, epoch: opening.epoch, op: opening.tail };
        // U6: exactly the frozen word. A writer that was waited for is gone; with P12 it may still be there.
        let opened = self.at("opening the gate", |kernel| {
            let expected = if frozen.busy { kernel.gate() } else { frozen };
            kernel.swap_gate(expected, open)
        });
        if !opened {
            self.broken("C6", format!("the frozen gate moved: {:?}", self.peek(|kernel| kernel.gate())));
        }
        Ok(())
    }

    fn tail(&self) -> OpNumber {
        self.peek(|kernel| kernel.gate().op)
    }

    fn release(&mut self, op: OpNumber) {
        self.at("releasing", |kernel| kernel.control.released = op.0);
    }

    fn durable(&mut self, epoch: Epoch, op: OpNumber) {
        self.at("telling what is durable", |kernel| kernel.control.durable = words::tagged(epoch, op));
    }

    fn renew_lease(&mut self) {}

    fn begin_round(&mut self, round: &RoundSlot) {
        *lock(&self.shared).nodes[self.node].missed_at(round.op) =
            Missed { op: round.op, view: round.view, peers: 0 };
        // A8: three stores in any order, and nothing that tells a reader which of them belong together.
        if !self.planted(Plant::A8) {
            self.at("invalidating a round", |kernel| kernel.round_mut(round.op).vote = 0);
        }
        self.at("filling a round", |kernel| {
            let slot = kernel.round_mut(round.op);
            slot.op = round.op.0;
            slot.view = round.view.0;
            slot.round_tag = round.tag;
            slot.voters = round.voters.mask();
            slot.threshold = round.threshold;
        });
        self.at("publishing a round", |kernel| {
            kernel.round_mut(round.op).vote = words::vote_word(round.epoch, round.op);
        });
    }

    fn acked(&self, epoch: Epoch, peer: ReplicaId) -> OpNumber {
        let (word, untagged) =
            self.peek(|kernel| (kernel.control.acked[peer.index()], kernel.plants.untagged_maxima));
        words::op_in_epoch(word, if untagged { Epoch(0) } else { epoch })
    }

    fn votes(&self, epoch: Epoch, op: OpNumber) -> ReplicaSet {
        let vote = self.peek(|kernel| kernel.round_mut(op).vote);
        if words::vote_is_for(vote, epoch, op) { words::voters_of(vote) } else { ReplicaSet::EMPTY }
    }

    fn take_missed(&mut self, op: OpNumber) -> ReplicaSet {
        let mut world = lock(&self.shared);
        let missed = world.nodes[self.node].missed_at(op);
        ReplicaSet::from_mask(std::mem::take(&mut missed.peers))
    }

    fn commit_seen(&self, epoch: Epoch) -> OpNumber {
        words::op_in_epoch(self.peek(|kernel| kernel.control.commit), epoch)
    }

    fn last_leader_ns(&self) -> u64 {
        self.peek(|kernel| kernel.control.last_leader_ns)
    }

    fn heard(&self, epoch: Epoch) -> Heard {
        let (op, count) = self.peek(|kernel| (kernel.control.heard_op, kernel.control.heard_count));
        Heard { op: words::op_in_epoch(op, epoch), count: words::op_in_epoch(count, epoch).0 }
    }

    fn restart_count(&mut self, epoch: Epoch, count: u64) {
        self.at("restarting a count", |kernel| {
            kernel.control.heard_count = words::tagged(epoch, OpNumber(count));
        });
    }

    fn expect_incarnation(&mut self, peer: ReplicaId, incarnation: u32) {
        self.at("expecting a life", |kernel| {
            kernel.control.incarnation[peer.index()] = incarnation.into();
        });
    }

    fn set_keys(&mut self, keys: &Keys) -> Result<()> {
        let slots = keys.slots();
        self.at("invalidating keys", |kernel| {
            for (slot, new) in kernel.keys.iter_mut().zip(&slots) {
                if slot != new {
                    *slot = None;
                }
            }
        });
        self.at("publishing keys", |kernel| kernel.keys = slots);
        Ok(())
    }

    fn carrier(&self) -> Option<SocketAddr> {
        OFFLOADS.broadcast.then_some(CARRIER)
    }

    fn reached(&self, targets: ReplicaSet) -> ReplicaSet {
        targets
    }

    fn carriers_met(&self) -> Option<u64> {
        OFFLOADS.broadcast.then(|| lock(&self.shared).nodes[self.node].carriers)
    }

    fn arm(&mut self, wake: Wake) {
        self.at("arming", |kernel| {
            kernel.control.ring_at_op = wake.at_op.map_or(0, |op| op.0.max(1));
            kernel.control.ring_at_commit = wake.at_commit.map_or(0, |op| op.0.max(1));
            kernel.control.ring_on_quorum = wake.on_quorum.into();
        });
    }

    fn disarm(&mut self) {
        self.arm(Wake::default());
    }

    fn bell(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn verdicts(&self) -> Result<Vec<(Verdict, u64)>> {
        Ok(self.peek(|kernel| Verdict::ALL.iter().copied().zip(kernel.counters).collect()))
    }
}
