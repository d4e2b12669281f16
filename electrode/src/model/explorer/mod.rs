//! Exhaustive search over interleavings: kernel programs on several CPUs and user space, each stopped
//! between any two of its accesses to shared memory.
//!
//! A [`World`] is a kernel, the runs in it and a script of user space's actions. [`explore`] walks every
//! order of their steps, visiting no state twice, and stops at the first violation with the steps that
//! led to it.

mod follower;
mod leader;

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use super::{Kernel, Outcome, Run, Step};
use crate::abi::Verdict;

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

#[derive(Clone, Hash)]
pub(super) struct World<U> {
    pub(super) kernel: Kernel,
    pub(super) runs: Vec<Option<Run>>,
    pub(super) user: U,
}

/// What a search without a violation went through.
#[derive(Default)]
pub(super) struct Covered {
    pub(super) states: usize,
    pub(super) verdicts: HashSet<Verdict>,
}

impl<U: User> World<U> {
    pub(super) fn new(kernel: Kernel, frames: &[Vec<u8>], user: U) -> Self {
        let runs = frames.iter().zip(0..).map(|(frame, cpu)| Some(Run::new(frame, cpu))).collect();
        Self { kernel, runs, user }
    }

    fn step_run(&mut self, index: usize, covered: &mut Covered) -> Result<(), String> {
        let mut run = self.runs[index].take().expect("alive");
        match run.step(&mut self.kernel) {
            Step::Continue => self.runs[index] = Some(run),
            Step::Done(outcome) => {
                covered.verdicts.insert(outcome.verdict);
                self.user.saw(&run, &outcome)?;
            }
        }
        Ok(())
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
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
    for index in 0..world.runs.len() {
        let Some(run) = &world.runs[index] else { continue };
        let name = format!("cpu {}: {}", run.cpu(), run.next_step());
        stuck = false;
        let mut next = world.clone();
        let done = next.step_run(index, covered).map_err(|violation| vec![violation]);
        done.and_then(|()| walk(next, visited, covered)).map_err(|story| told(story, name))?;
    }
    if let Some(action) = world.user.next()
        && world.user.ready(&world.kernel)
    {
        let name = format!("user: {action:?}");
        stuck = false;
        let mut next = world.clone();
        let done = next.user.act(&mut next.kernel).map_err(|violation| vec![violation]);
        done.and_then(|()| walk(next, visited, covered)).map_err(|story| told(story, name))?;
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
