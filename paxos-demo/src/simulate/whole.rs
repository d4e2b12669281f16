//! Programs that run from their first step to their last, as one event: the model's, or the bytecode.
//!
//! Both leave the same behind, frame for frame, and everything that they leave goes into the trace: what became of
//! the frame, and all of kernel memory.

use std::hash::{Hash, Hasher};

use clap::ValueEnum;
use electrode::model::{Action, Control, Kernel, Outcome};

use super::bytecode;
use super::machine::Machine;
use super::world::World;

/// All of a memory goes into the trace as often.
const ALL_EVERY: u32 = 64;

/// How the kernel programs of a run are carried out.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Programs {
    /// A model of them, stopped between any two steps.
    #[default]
    #[value(name = "model")]
    Stepped,
    /// The model, each program run to its end at once.
    Whole,
    /// The bytecode, which only runs like that; needs the rights to load it.
    Bytecode,
    /// The same seed with `whole` and with `bytecode`: a difference is a violation.
    Compare,
}

impl Machine {
    /// Runs the program on the hook over a frame.
    fn judge(&mut self, frame: &[u8], now: u64) -> Result<Outcome, bytecode::TestRunError> {
        self.kernel.control.virtual_now_ns = now;
        match &mut self.object {
            Some(object) => object.run(&mut self.kernel, frame, now),
            None => Ok(self.kernel.process(frame)),
        }
    }
}

impl World {
    /// Lets a CPU work until its queue is empty.
    pub(super) fn run_cpu_whole(&mut self, node: usize, cpu: usize) {
        while let Some(frame) = self.next_frame(node, cpu) {
            let machine = &mut self.nodes[node];
            let before = machine.kernel.gate();
            let outcome = match machine.judge(&frame, self.now) {
                Ok(outcome) => outcome,
                Err(error) => return self.violate(Err(bytecode::failed(node, &error))),
            };
            let gate = machine.kernel.control.gate;
            self.tail_moved(node, cpu, &frame, before);
            let action = match &outcome.action {
                Action::Pass => 0,
                Action::Drop => 1,
                Action::Reply(_) => 2,
            };
            self.trace.mix(&[
                node as u64,
                cpu as u64,
                gate,
                outcome.verdict as u64,
                action,
                outcome.rang.into(),
            ]);
            self.trace_memory(node);
            self.judged(node, cpu, &frame, outcome);
        }
    }

    /// What a machine's kernel memory holds, into the trace: every word and counter each time, log and rounds now
    /// and then, for they are long. A trace that is kept as text has all of it each time.
    pub(super) fn trace_memory(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        if let Some(object) = &mut machine.object {
            object.fetch(&mut machine.kernel);
        }
        let Machine { kernel, memory_traced, .. } = machine;
        *memory_traced += 1;
        self.trace.mix(&words(kernel));
        if *memory_traced % ALL_EVERY == 0 {
            self.trace.mix(&[hash(kernel)]);
        }
        self.trace.line(self.now, |line| line.push_str(&format!("r{node} {}", describe(kernel))));
    }

    /// All of every machine's kernel memory, into the trace.
    pub(super) fn trace_all_memory(&mut self) {
        for node in 0..self.nodes.len() {
            self.nodes[node].memory_traced = ALL_EVERY - 1;
            self.trace_memory(node);
        }
    }
}

/// Every word and counter.
fn words(kernel: &Kernel) -> Vec<u64> {
    let Control {
        gate,
        released,
        durable,
        lease_ns,
        virtual_now_ns,
        own_mac,
        ring_at_op,
        ring_at_commit,
        ring_on_quorum,
        commit,
        last_leader_ns,
        heard_op,
        heard_count,
        acked,
        incarnation,
    } = &kernel.control;
    let members = kernel.config.members.len();
    let [gate_words, bells] =
        [[*gate, *released, *durable, *lease_ns], [*ring_at_op, *ring_at_commit, *ring_on_quorum, *commit]];
    let heard = [*virtual_now_ns, *last_leader_ns, *heard_op, *heard_count];
    let others = [kernel.config.view, kernel.config.leader.into(), *own_mac];
    [&gate_words[..], &bells, &heard, &others, &acked[..members], &incarnation[..members], &kernel.counters]
        .concat()
}

/// All of it.
fn hash(kernel: &Kernel) -> u64 {
    let mut words = Words(0);
    kernel.hash(&mut words);
    words.0
}

/// The words that two runs most likely differ in first, and a hash over all.
fn describe(kernel: &Kernel) -> String {
    let control = &kernel.control;
    format!(
        "memory {:016x}: {:?} released {} durable {:x} commit {:x} heard {} acked {:x?} bells {} {} {}",
        hash(kernel),
        kernel.gate(),
        control.released,
        control.durable,
        control.commit,
        control.last_leader_ns,
        &control.acked[..kernel.config.members.len()],
        control.ring_at_op,
        control.ring_at_commit,
        control.ring_on_quorum,
    )
}

/// A hash that is the same everywhere and takes a word at a time: it goes over a few kilobytes with every packet.
struct Words(u64);

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
