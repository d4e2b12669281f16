//! One run: a fresh group, load, and what it cost.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::BenchError;
use super::progress::Progress;
use super::under_load::{Watch, under_load};
use crate::cli::{BackendChoice, HookChoice};
use crate::cluster::{Cluster, ClusterError, Spec};
use crate::config::OffloadChoice;
use crate::measure::{MachineCpu, ProcessCpu, process_cpu};
use crate::node::NodeStatus;
use crate::report::{self, Latency, Run, Setting, round};
use crate::status::RoleName;
use crate::stop::Stop;
use crate::workload::Load;

/// How long replicas may take to hold the same state once the load has ended.
const CONVERGE_TIMEOUT: Duration = Duration::from_secs(10);
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// How packets are sent and handled.
    pub backend: BackendChoice,
    /// What makes runs comparable.
    pub setting: Setting,
    /// Jobs that go to the kernel.
    pub offloads: OffloadChoice,
    /// Where the ingress programs are attached.
    pub hook: HookChoice,
    /// Length of the measured window.
    pub seconds: f64,
    /// Number of the repeat.
    pub repeat: usize,
    /// What is started as a replica; this very program if absent.
    pub program: Option<PathBuf>,
}

impl RunSpec {
    /// The run in a few words.
    pub fn title(&self) -> String {
        let name = report::name(self.backend.as_str(), &self.offloads.names());
        format!("{name}: {}", self.setting)
    }
}

/// A run and what else was found.
#[derive(Clone, Debug)]
pub struct Measured {
    /// For the report.
    pub run: Run,
    /// Answers that were checked.
    pub checked: u64,
    /// Wrong or missing answers and differing states, described.
    pub problems: Vec<String>,
    /// What carried the packets.
    pub fabric: &'static str,
}

/// Starts a group, loads it, checks it and removes it.
pub fn measure(spec: &RunSpec, stop: &Stop, progress: &mut Progress) -> Result<Measured, BenchError> {
    let mut cluster_spec = Spec::new(spec.setting.replicas)
        .map_err(|source| BenchError::System { action: "find this program", source })?;
    cluster_spec.backend = spec.backend;
    cluster_spec.hook = spec.hook;
    cluster_spec.offloads = spec.offloads;
    cluster_spec.durability = spec.setting.durability;
    cluster_spec.batching = spec.setting.batch.0;
    cluster_spec.authenticated = spec.setting.authentication;
    cluster_spec.log_slots = spec.setting.log_slots;
    if let Some(program) = &spec.program {
        cluster_spec.program.clone_from(program);
    }
    let mut cluster = Cluster::start(cluster_spec, stop)?;

    let Setting { clients, payload_bytes, rate_rps, .. } = spec.setting;
    let load = Load { clients, payload_bytes, rate: rate_rps.map(f64::from) };
    let length = Duration::from_secs_f64(spec.seconds);
    let ((before, after), mut outcomes) =
        under_load(std::slice::from_mut(&mut cluster), load, stop, progress, |watch| {
            watch.warm_up()?;
            let before = Sample::take(watch)?;
            watch.begin(length);
            watch.until(length)?;
            Ok((before, Sample::take(watch)?))
        })?;
    let outcome = outcomes.remove(0);
    check_backend(spec.backend, &after.statuses)?;

    let mut problems = outcome.error_samples;
    let mut errors = outcome.errors;
    if let Err(text) = converge(&cluster, stop)? {
        errors += 1;
        problems.push(text);
    }
    let cost = Cost::between(&before, &after);
    let node = &after.statuses[0].node;
    let ebpf = node.backend == BackendChoice::Ebpf.as_str();
    let rate = if outcome.seconds > 0.0 { outcome.requests as f64 / outcome.seconds } else { 0.0 };
    let run = Run {
        backend: node.backend.clone(),
        offloads: if ebpf { spec.offloads.names() } else { Vec::new() },
        hook: if ebpf { node.hook.clone() } else { String::new() },
        setting: spec.setting,
        repeat: spec.repeat,
        seconds: round(outcome.seconds, 3),
        requests: outcome.requests,
        errors,
        retries: outcome.retries,
        throughput_rps: round(rate, 1),
        latency_us: Latency::of(&outcome.latency),
        cpu_us_per_request: cost.machine_us,
        leader_cpu_us_per_request: cost.leader_us,
        leader_user_us_per_request: cost.leader_user_us,
        follower_cpu_us_per_request: cost.follower_us,
        leader_syscalls_per_request: cost.leader_syscalls,
        follower_syscalls_per_request: cost.follower_syscalls,
    };
    Ok(Measured { run, checked: outcome.checked, problems, fabric: cluster.fabric_name() })
}

/// What was read at one moment.
struct Sample {
    answered: u64,
    machine: MachineCpu,
    processes: Vec<ProcessCpu>,
    statuses: Vec<NodeStatus>,
}

impl Sample {
    /// Of the only group that is watched.
    fn take(watch: &Watch<'_>) -> Result<Self, BenchError> {
        let system = |action| move |source: io::Error| BenchError::System { action, source };
        let cluster = &watch.clusters()[0];
        let statuses = statuses(cluster)?;
        let processes = (0..statuses.len())
            .map(|id| cluster.pid(id).map_or(Ok(ProcessCpu::default()), process_cpu))
            .collect::<io::Result<_>>()
            .map_err(system("read the CPU time of a replica"))?;
        let machine = MachineCpu::now().map_err(system("read the machine's CPU time"))?;
        Ok(Self { answered: watch.answered(), machine, processes, statuses })
    }
}

/// What a request cost between two samples.
#[derive(Debug, PartialEq)]
struct Cost {
    machine_us: f64,
    leader_us: f64,
    leader_user_us: f64,
    follower_us: f64,
    leader_syscalls: f64,
    follower_syscalls: f64,
}

impl Cost {
    fn between(before: &Sample, after: &Sample) -> Self {
        let requests = (after.answered - before.answered).max(1) as f64;
        let mut cost = Self {
            machine_us: 0.0,
            leader_us: 0.0,
            leader_user_us: 0.0,
            follower_us: 0.0,
            leader_syscalls: 0.0,
            follower_syscalls: 0.0,
        };
        cost.machine_us = after.machine.since(before.machine).as_secs_f64() * 1e6 / requests;
        let followers = (after.statuses.len() - 1).max(1) as f64;
        for (id, status) in after.statuses.iter().enumerate() {
            let cpu = after.processes[id].since(before.processes[id]);
            let each = |time: Duration| time.as_secs_f64() * 1e6 / requests;
            let calls =
                status.node.syscalls.saturating_sub(before.statuses[id].node.syscalls) as f64 / requests;
            if status.replica.role == RoleName::Leader {
                cost.leader_us += each(cpu.total());
                cost.leader_user_us += each(cpu.user);
                cost.leader_syscalls += calls;
            } else {
                cost.follower_us += each(cpu.total()) / followers;
                cost.follower_syscalls += calls / followers;
            }
        }
        let Self { machine_us, leader_us, leader_user_us, follower_us, leader_syscalls, follower_syscalls } =
            cost;
        Self {
            machine_us: round(machine_us, 2),
            leader_us: round(leader_us, 2),
            leader_user_us: round(leader_user_us, 2),
            follower_us: round(follower_us, 2),
            leader_syscalls: round(leader_syscalls, 4),
            follower_syscalls: round(follower_syscalls, 4),
        }
    }
}

/// A figure that carries the name of a backend must come from it.
pub(crate) fn check_backend(asked: BackendChoice, statuses: &[NodeStatus]) -> Result<(), BenchError> {
    let other = |status: &&NodeStatus| asked != BackendChoice::Auto && status.node.backend != asked.as_str();
    match statuses.iter().find(other) {
        None => Ok(()),
        Some(status) => Err(BenchError::WrongBackend {
            asked,
            id: status.replica.id.index(),
            got: status.node.backend.clone(),
            reason: status.node.fallback.clone().unwrap_or_else(|| "it does not say why".to_owned()),
        }),
    }
}

/// What every replica says of itself; an error if one does not answer.
pub(crate) fn statuses(cluster: &Cluster) -> Result<Vec<NodeStatus>, BenchError> {
    let silent = |id| {
        let text = format!("replica {id} does not answer");
        let source = io::Error::new(io::ErrorKind::TimedOut, text);
        BenchError::System { action: "ask for status", source }
    };
    let found = cluster.statuses(STATUS_TIMEOUT)?;
    found.into_iter().enumerate().map(|(id, status)| status.ok_or_else(|| silent(id))).collect()
}

/// Counters that are not there must not be read as zeros.
pub(crate) fn check_counters(statuses: &[NodeStatus]) -> io::Result<()> {
    statuses.iter().find(|status| !status.node.has_counters()).map_or(Ok(()), |status| {
        let id = status.replica.id.index();
        Err(io::Error::other(format!("replica {id}: its counters do not fit a status reply")))
    })
}

/// Waits until all replicas have applied the same ops, then compares their states.
pub(crate) fn converge(cluster: &Cluster, stop: &Stop) -> Result<Result<(), String>, BenchError> {
    let start = Instant::now();
    loop {
        let statuses = cluster.statuses(STATUS_TIMEOUT)?;
        if let Some(verdict) = same_state(&statuses) {
            return Ok(verdict);
        }
        if start.elapsed() > CONVERGE_TIMEOUT {
            let applied: Vec<_> = statuses
                .iter()
                .map(|s| s.as_ref().map(|s| (s.replica.applied.0, s.replica.last_op.0)))
                .collect();
            return Ok(Err(format!(
                "after {} s without load the replicas have (applied, logged) {applied:?}",
                start.elapsed().as_secs()
            )));
        }
        if stop.sleep(Duration::from_millis(20)) {
            return Err(ClusterError::Interrupted.into());
        }
    }
}

/// Whether the states agree; `None` while some replica has ops to apply or does not answer.
fn same_state(statuses: &[Option<NodeStatus>]) -> Option<Result<(), String>> {
    let replicas: Vec<_> = statuses.iter().flatten().map(|status| &status.replica).collect();
    let last_op = replicas.iter().map(|replica| replica.last_op).max()?;
    if replicas.len() != statuses.len() || replicas.iter().any(|replica| replica.applied != last_op) {
        return None;
    }
    Some(if replicas.iter().all(|replica| replica.digest == replicas[0].digest) {
        Ok(())
    } else {
        let digests = replicas.iter().map(|replica| replica.digest.to_string()).collect::<Vec<_>>();
        Err(format!("after op {last_op} the replicas' states differ: {}", digests.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::node::Node;
    use crate::status::{Counters, Status};
    use electrode::types::{OpNumber, ReplicaId, View};

    fn status(id: u8, applied: u64, contents: u64, syscalls: u64) -> NodeStatus {
        NodeStatus {
            replica: Status {
                id: ReplicaId(id),
                view: View(0),
                last_normal_view: View(0),
                role: if id == 0 { RoleName::Leader } else { RoleName::Follower },
                leader: ReplicaId(0),
                last_op: OpNumber(applied),
                commit: OpNumber(applied),
                applied: OpNumber(applied),
                digest: Digest { history: 1, contents },
                log_first_op: OpNumber(1),
                log_bytes: 0,
                keys: 0,
                client_sessions: 0,
                counters: Counters::default(),
            },
            node: Node { backend: "udp".into(), syscalls, ..Node::default() },
        }
    }

    #[test]
    fn states_are_compared_once_all_ops_are_applied() {
        let all = |list: &[NodeStatus]| list.iter().cloned().map(Some).collect::<Vec<_>>();
        let same = all(&[status(0, 9, 7, 0), status(1, 9, 7, 0)]);
        assert_eq!(same_state(&same), Some(Ok(())));
        let differ = all(&[status(0, 9, 7, 0), status(1, 9, 8, 0)]);
        assert!(same_state(&differ).unwrap().unwrap_err().contains("after op 9"));
        let behind = all(&[status(0, 9, 7, 0), status(1, 8, 7, 0)]);
        assert_eq!(same_state(&behind), None, "one has yet to apply: that says nothing");
        assert_eq!(same_state(&[same[0].clone(), None]), None, "one does not answer");
        assert_eq!(same_state(&[]), None);
    }

    #[test]
    fn costs_are_per_request_and_follower() {
        let machine = MachineCpu::now().unwrap();
        let sample = |answered, cpu: [u64; 3], calls: [u64; 3]| Sample {
            answered,
            machine,
            // A quarter of it in user space.
            processes: cpu
                .map(|us| ProcessCpu {
                    user: Duration::from_micros(us) / 4,
                    system: Duration::from_micros(us) * 3 / 4,
                })
                .to_vec(),
            statuses: (0..3).map(|id| status(id, 1, 1, calls[usize::from(id)])).collect(),
        };
        let before = sample(1000, [8, 8, 8], [10, 10, 10]);
        let after = sample(2000, [4008, 1008, 3008], [3010, 10, 30]);
        let cost = Cost::between(&before, &after);
        assert_eq!((cost.leader_us, cost.leader_user_us, cost.follower_us), (4.0, 1.0, 2.0));
        assert_eq!((cost.leader_syscalls, cost.follower_syscalls), (3.0, 0.01));
    }

    #[test]
    fn counters_that_are_not_there_are_no_zeros() {
        let mut one = status(1, 1, 1, 0);
        assert!(check_counters(&[one.clone()]).unwrap_err().to_string().contains("replica 1"));
        one.node.endpoint = [("received".to_owned(), 1)].into();
        assert!(check_counters(&[one.clone()]).is_ok());
        one.node.hook = "tc".to_owned();
        assert!(check_counters(&[one.clone()]).is_err(), "a program has met the question");
        one.node.verdicts = [("pass_message".to_owned(), 1)].into();
        assert!(check_counters(&[one]).is_ok());
    }

    #[test]
    fn figures_of_another_backend_are_refused() {
        let statuses = [status(0, 1, 1, 0), status(1, 1, 1, 0)];
        assert!(check_backend(BackendChoice::Udp, &statuses).is_ok());
        assert!(check_backend(BackendChoice::Auto, &statuses).is_ok());
        let error = check_backend(BackendChoice::Ebpf, &statuses).unwrap_err().to_string();
        assert!(error.contains("ebpf backend was asked for") && error.contains("runs udp"), "{error}");
    }
}
