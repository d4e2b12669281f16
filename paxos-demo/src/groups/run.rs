//! One run: so many groups on the same hosts, each loaded by a generator of its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use electrode::fabric::{Fabric, FabricConfig};
use hdrhistogram::Histogram;

use super::report::GroupsRun;
use crate::bench::BenchError;
use crate::bench::progress::Progress;
use crate::bench::run::{WARM_UP, check_backend, check_counters, converge};
use crate::cli::{BackendChoice, Leaders};
use crate::cluster::{Cluster, ClusterError, Site};
use crate::measure::MachineCpu;
use crate::node::NodeStatus;
use crate::report::{Batch, Latency, round};
use crate::stop::Stop;
use crate::workload::{self, Control, Load, LoadError, Outcome, Phase};

/// Size of the values.
const PAYLOAD_BYTES: usize = 64;
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the display moves.
const GLANCE: Duration = Duration::from_millis(100);

/// What to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// How packets are sent and handled.
    pub backend: BackendChoice,
    /// How many groups.
    pub groups: u16,
    /// Where their leaders are.
    pub leaders: Leaders,
    /// Members of each.
    pub replicas: usize,
    /// Clients of each.
    pub clients: usize,
    /// Requests in a Prepare.
    pub batch: Batch,
    /// Length of the measured window.
    pub seconds: f64,
    /// Number of the repeat.
    pub repeat: usize,
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { backend, groups, replicas, clients, batch, .. } = self;
        let leaders = format!("{:?}", self.leaders).to_lowercase();
        write!(
            f,
            "{backend}: {groups} groups of {replicas}, leaders {leaders}, {clients} clients each, batch {batch}"
        )
    }
}

/// A run and what was wrong with it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// For the report.
    pub run: GroupsRun,
    /// Described.
    pub problems: Vec<String>,
    /// Ingress hook; empty without eBPF.
    pub hook: String,
    /// What carried the packets.
    pub fabric: &'static str,
}

/// Starts the groups of `spec`, one after the other, on hosts that they share.
pub fn start(spec: &Spec, of: &crate::cluster::Spec, stop: &Stop) -> Result<Vec<Cluster>, BenchError> {
    let hosts = FabricConfig { hosts: spec.replicas + 1, ..FabricConfig::default() };
    let fabric =
        Fabric::new(hosts).map_err(|source| ClusterError::Fabric { backend: spec.backend, source })?;
    let fabric = Arc::new(fabric);
    let group = |number: u16| {
        let mut of = of.clone();
        of.backend = spec.backend;
        of.batching = spec.batch.0;
        // The first replica leads the first view.
        let turn = if spec.leaders == Leaders::Spread { usize::from(number) } else { 0 };
        of.site = Some(Site { fabric: Arc::clone(&fabric), number, turn });
        Ok(Cluster::start(of, stop)?)
    };
    (0..spec.groups).map(group).collect()
}

/// Starts the groups, loads them, checks them and removes them.
pub fn measure(spec: &Spec, stop: &Stop, progress: &mut Progress) -> Result<Measured, BenchError> {
    let of = crate::cluster::Spec::new(spec.replicas)
        .map_err(|source| BenchError::System { action: "find this program", source })?;
    let mut clusters = start(spec, &of, stop)?;
    let before = statuses(&clusters)?;
    before.iter().try_for_each(|of_group| check_backend(spec.backend, of_group))?;
    let (cpu, outcomes) = load(&mut clusters, spec, stop, progress)?;
    let (mut problems, mut errors) = (Vec::new(), 0);
    for (number, (cluster, outcome)) in clusters.iter().zip(&outcomes).enumerate() {
        let group = number + 1;
        errors += outcome.errors;
        if outcome.requests == 0 {
            problems.push(format!("group {group}: no answer in the window"));
            errors += 1;
        }
        problems.extend(outcome.error_samples.iter().map(|text| format!("group {group}: {text}")));
        if let Err(text) = converge(cluster, stop)? {
            problems.push(format!("group {group}: {text}"));
            errors += 1;
        }
    }
    let after = statuses(&clusters)?;
    for (number, of_group) in after.iter().enumerate() {
        let heard = heard_of_others(of_group);
        if heard > 0 {
            problems.push(format!("group {}: heard {heard} packets of another group", number + 1));
            errors += heard;
        }
    }

    let rates: Vec<f64> = outcomes.iter().map(rate).collect();
    let requests: u64 = outcomes.iter().map(|outcome| outcome.requests).sum();
    let answered = requests.max(1) as f64;
    let grown = |count: fn(&NodeStatus) -> u64| {
        let sum = |all: &[Vec<NodeStatus>]| all.iter().flatten().map(count).sum::<u64>();
        sum(&after).saturating_sub(sum(&before))
    };
    let view_changes = grown(|status| status.replica.counters.view_changes);
    if view_changes > 0 {
        problems.push(format!("{view_changes} view changes under load"));
    }
    // What the groups did in the whole run, whose requests are more than those of the window.
    let all = outcomes.iter().map(|outcome| outcome.checked).sum::<u64>().max(1) as f64;
    let run = GroupsRun {
        backend: spec.backend.as_str().to_owned(),
        groups: spec.groups,
        leaders: spec.leaders,
        replicas: spec.replicas,
        clients: spec.clients,
        batch: spec.batch,
        repeat: spec.repeat,
        requests,
        errors,
        throughput_rps: round(rates.iter().sum(), 1),
        by_group_rps: rates.iter().map(|rate| round(*rate, 1)).collect(),
        latency_us: Latency::of(&together(&outcomes)),
        cpu_us_per_request: round(cpu.as_secs_f64() * 1e6 / answered, 2),
        foreign_per_request: round(
            grown(|status| status.node.verdicts.get("pass_foreign").copied().unwrap_or(0)) as f64 / all,
            2,
        ),
        view_changes,
    };
    let hook = before[0][0].node.hook.clone();
    Ok(Measured { run, problems, hook, fabric: clusters[0].fabric_name() })
}

/// Packets that reached a replica though their header names another group or configuration.
pub fn heard_of_others(statuses: &[NodeStatus]) -> u64 {
    let count = |status: &NodeStatus| {
        let of = |counters: &std::collections::BTreeMap<String, u64>| {
            counters.get("pass_config").copied().unwrap_or(0)
        };
        // What the program passes user space refuses again.
        of(&status.node.verdicts).max(of(&status.node.endpoint))
    };
    statuses.iter().map(count).sum()
}

fn rate(outcome: &Outcome) -> f64 {
    if outcome.seconds > 0.0 { outcome.requests as f64 / outcome.seconds } else { 0.0 }
}

fn together(outcomes: &[Outcome]) -> Histogram<u64> {
    let mut all = outcomes[0].latency.clone();
    for outcome in &outcomes[1..] {
        all.add(&outcome.latency).expect("all have the same bounds");
    }
    all
}

/// What every replica says, by group.
fn statuses(clusters: &[Cluster]) -> Result<Vec<Vec<NodeStatus>>, BenchError> {
    let of = |cluster: &Cluster| {
        let found = cluster.statuses(STATUS_TIMEOUT)?;
        let silent = || io::Error::new(io::ErrorKind::TimedOut, "a replica does not answer status requests");
        let all: Option<Vec<_>> = found.into_iter().collect();
        let system = |source| BenchError::System { action: "ask for status", source };
        let all = all.ok_or_else(silent).map_err(system)?;
        check_counters(&all).map_err(system)?;
        Ok(all)
    };
    clusters.iter().map(of).collect()
}

/// Loads all groups at once; the machine's busy time in the window, and what each generator found.
fn load(
    clusters: &mut [Cluster],
    spec: &Spec,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<(Duration, Vec<Outcome>), BenchError> {
    let load = Load { clients: spec.clients, payload_bytes: PAYLOAD_BYTES, rate: None };
    let mut sites = Vec::with_capacity(clusters.len());
    for cluster in clusters.iter() {
        sites.push((cluster.client_socket()?, cluster.group(), Control::default()));
    }
    let controls: Vec<&Control> = sites.iter().map(|(_, _, control)| control).collect();
    let enter = |phase| controls.iter().for_each(|control| control.enter(phase));
    std::thread::scope(|scope| {
        let mut generators = Vec::with_capacity(sites.len());
        for (socket, group, control) in &sites {
            let socket = socket.try_clone().map_err(LoadError::from)?;
            generators.push(scope.spawn(move || workload::run(socket, group, load, control)));
        }
        let mut watch = || -> Result<Duration, BenchError> {
            let cpu = || {
                MachineCpu::now()
                    .map_err(|source| BenchError::System { action: "read the machine's CPU time", source })
            };
            wait(clusters, WARM_UP, stop, |_| {})?;
            let before = cpu()?;
            let answered = || controls.iter().map(|control| control.answered()).sum::<u64>();
            let first = answered();
            enter(Phase::Measure);
            let length = Duration::from_secs_f64(spec.seconds);
            wait(clusters, length, stop, |passed| {
                let rate = (answered() - first) as f64 / passed.as_secs_f64().max(0.001);
                progress.moved(passed.as_secs_f64() / spec.seconds, rate);
            })?;
            Ok(cpu()?.since(before))
        };
        let busy = watch();
        enter(if busy.is_ok() { Phase::Drain } else { Phase::Abort });
        let outcomes = generators
            .into_iter()
            .map(|generator| generator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<_>, _>>();
        Ok((busy?, outcomes?))
    })
}

fn wait(
    clusters: &mut [Cluster],
    length: Duration,
    stop: &Stop,
    mut moved: impl FnMut(Duration),
) -> Result<(), BenchError> {
    let start = std::time::Instant::now();
    loop {
        let passed = start.elapsed();
        moved(passed);
        if passed >= length {
            return Ok(());
        }
        clusters.iter_mut().try_for_each(Cluster::check_alive)?;
        if stop.sleep(GLANCE.min(length - passed)) {
            return Err(ClusterError::Interrupted.into());
        }
    }
}
