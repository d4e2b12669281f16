//! The kernel half: what a follower's program does with a Prepare, on its own.

use crate::bounds::{Bounds, Durability};
use crate::network::{Ack, Prepare};
use crate::plants::Plant;
use crate::state::{Gate, GateState, Id, Kernel, Op, Slot, State};

/// A program that was stopped half way through an append (only with [`Bounds::cpus`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    pub prepare: Prepare,
    /// The gate word that it loaded first (F0).
    pub word: Gate,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Decided to append.
    Judged,
    /// Swapped `busy` in.
    Busy,
    /// Wrote the slot.
    Filled,
}

/// A Prepare reaches a follower's kernel.
pub fn arrive(bounds: &Bounds, state: &mut State, at: Id, prepare: Prepare) {
    let leader = state.leader(prepare.view);
    let plant = bounds.plant;
    let durable = state.at(at).disk.log.last_op();
    let kernel = &mut state.at_mut(at).kernel;
    // F2, F3, F4: the gate is open, it is our view, and that view's leader sent it. Whatever does not fit is
    // passed up or dropped; a message that a process looks at is a step of the process.
    let from_leader = prepare.from == leader || plant == Some(Plant::A7);
    if kernel.gate.state != GateState::Follow || prepare.view != kernel.view || !from_leader {
        return;
    }
    if prepare.op <= kernel.gate.tail {
        // F8: a duplicate. In `disk` mode only what is durable. (That the word is loaded again before the ack
        // makes load, look and second load one step.)
        let limit = match bounds.durability {
            Durability::Disk if plant != Some(Plant::P10) => durable,
            _ => kernel.gate.tail,
        };
        if prepare.op <= limit {
            let op = if plant == Some(Plant::A2) { kernel.scratch } else { prepare.op };
            acknowledge(state, at, prepare, op);
        }
        return;
    }
    if matches!(plant, Some(Plant::A2 | Plant::A3)) {
        kernel.scratch = prepare.op;
    }
    // F5: no gap. F6: room.
    if prepare.op != kernel.gate.tail + 1 || !has_room(bounds, kernel, prepare.op) {
        return;
    }
    let program = Program { prepare, word: kernel.gate, phase: Phase::Judged };
    if bounds.cpus == 0 {
        run_through(bounds, state, at, program);
    } else if let Some(cpu) = kernel.programs[..bounds.cpus].iter_mut().find(|cpu| cpu.is_none()) {
        *cpu = Some(program);
    }
}

/// Where programs are not stopped: all steps of F7 as one.
fn run_through(bounds: &Bounds, state: &mut State, at: Id, program: Program) {
    if bounds.plant == Some(Plant::A1) {
        // The tail first; then the fill fails.
        state.at_mut(at).kernel.gate.tail = program.prepare.op;
        return;
    }
    let mut program = Some(program);
    while let Some(running) = program {
        program = step(bounds, state, at, running);
    }
}

/// The next step of the program on a CPU.
pub fn run(bounds: &Bounds, state: &mut State, at: Id, cpu: usize) {
    if let Some(program) = state.at_mut(at).kernel.programs[cpu].take() {
        let program = step(bounds, state, at, program);
        state.at_mut(at).kernel.programs[cpu] = program;
    }
}

/// F7, commit last: `busy`, then the slot, then the tail, and only if all that succeeded the ack.
fn step(bounds: &Bounds, state: &mut State, at: Id, program: Program) -> Option<Program> {
    let Program { prepare, word, phase } = program;
    let kernel = &mut state.at_mut(at).kernel;
    match phase {
        Phase::Judged => {
            if kernel.gate != word || kernel.gate.busy {
                return None;
            }
            kernel.gate.busy = true;
            Some(Program { phase: Phase::Busy, ..program })
        }
        Phase::Busy => {
            let slot = slot_of(bounds, prepare.op);
            kernel.slots[slot] = Some(Slot { epoch: word.epoch, value: prepare.value });
            Some(Program { phase: Phase::Filled, ..program })
        }
        Phase::Filled => {
            let expected = Gate { busy: true, ..word };
            let published = kernel.gate == expected;
            // After a failure (the gate was frozen) only `busy` is cleared; the slot is dead.
            kernel.gate.busy = false;
            if published {
                kernel.gate.tail = prepare.op;
                if bounds.durability == Durability::Memory {
                    let op = if bounds.plant == Some(Plant::A3) { kernel.scratch } else { prepare.op };
                    acknowledge(state, at, prepare, op);
                }
            }
            None
        }
    }
}

/// F9: the packet becomes its own answer.
fn acknowledge(state: &mut State, at: Id, prepare: Prepare, op: Op) {
    let life = state.at(at).kernel.life;
    let Prepare { view, opening, .. } = prepare;
    state.network.send_ack(Ack { from: at, life, view, opening, op, genuine: true });
}

/// F6: an op that nobody drained yet must not lose its slot.
fn has_room(bounds: &Bounds, kernel: &Kernel, op: Op) -> bool {
    let older = |slot: Slot| slot.epoch != kernel.gate.epoch;
    bounds.plant == Some(Plant::A11) || kernel.slots[slot_of(bounds, op)].is_none_or(older)
}

fn slot_of(bounds: &Bounds, op: Op) -> usize {
    (op as usize - 1) % bounds.slots
}

/// U1: from here on no program's swap succeeds. `busy` may stay.
pub fn freeze(kernel: &mut Kernel) {
    kernel.gate.state = GateState::Frozen;
}

/// U2: takes what is published into the process's log, as long as slots hold what they should.
pub fn drain(bounds: &Bounds, state: &mut State, at: Id) {
    let replica = state.at_mut(at);
    let Kernel { gate, slots, .. } = &mut replica.kernel;
    let log = &mut replica.process.log;
    let last = if bounds.plant == Some(Plant::P1) { gate.tail.saturating_sub(1) } else { gate.tail };
    let first = if bounds.plant == Some(Plant::A5) { 1 } else { log.last_op() + 1 };
    for op in first..=last {
        let slot = &mut slots[slot_of(bounds, op)];
        match *slot {
            Some(Slot { epoch, value }) if epoch == gate.epoch && value.op == op => {
                log.append(value);
                *slot = None;
            }
            _ if bounds.plant == Some(Plant::A5) => {}
            _ => break,
        }
    }
}

/// U1: reopening needs `busy == 0`: a stale writer would write into the next opening's slot.
pub fn may_open(bounds: &Bounds, kernel: &Kernel) -> bool {
    !kernel.gate.busy || bounds.plant == Some(Plant::P12)
}

/// U6: writes the configuration of the process's view and opens the gate with a new epoch.
pub fn open(bounds: &Bounds, state: &mut State, at: Id, gate: GateState) {
    let replica = state.at_mut(at);
    let kernel = &mut replica.kernel;
    // Only programs that were stopped before can tell one opening from the next.
    let one = u8::from(bounds.cpus > 0 && bounds.plant != Some(Plant::P2));
    kernel.view = replica.process.view;
    kernel.life = replica.process.life;
    // What is left in slots belongs to older epochs and is dead (F6).
    kernel.slots = Default::default();
    let tail = replica.process.log.last_op();
    kernel.gate = Gate { state: gate, busy: false, epoch: kernel.gate.epoch + one, tail };
}
