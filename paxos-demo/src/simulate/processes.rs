//! Lives of a process: it starts, takes steps, is stopped, dies.

use std::panic::{AssertUnwindSafe, catch_unwind};

use electrode::config::{Acks, EndpointConfig};
use electrode::simulation::{Clock, EndpointPlants, FastPath};
use electrode::types::ReplicaId;
use electrode::{Endpoint, Event};

use super::bytecode;
use super::check::Violation;
use super::disk::{Disk, SimStorage};
use super::effect::Killed;
use super::encoder::SimEncoder;
use super::kernel_path::SimKernel;
use super::keys;
use super::machine::{Fate, OFFLOADS, Process, memory};
use super::run::panic_message;
use super::transport::SimTransport;
use super::watched_path::WatchedPath;
use super::weather::{MS, Times, US};
use super::whole::Programs;
use super::world::{Happening, Shared, World, lock};
use crate::batcher::Batching;
use crate::config::Durability;
use crate::driver::{Driver, DriverError, Observer};
use crate::plant::{Plant, Plants};
use crate::replica::{Action, Fatal, GateRole, Memory, Replica, ReplicaConfig};

/// Shows the boundary of a replica to the checkers.
struct Witnessed {
    shared: Shared,
    node: usize,
}

impl Observer for Witnessed {
    fn event(&mut self, event: &Event<'_>) {
        let mut world = lock(&self.shared);
        let World { checker, nodes, .. } = &mut *world;
        let gate = nodes[self.node].kernel.gate().state;
        let checked = match event {
            Event::Logged { first, last, payload, .. } => {
                checker.logged(self.node, *first, *last, payload, gate)
            }
            Event::Quorum { last, .. } => checker.has_quorum(self.node, *last),
            _ => Ok(()),
        };
        world.violate(checked);
    }

    fn action(&mut self, action: &Action) {
        let mut world = lock(&self.shared);
        let World { checker, nodes, .. } = &mut *world;
        let disk = &nodes[self.node].disk;
        let checked = match action {
            Action::Prepare { first, payload, .. } => checker.prepared(self.node, *first, payload),
            Action::InstallLog { keep, snapshot, entries, .. } => {
                checker.installs(self.node, *keep, snapshot.as_ref().map(|(op, _)| *op), entries)
            }
            Action::OpenGate { role, view, last_op, .. } => {
                checker.opens(self.node, *role == GateRole::Lead, *view, *last_op, disk)
            }
            Action::Send { message, .. } => checker.says(self.node, message, disk),
            _ => Ok(()),
        };
        let (now, node) = (world.now, self.node);
        if !matches!(action, Action::Prepare { .. } | Action::Send { .. } | Action::Reply { .. }) {
            world.trace.line(now, |line| line.push_str(&format!("r{node} {action:?}")));
        }
        world.violate(checked);
    }
}

fn endpoint_plants(plants: Plants) -> EndpointPlants {
    EndpointPlants {
        append_beside_kernel: plants.has(Plant::A5),
        single_vote_commits: plants.has(Plant::A6),
        count_by_bits: plants.has(Plant::A8) || plants.has(Plant::P13),
        no_scan: plants.has(Plant::A9),
        same_epoch: plants.has(Plant::P2),
    }
}

impl World {
    fn endpoint_config(&self, node: usize, incarnation: u32) -> EndpointConfig {
        let config = &self.config;
        let mut endpoint = EndpointConfig::new(config.replicas.clone(), ReplicaId(node as u8));
        endpoint.group = config.group;
        endpoint.config_hash = config.config_hash();
        endpoint.keys = self.weather.authenticated.then(|| keys::at_step(self.key_step));
        endpoint.incarnation = incarnation;
        endpoint.peer_incarnation = 0;
        endpoint.offloads = OFFLOADS;
        endpoint.log_slots = config.log_slots;
        endpoint.payload_bytes_max = Some(config.payload_bytes_max as usize);
        endpoint.quorum_window = config.quorum_window;
        if self.weather.durability == Durability::Disk {
            endpoint.acks = Acks::ByCaller;
        }
        endpoint
    }

    fn replica_config(&self, node: usize, incarnation: u32) -> ReplicaConfig {
        let hash = self.config.config_hash();
        let mut replica = ReplicaConfig::new(ReplicaId(node as u8), self.weather.members, incarnation, hash);
        replica.payload_bytes_max = self.config.payload_bytes_max as usize;
        replica.batching = if self.weather.batch_one { Batching::One } else { Batching::Auto };
        replica.pipeline_batches = self.weather.pipeline_batches;
        replica.window_ops = u64::from(self.config.quorum_window) / 2;
        replica.client_sessions_max = 64;
        let Times { heartbeat_ns, resend_ns, leader_timeout_ns, view_change_timeout_ns } = self.weather.times;
        (replica.heartbeat_ns, replica.resend_ns) = (heartbeat_ns, resend_ns);
        replica.leader_timeout_ns = leader_timeout_ns;
        replica.view_change_timeout_ns = view_change_timeout_ns;
        replica.resend_max_ns = 40 * MS;
        replica.hello_ns = 5 * MS;
        replica.hello_max_ns = 40 * MS;
        replica.formation_wait_ns = 20 * MS;
        replica.formation_timeout_ns = 100 * MS;
        replica.lost_after_ns = 2000 * MS;
        replica.repair_ops = self.weather.repair_ops;
        replica.log_bytes_max = self.weather.log_bytes_max;
        replica.snapshot_bytes = self.weather.log_bytes_max as u64;
        replica.durable = self.weather.durability == Durability::Disk;
        let disk = &self.nodes[node].disk;
        replica.born = disk.born.unwrap_or(incarnation);
        replica.met = disk.met.clone();
        replica.plants = self.plants;
        replica
    }

    /// A process is gone; its programs follow when they have run out.
    pub(super) fn died(&mut self, node: usize) {
        let Self { nodes, rng, plants, .. } = self;
        nodes[node].disk.crash(rng);
        if plants.has(Plant::P9) || plants.has(Plant::A17) {
            let ghost = nodes[node].kernel.clone();
            nodes[node].ghosts.push(ghost);
            nodes[node].attached = false;
        }
        let machine = &mut self.nodes[node];
        machine.process = Process::Dead;
        machine.doomed = false;
        machine.dies_in = None;
        machine.armed = false;
        machine.wake_at = u64::MAX;
        machine.inbox.clear();
        let life = machine.life;
        self.trace.line(self.now, |line| line.push_str(&format!("r{node} is dead")));
        let detach = self.now + self.rng.u64(0..MS);
        self.plan(detach, Happening::Detach { node, life });
        if self.stage.is_some() {
            // A story says when.
            return;
        }
        if self.nodes[node].fate == Fate::Gone {
            return;
        }
        let away = self.weather.away_ns_max;
        // One that will be turned away is started again and again, but not at once.
        let pause = if self.nodes[node].fate == Fate::Returns { 0 } else { 50 * MS };
        let back = self.now + pause + self.rng.u64(US..away);
        self.plan(back, Happening::Start { node });
    }

    /// A machine loses its power: everything but what is on disk is gone at once.
    pub(super) fn lost_power(&mut self, node: usize) {
        let now = self.now;
        self.trace.line(now, |line| line.push_str(&format!("r{node} loses power")));
        let machine = &mut self.nodes[node];
        machine.attached = false;
        for cpu in &mut machine.cpus {
            cpu.queue.clear();
            cpu.run = None;
        }
        if matches!(machine.process, Process::Running) {
            machine.doomed = true;
        }
    }
}

/// Begins the next life of a replica, once nothing of the last one is at work (D4).
pub(super) fn start(shared: &Shared, node: usize) {
    let mut world = lock(shared);
    if !matches!(world.nodes[node].process, Process::Dead) {
        return;
    }
    if !world.nodes[node].quiet() {
        let at = world.now + 100 * US;
        return world.plan(at, Happening::Start { node });
    }
    let life = world.nodes[node].life + 1;
    let incarnation = life;
    let now = world.now;
    world.trace.line(now, |line| line.push_str(&format!("r{node} starts, life {life}")));
    let mut fresh = memory(node, &world.config, &world.weather, incarnation, world.plants);
    let key_step = world.key_step;
    if world.weather.authenticated {
        fresh.keys = keys::at_step(key_step).slots();
    }
    let machine = &mut world.nodes[node];
    machine.kernel = fresh;
    machine.object = None;
    machine.key_step = key_step;
    machine.life = life;
    machine.attached = true;
    if machine.fate == (Fate::BeginsAnew { wiped: false }) {
        machine.fate = Fate::BeginsAnew { wiped: true };
        machine.disk = Disk::default();
    }
    machine.disk.born.get_or_insert(incarnation);
    machine.carriers = 0;
    machine.inbox.clear();
    machine.process = Process::Running;
    let memory = world.remembered(node);
    let World { checker, nodes, .. } = &mut *world;
    let checked = checker.born(node, life, &nodes[node].disk);
    world.violate(checked);
    let (endpoint, replica) =
        (world.endpoint_config(node, incarnation), world.replica_config(node, incarnation));
    let (clock, plants, log_slots) = (world.clock(), world.plants, world.config.log_slots);
    let path = match fast_path(shared, &mut world, &endpoint) {
        Ok(path) => path,
        Err(error) => {
            world.violate(Err(Violation::new("start", node, error.to_string())));
            return world.died(node);
        }
    };
    drop(world);

    let transport = SimTransport { shared: shared.clone(), node };
    let driver = catch_unwind(AssertUnwindSafe(|| {
        let endpoint = Endpoint::open_simulated(
            endpoint,
            Box::new(transport),
            path,
            Clock::Virtual(clock),
            endpoint_plants(plants),
        )?;
        let now = endpoint.now_ns();
        let replica = Replica::start(now, replica, memory).expect("a sound configuration and memory");
        let storage = SimStorage { shared: shared.clone(), node };
        let mut driver = Driver::new(endpoint, replica, Box::new(storage), log_slots)?;
        driver.encode_with(Box::new(SimEncoder::new(shared.clone())));
        driver.observe(Box::new(Witnessed { shared: shared.clone(), node }));
        Ok::<_, DriverError>(Box::new(driver))
    }));
    let mut world = lock(shared);
    match driver {
        Ok(Ok(driver)) => {
            world.nodes[node].process = Process::Asleep(driver);
            let now = world.now;
            world.wake(node, now);
            world.play_to_newcomer(node);
        }
        Ok(Err(error)) => {
            world.violate(Err(Violation::new("start", node, error.to_string())));
        }
        Err(payload) => world.unwound(node, payload),
    }
}

/// The fast path of a new life, and where programs are bytecode, these.
fn fast_path(
    shared: &Shared,
    world: &mut World,
    config: &EndpointConfig,
) -> electrode::Result<Box<dyn FastPath>> {
    let node = config.me.index();
    let whole = world.programs != Programs::Stepped;
    let inner: Box<dyn FastPath> = if world.programs == Programs::Bytecode {
        let (object, path) = bytecode::load(world.seed, config, world.now)?;
        world.nodes[node].object = Some(object);
        path
    } else {
        Box::new(SimKernel { shared: shared.clone(), node, members: config.members.clone(), stepped: !whole })
    };
    Ok(Box::new(WatchedPath { shared: shared.clone(), node, inner, whole }))
}

/// The process takes one step of its driver and goes to sleep.
pub(super) fn step(shared: &Shared, node: usize) {
    let (mut driver, keys) = {
        let mut world = lock(shared);
        let keys = world.unread_keys(node);
        let machine = &mut world.nodes[node];
        let Process::Asleep(driver) = std::mem::replace(&mut machine.process, Process::Running) else {
            unreachable!("only sleepers are woken")
        };
        machine.wake_at = u64::MAX;
        (driver, keys)
    };
    let stepped = catch_unwind(AssertUnwindSafe(|| {
        driver.endpoint_mut().disarm();
        if let Some((step, keys)) = keys {
            driver.endpoint_mut().set_keys(&keys)?;
            lock(shared).nodes[node].key_step = step;
        }
        let sleep = driver.step()?;
        let sleeps = sleep.filter(|(_, patience)| driver.endpoint_mut().arm(*patience));
        Ok::<_, DriverError>(sleeps.map(|(timeout, _)| timeout.as_nanos() as u64))
    }));
    let mut world = lock(shared);
    match stepped {
        Ok(Ok(sleep)) => {
            world.stepped(node, driver.replica());
            let machine = &mut world.nodes[node];
            machine.process = Process::Asleep(driver);
            let awake = machine.rang || !machine.inbox.is_empty();
            let pause = world.rng.u64(2 * US..20 * US);
            let at = world.now + if awake { pause } else { sleep.unwrap_or(0).max(pause) };
            world.wake(node, at);
        }
        Ok(Err(error)) => {
            world.ended(node, &error);
            drop(world);
            drop(driver);
        }
        Err(payload) => {
            world.unwound(node, payload);
            drop(world);
            drop(driver);
        }
    }
}

impl World {
    /// What the disk gives back to a new life.
    fn remembered(&self, node: usize) -> Memory {
        let memory_only = self.memory_only();
        let forgets = self.plants.has(Plant::A17);
        let disk = &self.nodes[node].disk;
        let Some((view, last_normal_view)) = disk.state.filter(|_| !forgets) else { return Memory::Nothing };
        if memory_only {
            return Memory::View { view, last_normal_view };
        }
        let (snapshot, log) = (disk.snapshot.clone(), disk.log.clone());
        Memory::Log { view, last_normal_view, snapshot, log }
    }

    /// What a replica shows after each step.
    fn stepped(&mut self, node: usize, replica: &Replica) {
        let commit = replica.commit();
        let durable = self.nodes[node].disk.durable;
        let checked = self.checker.commits(node, commit, replica.is_leading().then_some(durable));
        self.trace.mix(&[node as u64, commit.0, replica.applied().0]);
        self.violate(checked);
    }

    /// A process ended by itself. Only one that began anew may: it was turned away (D6).
    fn ended(&mut self, node: usize, error: &DriverError) {
        let turned_away = matches!(error, DriverError::Fatal(Fatal::TurnedAway { .. }));
        if !turned_away || self.nodes[node].fate == Fate::Returns {
            self.violate(Err(Violation::new("stop", node, error.to_string())));
        }
        let now = self.now;
        self.trace.line(now, |line| line.push_str(&format!("r{node} stops: {error}")));
        self.died(node);
    }

    /// A process ended by unwinding: it was killed, or it panicked.
    fn unwound(&mut self, node: usize, payload: Box<dyn std::any::Any + Send>) {
        if !payload.is::<Killed>() {
            let what = panic_message(&*payload);
            self.violate(Err(Violation::new("panic", node, what)));
        }
        self.died(node);
    }
}
