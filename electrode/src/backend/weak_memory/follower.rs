//! Three Prepares on two CPUs against freeze, drain, reopening and release: C2, C6, C8, F7.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use super::memory::{Payload, Weak};
use super::program::{self, Prepare, Prepared};
use super::{Explored, Plant, Seen, caught, explore, sound};
use crate::abi::Verdict;
use crate::backend::{Heard, Opening, Wake, shared};
use crate::types::{Epoch, OpNumber, ReplicaId, View};
use crate::words::{GateState, GateWord};

const OLD: View = View(3);
const NEW: View = View(4);
const FIRST: Epoch = Epoch(1);

/// What user space does, one call of the real code each.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Act {
    Freeze,
    /// U2: the gate is frozen.
    Drain,
    /// The same with the gate open: what is there already.
    Poll,
    /// F6: all that was read may be overwritten.
    Release,
    /// U6: with the first `keep` ops of the old log, in a new epoch.
    Open {
        view: View,
        keep: usize,
    },
    /// Arms the doorbell for the next op and looks once more.
    Sleep,
}

use Act::{Drain, Freeze, Open, Poll, Release, Sleep};

/// User space, and all that was promised.
struct Follower {
    memory: Arc<Weak>,
    view: View,
    epoch: Epoch,
    log: Vec<Payload>,
    /// Log and view at the end of each opening.
    drained: BTreeMap<u16, (View, Vec<Payload>)>,
    /// The op that user space sleeps for.
    asleep: Option<OpNumber>,
}

impl Follower {
    fn held(&self) -> OpNumber {
        OpNumber(self.log.len() as u64)
    }

    fn read(&mut self) {
        let (log, view) = (&mut self.log, self.view);
        let from = OpNumber(log.len() as u64);
        let last = shared::drain(&*self.memory, from, &mut |batch| {
            let payload: Payload = batch.payload.try_into().expect("two bytes");
            // F7: header and payload of one packet, of this view.
            assert_eq!((batch.view, payload[0]), (view, view.0 as u8), "F7: torn slot");
            log.push(payload);
        });
        assert_eq!(last, self.held());
    }

    fn open(&mut self, view: View, keep: usize) {
        let memory = &*self.memory;
        let frozen = shared::gate(memory);
        let wait = || {
            loom::thread::yield_now();
            true
        };
        let Ok(()) = shared::await_writers(memory, wait, || Ok::<_, Infallible>(()));
        self.log.truncate(keep);
        let same = memory.plant == Plant::SameEpoch;
        (self.view, self.epoch) = (view, if same { self.epoch } else { self.epoch.next() });
        shared::open(
            memory,
            frozen,
            &Opening {
                state: GateState::Follow,
                epoch: self.epoch,
                view,
                leader: ReplicaId(0),
                tail: OpNumber(self.log.len() as u64),
                fresh: true,
                heard: Heard::default(),
            },
        );
    }

    fn act(&mut self, act: Act) {
        match act {
            Freeze => shared::freeze(&*self.memory),
            Drain => {
                self.read();
                self.drained.insert(self.epoch.0, (self.view, self.log.clone()));
            }
            Poll => self.read(),
            Release => shared::release(&*self.memory, self.held()),
            Open { view, keep } => self.open(view, keep),
            Sleep => {
                let at = self.held().next();
                shared::arm(&*self.memory, Wake { at_op: Some(at), ..Wake::default() });
                self.asleep = (shared::gate(&*self.memory).op < at).then_some(at);
            }
        }
    }

    /// C2 and C8, after everything.
    fn check(&self, seen: &[Prepared]) {
        for ack in seen.iter().filter_map(|program| program.ack) {
            let (view, log) = &self.drained[&ack.epoch.0];
            assert!(
                log.len() as u64 >= ack.op.0,
                "C8: op {} was acked in opening {}, its drain ends at {}",
                ack.op,
                ack.epoch.0,
                log.len()
            );
            let ordered = |payload: &Payload| payload[0] == OLD.0 as u8 || payload[0] == ack.view.0 as u8;
            assert!(
                *view == ack.view && log[..ack.op.0 as usize].iter().all(ordered),
                "C2: {ack:?}, the log of {view:?} is {log:?}"
            );
        }
        let appended: usize = seen.iter().filter(|program| program.verdict == Verdict::TxAck).count();
        let rang = seen.iter().filter(|program| program.rang).count();
        assert!(rang <= 1, "a doorbell rang {rang} times");
        if let Some(op) = self.asleep {
            let due = self.drained.values().any(|(_, log)| log.len() as u64 >= op.0);
            assert!(!due || rang == 1, "a wake-up was lost: {appended} ops, asleep for {op}");
        }
    }
}

/// What all executions of an exploration saw together.
type Verdicts = Arc<Mutex<Vec<Verdict>>>;

/// One run: `packets` by CPU, against `script`, in a log of `slots`.
fn run(plant: Plant, slots: usize, packets: [&'static [Prepare]; 2], script: &[Act], verdicts: &Verdicts) {
    let gate = GateWord { state: GateState::Follow, busy: false, epoch: FIRST, op: OpNumber(0) };
    let memory = Arc::new(Weak::new(plant, gate, OLD, slots, 0));
    let seen = Seen::default();
    let cpus = packets.map(|packets| {
        let (memory, seen) = (Arc::clone(&memory), Arc::clone(&seen));
        loom::thread::spawn(move || {
            for packet in packets {
                let prepared = program::prepare(&memory, *packet);
                seen.lock().expect("nobody panicked").push(prepared);
            }
        })
    });
    let mut user =
        Follower { memory, view: OLD, epoch: FIRST, log: Vec::new(), drained: BTreeMap::new(), asleep: None };
    script.iter().for_each(|act| user.act(*act));
    cpus.into_iter().for_each(|cpu| cpu.join().expect("loom ends the execution first"));
    [Freeze, Drain].into_iter().for_each(|act| user.act(act));
    let seen = seen.lock().expect("nobody panicked");
    user.check(&seen);
    let mut verdicts = verdicts.lock().expect("nobody panicked");
    for program in seen.iter() {
        if !verdicts.contains(&program.verdict) {
            verdicts.push(program.verdict);
        }
    }
}

struct Scenario {
    name: &'static str,
    slots: usize,
    packets: [&'static [Prepare]; 2],
    script: Vec<Act>,
    /// See [`explore`].
    preemptions: Option<usize>,
    /// Verdicts that must have happened, or the exploration shows little.
    expected: &'static [Verdict],
}

impl Scenario {
    fn explore(&self, plant: Plant) -> Result<Explored, String> {
        let (slots, packets, script) = (self.slots, self.packets, self.script.clone());
        let verdicts = Verdicts::default();
        let all = Arc::clone(&verdicts);
        let explored = explore(self.preemptions, move || run(plant, slots, packets, &script, &all))?;
        let verdicts = verdicts.lock().expect("nobody panicked");
        for verdict in self.expected {
            assert!(verdicts.contains(verdict), "{}: {verdict:?} never happened: {verdicts:?}", self.name);
        }
        Ok(explored)
    }

    #[track_caller]
    fn is_sound(&self) {
        sound(self.name, self.explore(Plant::Nothing));
    }
}

/// Prepares as (view, op, number of the packet).
macro_rules! packets {
    ($(($view:expr, $op:expr, $packet:expr)),*) => {{
        const PACKETS: &[Prepare] = &[$(Prepare {
            view: $view,
            op: OpNumber($op),
            payload: [$view.0 as u8, $packet],
        }),*];
        PACKETS
    }};
}

/// A view change that keeps `keep` ops.
fn view_change(keep: usize) -> Vec<Act> {
    vec![Freeze, Drain, Open { view: NEW, keep }]
}

/// U8: user space takes the log over and gives it back.
fn take_over() -> Vec<Act> {
    vec![Poll, Freeze, Drain, Open { view: OLD, keep: usize::MAX }]
}

use Verdict::{PassBusy, PassFrozen, PassGap, PassLogFull, PassRaced, PassViewNew, TxAck, TxAckRepeated};

fn in_order() -> Scenario {
    Scenario {
        name: "two in order, one of them twice; the view changes",
        slots: 4,
        packets: [packets![(OLD, 1, 0), (OLD, 2, 1)], packets![(OLD, 2, 2)]],
        script: view_change(1),
        preemptions: Some(3),
        expected: &[TxAck, TxAckRepeated, PassFrozen, PassRaced, PassGap, Verdict::DropViewOld],
    }
}

fn out_of_order() -> Scenario {
    Scenario {
        name: "two out of order, one of them twice; user space takes over",
        slots: 4,
        packets: [packets![(OLD, 2, 0), (OLD, 1, 1)], packets![(OLD, 1, 2)]],
        script: take_over(),
        preemptions: Some(3),
        expected: &[TxAck, TxAckRepeated, PassFrozen, PassRaced, PassGap],
    }
}

fn both_views() -> Scenario {
    Scenario {
        name: "an op of the old view, its successors in both; the view changes",
        slots: 4,
        packets: [packets![(OLD, 1, 0), (NEW, 2, 1)], packets![(OLD, 2, 2)]],
        script: view_change(1),
        preemptions: Some(3),
        expected: &[TxAck, PassFrozen, PassRaced, PassViewNew],
    }
}

/// The old view's op 1 gives way to the new view's: an ack of the one must not stand for the other.
fn replaced() -> Scenario {
    Scenario {
        name: "an op of the old view that the new one replaces",
        slots: 4,
        packets: [packets![(OLD, 1, 0), (NEW, 1, 1)], packets![(OLD, 1, 2)]],
        script: view_change(0),
        preemptions: Some(3),
        expected: &[TxAck, TxAckRepeated, PassFrozen, PassRaced, PassViewNew],
    }
}

fn one_slot() -> Scenario {
    Scenario {
        name: "a log of one slot, used again",
        slots: 1,
        packets: [packets![(OLD, 1, 0), (OLD, 2, 1)], packets![(OLD, 2, 2)]],
        script: vec![Poll, Release],
        preemptions: Some(4),
        expected: &[TxAck, TxAckRepeated, PassLogFull, PassBusy, PassGap],
    }
}

fn asleep() -> Scenario {
    Scenario {
        name: "user space goes to sleep",
        slots: 4,
        packets: [packets![(OLD, 1, 0), (OLD, 2, 1)], packets![(OLD, 1, 2)]],
        script: vec![Sleep],
        preemptions: Some(4),
        expected: &[TxAck, TxAckRepeated],
    }
}

/// Small enough for all orders: no bound.
fn unbounded() -> [Scenario; 2] {
    let small = |name, packets, script| Scenario {
        name,
        slots: 4,
        packets,
        script,
        preemptions: None,
        expected: &[TxAck],
    };
    [
        small(
            "three Prepares, user space looks afterwards",
            [packets![(OLD, 1, 0), (OLD, 2, 1)], packets![(OLD, 2, 2)]],
            vec![],
        ),
        small(
            "two Prepares, frozen and drained",
            [packets![(OLD, 1, 0)], packets![(OLD, 2, 1)]],
            vec![Freeze, Drain],
        ),
    ]
}

#[test]
fn no_ack_that_the_drain_does_not_return() {
    [in_order(), out_of_order()].iter().for_each(Scenario::is_sound);
}

#[test]
fn no_ack_of_one_view_for_an_op_of_another() {
    [both_views(), replaced()].iter().for_each(Scenario::is_sound);
}

#[test]
fn a_slot_is_reused_only_when_it_was_read() {
    one_slot().is_sound();
}

#[test]
fn no_wake_up_is_lost() {
    asleep().is_sound();
}

#[test]
fn what_is_small_enough_without_a_bound() {
    unbounded().iter().for_each(Scenario::is_sound);
}

/// loom's word for two accesses to a payload that nothing orders.
const RACE: &str = "Causality violation";

#[test]
fn f7_publishing_without_releasing_is_noticed() {
    caught(in_order().explore(Plant::PublishRelaxed), RACE);
}

#[test]
fn a1_a_tail_before_its_slot_is_noticed() {
    caught(in_order().explore(Plant::PublishBeforeFill), RACE);
}

#[test]
fn u2_a_drain_that_does_not_acquire_is_noticed() {
    caught(one_slot().explore(Plant::DrainRelaxed), RACE);
}

#[test]
fn p12_reopening_while_a_writer_is_busy_is_noticed() {
    caught(replaced().explore(Plant::BusyIgnored), RACE);
}

#[test]
fn f0_a_gate_loaded_without_acquiring_is_noticed() {
    caught(replaced().explore(Plant::GateRelaxed), "F7");
}

#[test]
fn p8_a_duplicate_without_a_second_look_is_noticed() {
    caught(both_views().explore(Plant::DuplicateUnchecked), "C2");
}

#[test]
fn f0_a_configuration_seen_before_the_freeze_is_noticed() {
    caught(both_views().explore(Plant::FenceLeftOut), "C2");
}

#[test]
fn f6_releasing_without_release_is_noticed() {
    caught(one_slot().explore(Plant::ReleaseRelaxed), RACE);
}

#[test]
fn a11_reuse_of_an_unreleased_slot_is_noticed() {
    caught(one_slot().explore(Plant::ReuseUnreleased), "kernel log broken");
}

#[test]
fn p2_reopening_with_the_same_epoch_is_noticed() {
    caught(replaced().explore(Plant::SameEpoch), "C");
}

#[test]
fn a_wake_up_lost_between_looking_and_sleeping_is_noticed() {
    for plant in [Plant::FenceLeftOut, Plant::SwapNoBarrier] {
        caught(asleep().explore(plant), "a wake-up was lost");
    }
}
