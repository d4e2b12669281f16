//! Two Prepares against freeze, drain and reopening: C2, C6, C8.
//!
//! The ledger is kept apart from the model: which ops each view's leader ordered, what each drain returned,
//! and which acks left. At the end every ack must be covered by the drain of its opening and by the log of
//! its view.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::super::tests;
use super::super::{Action, Kernel, Outcome, Plants, Run};
use super::{Covered, User, World, explore, logged};
use crate::abi::Verdict;
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet};
use crate::wire::{self, Origin};
use crate::words::{GateState, GateWord};

/// One access of user space to the shared memory (or several to what nobody else changes then).
#[derive(Copy, Clone, Debug, Hash)]
enum Act {
    /// U1.
    Freeze,
    /// U2.
    Drain,
    /// P1: the drain leaves out the op at the tail.
    DrainShort,
    /// Reads what is logged while the gate is open.
    Poll,
    /// F6: slots of ops up to here may be reused.
    Release(u64),
    /// U8: appends an op that did not go through the kernel.
    Append,
    /// U6: installs the new view's log, the first `keep` ops of the old one.
    Install {
        view: u64,
        keep: usize,
    },
    /// Two stores of the configuration.
    SetView(u64),
    SetLeader(u32),
    /// U1: `busy` must be clear before reopening.
    WaitIdle,
    /// U6: opens with the next epoch, whoever may be busy (P12 if [`WaitIdle`] did not come before).
    Open,
    /// P2: opens with the same epoch.
    OpenSameEpoch,
}

use Act::*;

/// In view 3, replica 0 leads; in view 4, replica 2 does, with a shorter log.
fn view_change(keep: usize) -> Vec<Act> {
    vec![Freeze, Drain, SetView(4), Install { view: 4, keep }, SetLeader(2), WaitIdle, Open, Freeze, Drain]
}

fn takeover() -> Vec<Act> {
    vec![Freeze, Drain, Append, WaitIdle, Open, Freeze, Drain]
}

fn steady() -> Vec<Act> {
    vec![Poll, Release(2), Poll, Release(3), Freeze, Drain]
}

#[derive(Clone, Hash)]
struct Ledger {
    script: Vec<Act>,
    /// Our log, from op 1 on.
    log: Vec<Vec<u8>>,
    /// View of the log.
    view: u64,
    /// Where view 4's own ops begin.
    kept: usize,
    drained_epochs: BTreeMap<u16, usize>,
    drained_views: BTreeMap<u64, Vec<Vec<u8>>>,
    /// View, opening and op of each ack.
    acks: BTreeSet<(u64, u16, u64)>,
}

/// What the leader of `view` ordered as `op`.
fn ordered(view: u64, kept: usize, op: u64) -> Vec<u8> {
    let origin = if op <= kept as u64 { 3 } else { view };
    format!("v{origin} op{op}").into_bytes()
}

impl Ledger {
    fn new(script: Vec<Act>) -> Self {
        let kept = script.iter().find_map(|act| match act {
            Install { keep, .. } => Some(*keep),
            _ => None,
        });
        let mut script = script;
        script.reverse();
        Self {
            script,
            log: Vec::new(),
            view: 3,
            kept: kept.unwrap_or(usize::MAX),
            drained_epochs: BTreeMap::new(),
            drained_views: BTreeMap::new(),
            acks: BTreeSet::new(),
        }
    }

    /// U2: what lies between our log and the tail.
    fn read(&mut self, kernel: &Kernel, up_to: u64) -> Result<(), String> {
        while (self.log.len() as u64) < up_to {
            let first = OpNumber(self.log.len() as u64 + 1);
            self.log.push(logged(kernel, self.view, first)?.to_vec());
        }
        Ok(())
    }

    fn drain(&mut self, kernel: &Kernel, up_to: u64) -> Result<(), String> {
        self.read(kernel, up_to)?;
        let returned = self.drained_epochs.entry(kernel.gate().epoch.0).or_default();
        *returned = self.log.len().max(*returned);
        self.drained_views.insert(self.view, self.log.clone());
        Ok(())
    }

    fn open(&self, kernel: &mut Kernel, epoch: Epoch) {
        let frozen = kernel.gate();
        let op = OpNumber(self.log.len() as u64);
        let opened = GateWord { state: GateState::Follow, busy: false, epoch, op };
        assert!(kernel.swap_gate(frozen, opened));
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
        let gate = kernel.gate();
        match self.script.pop().expect("an action is left") {
            Freeze => assert!(kernel.swap_gate(gate, GateWord { state: GateState::Frozen, ..gate })),
            Drain => self.drain(kernel, gate.op.0)?,
            DrainShort => self.drain(kernel, gate.op.0 - 1)?,
            Poll => self.read(kernel, gate.op.0)?,
            Release(op) => kernel.control.released = op.min(self.log.len() as u64),
            Append => self.log.push(ordered(self.view, self.kept, self.log.len() as u64 + 1)),
            Install { view, keep } => {
                self.view = view;
                self.log.truncate(keep);
            }
            SetView(view) => kernel.config.view = view,
            SetLeader(leader) => kernel.config.leader = leader,
            WaitIdle => (),
            Open => self.open(kernel, gate.epoch.next()),
            OpenSameEpoch => self.open(kernel, gate.epoch),
        }
        Ok(())
    }

    fn saw(&mut self, run: &Run, outcome: &Outcome) -> Result<(), String> {
        if let Action::Reply(reply) = &outcome.action {
            let (ack, _) = wire::parse(&reply[42..]).map_err(|e| format!("ack: {e}"))?;
            self.acks.insert((ack.view.get(), run.gate.epoch.0, ack.last.get()));
        }
        Ok(())
    }

    fn finish(&self, _kernel: &Kernel) -> Result<(), String> {
        for &(view, epoch, op) in &self.acks {
            let returned = self.drained_epochs.get(&epoch).copied().unwrap_or_default() as u64;
            if returned < op {
                return Err(format!(
                    "C8: op {op} was acked in opening {epoch}, its drain ends at {returned}"
                ));
            }
            let held = self.drained_views.get(&view).map(Vec::as_slice).unwrap_or_default();
            for op in 1..=op {
                let expected = ordered(view, self.kept, op);
                if held.get(op as usize - 1) != Some(&expected) {
                    return Err(format!("C2: op {op} was acked in view {view}, whose log is {held:?}"));
                }
            }
        }
        Ok(())
    }
}

/// A Prepare of `op` from the leader of `view`.
fn packet(view: u64, kept: usize, op: u64) -> Vec<u8> {
    let sender = if view == 3 { 0 } else { 2 };
    let leader = Origin {
        group: 7,
        config_hash: 0xfeed,
        sender: Some(ReplicaId(sender)),
        incarnation: 20 + u32::from(sender),
    };
    let payload = ordered(view, kept, op);
    let batch = tests::prepare(view, op, op);
    let header = leader.prepare(&batch, OpNumber(0), ReplicaSet::all(3), payload.len() as u16);
    tests::frame_between(false, sender, 1, &header, &payload)
}

/// A follower in view 3 that holds ops 1 and 2, undrained, and Prepares on the wire, by CPU.
fn world(script: &[Act], queues: &[&[(u64, u64)]], plants: Plants, slots: u32) -> World<Ledger> {
    let ledger = Ledger::new(script.to_vec());
    let mut kernel = tests::kernel(1, false);
    kernel.params.slots = slots;
    kernel.params.busy_tries = 1;
    let mut kernel = Kernel { config: kernel.config, control: kernel.control, ..Kernel::new(kernel.params) };
    for op in 1..=2 {
        assert_eq!(kernel.process(&packet(3, ledger.kept, op)).verdict, Verdict::TxAck);
    }
    kernel.plants = plants;
    let frames = |queue: &&[(u64, u64)]| -> Vec<_> {
        queue.iter().map(|(view, op)| packet(*view, ledger.kept, *op)).collect()
    };
    let queues: Vec<Vec<_>> = queues.iter().map(frames).collect();
    World::queued(kernel, &queues.iter().map(Vec::as_slice).collect::<Vec<_>>(), ledger)
}

/// Prepares around the tail and the view change.
const PACKETS: [(u64, u64); 5] = [(3, 2), (3, 3), (3, 4), (4, 2), (4, 3)];

/// Every pair of Prepares around the tail and the view change, against every script.
fn search(scripts: &[Vec<Act>], plants: Plants, slots: u32) -> Result<Covered, String> {
    let mut covered = Covered::default();
    for script in scripts {
        for (i, a) in PACKETS.iter().enumerate() {
            for b in &PACKETS[i..] {
                explore(world(script, &[&[*a], &[*b]], plants, slots), &mut covered)
                    .map_err(|story| format!("{a:?} {b:?}\n{story}"))?;
            }
        }
    }
    Ok(covered)
}

/// Two CPUs with three Prepares, one of them with two in a row: every choice of the three, against a script. Those of
/// the new view only where there is one.
fn search_three(script: &[Act], slots: u32) -> Covered {
    let changes_view = script.iter().any(|act| matches!(act, Install { .. }));
    let packets: Vec<_> = PACKETS.into_iter().filter(|(view, _)| *view == 3 || changes_view).collect();
    let mut covered = Covered::default();
    for a in &packets {
        for b in &packets {
            for c in &packets {
                let world = world(script, &[&[*a, *b], &[*c]], Plants::default(), slots);
                explore(world, &mut covered).unwrap_or_else(|story| panic!("{a:?} {b:?}, {c:?}\n{story}"));
            }
        }
    }
    covered
}

fn sound_scripts() -> Vec<Vec<Act>> {
    vec![view_change(1), view_change(2), takeover(), steady()]
}

#[test]
fn no_interleaving_acks_what_a_drain_does_not_return() {
    let covered = search(&sound_scripts(), Plants::default(), 4).unwrap_or_else(|story| panic!("{story}"));
    assert!(covered.states > 10_000, "{}", covered.states);
    use Verdict::*;
    for verdict in [TxAck, TxAckRepeated, PassRaced, PassFrozen, PassBusy, PassGap, DropViewOld, PassViewNew]
    {
        assert!(covered.verdicts.contains(&verdict), "{verdict:?} never happened");
    }
}

/// The same with three Prepares on two CPUs.
#[test]
fn three_packets_on_two_cpus() {
    for (name, script, slots) in [
        ("view change", view_change(1), 4),
        ("takeover", takeover(), 4),
        ("release", steady(), 4),
        ("release, two slots", steady(), 2),
    ] {
        let covered = search_three(&script, slots);
        println!("three packets, {name}: {} states", covered.states);
        assert!(covered.states > 20_000, "{name}: {}", covered.states);
    }
}

#[test]
fn three_programs_at_once_are_no_different() {
    let mut covered = Covered::default();
    let world = world(&takeover(), &[&[(3, 2)], &[(3, 3)], &[(3, 4)]], Plants::default(), 4);
    explore(world, &mut covered).unwrap_or_else(|story| panic!("{story}"));
}

#[test]
fn slots_are_reused_only_when_released() {
    let covered = search(&[steady()], Plants::default(), 2).unwrap_or_else(|story| panic!("{story}"));
    assert!(covered.verdicts.contains(&Verdict::PassLogFull) && covered.verdicts.contains(&Verdict::TxAck));
}

#[track_caller]
fn caught(result: Result<Covered, String>, rule: &str) {
    match result {
        Ok(covered) => panic!("not noticed in {} states", covered.states),
        Err(story) => assert!(story.contains(rule), "another rule fired:\n{story}"),
    }
}

#[test]
fn a1_a_tail_before_its_slot_is_noticed() {
    caught(search(&sound_scripts(), Plants { publish_before_fill: true, ..Plants::default() }, 4), "C6");
}

#[test]
fn a3_a_cell_shared_by_cpus_is_noticed() {
    caught(search(&sound_scripts(), Plants { shared_scratch: true, ..Plants::default() }, 4), "C8");
}

#[test]
fn p8_a_duplicate_without_a_second_look_is_noticed() {
    caught(search(&[view_change(1)], Plants { duplicate_unchecked: true, ..Plants::default() }, 4), "C2");
}

#[test]
fn a11_reuse_of_an_unreleased_slot_is_noticed() {
    caught(search(&[steady()], Plants { reuse_unreleased: true, ..Plants::default() }, 2), "C6");
}

#[test]
fn p1_a_drain_that_stops_short_is_noticed() {
    let script = vec![Freeze, DrainShort, WaitIdle, Open, Freeze, Drain];
    caught(search(&[script], Plants::default(), 4), "C8");
}

#[test]
fn p2_reopening_with_the_same_epoch_is_noticed() {
    let mut script = view_change(1);
    script[6] = OpenSameEpoch;
    caught(search(&[script], Plants::default(), 4), "C2");
}

#[test]
fn p12_reopening_while_a_writer_is_busy_is_noticed() {
    let mut script = view_change(2);
    script.retain(|act| !matches!(act, WaitIdle));
    caught(search(&[script], Plants::default(), 4), "C");
}
