//! A cluster on a fabric with faults, and what tests ask of it.

use std::time::{Duration, Instant};

use electrode::fabric::Faults;
use paxos_demo::client::Client;
use paxos_demo::cluster::{Cluster, Spec};
use paxos_demo::node::NodeStatus;
use paxos_demo::status::RoleName;

use crate::common::{self, PATIENCE};

pub struct Site {
    // Before the fabric: it is of no use without.
    pub faults: Faults,
    pub cluster: Cluster,
    asker: Client,
}

impl Site {
    pub fn start(spec: Spec) -> Self {
        let cluster = common::start(spec);
        let faults =
            cluster.fabric().expect("tests on virtual hosts").faults().unwrap_or_else(|e| panic!("{e}"));
        let asker = cluster.client().unwrap();
        Self { faults, cluster, asker }
    }

    pub fn replicas(&self) -> usize {
        self.cluster.config().replicas.len()
    }

    /// What those say of themselves that answer soon.
    pub fn statuses(&mut self) -> Vec<Option<NodeStatus>> {
        self.asker.statuses(Duration::from_millis(200)).unwrap()
    }

    /// The leader of the highest view, as far as anybody answers.
    pub fn leader(&mut self) -> Option<usize> {
        let statuses = self.statuses();
        let leads = |s: &&NodeStatus| s.replica.role == RoleName::Leader;
        let leaders = statuses.iter().flatten().filter(leads);
        leaders.max_by_key(|status| status.replica.view).map(|status| status.replica.id.index())
    }

    /// Waits until so many replicas are in normal operation in one view.
    pub fn await_normal(&mut self, at_least: usize) {
        self.wait(|statuses| {
            let serving = || statuses.iter().flatten().filter(|s| serves(s));
            let view = serving().map(|s| s.replica.view).max();
            serving().filter(|s| Some(s.replica.view) == view).count() >= at_least
        });
    }

    /// Waits until all replicas have applied the same ops, with the same result.
    pub fn await_agreement(&mut self) {
        self.wait(|statuses| {
            let replicas: Option<Vec<_>> = statuses.iter().map(|s| s.as_ref().map(|s| &s.replica)).collect();
            replicas.is_some_and(|replicas| {
                let first = &replicas[0];
                replicas.iter().filter(|r| r.role == RoleName::Leader).count() == 1
                    && statuses.iter().flatten().all(serves)
                    && replicas.iter().all(|r| {
                        (r.view, r.applied, r.digest) == (first.view, first.applied, first.digest)
                            && r.applied == r.last_op
                    })
            })
        });
    }

    fn wait(&mut self, enough: impl Fn(&[Option<NodeStatus>]) -> bool) {
        let since = Instant::now();
        loop {
            let statuses = self.statuses();
            if enough(&statuses) {
                return;
            }
            if let Err(error) = self.cluster.check_alive() {
                panic!("{error}");
            }
            assert!(
                since.elapsed() < PATIENCE,
                "the group does not come to rest:\n{}",
                self.describe(&statuses)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn describe(&self, statuses: &[Option<NodeStatus>]) -> String {
        let line = |(id, status): (usize, &Option<NodeStatus>)| {
            let said = self.cluster.log_tail(id).unwrap_or_else(|| "(it is not running)".to_owned());
            match status {
                Some(status) => format!("replica {id}: {:?} {:?}\n{said}\n", status.replica, status.node),
                None => format!("replica {id} does not answer\n{said}\n"),
            }
        };
        statuses.iter().enumerate().map(line).collect()
    }
}

pub fn serves(status: &NodeStatus) -> bool {
    matches!(status.replica.role, RoleName::Leader | RoleName::Follower)
}
