//! What can happen to a process wherever it touches the world.

use super::machine::Cpu;
use super::pump::pump;
use super::world::{Shared, World, lock};

/// A process dies in the middle of whatever it does: the payload of the unwinding.
pub(super) struct Killed;

/// Interrupted processes at a time: each is a call on the stack.
const INTERRUPTED_MAX: u32 = 3;

/// Before every effect of the process of `node`: its kernel programs run on a little, it may be interrupted while
/// the world goes on, and it may die.
pub(super) fn effect(shared: &Shared, node: usize, what: &'static str) {
    let mut world = lock(shared);
    if world.violation.is_some() {
        // The run is over; nobody looks at what would follow.
        drop(world);
        std::panic::resume_unwind(Box::new(Killed));
    }
    world.nudge_cpus(node);
    if world.dies_here(node) {
        let now = world.now;
        world.trace.line(now, |line| line.push_str(&format!("r{node} dies at {what}")));
        drop(world);
        std::panic::resume_unwind(Box::new(Killed));
    }
    if world.interrupted < INTERRUPTED_MAX && {
        let World { weather, rng, .. } = &mut *world;
        weather.interrupt.hit(rng)
    } {
        let longest = world.weather.interrupt_ns_max;
        let now = world.now;
        world.trace.line(now, |line| line.push_str(&format!("r{node} is interrupted at {what}")));
        drop(world);
        pass_time(shared, node, longest);
    }
}

/// The process of `node` waits for up to `longest` nanoseconds; meanwhile the world goes on.
pub(super) fn pass_time(shared: &Shared, node: usize, longest: u64) {
    let mut world = lock(shared);
    if world.interrupted >= INTERRUPTED_MAX {
        return;
    }
    // Short times are as interesting as long ones.
    let most = world.rng.u64(1..=longest);
    let until = world.now + world.rng.u64(1..=most);
    world.interrupted += 1;
    drop(world);
    pump(shared, until);
    let mut world = lock(shared);
    world.interrupted -= 1;
    if world.nodes[node].doomed {
        drop(world);
        std::panic::resume_unwind(Box::new(Killed));
    }
}

impl World {
    /// Programs that were interrupted take a few steps more.
    fn nudge_cpus(&mut self, node: usize) {
        for cpu in 0..self.nodes[node].cpus.len() {
            let Cpu { run, held_until, .. } = &self.nodes[node].cpus[cpu];
            if run.is_some() && *held_until <= self.now && self.weather.nudge.hit(&mut self.rng) {
                for _ in 0..self.rng.u32(1..4) {
                    if self.step_cpu(node, cpu) {
                        break;
                    }
                }
            }
        }
    }

    fn dies_here(&mut self, node: usize) -> bool {
        match &mut self.nodes[node].dies_in {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}
