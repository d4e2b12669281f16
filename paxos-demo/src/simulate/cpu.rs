//! Ingress: frames meet a CPU, programs run there step by step, and what becomes of the frame.

use electrode::abi::Kind;
use electrode::model::{Action, Outcome, Run, Step, frame};
use electrode::wire;
use electrode::words::GateWord;

use super::check::Promise;
use super::machine::Process;
use super::weather::{MS, US};
use super::whole::Programs;
use super::world::{Frame, Happening, World};

impl World {
    /// A frame reaches a machine.
    pub(super) fn arrive(&mut self, node: usize, frame: Frame) {
        let machine = &mut self.nodes[node];
        if !machine.ghosts.is_empty() && self.meet_ghosts(node, &frame) {
            return;
        }
        let machine = &mut self.nodes[node];
        if !machine.attached {
            return self.deliver(node, &frame);
        }
        let cpus = machine.cpus.len();
        let cpu = if self.stage.is_some() { self.staged_cpu(node) } else { self.rng.usize(0..cpus) };
        self.nodes[node].cpus[cpu].queue.push_back(frame);
        self.run_cpu(node, cpu);
    }

    /// Programs that should be gone take their part first (plants A17 and P9). Whether one kept the frame.
    fn meet_ghosts(&mut self, node: usize, frame: &Frame) -> bool {
        for ghost in 0..self.nodes[node].ghosts.len() {
            let kernel = &mut self.nodes[node].ghosts[ghost];
            kernel.control.virtual_now_ns = self.now;
            let outcome = kernel.process(frame);
            match outcome.action {
                Action::Pass => {}
                Action::Drop => return true,
                Action::Reply(reply) => {
                    self.trace.line(self.now, |line| line.push_str(&format!("r{node} GHOST acknowledges")));
                    self.leave(node, reply.into(), true);
                    return true;
                }
            }
        }
        false
    }

    /// Lets a CPU work until its queue is empty or its program is interrupted.
    pub(super) fn run_cpu(&mut self, node: usize, cpu: usize) {
        if self.programs != Programs::Stepped {
            return self.run_cpu_whole(node, cpu);
        }
        while !self.nodes[node].cpus[cpu].planned {
            if !self.ready(node, cpu) {
                return;
            }
            if self.staged_stall(node, cpu) {
                continue;
            }
            loop {
                if self.is_stopped(node, cpu) {
                    return;
                }
                if self.step_cpu(node, cpu) {
                    break;
                }
            }
        }
    }

    /// Whether a program is stopped here for a while. Mostly before it changes something: there it matters most
    /// what others do meanwhile.
    fn is_stopped(&mut self, node: usize, cpu: usize) -> bool {
        let Self { nodes, weather, rng, trace, now, .. } = self;
        let Some(run) = &nodes[node].cpus[cpu].run else { return false };
        if !(run.is_about_to_write() || rng.u8(0..8) == 0) || !weather.stall.hit(rng) {
            return false;
        }
        let most = if rng.bool() { weather.stall_ns_max } else { weather.stall_ns_max.min(300 * US) };
        let at = *now + rng.u64(1..=most);
        trace.line(*now, |line| {
            let next = run.next_step();
            line.push_str(&format!("r{node} cpu{cpu} stands before {next} until {:.3} ms", at as f64 / 1e6));
        });
        self.nodes[node].cpus[cpu].planned = true;
        self.plan(at, Happening::Cpu { node, cpu });
        true
    }

    /// A gate has just closed. Programs that stand before it, with the word that was open, stay there for longer, some of
    /// them until it is open again: where that goes wrong, it does so rarely by itself.
    pub(super) fn hold_cpus(&mut self, node: usize) {
        let Self { nodes, weather, rng, now, stage, .. } = self;
        if stage.is_some() {
            return;
        }
        for cpu in nodes[node].cpus.iter_mut().filter(|cpu| cpu.planned && cpu.run.is_some()) {
            if rng.bool() {
                cpu.held_until = *now + rng.u64(1..=weather.stall_ns_max.max(5 * MS));
            }
        }
    }

    /// Whether there is a program to run; takes the next frame if there is none.
    fn ready(&mut self, node: usize, cpu: usize) -> bool {
        if self.nodes[node].cpus[cpu].run.is_some() {
            return true;
        }
        let Some(frame) = self.next_frame(node, cpu) else { return false };
        self.nodes[node].cpus[cpu].run = Some(Run::new(&frame, cpu as u32));
        true
    }

    /// The next frame that meets a program.
    pub(super) fn next_frame(&mut self, node: usize, cpu: usize) -> Option<Frame> {
        loop {
            let frame = self.nodes[node].cpus[cpu].queue.pop_front()?;
            if self.nodes[node].attached {
                return Some(frame);
            }
            // It has left its hook since; the frame goes where it would go without it.
            self.deliver(node, &frame);
        }
    }

    /// Runs the program at work to its end.
    pub(super) fn finish_cpu(&mut self, node: usize, cpu: usize) {
        while self.nodes[node].cpus[cpu].run.is_some() && !self.step_cpu(node, cpu) {}
    }

    /// One step of the program at work; whether it was the last.
    pub(super) fn step_cpu(&mut self, node: usize, cpu: usize) -> bool {
        let now = self.now;
        let machine = &mut self.nodes[node];
        let Some(mut run) = machine.cpus[cpu].run.take() else { return true };
        machine.kernel.control.virtual_now_ns = now;
        let before = machine.kernel.gate();
        let step = run.step(&mut machine.kernel);
        self.trace.mix(&[node as u64, cpu as u64, machine.kernel.control.gate]);
        self.tail_moved(node, cpu, run.frame(), before);
        let Step::Done(outcome) = step else {
            self.nodes[node].cpus[cpu].run = Some(run);
            return false;
        };
        self.judged(node, cpu, &run.frame().into(), outcome);
        true
    }

    /// A program that works on `frame` may have moved the tail. F7: whatever it acknowledges later, it promises it
    /// here.
    pub(super) fn tail_moved(&mut self, node: usize, cpu: usize, frame: &[u8], before: GateWord) {
        let machine = &self.nodes[node];
        let after = machine.kernel.gate();
        if after.op == before.op {
            return;
        }
        self.trace.line(self.now, |line| {
            let (from, to, epoch) = (before.op, after.op, after.epoch);
            line.push_str(&format!("r{node} cpu{cpu} tail {from} -> {to} in epoch {epoch}"));
        });
        if let Some(promise) = Promise::of(frame, machine.addr)
            && !machine.kernel.params.log_only
        {
            let checked = self.checker.promised(node, promise, &machine.kernel);
            self.violate(checked);
        }
    }

    /// A program is done with a frame.
    pub(super) fn judged(&mut self, node: usize, cpu: usize, frame: &Frame, outcome: Outcome) {
        *self.verdicts.entry(outcome.verdict).or_default() += 1;
        if outcome.rang {
            self.ring(node);
        }
        self.trace.line(self.now, |line| {
            line.push_str(&format!("r{node} cpu{cpu} {}: {}", outcome.verdict.name(), describe(frame)));
        });
        match outcome.action {
            Action::Pass => self.deliver(node, frame),
            Action::Drop => {}
            Action::Reply(reply) => {
                let published = outcome.verdict == electrode::abi::Verdict::TxAck;
                self.leave(node, reply.into(), !published || self.nodes[node].kernel.plants.shared_scratch);
            }
        }
    }

    /// The stack: a datagram with a right checksum goes into the socket, if there is one with room.
    pub(super) fn deliver(&mut self, node: usize, frame: &Frame) {
        let machine = &self.nodes[node];
        if matches!(machine.process, Process::Dead) {
            return;
        }
        let Ok(datagram) = frame::parse(frame, machine.addr) else { return };
        if !datagram.checksum_is_right(frame) {
            return;
        }
        let full = machine.inbox.len() >= self.weather.socket_room || self.staged_full(node);
        if full || self.weather.socket_loses.hit(&mut self.rng) {
            self.trace.line(self.now, |line| {
                line.push_str(&format!("r{node} socket loses {}", describe(frame)));
            });
            return;
        }
        let bytes = datagram.payload(frame).to_vec();
        self.nodes[node].inbox.push_back((bytes, datagram.from));
        let at = self.now + self.rng.u64(2 * US..40 * US);
        self.wake(node, at);
    }

    /// A doorbell rings.
    fn ring(&mut self, node: usize) {
        if self.weather.bell_lost.hit(&mut self.rng) {
            return;
        }
        self.nodes[node].rang = true;
        if self.nodes[node].armed {
            let at = self.now + self.rng.u64(2 * US..40 * US);
            self.wake(node, at);
        }
    }

    /// The process looks at `at`, unless it does so before.
    pub(super) fn wake(&mut self, node: usize, at: u64) {
        let machine = &mut self.nodes[node];
        if !matches!(machine.process, Process::Asleep(_)) {
            return;
        }
        let at = at.max(machine.stopped_until);
        if at < machine.wake_at {
            machine.wake_at = at;
            machine.ticket += 1;
            let ticket = machine.ticket;
            self.plan(at, Happening::Wake { node, ticket });
        }
    }
}

/// A frame in a few words.
pub(super) fn describe(bytes: &[u8]) -> String {
    // Ethernet, IPv4, UDP: the frames of this simulation have no options.
    let Some(payload) = bytes.get(42..) else { return "a short frame".into() };
    let ports = || (bytes[29], bytes[33]);
    let Ok((header, body)) = wire::parse(payload) else {
        return format!("{:?} no datagram of ours", ports());
    };
    let (from, to) = ports();
    let life = header.incarnation.get();
    let what = match header.kind() {
        Some(Kind::Prepare) => format!(
            "Prepare {}..={} commit {} epoch {}",
            header.first(),
            header.last(),
            header.commit(),
            header.leader_epoch()
        ),
        Some(Kind::PrepareOk) => format!("PrepareOk {} epoch {}", header.last(), header.leader_epoch()),
        Some(Kind::Commit) => format!("Commit {}", header.commit()),
        _ => super::wire::describe_message(body),
    };
    format!(".{from}->.{to} r{} life {life} view {}: {what}", header.sender, header.view())
}
