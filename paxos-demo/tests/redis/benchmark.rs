//! `redis-benchmark`, as people run it.

use super::cluster;
use paxos_demo::cluster::Cluster;
use std::process::Command;

fn benchmark(cluster: &Cluster, replica: usize) {
    let port = cluster.resp_address(replica).unwrap().port().to_string();
    let output = Command::new("redis-benchmark")
        .args(["-p", &port, "-t", "set,get,incr", "-n", "100000", "-c", "50", "-P", "16", "--csv"])
        .output()
        .expect("redis-benchmark runs: scripts/setup installs redis-tools");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    assert_eq!(complaints, "", "{said}");
    assert!(!said.to_lowercase().contains("err"), "{said}");
    for name in ["SET", "GET", "INCR"] {
        let line = said.lines().find(|line| line.starts_with(&format!("\"{name}\",")));
        assert!(line.is_some_and(|line| !line.contains("\"0.00\"")), "{said}");
    }
}

#[test]
fn it_runs_against_the_leader_and_a_follower() {
    let cluster = cluster();
    for (replica, counted) in [(0, "100000"), (2, "200000")] {
        benchmark(&cluster, replica);
        let mut client = super::Redis::connect(cluster.resp_address(1).unwrap());
        assert_eq!(client.call(&["GET", "counter:__rand_int__"]), counted, "each request once");
    }
}
