//! Everything that is simulated, and the one queue that orders it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering as Memory};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use electrode::abi::Verdict;
use fastrand::Rng;

use super::check::{Checker, Violation};
use super::clients::Clients;
use super::machine::Machine;
use super::recordings::Recordings;
use super::story::Stage;
use super::trace::Trace;
use super::weather::Weather;
use super::whole::Programs;
use super::wire::Links;
use crate::config::ClusterConfig;
use crate::plant::Plants;

/// The world as its parts share it. Nobody holds the lock while code of a replica runs.
pub(super) type Shared = Arc<Mutex<World>>;

/// Takes the lock. A process that dies unwinds, but never while it holds it.
pub(super) fn lock(shared: &Shared) -> MutexGuard<'_, World> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame on its way.
pub(super) type Frame = Arc<[u8]>;

/// Something that happens at its time.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A frame reaches a machine.
    Arrive { node: usize, frame: Frame },
    /// A frame reaches a client.
    ToClient { client: usize, frame: Frame },
    /// A CPU goes on.
    Cpu { node: usize, cpu: usize },
    /// The process looks, unless it has been woken otherwise since.
    Wake { node: usize, ticket: u64 },
    /// A client's timer.
    ClientTimer { client: usize },
    /// The programs of a dead process leave their hooks.
    Detach { node: usize, life: u32 },
    /// The next life begins, as soon as it can.
    Start { node: usize },
    /// A fault of this kind begins, and the next one of it is planned.
    Fault(Fault),
    /// A link works again.
    Mend { from: usize, to: usize },
    /// What was queued at the disk is on disk.
    Synced { node: usize, life: u32 },
    /// The faults are over.
    Calm,
    /// Too late: nothing moved any more.
    Deadline,
}

/// Faults that come by the clock.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Partition,
    Clog,
    Kill,
    PowerLoss,
    Stop,
    Gone,
    Playback,
}

impl Fault {
    pub(super) const ALL: [Self; 7] =
        [Self::Partition, Self::Clog, Self::Kill, Self::PowerLoss, Self::Stop, Self::Gone, Self::Playback];
}

struct Entry {
    at: u64,
    sequence: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    /// Earliest first: the heap gives its greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// All of it.
pub(super) struct World {
    pub now: u64,
    pub seed: u64,
    clock: Arc<AtomicU64>,
    pub rng: Rng,
    pub weather: Weather,
    pub plants: Plants,
    pub programs: Programs,
    pub config: ClusterConfig,
    queue: BinaryHeap<Entry>,
    sequence: u64,
    pub nodes: Vec<Machine>,
    pub links: Links,
    /// Frames that were seen on the wire lately, for those who forge and replay.
    pub seen: VecDeque<(usize, Frame)>,
    /// What was said on each link, for those who play it back.
    pub recordings: Recordings,
    pub clients: Clients,
    pub checker: Checker,
    /// How often programs came to each verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// What a story does; none in a seed.
    pub stage: Option<Stage>,
    pub trace: Trace,
    /// Processes that are interrupted right now.
    pub interrupted: u32,
    /// Which step of changing its keys the group is at, and when the next one may begin.
    pub key_step: u32,
    pub keys_change_at: u64,
    pub calm: bool,
    pub done: bool,
    pub violation: Option<Violation>,
}

impl World {
    pub(super) fn new(
        mut rng: Rng,
        weather: Weather,
        plants: Plants,
        programs: Programs,
        config: ClusterConfig,
        trace: Trace,
    ) -> Self {
        let nodes = (0..weather.members).map(|id| Machine::new(id, &config, &weather)).collect();
        let clients = Clients::new(&weather, &config, &mut rng);
        Self {
            now: 0,
            seed: 0,
            clock: Arc::default(),
            rng,
            links: Links::new(weather.members),
            recordings: Recordings::new(weather.members),
            checker: Checker::new(weather.members, weather.durability),
            verdicts: BTreeMap::new(),
            weather,
            plants,
            programs,
            config,
            queue: BinaryHeap::new(),
            sequence: 0,
            nodes,
            seen: VecDeque::new(),
            stage: None,
            clients,
            trace,
            interrupted: 0,
            key_step: 0,
            keys_change_at: 0,
            calm: false,
            done: false,
            violation: None,
        }
    }

    /// The clock that endpoints read.
    pub(super) fn clock(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.clock)
    }

    pub(super) fn set_now(&mut self, now: u64) {
        if now > self.now {
            self.now = now;
            self.clock.store(now, Memory::Relaxed);
        }
    }

    pub(super) fn plan(&mut self, at: u64, what: Happening) {
        self.sequence += 1;
        self.queue.push(Entry { at: at.max(self.now), sequence: self.sequence, what });
    }

    /// The next thing that happens up to `until`; time goes there.
    pub(super) fn next(&mut self, until: u64) -> Option<Happening> {
        if self.queue.peek()?.at > until {
            return None;
        }
        let entry = self.queue.pop()?;
        self.set_now(entry.at);
        Some(entry.what)
    }

    /// A time in the future, exponentially distributed around `mean`.
    pub(super) fn after(&mut self, mean: u64) -> u64 {
        let uniform = (self.rng.u32(1..=1 << 20) as f64) / f64::from(1 << 20);
        self.now + ((-uniform.ln()) * mean as f64).min(mean as f64 * 8.0) as u64
    }

    /// Whose machine has this address.
    pub(super) fn node_at(&self, addr: SocketAddr) -> Option<usize> {
        self.config.replicas.iter().position(|member| *member == addr)
    }

    /// Records a violation; the first one counts.
    pub(super) fn violate(&mut self, violation: Result<(), Violation>) {
        if let Err(violation) = violation
            && self.violation.is_none()
        {
            self.trace.line(self.now, |line| line.push_str(&format!("VIOLATION {violation}")));
            self.violation = Some(violation);
        }
    }
}
