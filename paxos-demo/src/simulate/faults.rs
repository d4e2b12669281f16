//! Faults that come by the clock: links that break, processes that are stopped, machines that die, some of them for
//! good, and somebody who plays back what was said before.

use super::machine::{Fate, Machine, Process};
use super::weather::{MS, US};
use super::world::{Fault, Happening, World};
use crate::config::Durability;

/// How long after the faults everything must have settled (C10).
const SETTLE_NS: u64 = 4_000 * MS;
/// Requests that each client makes after the faults.
const LAST_REQUESTS: u32 = 10;

impl World {
    /// Plans the first fault of each kind.
    pub(super) fn plan_faults(&mut self) {
        for fault in Fault::ALL {
            self.plan_fault(fault);
        }
        let end = self.weather.storm_ns;
        self.plan(end, Happening::Calm);
        self.plan(end + SETTLE_NS, Happening::Deadline);
    }

    fn plan_fault(&mut self, fault: Fault) {
        let every = match fault {
            Fault::Partition => self.weather.partition_every_ns,
            Fault::Clog => self.weather.clog_every_ns,
            Fault::Kill => self.weather.kill_every_ns,
            Fault::PowerLoss => self.weather.power_loss_every_ns,
            Fault::Stop => self.weather.stop_every_ns,
            Fault::Gone => self.weather.gone_every_ns,
            Fault::Playback => self.weather.playback_every_ns,
        };
        if every > 0 {
            let at = self.after(every);
            self.plan(at, Happening::Fault(fault));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        // Whoever plays back does not stop when nothing else goes wrong: C10 must hold all the same.
        if self.calm && fault != Fault::Playback {
            return;
        }
        self.plan_fault(fault);
        let members = self.weather.members;
        let node = self.rng.usize(0..members);
        let now = self.now;
        match fault {
            Fault::Partition => self.partition(node),
            Fault::Clog => {
                let to = self.rng.usize(0..members);
                let until = now + self.rng.u64(MS..40 * MS);
                self.links.clog(node, to, until);
            }
            Fault::Stop => {
                let until = now + self.rng.u64(MS..40 * MS);
                self.trace.line(now, |line| {
                    line.push_str(&format!("r{node} is stopped until {:.3} ms", until as f64 / 1e6));
                });
                self.nodes[node].stopped_until = until;
            }
            Fault::Kill => {
                if self.may_lose(node) {
                    self.nodes[node].dies_in = Some(self.rng.u32(0..60));
                }
            }
            Fault::PowerLoss => {
                if self.may_lose(node) {
                    self.nodes[node].dies_in = Some(0);
                    self.lost_power(node);
                }
            }
            Fault::Playback => self.play_back(node),
            Fault::Gone => {
                if self.may_lose(node) && self.may_do_without(node) {
                    self.goes_for_good(node);
                }
            }
        }
    }

    /// A minority may be away for ever, whatever the durability.
    fn may_do_without(&self, node: usize) -> bool {
        let gone = self.nodes.iter().filter(|machine| machine.fate != Fate::Returns).count();
        self.nodes[node].fate == Fate::Returns && 2 * (gone + 1) < self.weather.members
    }

    /// The machine is gone, or only what was in its data directory. Whoever never met the old memory cannot tell the
    /// new one from a first start: that it is turned away is promised only where all others have (D6).
    fn goes_for_good(&mut self, node: usize) {
        let knows = |machine: &Machine| machine.disk.met.get(node).is_some_and(|met| *met != 0);
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        let all_know = others.map(|(_, machine)| machine).all(|m| m.fate != Fate::Returns || knows(m));
        let anew = self.rng.bool() && all_know;
        let fate = if anew { Fate::BeginsAnew { wiped: false } } else { Fate::Gone };
        let now = self.now;
        self.trace.line(now, |line| line.push_str(&format!("r{node} will be lost: {fate:?}")));
        self.nodes[node].fate = fate;
        self.nodes[node].dies_in = Some(self.rng.u32(0..60));
    }

    /// One link, all links of a machine, or the group in two; one way or both ways.
    fn partition(&mut self, node: usize) {
        let members = self.weather.members;
        let until = self.now + self.rng.u64(MS..60 * MS);
        let (out, back) = [(true, false), (false, true), (true, true)][self.rng.usize(0..3)];
        let (side, others) = match self.rng.u8(0..3) {
            0 => (1 << node, 1 << self.rng.usize(0..members)),
            1 => (1 << node, u32::MAX),
            _ => (1 << node | self.rng.u32(..), u32::MAX),
        };
        let now = self.now;
        self.trace.line(now, |line| {
            let (side, others) = (side & ((1 << members) - 1), others & ((1 << members) - 1));
            line.push_str(&format!("cut: {side:05b} from {others:05b}, out {out}, back {back}"));
        });
        let is_in = |set: u32, node: usize| set >> node & 1 == 1;
        for from in (0..members).filter(|from| is_in(side, *from)) {
            for to in (0..members).filter(|to| is_in(others, *to) && !is_in(side, *to)) {
                for (from, to) in [(from, to)].into_iter().filter(|_| out).chain(back.then_some((to, from))) {
                    self.links.block(from, to, true);
                    self.plan(until, Happening::Mend { from, to });
                }
            }
        }
    }

    /// Whether durability promises that the group survives this loss too: in mode `memory` a minority may be
    /// without its memory at a time (what was lost is lost until it has recovered), in mode `disk` all may be.
    fn may_lose(&self, node: usize) -> bool {
        let lost = |(other, machine): &(usize, &Machine)| {
            let gone = machine.dies_in.is_some() || matches!(machine.process, Process::Dead);
            let gone = gone || machine.doomed || machine.fate != Fate::Returns;
            *other != node && (gone || !self.checker.is_whole(*other))
        };
        let lost = self.nodes.iter().enumerate().filter(lost).count();
        !self.memory_only() || 2 * (lost + 1) < self.weather.members
    }

    /// Whether the log is in memory only.
    pub(super) fn memory_only(&self) -> bool {
        self.weather.durability == Durability::Memory
    }

    /// The faults are over: all links work, all machines run that are still there.
    pub(super) fn calm_down(&mut self) {
        let now = self.now;
        self.trace.line(now, |line| line.push_str("--- the faults are over"));
        self.calm = true;
        self.weather.calm();
        self.links.mend_all();
        for node in 0..self.nodes.len() {
            let machine = &mut self.nodes[node];
            machine.stopped_until = 0;
            if machine.dies_in.is_some_and(|left| left > 0) && machine.fate == Fate::Returns {
                machine.dies_in = None;
            }
            self.wake(node, now);
        }
        self.clients.finish(LAST_REQUESTS);
        for client in 0..self.clients.len() {
            self.plan(now + US, Happening::ClientTimer { client });
        }
    }

    pub(super) fn too_late(&mut self) {
        let stuck = self.settled().err().unwrap_or_default();
        let violation = super::check::Violation::new("C10", 0, format!("not settled in time: {stuck}"));
        self.violate(Err(violation));
    }
}
