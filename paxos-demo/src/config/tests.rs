use super::*;
use proptest::prelude::*;

const GOOD: &str = r#"
group = 7
durability = "memory"

[[replicas]]
index = 1
address = "10.0.0.2:7100"

[[replicas]]
index = 0
address = "10.0.0.1:7100"

[[replicas]]
index = 2
address = "10.0.0.3:7100"
"#;

fn three() -> ClusterConfig {
    ClusterConfig::parse(GOOD).expect("a good file")
}

/// Line and reason with which `text` is refused.
fn refusal(text: &str) -> (usize, String) {
    match ClusterConfig::parse(text) {
        Err(ConfigError::Line { line, reason, .. }) => (line, reason),
        other => panic!("expected a refused line, got {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str, line: usize, words: &str) {
    let (at, reason) = refusal(text);
    assert!(reason.contains(words), "reason is '{reason}', expected '{words}' in it");
    assert_eq!(at, line, "{reason}");
}

#[test]
fn replicas_are_ordered_by_index_and_defaults_fill_the_rest() {
    let config = three();
    assert_eq!(config.group, 7);
    assert_eq!(config.replicas[0], "10.0.0.1:7100".parse().unwrap());
    assert_eq!(config.replicas[2], "10.0.0.3:7100".parse().unwrap());
    assert_eq!(config, ClusterConfig::new(7, config.replicas.clone()));
}

#[test]
fn unknown_keys_are_refused_wherever_they_stand() {
    refused(&GOOD.replace("group = 7", "group = 7\ngroop = 8"), 3, "unknown field `groop`");
    refused(&GOOD.replace("index = 2", "index = 2\nweight = 1"), 15, "unknown field `weight`");
    refused(&format!("{GOOD}\n[timeouts]\nresend_timeout = 3\n"), 18, "unknown field `resend_timeout`");
    refused(&format!("{GOOD}\n[offloads]\nfastack = true\n"), 18, "unknown field `fastack`");
}

#[test]
fn wrong_types_and_syntax_name_their_line() {
    refused(&GOOD.replace("group = 7", "group = \"seven\""), 2, "expected u32");
    refused(&GOOD.replace("group = 7", "group = -1"), 2, "expected u32");
    refused(&GOOD.replace("group = 7", "group = "), 2, "");
    refused(&GOOD.replace("\"memory\"", "\"tape\""), 3, "unknown variant `tape`");
    refused("group = 1\n", 1, "missing field `replicas`");
}

#[test]
fn durability_modes_of_later_versions_are_refused_by_name() {
    refused(&GOOD.replace("\"memory\"", "\"process\""), 3, "use \"memory\" or \"disk\"");
}

#[test]
fn a_key_file_is_named_from_where_the_configuration_is() {
    let with = |name: &str| GOOD.replace("group = 7", &format!("group = 7\nkey_file = \"{name}\""));
    refused(&with(""), 3, "key_file is empty");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.toml");
    for (name, found) in [("k.toml", dir.path().join("k.toml")), ("/etc/k", "/etc/k".into())] {
        std::fs::write(&path, with(name)).unwrap();
        assert_eq!(ClusterConfig::load(&path).unwrap().key_file, Some(found));
    }
}

/// Members of a group that got its keys by half do not hear each other; what they stored is theirs all the same.
#[test]
fn that_there_is_a_key_is_in_the_hash_on_the_wire_alone() {
    let (without, mut with) = (three(), three());
    with.key_file = Some("k".into());
    let mut other = with.clone();
    other.key_file = Some("another".into());
    assert_ne!(without.wire_hash(), with.wire_hash());
    assert_eq!(with.wire_hash(), other.wire_hash());
    assert_eq!(without.config_hash(), with.config_hash());
}

#[test]
fn indices_must_be_all_of_zero_to_n_once() {
    refused(&GOOD.replace("index = 2", "index = 1"), 14, "replica index 1 is there twice");
    refused(&GOOD.replace("index = 2", "index = 3"), 14, "indices 0 to 2");
}

#[test]
fn addresses_must_be_distinct_numeric_and_of_one_family() {
    let third = "10.0.0.3:7100";
    refused(&GOOD.replace(third, "10.0.0.1:7100"), 15, "10.0.0.1:7100 is there twice");
    refused(&GOOD.replace(third, "[fd00::3]:7100"), 15, "all IPv4 addresses or all IPv6 addresses");
    refused(&GOOD.replace(third, "localhost:7100"), 15, "no host names");
    refused(&GOOD.replace(third, "10.0.0.3"), 15, "not an address and port");
    refused(&GOOD.replace(third, "10.0.0.3:0"), 15, "write one that is not 0");
    for unreachable in ["0.0.0.0:7100", "224.0.0.1:7100", "255.255.255.255:7100"] {
        refused(&GOOD.replace(third, unreachable), 15, "write the unicast address");
    }
    refused(&GOOD.replace(third, "[::ffff:10.0.0.3]:7100"), 15, "write 10.0.0.3:7100");
    refused(&GOOD.replace(third, "[fe80::3]:7100"), 15, "link-local");
}

#[test]
fn one_to_32_replicas() {
    refused("group = 1\nreplicas = []\n", 2, "1 to 32");
    let members = |n: u16| (0..n).map(|i| SocketAddr::from(([127, 0, 0, 1], 7000 + i))).collect::<Vec<_>>();
    let many = ClusterConfig::new(1, members(32));
    assert_eq!(ClusterConfig::parse(&many.to_toml()).unwrap(), many);
    assert!(refusal(&ClusterConfig::new(1, members(33)).to_toml()).1.contains("33 replicas"));
}

#[test]
fn sizes_are_powers_of_two_within_memory() {
    let with = |line: &str| GOOD.replace("group = 7", &format!("group = 7\n{line}"));
    refused(&with("log_slots = 1000"), 3, "power of two");
    refused(&with("log_slots = 8"), 3, "16 to");
    refused(&with("log_slots = 0"), 3, "power of two");
    refused(&with("log_slots = 131072"), 3, "MiB");
    refused(&with("quorum_window = 524288"), 3, "power of two, 16 to 262144");
    refused(&with("log_slots = 64\nquorum_window = 128"), 4, "exceeds log_slots");
    refused(&with("payload_bytes_max = 1393"), 3, "1100 to 1392");
    // Smaller than what an op may return.
    refused(&with("payload_bytes_max = 1099"), 3, "1100 to 1392");
    assert_eq!(ClusterConfig::parse(&with("payload_bytes_max = 1100")).unwrap().payload_bytes_max, 1100);
    assert_eq!(ClusterConfig::parse(&with("log_slots = 64")).unwrap().quorum_window, 64);
}

#[test]
fn ipv6_leaves_less_room() {
    let v6 = "group = 1\n[[replicas]]\nindex = 0\naddress = \"[fd00::1]:7100\"\n";
    let config = ClusterConfig::parse(v6).unwrap();
    assert!(config.is_ipv6());
    assert_eq!(config.payload_bytes_max, 1372);
    refused(&v6.replace("group = 1", "group = 1\npayload_bytes_max = 1392"), 2, "IPv6");
}

#[test]
fn timeouts_are_bounded_and_consistent() {
    let with = |line: &str| format!("{GOOD}\n[timeouts]\n{line}\n");
    assert_eq!(
        ClusterConfig::parse(&with("resend_timeout_ms = 7")).unwrap().timeouts,
        Timeouts { resend_timeout_ms: 7, ..Timeouts::default() }
    );
    assert!(refusal(&with("resend_timeout_ms = 0")).1.contains("resend_timeout_ms = 0"));
    assert!(refusal(&with("busy_poll_us = 20000")).1.contains("0 to 10000"));
    assert!(refusal(&with("request_timeout_ms = 10")).1.contains("exceeds request_timeout_ms"));
    assert_eq!(refusal(&with("heartbeat_interval_ms = 9000000")).0, 17);
}

#[test]
fn errors_of_a_file_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.toml");
    assert!(ClusterConfig::load(&path).unwrap_err().to_string().contains("cannot read"));
    std::fs::write(&path, GOOD.replace("group = 7", "group = 7\nx = 1")).unwrap();
    let error = ClusterConfig::load(&path).unwrap_err().to_string();
    assert!(error.contains("cluster.toml: line 3: unknown field `x`"), "{error}");
}

#[test]
fn hash_covers_what_members_must_agree_on() {
    let base = three();
    let mut seen = vec![base.config_hash()];
    let mut differs = |change: &dyn Fn(&mut ClusterConfig)| {
        let mut config = base.clone();
        change(&mut config);
        assert!(!seen.contains(&config.config_hash()));
        seen.push(config.config_hash());
    };
    differs(&|c| c.group = 8);
    differs(&|c| c.durability = Durability::Disk);
    differs(&|c| c.durability = Durability::Process);
    differs(&|c| c.log_slots = 64);
    differs(&|c| c.payload_bytes_max = 512);
    differs(&|c| c.replicas.swap(0, 1));
    differs(&|c| c.replicas.truncate(2));
    differs(&|c| c.replicas[1].set_port(1));
}

#[test]
fn hash_leaves_out_what_may_differ() {
    let base = three();
    let mut other = base.clone();
    other.batching = Batching::One;
    other.offloads = OffloadChoice::NONE;
    other.timeouts.resend_timeout_ms += 1;
    other.quorum_window = 64;
    assert_eq!(base.config_hash(), other.config_hash());
}

#[test]
fn hash_is_stable_across_versions() {
    // A new version of the program must be able to join an old cluster: change this only with VERSION.
    assert_eq!(three().config_hash(), 586_800_049_028_083_508);
}

#[test]
fn offload_lists() {
    assert_eq!("broadcast,fast-ack,quorum".parse(), Ok(OffloadChoice::ALL));
    assert_eq!("none".parse(), Ok(OffloadChoice::NONE));
    assert_eq!("quorum".parse(), Ok(OffloadChoice { quorum: true, ..OffloadChoice::NONE }));
    assert!("quorum,fastack".parse::<OffloadChoice>().unwrap_err().contains("fastack"));
    assert_eq!(OffloadChoice::ALL.names(), ["broadcast", "fast_ack", "quorum"]);
}

proptest! {
    #[test]
    fn written_files_parse_to_the_same(
        group: u32, count in 1usize..=32, one: bool, offloads: [bool; 3], slots in 4u32..14, window in 4u32..14,
        payload in 1100u32..=1372, ipv6: bool, resend in 1u64..300, key_file in proptest::option::of("\\PC{1,9}"),
    ) {
        let ip: std::net::IpAddr =
            if ipv6 { "fd00::9".parse().unwrap() } else { "192.168.3.4".parse().unwrap() };
        let mut config = ClusterConfig::new(
            group, (0..count).map(|i| SocketAddr::new(ip, 1000 + i as u16)).collect());
        config.batching = if one { Batching::One } else { Batching::Auto };
        config.offloads = OffloadChoice { broadcast: offloads[0], fast_ack: offloads[1], quorum: offloads[2] };
        config.log_slots = 1 << slots;
        config.quorum_window = 1 << window.min(slots);
        config.payload_bytes_max = payload;
        config.timeouts.resend_timeout_ms = resend;
        config.key_file = key_file.map(Into::into);
        let parsed = ClusterConfig::parse(&config.to_toml()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&parsed, &config);
        prop_assert_eq!(parsed.config_hash(), config.config_hash());
    }

    #[test]
    fn any_text_is_refused_without_panic(text in "[a-z=\\[\\]\" \n0-9.:]{0,200}") {
        prop_assert!(ClusterConfig::parse(&text).is_err());
    }
}
