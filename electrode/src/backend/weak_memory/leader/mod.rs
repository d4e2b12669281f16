//! Three acks on two CPUs against rounds that begin, complete and give their slot to the next, and against stepping
//! down: C4, L1 to L4, L8.

mod scenarios;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};

use super::memory::{MEMBERS, Weak};
use super::path::Path;
use super::program::{self, Vote, Voted};
use super::{Explored, Plant, Seen, explore, sound};
use crate::abi::Verdict;
use crate::backend::{Heard, Opening, RoundSlot, Wake, shared};
use crate::endpoint::leader::Leader;
use crate::endpoint::{Plants, Round};
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use crate::wire::{self, Batch, Origin};
use crate::words::{self, GateState, GateWord};

const VIEW: View = View(3);
const ORIGIN: Origin = Origin { group: 7, config_hash: 0xfeed, sender: Some(ReplicaId(0)), incarnation: 20 };
const FIRST: Epoch = Epoch(1);

/// What user space does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Act {
    /// L1, and then the Prepare leaves. Nothing happens where the window is full.
    Begin { op: u64, threshold: u32 },
    /// L4, once.
    Recount,
    /// Arms the doorbell and looks once more.
    Sleep,
    /// L8: freezes, and leads again in a new epoch.
    LeadAgain,
}

use Act::{Begin, LeadAgain, Recount, Sleep};

/// An ack on the wire: for the `begun`th round that user space began, from 1.
#[derive(Copy, Clone, Debug)]
struct Ack {
    sender: u8,
    begun: u64,
    /// Made up by somebody: it is there before the Prepare has left.
    early: bool,
}

const fn ack(sender: u8, begun: u64) -> Ack {
    Ack { sender, begun, early: false }
}

const fn early(sender: u8, begun: u64) -> Ack {
    Ack { sender, begun, early: true }
}

/// A round that was begun.
#[derive(Copy, Clone, Debug)]
struct Begun {
    epoch: Epoch,
    op: OpNumber,
    threshold: u32,
}

struct User {
    memory: Arc<Weak>,
    leader: Leader,
    epoch: Epoch,
    /// How many Prepares have left. An ack whose Prepare has not is not there yet: its CPU goes on without it.
    wire: Arc<AtomicU64>,
    begun: Vec<Begun>,
    completed: Vec<(Epoch, OpNumber)>,
    asleep: bool,
}

fn voters() -> ReplicaSet {
    ReplicaSet::all(MEMBERS).without(ReplicaId(0))
}

impl User {
    fn act(&mut self, act: Act) {
        match act {
            Begin { op, threshold } => self.begin(OpNumber(op), threshold),
            Recount => self.recount(),
            Sleep => {
                shared::arm(&*self.memory, Wake { on_quorum: true, ..Wake::default() });
                self.asleep = !self.leader.would_complete(&Path(Arc::clone(&self.memory)));
            }
            LeadAgain => self.lead_again(),
        }
    }

    fn begin(&mut self, op: OpNumber, threshold: u32) {
        let round = Round {
            first: op,
            last: op,
            commit: OpNumber(0),
            tag: 0,
            targets: voters(),
            voters: voters(),
            threshold,
            independent: false,
        };
        if self.leader.obstacle(&round, self.memory.rounds.len() as u32).is_some() {
            return;
        }
        self.leader.begin(round);
        let (epoch, view) = (self.epoch, VIEW);
        shared::begin_round(
            &*self.memory,
            &RoundSlot { epoch, view, op, tag: 0, voters: voters(), threshold },
        );
        self.begun.push(Begun { epoch, op, threshold });
        self.wire.store(self.begun.len() as u64, Ordering::Release);
    }

    fn recount(&mut self) {
        let path = Path(Arc::clone(&self.memory));
        let (epoch, completed) = (self.epoch, &mut self.completed);
        self.leader.recount(&path, MEMBERS, Plants::default(), |done| completed.push((epoch, done.last)));
    }

    fn lead_again(&mut self) {
        let memory = &*self.memory;
        shared::freeze(memory);
        let frozen = shared::gate(memory);
        let Ok(()) = shared::await_writers(memory, || true, || Ok::<_, Infallible>(()));
        if memory.plant != Plant::SameEpoch {
            self.epoch = self.epoch.next();
        }
        self.leader.restart(self.epoch);
        shared::open(
            memory,
            frozen,
            &Opening {
                state: GateState::Lead,
                epoch: self.epoch,
                view: VIEW,
                leader: ReplicaId(0),
                tail: OpNumber(0),
                fresh: true,
                heard: Heard::default(),
            },
        );
    }

    /// After everything: `seen` is every ack and what became of it.
    fn check(&mut self, seen: &[(Ack, Voted)]) {
        self.recount();
        let begun = |ack: &Ack| self.begun.get(ack.begun as usize - 1).copied();
        let refused = |voted: &Voted| matches!(voted.verdict, Verdict::DropVoteStale | Verdict::PassFrozen);
        let never = seen.iter().find(|(ack, voted)| begun(ack).is_none() && !refused(voted));
        assert!(never.is_none(), "L2: counted for a round that never began: {:?}", never.map(|(ack, _)| ack));
        for round in &self.begun {
            let acks = || {
                seen.iter().filter(|(ack, _)| {
                    begun(ack).is_some_and(|of| (of.epoch, of.op) == (round.epoch, round.op))
                })
            };
            let sent: ReplicaSet = acks().map(|(ack, _)| ReplicaId(ack.sender)).collect();
            let completes = |v: &Verdict| matches!(v, Verdict::PassQuorum | Verdict::DropQuorumQuiet);
            let crossed = acks().filter(|(_, voted)| completes(&voted.verdict)).count();
            assert!(
                crossed <= usize::from(sent.len() >= round.threshold as usize),
                "L3: {round:?} with acks of {sent:?} was completed {crossed} times"
            );
            let vote = self.memory.round(round.op).vote.cell.load(Ordering::Acquire);
            if !words::vote_is_for(vote, round.epoch, round.op) {
                continue;
            }
            let bits = words::voters_of(vote);
            assert!(
                bits.difference(sent).is_empty(),
                "C4: {round:?} has votes of {bits:?}, sent were {sent:?}"
            );
            for (ack, voted) in acks() {
                assert!(
                    bits.contains(ReplicaId(ack.sender)) || !counted(voted.verdict),
                    "L2: the vote of {ack:?} ({:?}) is lost: {bits:?}",
                    voted.verdict
                );
            }
            assert_eq!(
                crossed,
                usize::from(bits.len() >= round.threshold as usize),
                "L3: {round:?} has votes of {bits:?}"
            );
        }
        self.check_maxima(seen);
        let woke = seen.iter().filter(|(_, voted)| voted.woke).count();
        assert!(woke <= 1, "one doorbell was taken {woke} times");
        let crossed = seen
            .iter()
            .any(|(_, voted)| matches!(voted.verdict, Verdict::PassQuorum | Verdict::DropQuorumQuiet));
        assert!(!self.asleep || !crossed || woke == 1, "a wake-up was lost");
    }

    /// L2 and L4: maxima are what was acknowledged in this opening and counted, and completions follow from them.
    fn check_maxima(&self, seen: &[(Ack, Voted)]) {
        let mut acked = BTreeMap::new();
        for peer in voters().iter() {
            let ops = |only_counted: bool| {
                let ours = seen.iter().filter(move |(ack, voted)| {
                    ack.sender == peer.0 && (!only_counted || counted(voted.verdict))
                });
                let rounds = ours.filter_map(|(ack, _)| self.begun.get(ack.begun as usize - 1));
                rounds.filter(|round| round.epoch == self.epoch).map(|round| round.op).max()
            };
            let maximum = shared::acked(&*self.memory, self.epoch, peer);
            let (most, least) = (ops(false).unwrap_or_default(), ops(true).unwrap_or_default());
            assert!(
                (least..=most).contains(&maximum),
                "L2: {peer} acked {least} to {most}, its maximum is {maximum}"
            );
            acked.insert(peer, maximum);
        }
        for (i, round) in self.begun.iter().enumerate().filter(|(_, round)| round.epoch == self.epoch) {
            let holders = acked.values().filter(|op| **op >= round.op).count();
            let complete = self.completed.iter().filter(|done| **done == (round.epoch, round.op)).count();
            let earlier = self.begun[..i].iter().filter(|before| before.epoch == self.epoch);
            let earlier_are = earlier.clone().all(|b| self.completed.contains(&(b.epoch, b.op)));
            let due = holders >= round.threshold as usize && earlier_are;
            assert_eq!(complete, usize::from(due), "L4: {round:?}, acked up to {acked:?}");
        }
    }
}

/// Whether an ack counted, as its verdict says.
fn counted(verdict: Verdict) -> bool {
    use Verdict::{DropQuorumQuiet, DropVote, DropVoteRepeated, PassQuorum};
    matches!(verdict, DropVote | DropVoteRepeated | PassQuorum | DropQuorumQuiet)
}

fn run(plant: Plant, scenario: &Scenario, verdicts: &Seen<Verdict>) {
    let gate = GateWord { state: GateState::Lead, busy: false, epoch: FIRST, op: OpNumber(0) };
    let memory = Arc::new(Weak::new(plant, gate, VIEW, 0, scenario.window));
    let mut leader = Leader::default();
    leader.restart(FIRST);
    let mut user = User {
        memory: Arc::clone(&memory),
        leader,
        epoch: FIRST,
        wire: Arc::new(AtomicU64::new(0)),
        begun: Vec::new(),
        completed: Vec::new(),
        asleep: false,
    };
    scenario.before.iter().for_each(|act| user.act(*act));
    let seen = Seen::default();
    let rounds = scenario.rounds();
    let cpus = scenario.acks.clone().map(|acks| {
        let (memory, seen, rounds) = (Arc::clone(&memory), Arc::clone(&seen), rounds.clone());
        let (wire, already) = (Arc::clone(&user.wire), user.begun.len() as u64);
        loom::thread::spawn(move || {
            for ack in acks {
                if !ack.early && ack.begun > already && ack.begun > wire.load(Ordering::Acquire) {
                    continue;
                }
                let (epoch, op) = rounds[ack.begun as usize - 1];
                let epoch = if plant == Plant::SameEpoch { FIRST } else { epoch };
                let voted = program::vote(&memory, &vote(ack.sender, epoch, op));
                seen.lock().expect("nobody panicked").push((ack, voted));
            }
        })
    });
    scenario.script.iter().for_each(|act| user.act(*act));
    cpus.into_iter().for_each(|cpu| cpu.join().expect("loom ends the execution first"));
    let seen = seen.lock().expect("nobody panicked");
    user.check(&seen);
    let mut verdicts = verdicts.lock().expect("nobody panicked");
    for (_, voted) in seen.iter() {
        if !verdicts.contains(&voted.verdict) {
            verdicts.push(voted.verdict);
        }
    }
}

fn vote(sender: u8, leader_epoch: Epoch, op: OpNumber) -> Vote {
    let batch = Batch { view: VIEW, first: op, last: op, round_tag: 0, leader_epoch };
    let prepare = ORIGIN.prepare(&batch, OpNumber(0), voters(), 0);
    let sender = ReplicaId(sender);
    Vote { sender, header: wire::prepare_ok(&prepare, sender, 20 + u32::from(sender.0), op) }
}

#[derive(Clone)]
struct Scenario {
    name: &'static str,
    window: usize,
    /// Rounds that begin before any program runs.
    before: &'static [Act],
    acks: [Vec<Ack>; 2],
    script: &'static [Act],
    preemptions: Option<usize>,
    expected: &'static [Verdict],
}

impl Scenario {
    /// Opening and op of each round, in the order in which they begin.
    fn rounds(&self) -> Vec<(Epoch, OpNumber)> {
        let mut epoch = FIRST;
        let mut rounds = Vec::new();
        for act in self.before.iter().chain(self.script) {
            match act {
                Begin { op, .. } => rounds.push((epoch, OpNumber(*op))),
                LeadAgain => epoch = epoch.next(),
                _ => {}
            }
        }
        rounds
    }

    fn explore(&self, plant: Plant) -> Result<Explored, String> {
        let verdicts = Seen::default();
        let (scenario, all) = (self.clone(), Arc::clone(&verdicts));
        let explored = explore(self.preemptions, move || run(plant, &scenario, &all))?;
        let verdicts = verdicts.lock().expect("nobody panicked");
        for verdict in self.expected {
            assert!(
                verdicts.contains(verdict),
                "{}: {verdict:?} never happened in {} executions: {verdicts:?}",
                self.name,
                explored.executions
            );
        }
        Ok(explored)
    }

    #[track_caller]
    fn is_sound(&self) {
        sound(self.name, self.explore(Plant::Nothing));
    }
}
