use super::*;
use crate::config::{Batching, OffloadChoice};
use crate::report::Batch;
use clap::CommandFactory;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(std::iter::once("paxos-demo").chain(line.split_whitespace())).map(|cli| cli.command)
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_help_explains_a_change_of_keys() {
    let mut cli = Cli::command();
    let help = cli.find_subcommand_mut("key").unwrap().render_long_help().to_string();
    assert!(help.contains("key add FILE") && help.contains("drop_key"), "{help}");
}

#[test]
fn the_lines_of_interfaces_md_are_understood() {
    for line in [
        "replica --config cluster.toml --id 2 --backend ebpf --interface eth0 --hook xdp-generic \
         --resp 127.0.0.1:7000 --metrics 127.0.0.1:9000 --data-dir /tmp/d --durability memory",
        "client --config cluster.toml get k",
        "client --config cluster.toml put k v",
        "client --config cluster.toml delete k",
        "cluster --replicas 5 --backend udp --durability memory --ready-file f --restart-after-ms 100 \
         --authenticated",
        "demo --replicas 5 --seconds 1 --backend auto --json f",
        "soak --replicas 5 --clients 64 --seconds 600 --backend ebpf --batch auto --authentication on --json f",
        "groups --groups 1,2,4,8 --leaders together,spread --backends udp,ebpf --repeat 5 --json f",
        "key new k.toml",
        "key send k.toml 2",
        "failover --replicas 5 --kills 100 --backend udp --leader-timeout-ms 200 --json f",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let line = "bench --replicas 3,5,7 --backends udp,ebpf,udp-sendto,udp-multicast --clients 1,16 --batch 1,auto \
                --payload-bytes 64 --seconds 5 --repeat 5 --offloads broadcast,fast-ack,quorum --hook tc \
                --durability memory --authentication off,on --json f --plot d";
    let Ok(Command::Bench(bench)) = parse(line) else { panic!("not understood") };
    assert_eq!(bench.replicas, [3, 5, 7]);
    assert_eq!(bench.clients, [1, 16]);
    assert_eq!(bench.batch, [Batch(Batching::One), Batch(Batching::Auto)]);
    assert_eq!(bench.backends.len(), 4);
    assert_eq!(bench.fast_path.offloads, OffloadChoice::ALL);
}

#[test]
fn wrong_use_is_refused_with_code_2() {
    for line in [
        "",
        "replica --config c",
        "replica --config c --id 300",
        "replica --config c --id 0 --backend tcp",
        "client --config c",
        "cluster --replicas 0",
        "cluster --replicas 33",
        "bench --replicas 3,x",
        "bench --batch 2",
        "bench --clients 0",
        "bench --seconds 0",
        "bench --offloads quorum,foo",
        "demo --seconds nan",
        "bench --repeat 0",
        "soak --backend udp-multicast",
        "groups --groups 0",
        "groups --leaders nowhere",
        "bench --authentication maybe",
        "key send k.toml",
        "failover --replicas 2",
        "failover --kills 0",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{line}");
    }
}
