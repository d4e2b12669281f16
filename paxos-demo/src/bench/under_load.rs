//! Groups under load, and whoever watches them meanwhile: the only way in which a comparison loads groups.

use std::time::{Duration, Instant};

use super::BenchError;
use super::progress::Progress;
use crate::cluster::{Cluster, ClusterError};
use crate::stop::Stop;
use crate::workload::{self, Control, Load, Outcome, Phase};

/// Load before the measured window: caches, neighbours and the CPU's clock settle.
pub const WARM_UP: Duration = Duration::from_millis(500);
/// How often the display moves and the replicas are looked after.
const GLANCE: Duration = Duration::from_millis(100);

/// Loads all `clusters` at once, each by a generator of its own, for as long as `watch` goes on. Returns what that
/// found, and each generator.
///
/// The load comes to its end, with every key read once more, unless `watch` fails or says [`Watch::abort`].
pub fn under_load<T>(
    clusters: &mut [Cluster],
    load: Load,
    stop: &Stop,
    progress: &mut Progress,
    watch: impl FnOnce(&mut Watch<'_>) -> Result<T, BenchError>,
) -> Result<(T, Vec<Outcome>), BenchError> {
    let site = |cluster: &Cluster| Ok((cluster.client_socket()?, cluster.group()));
    let sites = clusters.iter().map(site).collect::<Result<Vec<_>, ClusterError>>()?;
    let controls: Vec<Control> = sites.iter().map(|_| Control::default()).collect();
    std::thread::scope(|scope| {
        let generators: Vec<_> = sites
            .into_iter()
            .zip(&controls)
            .map(|((socket, group), control)| {
                scope.spawn(move || workload::run(socket, &group, load, control))
            })
            .collect();
        let window = Window { begin: Instant::now(), length: None, answered: 0 };
        let mut watching = Watch { clusters, controls: &controls, stop, progress, window };
        let found = watch(&mut watching);
        watching.enter(if found.is_ok() { Phase::Drain } else { Phase::Abort });
        let outcomes = generators
            .into_iter()
            .map(|generator| generator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<_>, _>>();
        Ok((found?, outcomes?))
    })
}

/// The watcher's side of a load that goes on.
#[derive(Debug)]
pub struct Watch<'a> {
    clusters: &'a mut [Cluster],
    controls: &'a [Control],
    stop: &'a Stop,
    progress: &'a mut Progress,
    window: Window,
}

/// What the display shows.
#[derive(Debug)]
struct Window {
    begin: Instant,
    /// Nothing is shown without it.
    length: Option<Duration>,
    /// When it began.
    answered: u64,
}

impl Watch<'_> {
    /// The groups.
    pub fn clusters(&self) -> &[Cluster] {
        self.clusters
    }

    /// Requests answered so far, by all groups.
    pub fn answered(&self) -> u64 {
        self.controls.iter().map(Control::answered).sum()
    }

    /// Lets everything settle.
    pub fn warm_up(&mut self) -> Result<(), BenchError> {
        self.until(WARM_UP)
    }

    /// From here on requests are recorded and the display moves, which expects so much time.
    pub fn begin(&mut self, length: Duration) {
        self.enter(Phase::Measure);
        self.window = Window { begin: Instant::now(), length: Some(length), answered: self.answered() };
    }

    /// Time since [`Watch::begin`], or before that since the load began.
    pub fn passed(&self) -> Duration {
        self.window.begin.elapsed()
    }

    /// Waits until so much time has [`passed`](Watch::passed). Fails at once if a replica ends, which the error names,
    /// or if the user does not want it any more.
    pub fn until(&mut self, passed: Duration) -> Result<(), BenchError> {
        loop {
            let now = self.passed();
            self.show(now);
            // Who ends all processes of a service at once ends the replicas as well, which is no failure of theirs.
            if self.stop.requested() {
                return Err(ClusterError::Interrupted.into());
            }
            self.check_alive()?;
            if now >= passed {
                return Ok(());
            }
            self.stop.sleep(GLANCE.min(passed - now));
        }
    }

    /// The load is to stop at once, whatever is under way.
    pub fn abort(&self) {
        self.enter(Phase::Abort);
    }

    fn enter(&self, phase: Phase) {
        self.controls.iter().for_each(|control| control.enter(phase));
    }

    fn show(&mut self, passed: Duration) {
        let Window { length, answered, .. } = self.window;
        if let Some(length) = length {
            let rate = (self.answered() - answered) as f64 / passed.as_secs_f64().max(0.001);
            self.progress.moved(passed.as_secs_f64() / length.as_secs_f64(), rate);
        }
    }

    fn check_alive(&mut self) -> Result<(), BenchError> {
        let groups = self.clusters.len();
        for (index, cluster) in self.clusters.iter_mut().enumerate() {
            let alive = cluster.check_alive();
            alive.map_err(|source| match groups {
                1 => source.into(),
                _ => BenchError::InGroup { group: index + 1, source },
            })?;
        }
        Ok(())
    }
}
