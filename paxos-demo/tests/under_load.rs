//! Load on real groups: what ends it before its time.

mod common;

use common::{PATIENCE, loopback, signal, start};
use paxos_demo::bench::BenchError;
use paxos_demo::bench::progress::Progress;
use paxos_demo::bench::under_load::{Watch, under_load};
use paxos_demo::cluster::ClusterError;
use paxos_demo::stop::Stop;
use paxos_demo::workload::Load;

/// Loads so many groups until `watch` is through, and fails.
fn failed(
    groups: usize,
    stop: &Stop,
    watch: impl FnOnce(&mut Watch<'_>) -> Result<(), BenchError>,
) -> BenchError {
    let mut clusters: Vec<_> = (0..groups).map(|_| start(loopback(3))).collect();
    let load = Load { clients: 2, payload_bytes: 8, rate: None };
    under_load(&mut clusters, load, stop, &mut Progress::new(1), watch).unwrap_err()
}

/// Kills a replica once the group has answered, and waits for what is to come of that.
fn kill(group: usize, replica: usize) -> impl FnOnce(&mut Watch<'_>) -> Result<(), BenchError> {
    move |watch| {
        watch.warm_up()?;
        watch.begin(PATIENCE);
        signal(watch.clusters()[group].pid(replica).unwrap(), libc::SIGKILL);
        watch.until(PATIENCE)
    }
}

#[test]
fn a_replica_that_dies_ends_it_and_is_named() {
    let error = failed(1, &Stop::default(), kill(0, 1));
    assert!(matches!(error, BenchError::Cluster(ClusterError::Died { id: 1, .. })), "{error}");
    assert!(error.to_string().starts_with("replica 1 ended with signal: 9"), "{error}");
    // The leader's death is one as well, and of several groups it is said which.
    let error = failed(2, &Stop::default(), kill(1, 0)).to_string();
    assert!(error.starts_with("group 2: replica 0 ended with signal: 9"), "{error}");
}

#[test]
fn who_asks_for_its_end_is_heard_before_the_dead() {
    let stop = Stop::default();
    let error = failed(1, &stop, |watch| {
        stop.request();
        kill(0, 2)(watch)
    });
    assert!(matches!(error, BenchError::Cluster(ClusterError::Interrupted)), "{error}");
}
