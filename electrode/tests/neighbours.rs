//! Broadcasts and the neighbours' tables: a peer that is off, unresolved, moved or gone is no obstacle to the
//! others, and is reached again as soon as the kernel knows where (L7).

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::broadcaster::{count, everybody_but_me, leader, payloads, receivers, resolve, skip_greeting};
use common::capture::{Capture, Tap};
use common::foreign::command;
use common::group::{PORT, Seen, group, round};
use common::hosts::{DEADLINE, fabric, wait_until};
use common::privileged;
use electrode::Endpoint;
use electrode::abi::Verdict;
use electrode::config::Backend;
use electrode::fabric::Family;
use electrode::types::{OpNumber, ReplicaId, ReplicaSet};

/// Any one peer, the first and the last as well, is powered off: the others hold the op and it completes.
#[test]
fn any_one_peer_may_be_powered_off() {
    if !privileged("any_one_peer_may_be_powered_off") {
        return;
    }
    const N: usize = 5;
    let fabric = fabric(N, Family::V4);
    let mut endpoints = group(&fabric, N, |c| c.backend = Backend::Ebpf);
    let peers = everybody_but_me(N);
    resolve(&mut endpoints[0], peers);
    let mut seen: Vec<Seen> = (0..N).map(|_| Seen::default()).collect();
    let poll_until = |endpoints: &mut Vec<Endpoint>, seen: &mut Vec<Seen>, done: &dyn Fn(&[Seen]) -> bool| {
        let since = Instant::now();
        while !done(seen) {
            assert!(since.elapsed() < DEADLINE, "{seen:?}");
            for (endpoint, seen) in endpoints.iter_mut().zip(seen.iter_mut()) {
                seen.poll(endpoint);
            }
        }
    };
    for (op, dead) in (1..).zip(1..N) {
        fabric.set_host_link(dead, false).unwrap();
        // Nothing has told the leader: the carrier is for everybody.
        assert_eq!(endpoints[0].reached_by_carrier(), peers);
        let round = round(N, op, 0, N as u32 - 2);
        endpoints[0].elec_broadcast(&round, b"x").unwrap();
        poll_until(&mut endpoints, &mut seen, &|s| s[0].quorums.last() == Some(&op));
        assert_eq!(endpoints[0].acked(ReplicaId(dead as u8)).0, op - 1);

        fabric.set_host_link(dead, true).unwrap();
        let since = Instant::now();
        while endpoints[0].acked(ReplicaId(dead as u8)).0 < op {
            assert!(since.elapsed() < DEADLINE, "the peer is not heard of again");
            endpoints[0].resend(&round, ReplicaSet::EMPTY.with(ReplicaId(dead as u8)), b"x").unwrap();
            std::thread::sleep(Duration::from_millis(5));
            for (endpoint, seen) in endpoints.iter_mut().zip(&mut seen) {
                seen.poll(endpoint);
            }
        }
    }
    poll_until(&mut endpoints, &mut seen, &|s| s[1..].iter().all(|s| s.log.len() == N - 1));
    assert_eq!(count(&endpoints[0], Verdict::CloneSent), (N as u64 - 1) * (N as u64 - 1));
    assert_eq!(seen[0].quorums, (1..N as u64).collect::<Vec<_>>());
}

/// The same for a peer that was off before anybody knew its hardware address.
#[test]
fn a_peer_that_was_never_resolved_stops_nobody() {
    if !privileged("a_peer_that_was_never_resolved_stops_nobody") {
        return;
    }
    const N: usize = 4;
    for dead in [1, N - 1] {
        let fabric = fabric(N, Family::V4);
        let mut leader = leader(&fabric, N);
        let receivers = receivers(&fabric, N);
        fabric.set_host_link(dead, false).unwrap();
        let alive = everybody_but_me(N).without(ReplicaId(dead as u8));
        resolve(&mut leader, alive);
        leader.broadcast_message(everybody_but_me(N), b"two").unwrap();
        leader.flush().unwrap();
        for (receiver, i) in receivers.iter().zip(1..) {
            let expected: &[&[u8]] = if i == dead { &[] } else { &[b"hello", b"two"] };
            assert_eq!(payloads(receiver), expected, "member {i} with {dead} off");
        }
        assert_eq!((count(&leader, Verdict::Carrier), count(&leader, Verdict::CloneSent)), (1, 2));
    }
}

#[test]
fn an_unresolved_neighbour_gets_a_unicast_send_and_then_the_carrier() {
    if !privileged("an_unresolved_neighbour_gets_a_unicast_send_and_then_the_carrier") {
        return;
    }
    const N: usize = 4;
    for family in [Family::V4, Family::V6] {
        let fabric = fabric(N, family);
        let mut leader = leader(&fabric, N);
        let receivers = receivers(&fabric, N);
        let peers = everybody_but_me(N);
        for turn in 0..3u64 {
            assert_eq!(leader.reached_by_carrier(), ReplicaSet::EMPTY);
            resolve(&mut leader, peers);
            skip_greeting(&receivers);
            assert_eq!(count(&leader, Verdict::Carrier), turn, "the first send is no carrier");
            let sent = leader.stats().unwrap().socket.sent;
            leader.broadcast_message(peers, b"carried").unwrap();
            leader.flush().unwrap();
            assert_eq!(leader.stats().unwrap().socket.sent, sent + 1, "one send for all");
            receivers.iter().for_each(|receiver| assert_eq!(payloads(receiver), [b"carried"]));
            assert_eq!(count(&leader, Verdict::CloneSent), (turn + 1) * 3);
            // Its neighbour table is its own: as after a long silence or a reset.
            fabric.flush_neighbours(0).unwrap();
            wait_until("the words follow", || leader.reached_by_carrier().is_empty());
        }
    }
}

#[test]
fn a_neighbour_that_changes_its_mac_is_followed() {
    if !privileged("a_neighbour_that_changes_its_mac_is_followed") {
        return;
    }
    const N: usize = 3;
    const MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
    let fabric = fabric(N, Family::V4);
    let mut leader = leader(&fabric, N);
    let receivers = receivers(&fabric, N);
    resolve(&mut leader, everybody_but_me(N));
    skip_greeting(&receivers);

    command(fabric.host(2).netns(), "ip link set dev eth0 address 02:00:00:00:09:09");
    // Anything that it sends makes it ask for the leader's address and thereby tell its own.
    receivers[1].send_to(b"I am here now", (fabric.host(0).addr(), 9)).unwrap();
    let wire = Capture::new(fabric.switch(), "port0", Tap::Wire);
    let to = SocketAddr::new(fabric.host(2).addr(), PORT);
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < DEADLINE, "copies still go to the old hardware address");
        leader.broadcast_message(everybody_but_me(N), b"moved").unwrap();
        leader.flush().unwrap();
        let copy = wire.matching(1, |f| !f.outgoing && f.datagram(to).is_some()).remove(0);
        if copy.to_mac() == MAC {
            break;
        }
    }
    assert_eq!(payloads(&receivers[1]).last().unwrap(), b"moved");
    assert_eq!(leader.reached_by_carrier(), everybody_but_me(N));
}

#[test]
fn a_neighbour_that_goes_away_is_followed() {
    if !privileged("a_neighbour_that_goes_away_is_followed") {
        return;
    }
    const N: usize = 4;
    let fabric = fabric(N, Family::V4);
    // The kernel gives a neighbour up in a moment instead of seconds.
    let impatient = || {
        for (name, value) in [("delay_first_probe_time", "0"), ("ucast_solicit", "1"), ("mcast_solicit", "1")]
        {
            std::fs::write(format!("/proc/sys/net/ipv4/neigh/eth0/{name}"), value).unwrap();
        }
        std::fs::write("/proc/sys/net/ipv4/neigh/eth0/base_reachable_time_ms", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/neigh/eth0/retrans_time_ms", "10").unwrap();
    };
    fabric.host(0).netns().run(impatient).unwrap();
    let mut leader = leader(&fabric, N);
    let receivers = receivers(&fabric, N);
    let (peers, alive) = (everybody_but_me(N), everybody_but_me(N).without(ReplicaId(2)));
    resolve(&mut leader, peers);
    skip_greeting(&receivers);

    fabric.set_host_link(2, false).unwrap();
    let since = Instant::now();
    while leader.reached_by_carrier() != alive {
        assert!(
            since.elapsed() < DEADLINE,
            "a dead neighbour still counts: {:?}",
            leader.reached_by_carrier()
        );
        // Unicast, through the stack, which probes (L6).
        leader.send_to_member(ReplicaId(2), b"?").unwrap();
        leader.flush().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    leader.broadcast_message(peers, b"two").unwrap();
    leader.flush().unwrap();
    for i in [0, 2] {
        assert_eq!(payloads(&receivers[i]), [b"two"]);
    }
    fabric.set_host_link(2, true).unwrap();
    resolve(&mut leader, peers);
}

/// Between queueing and sending a neighbour may go: its copy is missed, the others get theirs.
#[test]
fn a_neighbour_lost_under_way_is_counted_and_told() {
    if !privileged("a_neighbour_lost_under_way_is_counted_and_told") {
        return;
    }
    const N: usize = 5;
    // The first, one in the middle, the last, and all of them.
    for lost in [0b00010u32, 0b00100, 0b10000, 0b11110] {
        let lost = ReplicaSet::from_mask(lost);
        let fabric = fabric(N, Family::V4);
        let mut leader = leader(&fabric, N);
        let receivers = receivers(&fabric, N);
        let peers = everybody_but_me(N);
        resolve(&mut leader, peers);
        skip_greeting(&receivers);
        let wire = Capture::new(fabric.switch(), "port0", Tap::Wire);
        leader.elec_broadcast(&round(N, 1, 0, 1), b"carried").unwrap();
        for peer in lost.iter() {
            let addr = fabric.host(peer.index()).addr();
            command(fabric.host(0).netns(), &format!("ip neigh del {addr} dev eth0"));
        }
        wait_until("the words follow", || leader.reached_by_carrier() == peers.difference(lost));
        leader.flush().unwrap();
        assert_eq!(leader.take_missed(OpNumber(1)), lost);
        assert_eq!(count(&leader, Verdict::CloneUnresolved), lost.len() as u64);
        for (receiver, i) in receivers.iter().zip(1u8..) {
            let expected: &[&[u8]] = if lost.contains(ReplicaId(i)) { &[] } else { &[b"carried"] };
            assert_eq!(payloads(receiver), expected, "member {i}");
        }
        assert!(!wire.frames().iter().any(|f| !f.outgoing && f.bytes[12..14] == [8, 0] && f.is_multicast()));
    }
}
