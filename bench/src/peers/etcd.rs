//! etcd as Debian packs it (package `etcd-server`), in the same namespaces, under the same requests.
//!
//! It does other work than our replica, and more of it: gRPC over TCP with its clients and HTTP between its members,
//! versions of every key, and a log with fsync. The log is on a tmpfs of its own (`members.rs`), so that no disk is
//! measured. The client asks the leader, as ours does; its reads are linearizable, which is etcd's default.

mod load;
mod members;
mod rpc;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use electrode::fabric::{Fabric, FabricConfig, FabricError};
use paxos_demo::bench::under_load::WARM_UP;
use paxos_demo::config::Batching;
use paxos_demo::measure::MachineCpu;
use paxos_demo::report::{Batch, Latency, round};
use paxos_demo::stop::Stop;
use paxos_demo::workload::{Control, Phase};

use self::load::Outcome;
use self::members::Members;
use super::{Checked, PeerRun, Shape, System};

/// The server's program.
const PROGRAM: &str = "etcd";
/// How long a group may take to have a leader: an election takes a second or two.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the members are looked after.
const GLANCE: Duration = Duration::from_millis(100);

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// No virtual hosts.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A member ended.
    #[error("etcd member {id} ended with {status}; it said:\n{log}")]
    Died {
        /// Its index.
        id: usize,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The group has no leader.
    #[error("the etcd group has no leader after {waited_s} s ({reason}); member 0 said:\n{log}")]
    NotReady {
        /// How long it was waited for.
        waited_s: u64,
        /// The last answer.
        reason: String,
        /// The end of a log.
        log: String,
    },
    /// The client cannot talk to the leader.
    #[error("etcd's client: {0}")]
    Client(#[from] rpc::RpcError),
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
}

impl EtcdError {
    fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

/// Why etcd cannot be measured here.
pub fn obstacle() -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let installed = std::env::split_paths(&path).any(|directory| directory.join(PROGRAM).is_file());
    (!installed).then(|| "it is not installed (Debian's package etcd-server)".to_owned())
}

/// Starts a group, loads it, checks every answer and removes it.
pub fn measure(shape: &Shape, repeat: usize, stop: &Stop) -> Result<(PeerRun, Checked), EtcdError> {
    let fabric = Fabric::new(FabricConfig { hosts: shape.replicas + 1, ..FabricConfig::default() })?;
    let mut members = Members::start(&fabric, shape.replicas)?;
    let client_host = fabric.host(shape.replicas).netns();
    let leader = await_leader(&mut members, |addresses| client_host.run(|| rpc::leader(addresses)), stop)?;

    let control = Arc::new(Control::default());
    let (window, outcome) = std::thread::scope(|scope| {
        let generator = scope.spawn(|| client_host.run(|| load::run(&leader, shape, Arc::clone(&control))));
        let window = watch(&mut members, &control, Duration::from_secs_f64(shape.seconds), stop);
        control.enter(if window.is_ok() { Phase::Drain } else { Phase::Abort });
        let outcome = generator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let window = window?;
        Ok::<_, EtcdError>((window, outcome??))
    })?;
    Ok(report(shape, repeat, &window, &outcome))
}

/// Address of the leader, once there is one and all members know it.
fn await_leader(
    members: &mut Members,
    ask: impl Fn(&[String]) -> Result<Result<String, rpc::RpcError>, FabricError>,
    stop: &Stop,
) -> Result<String, EtcdError> {
    let start = Instant::now();
    loop {
        members.check_alive()?;
        let reason = match ask(members.addresses())? {
            Ok(leader) => return Ok(leader),
            Err(error) => error.to_string(),
        };
        if start.elapsed() > READY_TIMEOUT {
            let waited_s = start.elapsed().as_secs();
            return Err(EtcdError::NotReady { waited_s, reason, log: members.log_tail(0) });
        }
        if stop.sleep(GLANCE) {
            return Err(EtcdError::Interrupted);
        }
    }
}

/// What the measured window took of the machine.
struct Window {
    requests: u64,
    busy: Duration,
}

/// Warm-up, then the measured window between two readings: as with our replica.
fn watch(
    members: &mut Members,
    control: &Control,
    length: Duration,
    stop: &Stop,
) -> Result<Window, EtcdError> {
    let mut wait = |length: Duration| {
        let until = Instant::now() + length;
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            members.check_alive()?;
            if stop.sleep(left.min(GLANCE)) {
                return Err(EtcdError::Interrupted);
            }
        }
        Ok(())
    };
    let read = || {
        let cpu = MachineCpu::now().map_err(EtcdError::system("read the machine's CPU time"))?;
        Ok::<_, EtcdError>((control.answered(), cpu))
    };
    wait(WARM_UP)?;
    let before = read()?;
    control.enter(Phase::Measure);
    wait(length)?;
    let after = read()?;
    Ok(Window { requests: after.0 - before.0, busy: after.1.since(before.1) })
}

fn report(shape: &Shape, repeat: usize, window: &Window, outcome: &Outcome) -> (PeerRun, Checked) {
    let rate = if outcome.seconds > 0.0 { outcome.requests as f64 / outcome.seconds } else { 0.0 };
    let run = PeerRun {
        system: System::Etcd,
        replicas: shape.replicas,
        clients: shape.clients,
        payload_bytes: shape.payload_bytes,
        batch: Batch(Batching::Auto),
        repeat,
        seconds: round(outcome.seconds, 3),
        requests: outcome.requests,
        errors: outcome.errors,
        throughput_rps: round(rate, 1),
        latency_us: Latency::of(&outcome.latency),
        cpu_us_per_request: round(window.busy.as_secs_f64() * 1e6 / window.requests.max(1) as f64, 2),
    };
    (run, Checked { checked: outcome.checked, problems: outcome.error_samples.clone() })
}
