//! Tells a story, line by line.

use std::sync::{Arc, Mutex};

use fastrand::Rng;

use super::script::{Command, Expect, Line, Role, What};
use super::{Spoiled, Stage, Story, Told};
use crate::config::Durability;
use crate::plant::Plants;
use crate::simulate::check::Checker;
use crate::simulate::check::replay::Replay;
use crate::simulate::disk::Disk;
use crate::simulate::machine::Process;
use crate::simulate::pump::pump;
use crate::simulate::run::{cluster_config, quietly};
use crate::simulate::trace::Trace;
use crate::simulate::weather::{MS, Odds, Times, US, Weather};
use crate::simulate::whole::Programs;
use crate::simulate::world::{Happening, Shared, World, lock};
use crate::status::{RoleName, Status};

/// How long a group may take to form.
const FORM_NS: u64 = 500 * MS;
/// How long after the last line everything must have settled (C10).
const SETTLE_NS: u64 = 2_000 * MS;

/// Nothing goes wrong by itself, and nothing is drawn that a line could depend on.
fn still(rng: &mut Rng, story: &Story) -> Weather {
    let durability = if story.disk { Durability::Disk } else { Durability::Memory };
    let mut weather = Weather::draw(rng, Some(story.replicas), Some(durability));
    weather.calm();
    Weather {
        authenticated: story.keys,
        times: TIMES,
        clients: 0,
        log_slots: story.slots,
        quorum_window: story.slots.max(8),
        batch_one: true,
        pipeline_batches: 4,
        repair_ops: 16,
        log_bytes_max: 60_000,
        interrupt: Odds::NEVER,
        nudge: Odds::NEVER,
        fsync_ns_max: 100 * US,
        encode_ns_max: 0,
        ..weather
    }
}

/// The times that stories count on, whatever seeds are run with. `tests/scripts/README.md` names them.
const TIMES: Times = Times {
    heartbeat_ns: 10 * MS,
    resend_ns: 4 * MS,
    leader_timeout_ns: 30 * MS,
    view_change_timeout_ns: 30 * MS,
};

pub(super) fn tell(story: &Story, seed: u64, plants: Plants) -> Told {
    let mut rng = Rng::with_seed(seed);
    let weather = still(&mut rng, story);
    let config = cluster_config(&weather);
    let stage = Stage::new(&config, story.keys);
    let mut world = World::new(rng, weather, plants, Programs::Stepped, config, Trace::new(true));
    world.stage = Some(stage);
    for node in 0..world.nodes.len() {
        world.plan(0, Happening::Start { node });
    }
    let shared: Shared = Arc::new(Mutex::new(world));
    let spoiled = quietly(|| Teller { shared: shared.clone(), line: 0 }.tell(&story.lines)).err();
    let mut world = lock(&shared);
    let (trace, processes) = (world.trace.take_lines(), world.take_processes());
    drop(world);
    drop(processes);
    Told { spoiled, trace }
}

struct Teller {
    shared: Shared,
    /// The line that is being told.
    line: usize,
}

impl Teller {
    fn tell(&mut self, lines: &[Line]) -> Result<(), Spoiled> {
        self.until(FORM_NS, "the group forms", World::formed)?;
        for line in lines {
            self.line = line.number;
            {
                let mut world = lock(&self.shared);
                let now = world.now;
                world.trace.line(now, |text| text.push_str(&format!("=== {}: {}", line.number, line.text)));
            }
            let done = self.carry_out(&line.command);
            self.holds()?;
            done.map_err(|found| self.wrong(&line.text, found))?;
        }
        self.end()
    }

    fn wrong(&self, text: &str, found: String) -> Spoiled {
        Spoiled::Line { line: self.line, text: text.to_owned(), found }
    }

    /// No checker has seen anything.
    fn holds(&self) -> Result<(), Spoiled> {
        match lock(&self.shared).violation.take() {
            Some(violation) => Err(Spoiled::Rule { line: self.line, violation }),
            None => Ok(()),
        }
    }

    fn pass(&self, ns: u64) {
        let until = lock(&self.shared).now + ns;
        pump(&self.shared, until);
    }

    /// Lets time pass until `condition` holds.
    fn until(
        &self,
        longest: u64,
        what: &str,
        condition: impl Fn(&World) -> Result<(), String>,
    ) -> Result<(), Spoiled> {
        let deadline = lock(&self.shared).now + longest;
        loop {
            self.pass(MS);
            self.holds()?;
            let world = lock(&self.shared);
            match condition(&world) {
                Ok(()) => return Ok(()),
                Err(found) if world.now >= deadline => return Err(self.wrong(what, found)),
                Err(_) => {}
            }
        }
    }

    fn carry_out(&self, command: &Command) -> Result<(), String> {
        if let Command::Tick(ms) = command {
            self.pass(ms * MS);
            return Ok(());
        }
        let mut guard = lock(&self.shared);
        let world = &mut *guard;
        match command {
            Command::Propose { to, name } => world.propose(*to, name),
            Command::Retry { to, name } => world.ask(*to, name),
            Command::Drop { link, what } => world.stage().rule(*link, what, false),
            Command::Hold { link, what } => world.stage().rule(*link, what, true),
            Command::Release { link } => world.release(*link),
            Command::Repeat { from, to, what } => return world.repeat(*from, *to, what),
            Command::Replay { link, what } => return world.replay(*link, what),
            Command::Forge { from, to, what } => return world.forge_staged(*from, *to, what),
            Command::Heal { node } => world.heal(*node),
            Command::Pause(node) => world.nodes[*node].stopped_until = u64::MAX,
            Command::Go(node) => world.goes_on(*node),
            Command::Full(node) => world.stage().full[*node] = true,
            Command::Room(node) => world.stage().full[*node] = false,
            Command::Stall { node, what, step } => world.stall(*node, what, step),
            Command::Resume { node, what } => return world.resume(*node, what),
            Command::Crash(node) => {
                let process = world.crash(*node);
                drop(guard);
                // A driver takes leave of its endpoint, which asks for the world.
                drop(process?);
            }
            Command::Restart(node) => {
                let (node, now) = (*node, world.now);
                world.plan(now, Happening::Start { node });
            }
            Command::FoundAnew => return world.found_anew(),
            Command::Expect(expect) => return world.expect(expect),
            Command::Tick(_) => {}
        }
        Ok(())
    }

    /// Everything is healed and restarted, and all agree (C10); every answer has its explanation (C9).
    fn end(&mut self) -> Result<(), Spoiled> {
        {
            let mut world = lock(&self.shared);
            world.heal(None);
            for node in 0..world.nodes.len() {
                // Nothing may be stopped there.
                let _ = world.resume(node, &What::ANY);
                world.goes_on(node);
                world.stage().full[node] = false;
                let now = world.now;
                world.plan(now, Happening::Start { node });
            }
        }
        self.holds()?;
        self.until(SETTLE_NS, "at the end all agree (C10)", World::settled)?;
        let mut world = lock(&self.shared);
        let World { checker, clients, .. } = &mut *world;
        let checked = clients.replay.finish(checker.committed_ops());
        checked.map_err(|violation| Spoiled::Rule { line: self.line, violation })
    }
}

impl World {
    /// Replica 0 leads, and all others follow it.
    fn formed(&self) -> Result<(), String> {
        for node in 0..self.nodes.len() {
            let status = self.status(node)?;
            let role = if node == 0 { RoleName::Leader } else { RoleName::Follower };
            if status.role != role {
                return Err(format!("replica {node} is {:?}", status.role));
            }
        }
        self.settled()
    }

    fn status(&self, node: usize) -> Result<Status, String> {
        match &self.nodes[node].process {
            Process::Asleep(driver) => Ok(driver.replica().status()),
            _ => Err(format!("replica {node} does not run")),
        }
    }

    fn goes_on(&mut self, node: usize) {
        let now = self.now;
        self.nodes[node].stopped_until = 0;
        self.wake(node, now);
    }

    /// The process dies in its sleep.
    fn crash(&mut self, node: usize) -> Result<Process, String> {
        self.status(node)?;
        let process = std::mem::replace(&mut self.nodes[node].process, Process::Dead);
        self.died(node);
        Ok(process)
    }

    /// All data directories are wiped, and whoever is started from now on is told that this is a first life. What
    /// was promised before binds nobody, so those who check forget it, too. Lives are counted on: as by a clock.
    fn found_anew(&mut self) -> Result<(), String> {
        if let Some(node) = self.nodes.iter().position(|machine| !matches!(machine.process, Process::Dead)) {
            return Err(format!("replica {node} runs"));
        }
        for machine in &mut self.nodes {
            machine.disk = Disk::default();
        }
        self.checker = Checker::new(self.weather.members, self.weather.durability);
        self.clients.replay = Replay::default();
        Ok(())
    }

    fn expect(&self, expect: &Expect) -> Result<(), String> {
        let (holds, found) = match expect {
            Expect::Role { node, role } => {
                let status = self.status(*node)?;
                let expected = match role {
                    Role::Leads => RoleName::Leader,
                    Role::Follows => RoleName::Follower,
                    Role::Recovers => RoleName::Recovering,
                    Role::ChangesView => RoleName::ViewChange,
                };
                (status.role == expected, format!("it is {:?} in view {}", status.role, status.view))
            }
            Expect::View { node, view } => {
                let status = self.status(*node)?;
                (status.view.0 == *view, format!("it is {:?} in view {}", status.role, status.view))
            }
            Expect::Holds { node, name, holds } => {
                let client = self.stage.as_ref().map_or(0, |stage| stage.client(name));
                let found = self.checker.holds(*node, client, &self.nodes[*node].kernel);
                (found == *holds, if found { "it holds it" } else { "it lacks it" }.to_owned())
            }
            Expect::Answered { name, answered } => {
                let found = self.stage.as_ref().is_some_and(|stage| stage.is_answered(name));
                (found == *answered, if found { "it was answered" } else { "it is open" }.to_owned())
            }
            Expect::CommittedOnce { name } => {
                let client = self.stage.as_ref().map_or(0, |stage| stage.client(name));
                let times = self.checker.committed.iter().filter(|op| op.client == client).count();
                (times == 1, format!("it is {times} times in the committed log"))
            }
        };
        if holds { Ok(()) } else { Err(found) }
    }
}
