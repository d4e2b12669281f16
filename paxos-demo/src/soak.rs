//! `paxos-demo soak`: a group under full load for a long time. Does anything grow, does every packet have its counter,
//! and is anything left?
//!
//! [`sample`] looks at each process once a second and [`judge`] says whether what it holds grows; [`cut`] reads all
//! counters at one moment, before and after the load, and [`ledger`] balances them; [`leftovers`] looks at the machine
//! when all is over.

pub mod cut;
pub mod judge;
pub mod ledger;
pub mod leftovers;
pub mod sample;

use std::io;
use std::time::Duration;

use serde::Serialize;

use self::cut::Cut;
use self::judge::{MEMORY_SECONDS_MIN, Series, judge, memory_is_judged};
use self::ledger::{Equation, balance};
use self::leftovers::Traces;
use self::sample::Holding;
use crate::bench::progress::Progress;
use crate::bench::run::{check_backend, converge};
use crate::bench::table::grouped;
use crate::bench::under_load::{Watch, under_load};
use crate::bench::{BenchError, host, interrupted};
use crate::cli::{BackendChoice, EXIT_DONE, EXIT_FAILED, SoakArgs, Switch};
use crate::cluster::ready::write_atomically;
use crate::cluster::{Cluster, ClusterError, Spec};
use crate::report::{Host, round};
use crate::stop::Stop;
use crate::workload::{Load, Outcome};

/// Between two samples; less in a run of a few seconds, or there would be too few to judge.
const INTERVAL: Duration = Duration::from_secs(1);
/// Samples of a short run.
const SAMPLES_MIN: f64 = 12.0;
/// Size of the values.
const PAYLOAD_BYTES: usize = 64;
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// What one replica held, for the report.
#[derive(Clone, Debug, Serialize)]
pub struct Held {
    /// Seconds since the load began.
    pub seconds: f64,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub holding: Holding,
}

/// `soak --json`.
#[derive(Clone, Debug, Serialize)]
pub struct SoakReport {
    /// 1.
    pub schema: u32,
    /// Where it ran.
    pub host: Host,
    /// The backend in use.
    pub backend: String,
    /// Members of the group.
    pub replicas: usize,
    /// Clients.
    pub clients: usize,
    /// `1` or `auto`.
    pub batch: String,
    /// The members had keys.
    pub authentication: bool,
    /// Length of the load.
    pub seconds: f64,
    /// Requests answered, all checked.
    pub requests: u64,
    /// Wrong and missing answers.
    pub errors: u64,
    /// What each replica held, in the order of the samples; the last was taken when all was quiet again.
    pub held: Vec<Vec<Held>>,
    /// The books of the group.
    pub equations: Vec<Equation>,
    /// The load was long enough to say something about memory.
    pub memory_judged: bool,
    /// What is wrong, in words; nothing if all is well.
    pub findings: Vec<String>,
}

/// Runs it and returns the exit code.
pub fn run(args: &SoakArgs, stop: &Stop) -> Result<u8, BenchError> {
    let mut progress = Progress::new(1);
    let spec = spec(args).map_err(|source| BenchError::System { action: "find this program", source })?;
    progress.begin(&format!("soak: {} s over {}", args.seconds, spec.backend));
    let report = match soak(args, spec, stop, &mut progress) {
        Ok(report) => report,
        Err(error) => return interrupted(error),
    };
    progress.end(&format!("{} requests, {} findings", report.requests, report.findings.len()));
    progress.finish();
    for (id, held) in report.held.iter().enumerate() {
        println!("{}", in_words(id, held));
    }
    for equation in &report.equations {
        println!("{} {equation}", if equation.holds { "ok   " } else { "WRONG" });
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report).expect("numbers and strings serialise");
        write_atomically(path, &text).map_err(|source| BenchError::Write { path: path.clone(), source })?;
    }
    if report.findings.is_empty() {
        let memory = if report.memory_judged { String::new() } else { format!(" ({})", memory_not_judged()) };
        println!(
            "{} requests in {} s: every answer was right, nothing grew{memory}, every packet was counted, nothing is \
             left.",
            grouped(report.requests as f64),
            report.seconds
        );
        return Ok(EXIT_DONE);
    }
    report.findings.iter().for_each(|finding| eprintln!("error: {finding}"));
    Ok(EXIT_FAILED)
}

fn memory_not_judged() -> String {
    format!("memory not judged, under {MEMORY_SECONDS_MIN:.0} s")
}

/// What a replica held after the warm-up and in the end.
fn in_words(id: usize, held: &[Held]) -> String {
    let end = held.last().map_or(0.0, |last| last.seconds);
    let after = held.iter().find(|of| of.seconds > end / 4.0);
    let of = |held: Option<&Held>| {
        held.map_or_else(String::new, |Held { holding: h, .. }| {
            let (maps, programs, links) = (h.maps.len(), h.programs.len(), h.links.len());
            format!(
                "{} KiB, {} descriptors, {} threads, BPF: {maps} maps, {programs} programs, {links} links",
                h.resident_kib, h.descriptors, h.threads
            )
        })
    };
    format!("replica {id}: after the warm-up {}; in the end {}", of(after), of(held.last()))
}

/// The group that `args` ask for.
pub fn spec(args: &SoakArgs) -> io::Result<Spec> {
    let mut spec = Spec::new(args.replicas)?;
    spec.backend = args.backend.into();
    spec.hook = args.hook;
    spec.batching = args.batch.0;
    spec.authenticated = args.authentication == Switch::On;
    Ok(spec)
}

/// Loads the group of `spec` and judges it.
pub fn soak(
    args: &SoakArgs,
    spec: Spec,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<SoakReport, BenchError> {
    let asked = spec.backend;
    let mut cluster = start(spec, stop)?;
    let about = backend(&cluster, asked)?;
    let before = Cut::take(&cluster, stop)?;
    let length = Duration::from_secs_f64(args.seconds);
    let loaded = load(&mut cluster, args.clients, length, stop, progress)?;
    close(cluster, &before, loaded, about, args, stop)
}

/// Judges what was seen under load and what is there now. What cannot be looked at any more is a finding: the samples of
/// ten minutes are worth more than that.
pub fn close(
    mut cluster: Cluster,
    before: &Cut,
    Loaded { outcome, series, ended_early }: Loaded,
    (backend, host): (String, Host),
    args: &SoakArgs,
    stop: &Stop,
) -> Result<SoakReport, BenchError> {
    let mut findings = outcome.error_samples;
    let alive = ended_early.map_or_else(|| Ok(cluster.check_alive()?), Err);
    let after = alive.and_then(|()| {
        findings.extend(converge(&cluster, stop)?.err());
        Cut::take(&cluster, stop)
    });
    let after = seen(after, "the books cannot be closed", &mut findings)?;
    let equations = after.map_or_else(Vec::new, |after| balance(before, &after));
    let wrong = equations.iter().filter(|equation| !equation.holds);
    findings.extend(wrong.map(|equation| format!("the books do not balance: {equation}")));

    let ends = seen(holdings(&cluster), "what is held in the end cannot be seen", &mut findings)?;
    let ends = ends.unwrap_or_default();
    for (id, (series, end)) in series.iter().zip(&ends).enumerate() {
        findings.extend(judge(id, series, end));
    }
    let held = ends.iter().chain(series.iter().flatten().map(|(_, held)| held));
    let traces = seen(Traces::of(&cluster, held), "what it has cannot be listed", &mut findings)?;
    drop(cluster);
    if let Some(traces) = traces {
        let left = traces.left().map_err(|source| BenchError::System { action: "look for it", source });
        let left = seen(left, "what is left cannot be seen", &mut findings)?;
        findings.extend(left.unwrap_or_default());
    }

    let seconds = round(outcome.seconds, 3);
    let memory_judged = series.iter().all(memory_is_judged);
    let mut ends = ends.into_iter();
    let held = |series: Series| {
        let all = series.into_iter().chain(ends.next().map(|end| (outcome.seconds, end)));
        all.map(|(seconds, holding)| Held { seconds: round(seconds, 2), holding }).collect()
    };
    Ok(SoakReport {
        schema: 1,
        host,
        backend,
        replicas: args.replicas,
        clients: args.clients,
        batch: args.batch.to_string(),
        authentication: args.authentication == Switch::On,
        seconds,
        requests: outcome.checked,
        errors: outcome.errors,
        held: series.into_iter().map(held).collect(),
        equations,
        memory_judged,
        findings,
    })
}

/// What was looked at; if that failed, why is a finding. To be interrupted is none.
fn seen<T>(
    looked: Result<T, BenchError>,
    what: &str,
    findings: &mut Vec<String>,
) -> Result<Option<T>, BenchError> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error @ BenchError::Cluster(ClusterError::Interrupted)) => Err(error),
        Err(error) => {
            findings.push(format!("{what}: {error}"));
            Ok(None)
        }
    }
}

/// A group in which each datagram is a packet: what travels joined is judged as one, and could not be counted.
pub fn start(spec: Spec, stop: &Stop) -> Result<Cluster, BenchError> {
    let cluster = Cluster::start(spec, stop)?;
    if let Some(fabric) = cluster.fabric() {
        (0..fabric.hosts().len()).try_for_each(|host| fabric.cut_apart(host)).map_err(ClusterError::from)?;
    }
    Ok(cluster)
}

/// The backend that runs, which must be the one that was asked for, and where.
pub fn backend(cluster: &Cluster, asked: BackendChoice) -> Result<(String, Host), BenchError> {
    let statuses: Vec<_> = cluster.statuses(STATUS_TIMEOUT)?.into_iter().flatten().collect();
    check_backend(asked, &statuses)?;
    let host = host(statuses.iter().map(|status| (status.node.hook.as_str(), cluster.fabric_name())));
    Ok((statuses.first().map_or_else(String::new, |status| status.node.backend.clone()), host))
}

/// What was seen under load.
#[derive(Debug)]
pub struct Loaded {
    /// What the clients found.
    pub outcome: Outcome,
    /// The samples, by replica.
    pub series: Vec<Series>,
    /// Why the load ended before its time: a replica that ended, or that could not be looked at.
    pub ended_early: Option<BenchError>,
}

/// Loads the group for `length`, with samples, and lets the load come to its end.
pub fn load(
    cluster: &mut Cluster,
    clients: usize,
    length: Duration,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<Loaded, BenchError> {
    let mut series = vec![Series::new(); cluster.config().replicas.len()];
    let load = Load { clients, payload_bytes: PAYLOAD_BYTES, rate: None };
    let (ended_early, mut outcomes) =
        under_load(std::slice::from_mut(cluster), load, stop, progress, |watch| {
            match sample(watch, length, &mut series) {
                Ok(()) => Ok(None),
                Err(error @ BenchError::Cluster(ClusterError::Interrupted)) => Err(error),
                // The samples so far are kept.
                Err(error) => {
                    watch.abort();
                    Ok(Some(error))
                }
            }
        })?;
    Ok(Loaded { outcome: outcomes.remove(0), series, ended_early })
}

/// Samples all processes until `length` is over.
fn sample(watch: &mut Watch<'_>, length: Duration, series: &mut [Series]) -> Result<(), BenchError> {
    let interval = INTERVAL.min(length.div_f64(SAMPLES_MIN));
    watch.begin(length);
    loop {
        // The last sample is of the end, however short the run.
        watch.until((watch.passed() + interval).min(length))?;
        let passed = watch.passed();
        for (of, held) in series.iter_mut().zip(holdings(&watch.clusters()[0])?) {
            of.push((passed.as_secs_f64(), held));
        }
        if passed >= length {
            return Ok(());
        }
    }
}

/// What each replica holds now.
fn holdings(cluster: &Cluster) -> Result<Vec<Holding>, BenchError> {
    let read = |id: usize| {
        let held = cluster.pid(id).map_or_else(|| Err(io::ErrorKind::NotFound.into()), Holding::read);
        held.map_err(|error| io::Error::new(error.kind(), format!("replica {id}: {error}")))
    };
    (0..cluster.config().replicas.len())
        .map(read)
        .collect::<io::Result<_>>()
        .map_err(|source| BenchError::System { action: "look at what a replica holds", source })
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::digest::Digest;
    use crate::node::{Node, NodeStatus};
    use crate::status::{Counters, RoleName, Status};
    use electrode::types::{OpNumber, ReplicaId, View};

    /// Some replica's.
    pub fn status() -> NodeStatus {
        let op = OpNumber(1);
        let replica = Status {
            id: ReplicaId(0),
            view: View(0),
            last_normal_view: View(0),
            role: RoleName::Leader,
            leader: ReplicaId(0),
            last_op: op,
            commit: op,
            applied: op,
            digest: Digest { history: 1, contents: 1 },
            log_first_op: op,
            log_bytes: 0,
            keys: 0,
            client_sessions: 0,
            counters: Counters::default(),
        };
        NodeStatus { replica, node: Node::default() }
    }
}
