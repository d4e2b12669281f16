//! Two groups on the same hosts and interfaces: each commits its own requests, and none hears the other.
#![cfg(feature = "ebpf")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{privileged, program};
use paxos_demo::cli::{BackendChoice, Leaders};
use paxos_demo::config::Batching;
use paxos_demo::groups::run::{self, Spec};
use paxos_demo::report::Batch;
use paxos_demo::stop::Stop;

const BACKENDS: [BackendChoice; 2] = [BackendChoice::Ebpf, BackendChoice::Udp];

#[test]
fn two_groups_on_the_same_hosts_keep_to_themselves() {
    if !privileged("two_groups_on_the_same_hosts_keep_to_themselves") {
        return;
    }
    for (backend, leaders) in BACKENDS.into_iter().zip([Leaders::Spread, Leaders::Together]) {
        let spec = Spec {
            backend,
            groups: 2,
            leaders,
            replicas: 3,
            clients: 1,
            batch: Batch(Batching::One),
            seconds: 1.0,
            repeat: 0,
        };
        let mut of = paxos_demo::cluster::Spec::new(3).unwrap();
        of.program = program();
        let clusters = run::start(&spec, &of, &Stop::default()).unwrap();
        for (cluster, value) in clusters.iter().zip(["one", "two"]) {
            cluster.client().unwrap().put(b"whose", value.as_bytes()).unwrap();
        }
        for (cluster, value) in clusters.iter().zip(["one", "two"]) {
            let mut client = cluster.client().unwrap();
            assert_eq!(client.get(b"whose").unwrap().as_deref(), Some(value.as_bytes()), "{backend}");
            let statuses = cluster.statuses(Duration::from_secs(5)).unwrap();
            let statuses: Vec<_> = statuses.into_iter().map(Option::unwrap).collect();
            assert_eq!(run::heard_of_others(&statuses), 0);
            assert_eq!(statuses.iter().map(|s| s.replica.keys).max(), Some(1), "its own key, and no other");
            let passed_on =
                |s: &paxos_demo::node::NodeStatus| s.node.verdicts.get("pass_foreign").copied().unwrap_or(0);
            let looked = statuses.iter().map(passed_on).sum::<u64>() > 0;
            assert_eq!(looked, backend == BackendChoice::Ebpf, "the other's packets pass its programs");
        }
        let hosts = |i: usize| clusters[i].config().replicas[0].ip();
        assert_eq!(hosts(0) == hosts(1), leaders == Leaders::Together);
    }
}

#[test]
fn groups_are_loaded_at_once_and_compared() {
    if !privileged("groups_are_loaded_at_once_and_compared") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("groups.json");
    let output = Command::new(program())
        .args(["groups", "--groups", "1,2", "--clients", "4", "--seconds", "0.5", "--repeat", "1", "--json"])
        .arg(&json)
        .env("ELECTRODE_COMMIT", "abcdef")
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{text}");
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["host"]["commit"], "abcdef");
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for run in runs {
        let groups = run["groups"].as_u64().unwrap() as usize;
        let rates = run["by_group_rps"].as_array().unwrap();
        assert_eq!(rates.len(), groups);
        assert!(rates.iter().all(|rate| rate.as_f64().unwrap() > 0.0), "{run}");
        assert_eq!(run["errors"], 0, "{text}");
    }
    let backends: Vec<_> = runs.iter().map(|run| run["backend"].as_str().unwrap()).collect();
    assert_eq!(backends, ["udp", "ebpf", "udp", "ebpf"]);
}
