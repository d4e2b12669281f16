//! A group with keys under load, and what tests ask of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use paxos_demo::cli::BackendChoice;
use paxos_demo::client::Client;
use paxos_demo::cluster::{Cluster, Spec};
use paxos_demo::key_file::KeyIds;
use paxos_demo::key_file::edit::{self, Step};
use paxos_demo::node::NodeStatus;
use paxos_demo::workload::{self, Control, Load, Outcome, Phase};

use crate::common::{self, PATIENCE};

/// Replicas of each group.
pub const REPLICAS: usize = 3;
/// Closed-loop clients of each load.
const CLIENTS: usize = 8;

pub struct Site {
    pub cluster: Cluster,
    asker: Client,
}

/// A specification of a group with keys, on virtual hosts.
pub fn spec(backend: BackendChoice) -> Spec {
    let mut spec = Spec::new(REPLICAS).unwrap();
    spec.program = common::program();
    spec.backend = backend;
    spec.authenticated = true;
    spec
}

/// So patient that nothing but a packet ends a view or a request, however busy the machine is.
pub fn patient(mut spec: Spec) -> Spec {
    spec.timeouts.leader_timeout_ms = 60_000;
    spec.timeouts.request_timeout_ms = 120_000;
    spec
}

impl Site {
    pub fn start(spec: Spec) -> Self {
        let cluster = common::start(spec);
        let asker = cluster.client().unwrap();
        Self { cluster, asker }
    }

    /// What all replicas say of themselves.
    pub fn statuses(&mut self) -> Vec<NodeStatus> {
        self.wait("an answer of each replica", |statuses| statuses.iter().all(Option::is_some))
            .into_iter()
            .flatten()
            .collect()
    }

    /// Waits until what the replicas say is enough.
    pub fn wait(
        &mut self,
        what: &str,
        enough: impl Fn(&[Option<NodeStatus>]) -> bool,
    ) -> Vec<Option<NodeStatus>> {
        let since = Instant::now();
        loop {
            let statuses = self.asker.statuses(Duration::from_secs(1)).unwrap();
            if enough(&statuses) {
                return statuses;
            }
            if let Err(error) = self.cluster.check_alive() {
                panic!("{error}");
            }
            let log = |id| self.cluster.log_tail(id).unwrap_or_default();
            assert!(
                since.elapsed() < PATIENCE,
                "still waiting for {what}: {statuses:#?}\n{:?}",
                (0..REPLICAS).map(log).collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until all have applied the same ops, with the same result.
    pub fn await_agreement(&mut self) {
        self.wait("agreement", |statuses| {
            let replicas: Option<Vec<_>> = statuses.iter().map(|s| s.as_ref().map(|s| &s.replica)).collect();
            replicas.is_some_and(|replicas| {
                let first = replicas[0];
                let of = |r: &paxos_demo::status::Status| (r.view, r.applied, r.last_op, r.digest);
                replicas.iter().all(|r| of(r) == of(first) && r.applied == r.last_op)
            })
        });
    }

    /// Takes the key file, which all replicas share, one step further.
    pub fn step(&self, step: Step) -> KeyIds {
        edit::take(&self.cluster.key_file().unwrap(), step).unwrap()
    }

    /// SIGHUP.
    pub fn hang_up(&self, id: usize) {
        let pid = i32::try_from(self.cluster.pid(id).unwrap()).unwrap();
        // SAFETY: takes numbers only; the process was started here and has not been reaped.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGHUP) }, 0);
    }

    /// Has a replica read the file, and waits until it says that it did.
    pub fn renew(&mut self, id: usize, ids: &KeyIds) {
        self.hang_up(id);
        self.wait("other keys", |statuses| {
            statuses[id].as_ref().is_some_and(|status| status.node.keys.as_ref() == Some(ids))
        });
    }

    /// What the kernel and user space of all replicas counted under a name.
    pub fn count(&mut self, name: &str) -> u64 {
        self.statuses().iter().map(|status| counts(status).get(name).copied().unwrap_or(0)).sum()
    }
}

/// What the kernel and user space of a replica counted.
pub fn counts(status: &NodeStatus) -> BTreeMap<String, u64> {
    let mut all = status.node.verdicts.clone();
    for (name, n) in &status.node.endpoint {
        *all.entry(name.clone()).or_default() += n;
    }
    all
}

/// Clients that write and check every answer.
pub struct Writers {
    control: Arc<Control>,
    thread: JoinHandle<Outcome>,
}

impl Writers {
    pub fn start(cluster: &Cluster) -> Self {
        let (socket, group) = (cluster.client_socket().unwrap(), cluster.group());
        let control = Arc::new(Control::default());
        let shared = Arc::clone(&control);
        let load = Load { clients: CLIENTS, payload_bytes: 64, rate: None };
        let thread = std::thread::spawn(move || workload::run(socket, &group, load, &shared).unwrap());
        Self { control, thread }
    }

    pub fn answered(&self) -> u64 {
        self.control.answered()
    }

    /// Waits for so many answers more: what happens is to happen under load.
    pub fn go_on(&self, more: u64) {
        let enough = self.answered() + more;
        common::wait_for("answers", || (self.answered() >= enough).then_some(()));
    }

    /// Ends the load; every answer must have been there, and right.
    pub fn finish(self) -> Outcome {
        self.control.enter(Phase::Drain);
        let outcome = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert_eq!(outcome.errors, 0, "{:?}", outcome.error_samples);
        outcome
    }
}

/// Runs a test over both backends, where this machine can.
macro_rules! on_both_backends {
    ($($run:ident: $udp:ident, $ebpf:ident;)*) => { $(
        #[test]
        fn $udp() {
            if $crate::common::privileged(stringify!($udp)) {
                $run(paxos_demo::cli::BackendChoice::Udp);
            }
        }

        #[cfg(feature = "ebpf")]
        #[test]
        fn $ebpf() {
            if $crate::common::privileged(stringify!($ebpf)) {
                $run(paxos_demo::cli::BackendChoice::Ebpf);
            }
        }
    )* };
}
pub(crate) use on_both_backends;
