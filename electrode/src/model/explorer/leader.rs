//! Acks against the reuse of a quorum slot and against stepping down: L1 to L3, L8.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::super::tests::{self, EPOCH};
use super::super::{Kernel, Outcome, Plants, Round, Run};
use super::{Covered, User, World, explore};
use crate::abi::Verdict;
use crate::types::{OpNumber, ReplicaSet};
use crate::wire;
use crate::words::{self, GateState, GateWord};

/// The old round is op 1's; op 5's takes the same slot.
const OLD: u64 = 1;
const NEW: u64 = 5;
const VOTERS: u32 = 0b110;

/// One access of user space to the shared memory.
#[derive(Copy, Clone, Debug, Hash)]
enum Act {
    /// L1: invalidates the vote word.
    Invalidate,
    /// L1: what stands behind the word, in two stores.
    DescribeOp,
    DescribeVoters,
    /// L1: publishes the word.
    Publish,
    /// L8.
    Freeze,
    ZeroMaximum(usize),
    OpenNext,
}

use Act::*;

#[derive(Clone, Hash)]
struct Ledger {
    script: Vec<Act>,
    /// Votes that complete the old round, and the new one.
    thresholds: [u32; 2],
    /// Acks that were on the wire: op, voters.
    sent: BTreeMap<u64, u32>,
    /// Runs that completed a round, by op.
    completed: BTreeMap<u64, u32>,
}

impl User for Ledger {
    fn next(&self) -> Option<&(impl Debug + ?Sized)> {
        self.script.last()
    }

    fn ready(&self, _kernel: &Kernel) -> bool {
        true
    }

    fn act(&mut self, kernel: &mut Kernel) -> Result<(), String> {
        let threshold = self.thresholds[1];
        let gate = kernel.gate();
        let round = kernel.round_mut(OpNumber(NEW));
        let fresh = tests::prepare(3, NEW, NEW);
        match self.script.pop().expect("an action is left") {
            Invalidate => round.vote = 0,
            DescribeOp => *round = Round { op: NEW, round_tag: fresh.round_tag, ..round.clone() },
            DescribeVoters => *round = Round { voters: VOTERS, threshold, ..round.clone() },
            Publish => round.vote = words::vote_word(EPOCH, OpNumber(NEW)),
            Freeze => assert!(kernel.swap_gate(gate, GateWord { state: GateState::Frozen, ..gate })),
            ZeroMaximum(peer) => kernel.control.acked[peer] = 0,
            OpenNext => {
                let opened = GateWord { state: GateState::Lead, epoch: gate.epoch.next(), ..gate };
                assert!(kernel.swap_gate(gate, opened));
            }
        }
        Ok(())
    }

    fn saw(&mut self, run: &Run, outcome: &Outcome) -> Result<(), String> {
        if matches!(outcome.verdict, Verdict::PassQuorum | Verdict::DropQuorumQuiet) {
            let (ack, _) = wire::parse(&run.frame()[42..]).map_err(|e| format!("ack: {e}"))?;
            *self.completed.entry(ack.last.get()).or_default() += 1;
        }
        Ok(())
    }

    /// C4: bits are votes that were cast in that round; a round completes once, and only if they suffice.
    fn finish(&self, kernel: &Kernel) -> Result<(), String> {
        let vote = kernel.rounds[(NEW & 3) as usize].vote;
        for (op, threshold) in [OLD, NEW].into_iter().zip(self.thresholds) {
            let sent = ReplicaSet::from_mask(self.sent.get(&op).copied().unwrap_or_default());
            let completed = self.completed.get(&op).copied().unwrap_or_default();
            if completed > u32::from(sent.len() as u32 >= threshold) {
                return Err(format!("L3: op {op} with acks of {sent:?} was completed {completed} times"));
            }
            if !words::vote_is_for(vote, EPOCH, OpNumber(op)) {
                continue;
            }
            let bits = words::voters_of(vote);
            if !bits.difference(sent).is_empty() {
                return Err(format!("C4: op {op} has votes of {bits:?}, only {sent:?} acknowledged it"));
            }
            if completed != u32::from(bits.len() as u32 >= threshold) {
                return Err(format!("L3: op {op} with votes of {bits:?} was completed {completed} times"));
            }
        }
        for peer in 1..=2 {
            let acked = words::op_in_epoch(kernel.control.acked[peer], kernel.gate().epoch);
            let sent = self.sent.iter().filter(|(_, voters)| *voters >> peer & 1 == 1);
            let best = sent.map(|(op, _)| *op).max().unwrap_or_default();
            let expected = if kernel.gate().epoch == EPOCH { best } else { 0 };
            // Less where the slot was between two rounds, or not yet of this one: a later ack heals that.
            if acked.0 > expected {
                return Err(format!("L2: {peer} acked up to {expected}, the maximum says {acked}"));
            }
        }
        Ok(())
    }
}

/// Acks on the wire as (sender, op); all of opening `EPOCH`, in view 3.
fn search(script: &[Act], thresholds: [u32; 2], plants: Plants) -> Result<Covered, String> {
    let acks = [(1, OLD), (2, OLD), (1, NEW), (2, NEW)];
    let mut covered = Covered::default();
    for (i, a) in acks.iter().enumerate() {
        for b in &acks[i..] {
            let mut kernel = tests::kernel(0, false);
            tests::open_round(&mut kernel, &tests::prepare(3, OLD, OLD), VOTERS, thresholds[0]);
            kernel.plants = plants;
            kernel.control.ring_on_quorum = 1;
            let mut sent = BTreeMap::new();
            for (sender, op) in [a, b] {
                *sent.entry(*op).or_default() |= 1 << sender;
            }
            let frames: Vec<_> =
                [a, b].map(|(sender, op)| tests::ack_frame(*sender, &tests::prepare(3, *op, *op))).to_vec();
            let mut script = script.to_vec();
            script.reverse();
            let user = Ledger { script, thresholds, sent, completed: BTreeMap::new() };
            explore(World::new(kernel, &frames, user), &mut covered)
                .map_err(|story| format!("{a:?} {b:?}\n{story}"))?;
        }
    }
    Ok(covered)
}

const REUSE: [Act; 4] = [Invalidate, DescribeOp, DescribeVoters, Publish];
const STEP_DOWN: [Act; 4] = [Freeze, ZeroMaximum(1), ZeroMaximum(2), OpenNext];

#[test]
fn a_vote_counts_once_and_only_in_its_round() {
    let mut seen = Covered::default();
    for thresholds in [[1, 1], [1, 2], [2, 1], [2, 2]] {
        let covered = search(&REUSE, thresholds, Plants::default()).unwrap_or_else(|story| panic!("{story}"));
        seen.states += covered.states;
        seen.verdicts.extend(covered.verdicts);
    }
    use Verdict::*;
    for verdict in [DropVote, DropVoteRepeated, DropVoteStale, PassQuorum] {
        assert!(seen.verdicts.contains(&verdict), "{verdict:?} never happened");
    }
    assert!(seen.states > 1_000, "{}", seen.states);
}

#[test]
fn an_old_opening_leaves_nothing_to_the_next() {
    let covered = search(&STEP_DOWN, [2, 2], Plants::default()).unwrap_or_else(|story| panic!("{story}"));
    assert!(covered.verdicts.contains(&Verdict::PassFrozen));
}

#[track_caller]
fn caught(result: Result<Covered, String>, rule: &str) {
    let story = result.err().expect("not noticed");
    assert!(story.contains(rule), "another rule fired:\n{story}");
}

#[test]
fn a8_a_vote_by_plain_or_is_noticed() {
    caught(search(&REUSE, [2, 2], Plants { vote_by_or: true, ..Plants::default() }), "C4");
}

#[test]
fn l1_a_round_that_changes_under_a_valid_word_is_noticed() {
    caught(search(&[DescribeVoters, DescribeOp, Publish], [2, 1], Plants::default()), "L3");
}
