//! All five activities in one world: a follower logs and acknowledges, is frozen and drained, opens as the leader of the
//! next view, begins a round and counts its votes, while Prepares of the old view and acks of the new one are on two
//! CPUs.
//!
//! An ack may be worked on before its round has begun, which no honest network does: it must do no harm.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::super::tests::{self, EPOCH};
use super::super::{Action, Kernel, Outcome, Plants, Round, Run};
use super::{Covered, User, World, explore, logged};
use crate::abi::Verdict;
use crate::rules;
use crate::types::{OpNumber, ReplicaId, ReplicaSet};
use crate::wire::{self, Batch};
use crate::words::{self, GateState, GateWord};

/// We are member 1; member 0 leads view 3, we lead view 4.
const ME: u8 = 1;
const OLD_VIEW: u64 = 3;
const NEW_VIEW: u64 = 4;
/// Last op of the round that we lead; what it begins with follows from the drain.
const ROUND_OP: u64 = 5;
const PEERS: [u8; 2] = [0, 2];
const VOTERS: u32 = 0b101;

/// One access of user space to the shared memory (or several to what nobody else changes then).
#[derive(Copy, Clone, Debug, Hash)]
enum Act {
    Poll,
    Freeze,
    Drain,
    SetView,
    SetLeader,
    /// L8: zeroes maxima and vote words.
    Forget,
    WaitIdle,
    Lead,
    /// L1, in four steps.
    Invalidate,
    DescribeOp,
    DescribeVoters,
    Publish,
    /// L4: looks at the maxima.
    Recount,
}

use Act::*;

const SCRIPT: [Act; 13] = [
    Poll,
    Freeze,
    Drain,
    SetView,
    SetLeader,
    Forget,
    WaitIdle,
    Lead,
    Invalidate,
    DescribeOp,
    DescribeVoters,
    Publish,
    Recount,
];

/// A packet on the wire.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Packet {
    /// Op of view 3.
    Prepare(u64),
    /// A peer's ack of our round.
    Ack(u8),
}

use Packet::{Ack, Prepare};

fn new_batch() -> Batch {
    Batch { leader_epoch: EPOCH.next(), ..tests::prepare(NEW_VIEW, ROUND_OP, ROUND_OP) }
}

impl Packet {
    fn frame(self) -> Vec<u8> {
        match self {
            Prepare(op) => tests::prepare_frame(&tests::prepare(OLD_VIEW, op, op), 0, &payload(op)),
            Ack(sender) => {
                let ours = tests::LEADER.prepare(&new_batch(), OpNumber(0), ReplicaSet::all(3), 0);
                let life = 20 + u32::from(sender);
                let ack = wire::prepare_ok(&ours, ReplicaId(sender), life, OpNumber(ROUND_OP));
                tests::frame_between(false, sender, ME, &ack, &[])
            }
        }
    }
}

fn payload(op: u64) -> Vec<u8> {
    format!("op {op}").into_bytes()
}

#[derive(Clone, Hash)]
struct Ledger {
    script: Vec<Act>,
    threshold: u32,
    /// Peers whose ack is on the wire.
    sent: u32,
    /// Last op that was read, in view 3.
    held: u64,
    /// What the drain returned; nothing before it.
    drained: Option<u64>,
    acked: BTreeSet<u64>,
    /// Peers whose ack was counted, as the verdict says.
    counted: u32,
    completed: u32,
    /// What the recount found.
    committed: bool,
}

impl Ledger {
    fn read(&mut self, kernel: &Kernel) -> Result<(), String> {
        while self.held < kernel.gate().op.0 {
            let first = OpNumber(self.held + 1);
            let found = logged(kernel, OLD_VIEW, first)?;
            if found != payload(first.0) {
                return Err(format!("C6: the log has {found:?} as op {first}"));
            }
            self.held += 1;
        }
        Ok(())
    }

    fn holders(kernel: &Kernel) -> u32 {
        let epoch = kernel.gate().epoch;
        let holds =
            |peer: &&u8| words::op_in_epoch(kernel.control.acked[usize::from(**peer)], epoch).0 >= ROUND_OP;
        PEERS.iter().filter(holds).map(|peer| 1 << peer).sum()
    }
}

impl User for Ledger {
    fn next(&self) -> Option<&(impl Debug + ?Sized)> {
        self.script.last()
    }

    fn ready(&self, kernel: &Kernel) -> bool {
        !matches!(self.script.last(), Some(WaitIdle)) || !kernel.gate().busy
    }

    fn act(&mut self, kernel: &mut Kernel) -> Result<(), String> {
        let (gate, threshold) = (kernel.gate(), self.threshold);
        let (epoch, batch) = (gate.epoch.next(), new_batch());
        let round = kernel.round_mut(OpNumber(ROUND_OP));
        match self.script.pop().expect("an action is left") {
            Poll => self.read(kernel)?,
            Freeze => assert!(kernel.swap_gate(gate, GateWord { state: GateState::Frozen, ..gate })),
            Drain => {
                self.read(kernel)?;
                self.drained = Some(self.held);
            }
            SetView => kernel.config.view = NEW_VIEW,
            SetLeader => kernel.config.leader = ME.into(),
            Forget => {
                PEERS.iter().for_each(|peer| kernel.control.acked[usize::from(*peer)] = 0);
                kernel.rounds.iter_mut().for_each(|round| round.vote = 0);
            }
            WaitIdle => (),
            Lead => {
                let opened = GateWord { state: GateState::Lead, busy: false, epoch, op: OpNumber(self.held) };
                assert!(kernel.swap_gate(gate, opened));
            }
            Invalidate => round.vote = 0,
            DescribeOp => {
                let (view, round_tag) = (NEW_VIEW, batch.round_tag);
                *round = Round { op: ROUND_OP, view, round_tag, ..round.clone() };
            }
            DescribeVoters => *round = Round { voters: VOTERS, threshold, ..round.clone() },
            Publish => round.vote = words::vote_word(gate.epoch, OpNumber(ROUND_OP)),
            Recount => self.committed = Self::holders(kernel).count_ones() >= self.threshold,
        }
        Ok(())
    }

    fn saw(&mut self, run: &Run, outcome: &Outcome) -> Result<(), String> {
        use Verdict::{DropQuorumQuiet, DropVote, DropVoteRepeated, PassQuorum};
        let header = run.header();
        if let Action::Reply(_) = &outcome.action {
            self.acked.insert(header.last().0);
        }
        if matches!(outcome.verdict, DropQuorumQuiet | DropVote | DropVoteRepeated | PassQuorum) {
            self.counted |= 1 << header.sender;
        }
        self.completed += u32::from(matches!(outcome.verdict, DropQuorumQuiet | PassQuorum));
        Ok(())
    }

    fn finish(&self, kernel: &Kernel) -> Result<(), String> {
        let drained = self.drained.expect("the script drains");
        if let Some(op) = self.acked.iter().find(|op| **op > drained) {
            return Err(format!("C8: op {op} was acked, the drain ends at {drained}"));
        }
        let vote = kernel.rounds[ROUND_OP as usize & 3].vote;
        let bits = if words::vote_is_for(vote, EPOCH.next(), OpNumber(ROUND_OP)) { vote as u32 } else { 0 };
        let holders = Self::holders(kernel);
        if bits & !self.sent != 0 || holders & !self.sent != 0 {
            return Err(format!("C4: votes of {bits:#b}, maxima of {holders:#b}, acks of {:#b}", self.sent));
        }
        if bits != self.counted || self.counted & !holders != 0 {
            return Err(format!(
                "L2: votes of {bits:#b}, maxima of {holders:#b}, counted {:#b}",
                self.counted
            ));
        }
        if self.completed != u32::from(bits.count_ones() >= self.threshold) {
            return Err(format!("L3: votes of {bits:#b} completed the round {} times", self.completed));
        }
        if self.committed && holders.count_ones() < self.threshold {
            return Err(format!("L4: a recount found a quorum, maxima are of {holders:#b}"));
        }
        let gate = kernel.gate();
        if gate.op.0 != drained || rules::admit_gate(crate::abi::Kind::PrepareOk, gate.state).is_err() {
            return Err(format!("C6: the drain ended at {drained}, the gate is {gate:?}"));
        }
        Ok(())
    }
}

/// Every choice of three packets on two CPUs.
fn search(script: &[Act], plants: Plants) -> Result<Covered, String> {
    let packets = [Prepare(2), Prepare(3), Prepare(4), Ack(0), Ack(2)];
    let mut covered = Covered::default();
    for a in packets {
        for b in packets {
            for c in packets {
                let acks = [a, b, c].iter().filter(|packet| matches!(packet, Ack(_))).count() as u32;
                for threshold in 1..=acks.clamp(1, 2) {
                    let world = world(script, [&[a, b], &[c]], threshold, plants);
                    explore(world, &mut covered).map_err(|story| format!("{a:?} {b:?}, {c:?}\n{story}"))?;
                }
            }
        }
    }
    Ok(covered)
}

fn world(script: &[Act], queues: [&[Packet]; 2], threshold: u32, plants: Plants) -> World<Ledger> {
    let mut kernel = tests::kernel(ME, false);
    kernel.params.busy_tries = 1;
    for op in 1..=2 {
        assert_eq!(kernel.process(&Prepare(op).frame()).verdict, Verdict::TxAck);
    }
    kernel.plants = plants;
    let sent = queues.iter().flat_map(|queue| queue.iter()).fold(0, |sent, packet| match packet {
        Ack(peer) => sent | 1 << peer,
        Prepare(_) => sent,
    });
    let mut script = script.to_vec();
    script.reverse();
    let ledger = Ledger {
        script,
        threshold,
        sent,
        held: 0,
        drained: None,
        acked: BTreeSet::new(),
        counted: 0,
        completed: 0,
        committed: false,
    };
    let frames = queues.map(|queue| queue.iter().map(|packet| packet.frame()).collect::<Vec<_>>());
    World::queued(kernel, &[&frames[0], &frames[1]], ledger)
}

#[test]
fn gate_append_publish_drain_and_quorum_on_two_cpus() {
    let covered = search(&SCRIPT, Plants::default()).unwrap_or_else(|story| panic!("{story}"));
    println!("a follower becomes the leader: {} states", covered.states);
    use Verdict::*;
    for verdict in [
        TxAck,
        TxAckRepeated,
        PassRaced,
        PassFrozen,
        PassBusy,
        PassGap,
        DropViewOld,
        DropVote,
        DropVoteStale,
        DropQuorumQuiet,
    ] {
        assert!(covered.verdicts.contains(&verdict), "{verdict:?} never happened");
    }
}

#[track_caller]
fn caught(result: Result<Covered, String>, rule: &str) {
    let story = result.err().expect("not noticed");
    // What was done comes first, what was violated last.
    let violated = story.lines().last().expect("a story");
    assert!(violated.starts_with(rule), "another rule fired:\n{story}");
}

#[test]
fn a1_a_tail_before_its_slot_is_noticed() {
    caught(search(&SCRIPT, Plants { publish_before_fill: true, ..Plants::default() }), "C6:");
}

#[test]
fn a8_a_vote_by_plain_or_is_noticed() {
    caught(search(&SCRIPT, Plants { vote_by_or: true, ..Plants::default() }), "L3:");
}

#[test]
fn u2_leading_without_a_drain_after_the_freeze_is_noticed() {
    let mut script = SCRIPT.to_vec();
    script.swap(1, 2);
    caught(search(&script, Plants::default()), "C8:");
}

#[test]
fn l1_a_round_that_is_described_too_late_is_noticed() {
    let mut script = SCRIPT.to_vec();
    script.swap(10, 11);
    caught(search(&script, Plants::default()), "L2:");
}
