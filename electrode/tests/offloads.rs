//! The three offloads across a real kernel: broadcast, fast acknowledgement, wait-on-quorum.

mod common;

use std::time::Instant;

use common::group::{Seen, group, round};
use common::hosts::{DEADLINE, fabric};
use common::privileged;
use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Hook, Offloads, TcMechanism};
use electrode::fabric::Family;
use electrode::types::{OpNumber, ReplicaId, ReplicaSet};
use electrode::{Endpoint, Stats};

fn ebpf(config: &mut EndpointConfig) {
    config.backend = Backend::Ebpf;
}

/// Ten rounds of different sizes, with commits riding along; everything lands everywhere in order.
fn ten_rounds(n: usize, family: Family, adjust: impl Fn(&mut EndpointConfig)) -> Vec<Stats> {
    let fabric = fabric(n, family);
    let mut endpoints = group(&fabric, n, &adjust);
    let peers = ReplicaSet::all(n).without(ReplicaId(0));
    let mut seen: Vec<Seen> = (0..n).map(|_| Seen::default()).collect();
    // The first packets resolve the neighbours, by unicast.
    let carries = endpoints[0].choice().backend == "ebpf";
    let since = Instant::now();
    endpoints[0].send_commit(OpNumber(0), peers).unwrap();
    while carries && adjusted(&adjust).broadcast && endpoints[0].reached_by_carrier() != peers {
        assert!(since.elapsed() < DEADLINE, "neighbours are not resolved");
        endpoints[0].flush().unwrap();
    }

    let largest = endpoints[0].payload_bytes_max();
    let sizes = [0, 1, 64, 511, largest];
    let step = |endpoints: &mut Vec<Endpoint>, seen: &mut Vec<Seen>, done: &dyn Fn(&[Seen]) -> bool| {
        let since = Instant::now();
        while !done(seen) {
            assert!(since.elapsed() < DEADLINE, "{seen:?}\n{:?}", endpoints[1].stats());
            for (endpoint, seen) in endpoints.iter_mut().zip(seen.iter_mut()) {
                seen.poll(endpoint);
            }
        }
    };
    for op in 1..=10u64 {
        let payload = vec![op as u8; sizes[op as usize % 5]];
        endpoints[0].elec_broadcast(&round(n, op, op - 1, (n / 2) as u32), &payload).unwrap();
        step(&mut endpoints, &mut seen, &|s| s[0].quorums.last() == Some(&op));
    }
    endpoints[0].send_commit(OpNumber(10), peers).unwrap();
    step(&mut endpoints, &mut seen, &|s| s[1..].iter().all(|s| s.commit == 10));

    assert_eq!(seen[0].quorums, (1..=10).collect::<Vec<_>>());
    for follower in &seen[1..] {
        assert_eq!(follower.log.len(), 10);
        for (entry, op) in follower.log.iter().zip(1u64..) {
            assert_eq!((entry.first, entry.last), (op, op));
            assert_eq!(entry.payload, vec![op as u8; sizes[op as usize % 5]]);
        }
    }
    endpoints.iter().map(|e| e.stats().unwrap()).collect()
}

fn adjusted(adjust: &impl Fn(&mut EndpointConfig)) -> Offloads {
    let mut config = EndpointConfig::new(vec!["10.0.0.1:1".parse().unwrap()], ReplicaId(0));
    adjust(&mut config);
    config.offloads
}

#[test]
fn all_three_over_ipv4() {
    if !privileged("all_three_over_ipv4") {
        return;
    }
    let stats = ten_rounds(5, Family::V4, ebpf);
    assert_eq!(stats[0].kernel(Verdict::Carrier), 11, "{:?}", stats[0]);
    assert_eq!(stats[0].kernel(Verdict::CloneSent), 44);
    for follower in &stats[1..] {
        assert_eq!(follower.kernel(Verdict::TxAck), 10);
        assert_eq!(follower.logged_by_kernel, 10);
        assert_eq!(follower.kernel(Verdict::DropCommit), 2);
        assert_eq!(follower.socket.received, 0, "nothing reached the process: {follower:?}");
    }
}

#[test]
fn all_three_over_ipv6() {
    if !privileged("all_three_over_ipv6") {
        return;
    }
    let stats = ten_rounds(3, Family::V6, ebpf);
    assert_eq!(stats[0].kernel(Verdict::CloneSent), 22, "{:?}", stats[0]);
    assert!(stats[1..].iter().all(|f| f.kernel(Verdict::TxAck) == 10));
}

#[test]
fn each_offload_alone() {
    if !privileged("each_offload_alone") {
        return;
    }
    let none = Offloads::NONE;
    for offloads in [
        Offloads { broadcast: true, ..none },
        Offloads { fast_ack: true, ..none },
        Offloads { quorum: true, ..none },
        none,
    ] {
        let stats = ten_rounds(3, Family::V4, |c| {
            ebpf(c);
            c.offloads = offloads;
        });
        assert_eq!(stats[0].kernel(Verdict::Carrier) > 0, offloads.broadcast, "{offloads:?}");
        assert_eq!(stats[1].kernel(Verdict::TxAck) > 0, offloads.fast_ack, "{offloads:?}");
        let counted = stats[0].kernel(Verdict::PassQuorum) + stats[0].kernel(Verdict::DropQuorumQuiet);
        assert_eq!(counted > 0, offloads.quorum, "{offloads:?} {:?}", stats[0]);
    }
}

#[test]
fn clsact_where_there_is_no_tcx() {
    if !privileged("clsact_where_there_is_no_tcx") {
        return;
    }
    let stats = ten_rounds(3, Family::V4, |c| {
        ebpf(c);
        c.tc = TcMechanism::Clsact;
    });
    assert_eq!(stats[1].kernel(Verdict::TxAck), 10);
}

#[test]
fn generic_xdp() {
    if !privileged("generic_xdp") {
        return;
    }
    let stats = ten_rounds(3, Family::V4, |c| {
        ebpf(c);
        c.hook = Hook::XdpGeneric;
    });
    assert_eq!(stats[1].kernel(Verdict::TxAck), 10, "{:?}", stats[1]);
}

#[test]
fn sockets_alone() {
    if !privileged("sockets_alone") {
        return;
    }
    for name in ["udp", "udp-sendto", "udp-multicast"] {
        let backend: Backend = name.parse().unwrap();
        let stats = ten_rounds(3, Family::V4, |c| c.backend = backend);
        assert_eq!(stats[1].logged_by_user, 10, "{name}");
    }
    ten_rounds(3, Family::V6, |c| c.backend = "udp-multicast".parse().unwrap());
}

/// Ten rounds that leave together need one ack a follower; rounds that stand alone need one each.
#[test]
fn a_burst_needs_one_ack() {
    if !privileged("a_burst_needs_one_ack") {
        return;
    }
    for (independent, acks) in [(false, 1), (true, 10)] {
        let fabric = fabric(3, Family::V4);
        fabric.pin_neighbours(0).unwrap();
        let mut endpoints = group(&fabric, 3, ebpf);
        let mut leader = Seen::default();
        for op in 1..=10 {
            let tag = if independent { op } else { 0 };
            let round = electrode::Round { tag, independent, ..round(3, op, 0, 2) };
            endpoints[0].elec_broadcast(&round, b"x").unwrap();
        }
        leader.until(&mut endpoints[0], "quorum of all", |s| s.quorums.len() == 10);
        assert_eq!(leader.quorums, (1..=10).collect::<Vec<_>>());
        for follower in &mut endpoints[1..] {
            let mut seen = Seen::default();
            seen.until(follower, "the log", |s| s.log.len() == 10);
            let stats = follower.stats().unwrap();
            assert_eq!(stats.kernel(Verdict::TxAck), acks, "{stats:?}");
            assert_eq!(stats.kernel(Verdict::DropLogged), 10 - acks);
        }
    }
}

/// A peer that gets no later Prepare of the burst acknowledges the one that it gets.
#[test]
fn a_burst_to_different_peers_is_acknowledged_by_each() {
    if !privileged("a_burst_to_different_peers_is_acknowledged_by_each") {
        return;
    }
    let fabric = fabric(3, Family::V4);
    fabric.pin_neighbours(0).unwrap();
    let mut endpoints = group(&fabric, 3, ebpf);
    let only = |i: u8| ReplicaSet::EMPTY.with(ReplicaId(i));
    for (op, to) in [(1, 1), (2, 2)] {
        let round = electrode::Round { targets: only(to), voters: only(to), ..round(3, op, 0, 1) };
        endpoints[0].elec_broadcast(&round, b"x").unwrap();
    }
    // The second is a gap to its follower; the first must not wait for it.
    Seen::default().until(&mut endpoints[0], "quorum of the first", |s| s.quorums == [1]);
}
