//! The loop: what happens next, happens.

use super::machine::{Cpu, Process};
use super::processes::{start, step};
use super::world::{Happening, Shared, World, lock};

/// Lets everything happen that happens up to `until`, or until the run is over.
pub(super) fn pump(shared: &Shared, until: u64) {
    loop {
        let mut world = lock(shared);
        if world.done || world.violation.is_some() {
            return;
        }
        let Some(happening) = world.next(until) else {
            world.set_now(until);
            return;
        };
        match happening {
            Happening::Wake { node, ticket } => {
                if world.may_step(node, ticket) {
                    drop(world);
                    step(shared, node);
                }
            }
            Happening::Start { node } => {
                drop(world);
                start(shared, node);
            }
            other => world.happen(other),
        }
    }
}

impl World {
    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive { node, frame } => self.arrive(node, frame),
            Happening::ToClient { client, frame } => self.reach_client(client, &frame),
            Happening::Cpu { node, cpu } => {
                let Cpu { run, held_until, .. } = &self.nodes[node].cpus[cpu];
                let held_until = *held_until;
                if run.is_some() && held_until > self.now {
                    return self.plan(held_until, Happening::Cpu { node, cpu });
                }
                self.nodes[node].cpus[cpu].planned = false;
                self.run_cpu(node, cpu);
            }
            Happening::ClientTimer { client } => self.client_timer(client),
            Happening::Detach { node, life } => {
                let machine = &mut self.nodes[node];
                if machine.life == life {
                    machine.attached = false;
                    for cpu in 0..2 {
                        self.run_cpu(node, cpu);
                    }
                }
            }
            Happening::Fault(fault) => self.fault(fault),
            Happening::Mend { from, to } => self.links.block(from, to, false),
            Happening::Synced { node, life } => {
                if self.nodes[node].life == life {
                    self.synced(node);
                }
            }
            Happening::Calm => self.calm_down(),
            Happening::Deadline => self.too_late(),
            Happening::Wake { .. } | Happening::Start { .. } => unreachable!("handled by the pump"),
        }
    }

    /// Whether this wake-up is still the one that counts, and the process can run.
    fn may_step(&mut self, node: usize, ticket: u64) -> bool {
        let machine = &mut self.nodes[node];
        if machine.ticket != ticket || !matches!(machine.process, Process::Asleep(_)) {
            return false;
        }
        machine.wake_at = u64::MAX;
        if machine.stopped_until > self.now {
            let at = machine.stopped_until;
            self.wake(node, at);
            return false;
        }
        true
    }
}
