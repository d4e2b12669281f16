//! One send, a copy a peer (L7): who gets one, who is known to have missed it, and that the carrier itself
//! never leaves.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::actor::{receive, receive_all, socket};
use common::capture::{Capture, Tap};
use common::foreign::{Foreign, Place, clsact_drop, command, tcx_programs};
use common::group::{PORT, Seen, group, members, open, round};
use common::hosts::{DEADLINE, fabric, wait_until};
use common::privileged;
use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Offloads};
use electrode::fabric::{Fabric, Family};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::wire;
use electrode::{Endpoint, Round};
use libbpf_rs::query::ProgInfoIter;

/// A leader at host 0 that only broadcasts, with its gate open.
fn leader(fabric: &Fabric, n: usize, adjust: &dyn Fn(&mut EndpointConfig)) -> Endpoint {
    let mut leader = open(fabric, n, 0, &|c: &mut EndpointConfig| {
        c.backend = Backend::Ebpf;
        c.offloads = Offloads { broadcast: true, ..Offloads::NONE };
        adjust(c);
    });
    leader.gate().lead(View(0), OpNumber(0)).unwrap();
    leader
}

/// Plain sockets in the places of members 1 to n - 1.
fn receivers(fabric: &Fabric, n: usize) -> Vec<UdpSocket> {
    (1..n).map(|i| socket(fabric.host(i), PORT)).collect()
}

fn everybody_but_me(n: usize) -> ReplicaSet {
    ReplicaSet::all(n).without(ReplicaId(0))
}

/// Sends until a carrier would reach `peers`; the first sends are unicast and resolve them.
fn resolve(leader: &mut Endpoint, peers: ReplicaSet) {
    leader.broadcast_message(peers, b"hello").unwrap();
    leader.flush().unwrap();
    wait_until("neighbours are resolved", || leader.reached_by_carrier() == peers);
}

/// The payloads of all that arrived.
fn payloads(socket: &UdpSocket) -> Vec<Vec<u8>> {
    receive_all(socket).iter().map(|d| wire::parse(d).unwrap().1.to_vec()).collect()
}

fn skip_greeting(receivers: &[UdpSocket]) {
    for receiver in receivers {
        assert_eq!(wire::parse(&receive(receiver, DEADLINE).unwrap().0).unwrap().1, b"hello");
    }
}

fn count(leader: &Endpoint, verdict: Verdict) -> u64 {
    leader.stats().unwrap().kernel(verdict)
}

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
    let mut leader = leader(&fabric, N, &|_| ());
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
        let mut leader = leader(&fabric, N, &|_| ());
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
        let mut leader = leader(&fabric, N, &|_| ());
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
    let mut leader = leader(&fabric, N, &|_| ());
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
    let mut leader = leader(&fabric, N, &|_| ());
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

/// What is known of a copy that did not leave.
fn failed_clone(block: impl Fn(&Fabric, SocketAddr) -> Option<Foreign>, unblock: impl Fn(&Fabric)) {
    const N: usize = 5;
    let fabric = fabric(N, Family::V4);
    let mut leader = leader(&fabric, N, &|_| ());
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
    if !privileged("a_copy_dropped_by_anothers_tcx_program_is_counted_and_told") {
        return;
    }
    let block = |f: &Fabric, victim| Some(Foreign::dropping(f.host(0).netns(), Place::TcxEgress, victim));
    failed_clone(block, |_| ());
}

#[test]
fn a_copy_dropped_by_anothers_clsact_filter_is_counted_and_told() {
    if !privileged("a_copy_dropped_by_anothers_clsact_filter_is_counted_and_told") {
        return;
    }
    let block = |f: &Fabric, victim| {
        command(f.host(0).netns(), "tc qdisc add dev eth0 clsact");
        clsact_drop(f.host(0).netns(), "egress", victim);
        None
    };
    failed_clone(block, |f| drop(command(f.host(0).netns(), "tc filter del dev eth0 egress")));
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
        let mut leader = leader(&fabric, N, &|_| ());
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
    let mut seen = Seen::default();
    for op in 1..=3 {
        endpoints[0].elec_broadcast(&round(N, op, 0, N as u32 - 1), &op.to_le_bytes()).unwrap();
        seen.until(&mut endpoints[0], "a quorum of all 31", |s| s.quorums.last() == Some(&op));
    }
    assert_eq!(count(&endpoints[0], Verdict::CloneSent), 3 * 31);
    assert!(count(&endpoints[0], Verdict::DropVote) > 0, "{:?}", endpoints[0].stats());
    for follower in &mut endpoints[1..] {
        let mut seen = Seen::default();
        seen.poll(follower);
        assert_eq!(seen.log.iter().map(|e| e.first).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(count(follower, Verdict::TxAck), 3);
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

/// The kernel refuses what takes it a million instructions to check; the project's own bound is 50,000.
#[test]
fn the_programs_can_be_verified_whatever_the_size_of_the_group() {
    if !privileged("the_programs_can_be_verified_whatever_the_size_of_the_group") {
        return;
    }
    for family in [Family::V4, Family::V6] {
        for n in [2, 32] {
            let fabric = fabric(n, family);
            let _leader = open(&fabric, n, 0, &|c: &mut EndpointConfig| c.backend = Backend::Ebpf);
            let ours: Vec<_> = [Place::TcxIngress, Place::TcxEgress]
                .into_iter()
                .flat_map(|place| tcx_programs(fabric.host(0).netns(), place))
                .collect();
            let programs: Vec<_> = ProgInfoIter::default().filter(|p| ours.contains(&p.id)).collect();
            assert_eq!(programs.len(), 2);
            for program in programs {
                let cost = program.verified_insns;
                assert!(cost < 50_000, "{:?} takes {cost} instructions with {n} members", program.name);
            }
        }
    }
}
