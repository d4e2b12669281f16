//! `cluster.toml`: [`ClusterConfig::parse`].

use std::net::SocketAddr;

use paxos_demo::config::{
    ClusterConfig, ConfigError, Durability, LOG_BYTES_MAX, PAYLOAD_BYTES_MAX_DEFAULT, PAYLOAD_BYTES_MAX_IPV6,
    PAYLOAD_BYTES_MIN,
};

use super::Target;
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "cluster_config",
    run,
    seeds,
    words: &[
        b"\n[[replicas]]\nindex = 1\naddress = \"10.0.0.2:7100\"\n",
        b"[timeouts]\n",
        b"[offloads]\n",
        b"log_slots = ",
        b"payload_bytes_max = ",
        b"quorum_window = ",
        b"resend_timeout_ms = ",
        b"leader_timeout_ms = ",
        b"batching = \"one\"\n",
        b"durability = \"disk\"\n",
        b"18446744073709551615",
        b"0x7fffffffffffffff",
        b"1e9",
        b"\"[::1]:1\"",
        b"\"\"\"",
        b"[[[[[[[[",
        b"{a={a={a=",
    ],
    bytes_max: 2048,
    thousands: 1000,
};

fn seeds() -> Vec<Vec<u8>> {
    let of = |replicas: Vec<SocketAddr>| ClusterConfig::new(1, replicas);
    let ipv4 = of((1u8..=3).map(|i| ([10, 0, 0, i], 7100).into()).collect());
    let ipv6 = of((1u16..=5).map(|i| ([0xfd00, 0, 0, 0, 0, 0, 0, i], 7100).into()).collect());
    let disk =
        ClusterConfig { durability: Durability::Disk, log_slots: 1024, quorum_window: 512, ..ipv4.clone() };
    let mut seeds: Vec<Vec<u8>> = [&ipv4, &ipv6, &disk].map(|config| config.to_toml().into_bytes()).into();
    // Files of a few lines, each beside a limit, on either side of it.
    let lines = [
        "",
        "log_slots = 1024\nquorum_window = 1024\n",
        "log_slots = 1024\nquorum_window = 2048\n",
        "log_slots = 65536\npayload_bytes_max = 1101\n",
        "log_slots = 16\npayload_bytes_max = 1392\n",
        "payload_bytes_max = 1393\n",
        "payload_bytes_max = 1099\n",
        "quorum_window = 262144\nlog_slots = 262144\n",
        "durability = \"process\"\n",
        "key_file = \"k\"\n",
        "log_slot = 16\n",
        "[timeouts]\nresend_timeout_ms = 600000\nclient_retry_ms = 0\n",
        "[timeouts]\nheartbeat_interval_ms = 300\nleader_timeout_ms = 301\n",
        "[offloads]\nfast_ack = false\n",
    ];
    let addresses =
        ["127.0.0.1:1", "127.0.0.1:0", "[::1%2]:65535", "[ff02::1]:7100", "0.0.0.0:7100", "host:7100"];
    let replica =
        |index: usize, address: &str| format!("[[replicas]]\nindex = {index}\naddress = \"{address}\"\n");
    let file = |lines: &str, replicas: &str| format!("group = 1\n{lines}{replicas}").into_bytes();
    seeds.extend(lines.map(|lines| file(lines, &replica(0, addresses[0]))));
    seeds.extend(addresses.map(|address| file("", &replica(0, address))));
    let pairs = [(0, "10.0.0.1:1"), (1, "10.0.0.1:1"), (1, "[::1]:1"), (1, "10.0.0.2:1"), (2, "10.0.0.2:1")];
    seeds.extend(pairs.map(|(index, other)| file("", &(replica(0, pairs[0].1) + &replica(index, other)))));
    seeds
}

fn run(input: &[u8]) {
    // A file that is no UTF-8 is refused by whoever reads it.
    let text = String::from_utf8_lossy(input);
    // The tree of a document takes some hundred bytes a value, and a value takes two bytes.
    match bounded(512 * text.len() + 65536, || ClusterConfig::parse(&text)) {
        Ok(config) => check(&config),
        Err(ConfigError::Line { path, line, reason }) => {
            assert_eq!(path, None);
            let lines = 1 + text.matches('\n').count();
            assert!((1..=lines).contains(&line), "line {line} of {lines}");
            assert!(!reason.is_empty() && !reason.contains('\n'), "one line says why: {reason:?}");
        }
        Err(other) => panic!("a text is neither read nor written: {other}"),
    }
}

fn check(config: &ClusterConfig) {
    assert!((1..=32).contains(&config.replicas.len()));
    assert!(config.replicas.iter().all(|replica| replica.is_ipv6() == config.is_ipv6()), "one family");
    let mut addresses = config.replicas.clone();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), config.replicas.len(), "no address twice");
    assert!(config.log_slots.is_power_of_two() && config.quorum_window.is_power_of_two());
    assert!(config.quorum_window <= config.log_slots);
    let payload_bytes = config.payload_bytes_max;
    let room = if config.is_ipv6() { PAYLOAD_BYTES_MAX_IPV6 } else { PAYLOAD_BYTES_MAX_DEFAULT };
    assert!((PAYLOAD_BYTES_MIN..=room).contains(&payload_bytes));
    assert!(
        u64::from(config.log_slots) * u64::from(payload_bytes) <= LOG_BYTES_MAX,
        "locked memory is bounded"
    );
    assert!(config.replicas.iter().all(|replica| replica.port() != 0 && !replica.ip().is_multicast()));
    assert!((1..=600_000).contains(&config.timeouts.leader_timeout_ms));
    assert_ne!(config.durability, Durability::Process);
    assert_ne!(config.config_hash(), 0);

    let text = config.to_toml();
    let again =
        ClusterConfig::parse(&text).unwrap_or_else(|e| panic!("what was written is refused: {e}\n{text}"));
    assert_eq!(&again, config, "what was written says something else");
    assert_eq!(again.config_hash(), config.config_hash());
    assert_eq!(again.to_toml(), text);
}
