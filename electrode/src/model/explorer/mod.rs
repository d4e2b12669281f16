//! Exhaustive search over interleavings: kernel programs on several CPUs and user space, each stopped
//! between any two of its accesses to shared memory.
//!
//! A [`World`] is a kernel, the CPUs with the packets that each works on one after the other, and a script of user
//! space's actions. [`explore`] walks every order of their steps, visiting no state twice, and stops at the first
//! violation with the steps that led to it. Every access is seen by all at once; weaker orders are
//! `crate::backend::weak_memory`'s.

mod follower;
mod leader;
mod succession;

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::{Kernel, Outcome, Run, Step};
use crate::abi::Verdict;
use crate::types::OpNumber;

/// User space and what must hold.
pub(super) trait User: Clone + Hash {
    /// What the next action is called; `None` once the script is over.
    fn next(&self) -> Option<&(impl Debug + ?Sized)>;
    /// Whether the next action can happen now.
    fn ready(&self, kernel: &Kernel) -> bool;
    /// The next action.
    fn act(&mut self, kernel: &mut Kernel) -> Result<(), String>;
    /// A run ended.
    fn saw(&mut self, run: &Run, outcome: &Outcome) -> Result<(), String>;
    /// Everything ended.
    fn finish(&self, kernel: &Kernel) -> Result<(), String>;
}

/// One CPU: the program that runs on it and the packets that wait behind its own, the next one last.
#[derive(Clone, Hash)]
struct Cpu {
    run: Option<Run>,
    waiting: Vec<Arc<[u8]>>,
}

#[derive(Clone)]
pub(super) struct World<U> {
    pub(super) kernel: Kernel,
    cpus: Vec<Cpu>,
    pub(super) user: U,
}

/// What a search without a violation went through.
#[derive(Default)]
pub(super) struct Covered {
    pub(super) states: usize,
    pub(super) verdicts: HashSet<Verdict>,
}

impl<U: User> World<U> {
    /// Each frame on a CPU of its own.
    pub(super) fn new(kernel: Kernel, frames: &[Vec<u8>], user: U) -> Self {
        let queues: Vec<_> = frames.iter().map(std::slice::from_ref).collect();
        Self::queued(kernel, &queues, user)
    }

    /// Each CPU works on its frames one after the other.
    pub(super) fn queued(kernel: Kernel, queues: &[&[Vec<u8>]], user: U) -> Self {
        let waiting =
            |frames: &&[Vec<u8>]| frames.iter().rev().map(|frame| frame.as_slice().into()).collect();
        let cpus = queues.iter().map(|frames| Cpu { run: None, waiting: waiting(frames) }).collect();
        let mut world = Self { kernel, cpus, user };
        (0..queues.len()).for_each(|cpu| world.start_next(cpu));
        world
    }

    /// Puts the next packet to work, up to its program's first access to shared memory.
    fn start_next(&mut self, cpu: usize) {
        let Some(frame) = self.cpus[cpu].waiting.pop() else { return };
        let mut run = Run::new(&frame, cpu as u32);
        let step = run.step(&mut self.kernel);
        assert_eq!(step, Step::Continue, "a packet of the search is refused for its form");
        self.cpus[cpu].run = Some(run);
    }

    fn step_run(&mut self, cpu: usize, covered: &mut Covered) -> Result<(), String> {
        let mut run = self.cpus[cpu].run.take().expect("alive");
        match run.step(&mut self.kernel) {
            Step::Continue => self.cpus[cpu].run = Some(run),
            Step::Done(outcome) => {
                covered.verdicts.insert(outcome.verdict);
                self.user.saw(&run, &outcome)?;
                self.start_next(cpu);
            }
        }
        Ok(())
    }

    /// Of everything that steps depend on: not of constants, and not of counters.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let Kernel { config, control, rounds, slots, scratch, .. } = &self.kernel;
        (config.view, config.leader, control, rounds, slots, scratch).hash(&mut hasher);
        self.cpus.hash(&mut hasher);
        self.user.hash(&mut hasher);
        hasher.finish()
    }
}

/// What a drain reads at `first`, below the tail: it must be a whole batch of this opening (C6).
fn logged(kernel: &Kernel, view: u64, first: OpNumber) -> Result<&[u8], String> {
    let (gate, slot) = (kernel.gate(), kernel.slot(first));
    if !slot.is_batch(gate.epoch, view, first) {
        return Err(format!("C6: the log has no op {first} below its tail {}: {slot:?}", gate.op));
    }
    Ok(&slot.payload)
}

/// Walks all interleavings. `Err` is the story of a violation, one step a line.
pub(super) fn explore<U: User>(world: World<U>, covered: &mut Covered) -> Result<(), String> {
    let mut visited = HashSet::new();
    walk(world, &mut visited, covered).map_err(|mut story| {
        story.reverse();
        story.join("\n")
    })
}

fn walk<U: User>(
    world: World<U>,
    visited: &mut HashSet<u64>,
    covered: &mut Covered,
) -> Result<(), Vec<String>> {
    if !visited.insert(world.digest()) {
        return Ok(());
    }
    covered.states += 1;
    let mut stuck = true;
    for index in 0..world.cpus.len() {
        let Some(run) = &world.cpus[index].run else { continue };
        stuck = false;
        let name = || format!("cpu {}: {}", run.cpu(), run.next_step());
        let mut next = world.clone();
        let done = next.step_run(index, covered).map_err(|violation| vec![violation]);
        done.and_then(|()| walk(next, visited, covered)).map_err(|story| told(story, name()))?;
    }
    if let Some(action) = world.user.next()
        && world.user.ready(&world.kernel)
    {
        stuck = false;
        let name = || format!("user: {action:?}");
        let mut next = world.clone();
        let done = next.user.act(&mut next.kernel).map_err(|violation| vec![violation]);
        done.and_then(|()| walk(next, visited, covered)).map_err(|story| told(story, name()))?;
    }
    if stuck {
        if let Some(action) = world.user.next() {
            return Err(vec![format!("user space waits for ever: {action:?}")]);
        }
        world.user.finish(&world.kernel).map_err(|violation| vec![violation])?;
    }
    Ok(())
}

fn told(mut story: Vec<String>, step: String) -> Vec<String> {
    story.push(step);
    story
}
