//! One send, a copy a peer (L7): who gets one, and who is known to have missed it.

mod common;

use std::net::SocketAddr;

use common::broadcaster::{count, everybody_but_me, leader, payloads, receivers, resolve, skip_greeting};
use common::foreign::{Foreign, Place, clsact_drop, command};
use common::group::{PORT, Seen, all_until, group, members, round};
use common::hosts::fabric;
use common::{has_tcx, privileged};
use electrode::abi::Verdict;
use electrode::config::Backend;
use electrode::fabric::{Fabric, Family};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet};
use electrode::{Endpoint, Round};

/// One op to `targets` by `elec_broadcast`, which remembers who missed it.
fn send_round(leader: &mut Endpoint, n: usize, op: u64, targets: ReplicaSet) -> Round {
    let round = Round { targets, ..round(n, op, 0, 1) };
    leader.elec_broadcast(&round, &op.to_le_bytes()).unwrap();
    leader.flush().unwrap();
    round
}

fn every_subset(family: Family) {
    const N: usize = 5;
    let fabric = fabric(N, family);
    let mut leader = leader(&fabric, N);
    let receivers = receivers(&fabric, N);
    resolve(&mut leader, everybody_but_me(N));
    skip_greeting(&receivers);
    let copies_before = count(&leader, Verdict::CloneSent);
    let (mut carriers, mut copies) = (0, 0);
    // The sender's own bit asks for nothing.
    for mask in 0..1u32 << N {
        leader.broadcast_message(ReplicaSet::from_mask(mask), &mask.to_le_bytes()).unwrap();
        let peers = (mask & !1).count_ones();
        if peers > 1 {
            (carriers, copies) = (carriers + 1, copies + u64::from(peers));
        }
    }
    leader.flush().unwrap();
    for (receiver, i) in receivers.iter().zip(1..) {
        let wanted: Vec<_> = (0..1u32 << N).filter(|m| m >> i & 1 == 1).map(|m| m.to_le_bytes()).collect();
        assert_eq!(payloads(receiver), wanted, "member {i}");
    }
    assert_eq!(count(&leader, Verdict::Carrier), carriers);
    assert_eq!(count(&leader, Verdict::CloneSent) - copies_before, copies);
    assert_eq!(leader.stats().unwrap().socket.send_failed, 0);
}

#[test]
fn carriers_that_never_meet_the_program_are_noticed() {
    if !privileged("carriers_that_never_meet_the_program_are_noticed") {
        return;
    }
    let fabric = fabric(3, Family::V4);
    fabric.pin_neighbours(0).unwrap();
    let mut endpoints = group(&fabric, 3, |c| {
        c.backend = Backend::Ebpf;
        c.tc = electrode::config::TcMechanism::Clsact;
    });
    let mut seen = Seen::default();
    endpoints[0].elec_broadcast(&round(3, 1, 0, 2), b"1").unwrap();
    let mut others: Vec<_> = (0..2).map(|_| Seen::default()).collect();
    let step = |endpoints: &mut Vec<Endpoint>, seen: &mut Seen, others: &mut Vec<Seen>, last: u64| {
        wait_until_mut("quorum", || {
            seen.poll(&mut endpoints[0]);
            for (endpoint, seen) in endpoints[1..].iter_mut().zip(others.iter_mut()) {
                seen.poll(endpoint);
            }
            seen.quorums.last() == Some(&last)
        });
    };
    step(&mut endpoints, &mut seen, &mut others, 1);
    assert_eq!(endpoints[0].stats().unwrap().carriers_lost, 0);
    // Somebody removes the qdisc, and both programs of the leader with it.
    command(fabric.host(0).netns(), "tc qdisc del dev eth0 clsact");
    for op in 2..=4 {
        endpoints[0].elec_broadcast(&round(3, op, 0, 2), b"x").unwrap();
        endpoints[0].flush().unwrap();
    }
    assert_eq!(endpoints[0].stats().unwrap().carriers_lost, 3);
    for op in 2..=4 {
        let peers = ReplicaSet::all(3).without(ReplicaId(0));
        endpoints[0].resend(&round(3, op, 0, 2), peers, b"x").unwrap();
    }
    // From here on single copies.
    endpoints[0].elec_broadcast(&round(3, 5, 0, 2), b"5").unwrap();
    step(&mut endpoints, &mut seen, &mut others, 5);
    assert_eq!(endpoints[0].stats().unwrap().carriers_lost, 3);
}

fn wait_until_mut(what: &str, mut is_done: impl FnMut() -> bool) {
    let since = std::time::Instant::now();
    while !is_done() {
        assert!(since.elapsed() < common::hosts::DEADLINE, "{what}");
    }
}

#[test]
fn every_subset_of_targets_over_ipv4() {
    if privileged("every_subset_of_targets_over_ipv4") {
        every_subset(Family::V4);
    }
}

#[test]
fn every_subset_of_targets_over_ipv6() {
    if privileged("every_subset_of_targets_over_ipv6") {
        every_subset(Family::V6);
    }
}

/// What is known of a copy that did not leave.
fn failed_clone(block: impl Fn(&Fabric, SocketAddr) -> Option<Foreign>, unblock: impl Fn(&Fabric)) {
    const N: usize = 5;
    let fabric = fabric(N, Family::V4);
    let mut leader = leader(&fabric, N);
    let receivers = receivers(&fabric, N);
    let peers = everybody_but_me(N);
    resolve(&mut leader, peers);
    skip_greeting(&receivers);

    let victim = SocketAddr::new(fabric.host(2).addr(), PORT);
    let blocker = block(&fabric, victim);
    let round = send_round(&mut leader, N, 1, peers);
    let missed = ReplicaSet::EMPTY.with(ReplicaId(2));
    assert_eq!(leader.take_missed(OpNumber(1)), missed);
    assert_eq!(leader.take_missed(OpNumber(1)), ReplicaSet::EMPTY, "told once");
    assert_eq!((count(&leader, Verdict::CloneFailed), count(&leader, Verdict::CloneSent)), (1, 3));
    // A round that nobody missed says so.
    send_round(&mut leader, N, 2, peers.without(ReplicaId(2)));
    assert_eq!(leader.take_missed(OpNumber(2)), ReplicaSet::EMPTY);

    drop(blocker);
    unblock(&fabric);
    leader.resend(&round, missed, &1u64.to_le_bytes()).unwrap();
    leader.flush().unwrap();
    for (receiver, i) in receivers.iter().zip(1..) {
        let ops: &[u64] = if i == 2 { &[1] } else { &[1, 2] };
        assert_eq!(payloads(receiver), ops.iter().map(|op| op.to_le_bytes()).collect::<Vec<_>>(), "{i}");
    }
}

#[test]
fn a_copy_dropped_by_anothers_tcx_program_is_counted_and_told() {
    if !privileged("a_copy_dropped_by_anothers_tcx_program_is_counted_and_told")
        || !has_tcx("a_copy_dropped_by_anothers_tcx_program_is_counted_and_told")
    {
        return;
    }
    let block = |f: &Fabric, victim| Some(Foreign::dropping(f.host(0).netns(), Place::TcxEgress, victim));
    failed_clone(block, |_| ());
}

#[test]
fn a_copy_dropped_by_anothers_clsact_filter_is_counted_and_told() {
    if !privileged("a_copy_dropped_by_anothers_clsact_filter_is_counted_and_told")
        || !has_tcx("a_copy_dropped_by_anothers_clsact_filter_is_counted_and_told")
    {
        return;
    }
    // Before tcx the filter would be one of a line with ours, which may let the copy pass first.
    let block = |f: &Fabric, victim| {
        command(f.host(0).netns(), "tc qdisc add dev eth0 clsact");
        clsact_drop(f.host(0).netns(), "egress", victim);
        None
    };
    failed_clone(block, |f| drop(command(f.host(0).netns(), "tc filter del dev eth0 egress")));
}

#[test]
fn thirty_two_members() {
    if !privileged("thirty_two_members") {
        return;
    }
    const N: usize = 32;
    let fabric = fabric(N, Family::V6);
    let mut endpoints = group(&fabric, N, |c| {
        c.backend = Backend::Ebpf;
        (c.log_slots, c.quorum_window) = (16, 16);
    });
    let peers = everybody_but_me(N);
    resolve(&mut endpoints[0], peers);
    let mut seen: Vec<_> = (0..N).map(|_| Seen::default()).collect();
    all_until(&mut endpoints, &mut seen, "leases", |_| true);
    for op in 1..=3 {
        endpoints[0].elec_broadcast(&round(N, op, 0, N as u32 - 1), &op.to_le_bytes()).unwrap();
        all_until(&mut endpoints, &mut seen, "a quorum of all 31", |s| s.quorums.last() == Some(&op));
    }
    assert_eq!(count(&endpoints[0], Verdict::CloneSent), 3 * 31);
    assert!(count(&endpoints[0], Verdict::DropVote) > 0, "{:?}", endpoints[0].stats());
    for (follower, seen) in endpoints[1..].iter_mut().zip(&mut seen[1..]) {
        seen.poll(follower);
        assert_eq!(seen.log.iter().map(|e| e.first).collect::<Vec<_>>(), [1, 2, 3]);
        // What a lease that ran out meanwhile did not let through is the socket's.
        assert_eq!(count(follower, Verdict::TxAck) + count(follower, Verdict::PassLease), 3);
    }
}

#[test]
fn members_with_different_ports() {
    if !privileged("members_with_different_ports") {
        return;
    }
    const N: usize = 5;
    for family in [Family::V4, Family::V6] {
        let fabric = fabric(N, family);
        // Some alike, some not: between copies the port changes or stays.
        let ports = [7000, 7001, 7001, 9, 65535];
        let list: Vec<SocketAddr> =
            members(&fabric, N).iter().zip(ports).map(|(m, port)| SocketAddr::new(m.ip(), port)).collect();
        // Without offload the checksums are whole, and a wrong one would be dropped by the receiver.
        (0..N).for_each(|i| fabric.set_tx_checksum_offload(i, false).unwrap());
        let mut endpoints = group(&fabric, N, |c| {
            c.backend = Backend::Ebpf;
            c.members = list.clone();
        });
        resolve(&mut endpoints[0], everybody_but_me(N));
        let mut seen = Seen::default();
        for op in 1..=3 {
            endpoints[0].elec_broadcast(&round(N, op, 0, N as u32 - 1), b"x").unwrap();
            seen.until(&mut endpoints[0], "a quorum of all", |s| s.quorums.last() == Some(&op));
        }
        assert_eq!(count(&endpoints[0], Verdict::CloneSent), 3 * (N as u64 - 1));
        endpoints[1..].iter().for_each(|f| assert_eq!(count(f, Verdict::TxAck), 3));
    }
}
