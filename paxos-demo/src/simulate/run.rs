//! One seed from its first to its last event.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once};

use electrode::abi::Verdict;
use fastrand::Rng;

use super::check::{Coverage, Violation};
use super::compare::compare;
use super::machine::{Fate, Process};
use super::pump::pump;
use super::trace::Trace;
use super::weather::{MS, US, Weather};
use super::whole::Programs;
use super::world::{Happening, Shared, World, lock};
use crate::config::{ClusterConfig, Durability};
use crate::plant::Plants;

/// What a run is asked for.
#[derive(Copy, Clone, Debug, Default)]
pub struct Setting {
    /// Number of replicas; drawn by the seed if not given.
    pub replicas: Option<usize>,
    /// Durability; drawn by the seed if not given.
    pub durability: Option<Durability>,
    /// Faults end after so many milliseconds of virtual time, or earlier if the seed says so.
    pub storm_ms: Option<u64>,
    /// Rules broken on purpose.
    pub plants: Plants,
    /// How kernel programs run.
    pub programs: Programs,
    /// Keep the trace as text.
    pub trace: bool,
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// Equal for equal runs.
    pub trace_hash: u64,
    /// Events in the trace.
    pub events: u64,
    /// Ops committed.
    pub ops: u64,
    /// How often kernel programs came to each verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// How much happened of what is seldom.
    pub coverage: Coverage,
    /// Requests answered.
    pub answers: u64,
    /// Virtual time that passed, in nanoseconds.
    pub virtual_ns: u64,
    /// The trace, if it was asked for.
    pub lines: Vec<String>,
}

/// Runs one seed.
pub fn run_seed(seed: u64, setting: &Setting) -> Outcome {
    match setting.programs {
        Programs::Compare => compare(seed, setting),
        _ => run_once(seed, setting),
    }
}

/// Runs one seed with one kind of programs.
pub(super) fn run_once(seed: u64, setting: &Setting) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let mut weather = Weather::draw(&mut rng, setting.replicas, setting.durability);
    weather.storm_ns = setting.storm_ms.map_or(weather.storm_ns, |ms| weather.storm_ns.min(ms * MS));
    let config = cluster_config(&weather);
    let mut trace = Trace::new(setting.trace);
    trace.line(0, |line| line.push_str(&format!("seed {seed}: {weather:?}")));
    let mut world = World::new(rng, weather, setting.plants, setting.programs, config, trace);
    world.seed = seed;
    for node in 0..world.nodes.len() {
        let at = world.rng.u64(0..5 * MS);
        world.plan(at, Happening::Start { node });
    }
    for client in 0..world.clients.len() {
        let at = world.rng.u64(US..20 * MS);
        world.plan(at, Happening::ClientTimer { client });
    }
    world.plan_faults();
    let shared: Shared = Arc::new(Mutex::new(world));
    quietly(|| settle(&shared));

    let mut world = lock(&shared);
    if setting.programs != Programs::Stepped {
        world.trace_all_memory();
    }
    let processes = world.take_processes();
    if world.violation.is_none() {
        let World { checker, clients, .. } = &mut *world;
        let checked = clients.replay.finish(checker.committed_ops());
        world.violate(checked);
    }
    let outcome = Outcome {
        seed,
        violation: world.violation.take(),
        trace_hash: world.trace.hash(),
        events: world.trace.events(),
        ops: world.checker.committed_ops().len() as u64,
        verdicts: std::mem::take(&mut world.verdicts),
        coverage: world.checker.coverage,
        answers: world.clients.answers,
        virtual_ns: world.now,
        lines: world.trace.take_lines(),
    };
    drop(world);
    drop(processes);
    outcome
}

/// Runs until everything has settled after the faults, or something is wrong.
fn settle(shared: &Shared) {
    loop {
        let until = lock(shared).now + MS;
        pump(shared, until);
        let mut world = lock(shared);
        world.change_keys();
        if world.violation.is_some() || world.calm && world.settled().is_ok() {
            world.done = true;
            return;
        }
    }
}

impl World {
    /// C10: all clients are served and all replicas that are left have applied the same; otherwise what is missing.
    pub(super) fn settled(&self) -> Result<(), String> {
        if !self.clients.done() {
            return Err(format!("clients wait for answers; {}", self.roles()));
        }
        let ops = self.checker.committed_ops().len() as u64;
        let mut digest = None;
        let left = self.nodes.iter().enumerate().filter(|(_, machine)| machine.fate == Fate::Returns);
        for (node, machine) in left {
            let Process::Asleep(driver) = &machine.process else {
                return Err(format!("replica {node} does not run"));
            };
            let status = driver.replica().status();
            if status.applied.0 != ops {
                return Err(format!("replica {node} applied {} of {ops} ops: {status:?}", status.applied));
            }
            if *digest.get_or_insert(status.digest) != status.digest {
                return Err(format!("replica {node} has another state: {status:?}"));
            }
        }
        Ok(())
    }
}

impl World {
    /// The drivers hold the world: taken out, or neither would ever go. Not to be dropped under the lock.
    pub(super) fn take_processes(&mut self) -> Vec<Process> {
        self.nodes.iter_mut().map(|m| std::mem::replace(&mut m.process, Process::Dead)).collect()
    }

    /// What each replica is, in a few words.
    fn roles(&self) -> String {
        let role = |(node, machine): (usize, &super::machine::Machine)| match &machine.process {
            Process::Asleep(driver) => {
                let status = driver.replica().status();
                let (role, view, commit, last) = (status.role, status.view, status.commit, status.last_op);
                format!("r{node} {role:?} in view {view}, committed {commit} of {last}")
            }
            _ => format!("r{node} does not run"),
        };
        self.nodes.iter().enumerate().map(role).collect::<Vec<_>>().join("; ")
    }
}

/// A small group: slots and windows are used again and again.
pub(super) fn cluster_config(weather: &Weather) -> ClusterConfig {
    let replicas = (1..=weather.members).map(|host| SocketAddr::from(([10, 0, 0, host as u8], 7000)));
    let mut config = ClusterConfig::new(1, replicas.collect());
    config.durability = weather.durability;
    config.log_slots = weather.log_slots;
    config.quorum_window = weather.quorum_window;
    config.payload_bytes_max = 256;
    config.timeouts.client_retry_ms = 10;
    config.timeouts.request_timeout_ms = weather.patience_ms;
    config
}

thread_local! {
    /// Whether panics of this thread are expected and caught; the last one's text.
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics inside a simulated process are findings: they are kept instead of printed.
fn hush_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.with_borrow(|quiet| *quiet) {
                LAST_PANIC.with_borrow_mut(|last| *last = Some(info.to_string()));
            } else {
                before(info);
            }
        }));
    });
}

/// Runs with the panics of this thread kept instead of printed.
pub(super) fn quietly<T>(run: impl FnOnce() -> T) -> T {
    hush_panics();
    QUIET.with_borrow_mut(|quiet| *quiet = true);
    let result = run();
    QUIET.with_borrow_mut(|quiet| *quiet = false);
    result
}

/// What a panic said, with its place.
pub(super) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let said = LAST_PANIC.with_borrow_mut(Option::take);
    said.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}
