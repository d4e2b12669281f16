//! `paxos-demo failover`: kills the leader again and again and measures for how long nobody is served.

mod probe;

use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use hdrhistogram::Histogram;
use serde::Serialize;

use self::probe::Prober;
use crate::bench::BenchError;
use crate::cli::{EXIT_DONE, FailoverArgs};
use crate::cluster::ready::write_atomically;
use crate::cluster::{Cluster, ClusterError, Spec};
use crate::node::NodeStatus;
use crate::status::RoleName;
use crate::stop::Stop;

/// How long a group may take to be whole again, or to serve; it is a matter of a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// The group runs undisturbed for so long before the next kill, and up to as long again.
const CALM: Duration = Duration::from_millis(300);

/// `failover --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailoverReport {
    /// 1.
    pub schema: u32,
    /// Kernel release.
    pub kernel: String,
    /// CPUs of the machine.
    pub cpus: usize,
    /// What carries the packets: `bridge` or `loopback`.
    pub fabric: String,
    /// The backend in use.
    pub backend: String,
    /// The members had keys.
    pub authentication: bool,
    /// Members of the group.
    pub replicas: usize,
    /// Leaders killed.
    pub kills: u32,
    /// The configured time after which a silent leader is suspected.
    pub leader_timeout_ms: u64,
    /// From a kill to the first answer to a request that was sent after it, to any replica.
    pub group_ms: Waits,
    /// From a kill to the first answer to a request that a client with retries began after it.
    pub client_ms: Waits,
}

/// Percentiles in milliseconds.
#[derive(Copy, Clone, Debug, PartialEq, Serialize)]
pub struct Waits {
    /// Median.
    pub p50: f64,
    /// 90 of 100 are shorter.
    pub p90: f64,
    /// 99 of 100 are shorter.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// p99 by the configured timeout.
    pub p99_by_timeout: f64,
}

impl Waits {
    fn of(us: &Histogram<u64>, timeout_ms: u64) -> Self {
        let ms = |us: u64| (us as f64 / 100.0).round() / 10.0;
        let at = |q: f64| ms(us.value_at_quantile(q));
        let p99_by_timeout = (at(0.99) / timeout_ms as f64 * 100.0).round() / 100.0;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: ms(us.max()), p99_by_timeout }
    }
}

/// Runs it and returns the exit code.
pub fn run(args: &FailoverArgs, stop: &Stop) -> Result<u8, BenchError> {
    let system = |action: &'static str| move |source| ClusterError::System { action: action.into(), source };
    let mut spec = Spec::of(args.replicas, &args.group).map_err(system("find this program"))?;
    spec.authenticated = args.authenticated;
    spec.timeouts.leader_timeout_ms = args.leader_timeout_ms;

    let mut cluster = Cluster::start(spec, stop)?;
    let probes = Prober::probes(cluster.client_socket()?, cluster.group()).map_err(system("start probes"))?;
    let client = Prober::client(cluster.client()?).map_err(system("start a client"))?;
    let longest_us = 2 * PATIENCE.as_micros() as u64;
    let histogram = || Histogram::<u64>::new_with_max(longest_us, 3).expect("three digits are possible");
    let (mut group_us, mut client_us) = (histogram(), histogram());
    let mut backend = String::new();
    for kill in 1..=args.kills {
        cluster.await_ready(PATIENCE, stop)?;
        if stop.sleep(CALM + CALM.mul_f64(fastrand::f64())) {
            return Err(ClusterError::Interrupted.into());
        }
        let leader = leader(&cluster, stop)?;
        backend.clone_from(&leader.node.backend);
        let id = leader.replica.id.index();
        let killed = Instant::now();
        cluster.kill(id).map_err(system("kill the leader"))?;
        let silent = || ClusterError::System {
            action: format!("go on: nobody is served {PATIENCE:?} after kill {kill}"),
            source: std::io::ErrorKind::TimedOut.into(),
        };
        let group = probes.first_answer(killed, PATIENCE).ok_or_else(silent)? - killed;
        let client = client.first_answer(killed, PATIENCE).ok_or_else(silent)? - killed;
        group_us.saturating_record(group.as_micros() as u64);
        client_us.saturating_record(client.as_micros() as u64);
        eprintln!(
            "[{kill}/{}] replica {id} led: {group:.0?} without it, {client:.0?} for a client",
            args.kills
        );
        cluster.restart(id)?;
    }
    let report = FailoverReport {
        schema: 1,
        kernel: crate::measure::kernel_release(),
        cpus: crate::measure::cpus(),
        fabric: cluster.fabric_name().to_owned(),
        backend,
        authentication: args.authenticated,
        replicas: args.replicas,
        kills: args.kills,
        leader_timeout_ms: args.leader_timeout_ms,
        group_ms: Waits::of(&group_us, args.leader_timeout_ms),
        client_ms: Waits::of(&client_us, args.leader_timeout_ms),
    };
    println!("{}", table(&report));
    if let Some(path) = &args.json {
        write_atomically(path, &serde_json::to_string_pretty(&report).expect("numbers and strings"))
            .map_err(|source| BenchError::Write { path: path.clone(), source })?;
    }
    Ok(EXIT_DONE)
}

/// Who leads. On a busy machine nobody may for a moment, without any kill.
fn leader(cluster: &Cluster, stop: &Stop) -> Result<NodeStatus, ClusterError> {
    let since = Instant::now();
    loop {
        let statuses = cluster.statuses(Duration::from_secs(1))?;
        let leaders = statuses.into_iter().flatten().filter(|s| s.replica.role == RoleName::Leader);
        if let Some(leader) = leaders.max_by_key(|status| status.replica.view) {
            return Ok(leader);
        }
        if stop.sleep(Duration::from_millis(10)) {
            return Err(ClusterError::Interrupted);
        }
        if since.elapsed() > PATIENCE {
            let source = std::io::ErrorKind::TimedOut.into();
            return Err(ClusterError::System { action: "find the leader".to_owned(), source });
        }
    }
}

fn table(report: &FailoverReport) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["ms not served", "p50", "p90", "p99", "max", "p99 / timeout"]);
    for (name, waits) in
        [("the group, to whoever asks", report.group_ms), ("a client with retries", report.client_ms)]
    {
        let times = [waits.p50, waits.p90, waits.p99, waits.max].map(|ms| format!("{ms:.1}"));
        let row = std::iter::once(name.to_owned()).chain(times);
        table.add_row(row.chain([format!("{:.2}", waits.p99_by_timeout)]));
    }
    format!(
        "{table}\n{} kills of the leader, {} replicas, {}, leader_timeout_ms = {}. Aimed at: p99 of the group at most \
         three timeouts.",
        report.kills, report.replicas, report.backend, report.leader_timeout_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds_and_compared_with_the_timeout() {
        let mut us = Histogram::new_with_max(120_000_000, 3).unwrap();
        (1..=100).for_each(|ms| us.record(ms * 1000).unwrap());
        let waits = Waits::of(&us, 50);
        assert_eq!((waits.p50.round(), waits.p90.round(), waits.max.round()), (50.0, 90.0, 100.0));
        assert!((waits.p99_by_timeout - 1.98).abs() < 0.02, "{waits:?}");
    }
}
