//! `Acks::ByCaller` (mode `disk`): the kernel logs and says nothing, the caller acknowledges what is durable,
//! and what is durable is acknowledged again whenever the leader asks (F8).

mod common;

use std::time::{Duration, Instant};

use common::actor::{Actor, Prepare, payload_of};
use common::attacker::keys;
use common::group::{Seen, group, open, round};
use common::hosts::{DEADLINE, fabric, wait_until};
use common::privileged;
use electrode::abi::Verdict;
use electrode::auth::Keys;
use electrode::config::{Acks, Backend, EndpointConfig, UdpSend};
use electrode::endpoint::Patience;
use electrode::fabric::{Fabric, Family};
use electrode::types::{OpNumber, ReplicaId, View};
use electrode::{Endpoint, Error};

const BACKENDS: [Backend; 2] = [Backend::Ebpf, Backend::Udp(UdpSend::Mmsg)];

fn pair(backend: Backend) -> (Fabric, Actor, Endpoint) {
    pair_with(backend, None)
}

fn pair_with(backend: Backend, keys: Option<&Keys>) -> (Fabric, Actor, Endpoint) {
    let fabric = fabric(2, Family::V4);
    let leader = Actor::new(&fabric, 0);
    let leader = if let Some(keys) = keys { leader.with_keys(keys) } else { leader };
    let mut follower = open(&fabric, 2, 1, &|c: &mut EndpointConfig| {
        (c.backend, c.acks, c.keys) = (backend, Acks::ByCaller, keys.cloned());
    });
    follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    (fabric, leader, follower)
}

fn acknowledge(follower: &mut Endpoint, op: u64) {
    follower.acknowledge(OpNumber(op)).unwrap();
    follower.flush().unwrap();
}

/// A pair whose follower holds three ops and has acknowledged them; and what it was handed.
fn pair_with_three_durable(backend: Backend) -> (Fabric, Actor, Endpoint, Seen) {
    let (fabric, leader, mut follower) = pair(backend);
    let mut seen = Seen::default();
    leader.prepare_ops(follower.local_addr(), 1..=3);
    seen.until(&mut follower, "the log", |s| s.log.len() == 3);
    acknowledge(&mut follower, 3);
    assert_eq!(leader.acks_up_to(3), [3]);
    (fabric, leader, follower, seen)
}

/// Ops that the follower acknowledges by itself, given its turn.
fn acks_of(leader: &Actor, follower: &mut Endpoint, seen: &mut Seen) -> Vec<u64> {
    let mut acks = leader.acks_so_far();
    seen.poll(follower);
    acks.extend(leader.acks_so_far());
    acks
}

#[test]
fn acks_come_from_the_caller_alone() {
    if !privileged("acks_come_from_the_caller_alone") {
        return;
    }
    for (backend, keys) in
        BACKENDS.into_iter().flat_map(|backend| [(backend, None), (backend, Some(keys(2)))])
    {
        let (_fabric, leader, mut follower) = pair_with(backend, keys.as_ref());
        let (to, mut seen) = (follower.local_addr(), Seen::default());
        leader.prepare_ops(to, 1..=5);
        assert_eq!(acks_of(&leader, &mut follower, &mut seen), [0u64; 0], "{backend:?}: nothing is durable");
        seen.until(&mut follower, "the log", |s| s.log.len() == 5);
        acknowledge(&mut follower, 3);
        assert_eq!(leader.acks_so_far(), [3], "{backend:?}");
        // The ack was lost: the leader asks again. What is beyond is still on its way to the disk.
        leader.prepare_ops(to, [2]);
        assert_eq!(acks_of(&leader, &mut follower, &mut seen), [2], "{backend:?}");
        leader.prepare_ops(to, [3]);
        assert_eq!(acks_of(&leader, &mut follower, &mut seen), [3], "{backend:?}");
        leader.prepare_ops(to, [5, 4]);
        assert_eq!(acks_of(&leader, &mut follower, &mut seen), [0u64; 0], "{backend:?}");
        acknowledge(&mut follower, 5);
        assert_eq!(leader.acks_so_far(), [5], "{backend:?}");
        leader.prepare_ops(to, [4]);
        assert_eq!(acks_of(&leader, &mut follower, &mut seen), [4], "{backend:?}");
        if backend == Backend::Ebpf {
            let stats = follower.stats().unwrap();
            assert_eq!(
                (stats.kernel(Verdict::DropLogged), stats.kernel(Verdict::TxAck)),
                (5, 0),
                "{stats:?}"
            );
            assert_eq!(stats.kernel(Verdict::DropNotDurable), 2, "{stats:?}");
            assert_eq!(stats.kernel(Verdict::TxAckRepeated), 3, "{stats:?}");
        }
        // No more than what is held, whatever the caller says.
        acknowledge(&mut follower, 99);
        assert_eq!(leader.acks_so_far(), [5], "{backend:?}");
    }
}

/// User space takes the log over and opens the gate anew: what was durable before still is.
#[test]
fn what_is_durable_stays_so_across_a_take_over() {
    if !privileged("what_is_durable_stays_so_across_a_take_over") {
        return;
    }
    for backend in BACKENDS {
        let (_fabric, leader, mut follower, mut seen) = pair_with_three_durable(backend);
        let to = follower.local_addr();
        leader.prepare_ops(to, [5]);
        seen.until(&mut follower, "the gap", |s| s.gaps == [(3, 4)]);
        leader.prepare_ops(to, [4]);
        seen.until(&mut follower, "the gap closed", |s| s.log.len() == 5);
        assert_eq!(follower.stats().unwrap().taken_over, u64::from(backend == Backend::Ebpf));
        assert_eq!(acks_of(&leader, &mut follower, &mut seen), [0u64; 0], "{backend:?}");
        leader.prepare_ops(to, [5]);
        assert_eq!(acks_of(&leader, &mut follower, &mut seen), [0u64; 0], "{backend:?}");
        for op in [3, 1] {
            leader.prepare_ops(to, [op]);
            assert_eq!(acks_of(&leader, &mut follower, &mut seen), [op], "{backend:?}");
        }
        acknowledge(&mut follower, 5);
        assert_eq!(leader.acks_so_far(), [5]);
        assert!(seen.log.iter().zip(1..).all(|(e, op)| (e.first, &e.payload) == (op, &payload_of(op))));
    }
}

/// A new opening is a new promise: nothing of before is acknowledged in it until the caller does.
#[test]
fn a_new_opening_acknowledges_nothing_by_itself() {
    if !privileged("a_new_opening_acknowledges_nothing_by_itself") {
        return;
    }
    for backend in BACKENDS {
        let (_fabric, leader, mut follower, mut seen) = pair_with_three_durable(backend);
        let to = follower.local_addr();
        let held = follower.gate().freeze(&mut |event| seen.take(&event)).unwrap();
        assert!(matches!(follower.acknowledge(held), Err(Error::Role { .. })), "{backend:?}");
        follower.gate().follow(View(1), ReplicaId(0), held).unwrap();
        leader.prepare(to, &Prepare { view: 1, ..Prepare::op(3) });
        assert_eq!(acks_of(&leader, &mut follower, &mut seen), [0u64; 0], "{backend:?}");
    }
}

/// F8: a leader that asks again waits for an ack that user space owes, so a duplicate above durable wakes it.
#[test]
fn a_duplicate_above_durable_wakes_the_owner() {
    if !privileged("a_duplicate_above_durable_wakes_the_owner") {
        return;
    }
    let (_fabric, leader, mut follower) = pair(Backend::Ebpf);
    let (to, mut seen) = (follower.local_addr(), Seen::default());
    leader.prepare_ops(to, 1..=2);
    seen.until(&mut follower, "the log", |s| s.log.len() == 2);
    let since = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            leader.prepare_ops(to, [2]);
        });
        follower.wait(DEADLINE, Patience::Batch(1000)).unwrap();
    });
    assert!(since.elapsed() < DEADLINE / 2, "it slept through");
    assert_eq!(follower.stats().unwrap().kernel(Verdict::DropNotDurable), 1);
}

/// The other two offloads go on: one carrier, votes counted in the kernel.
#[test]
fn a_group_completes_rounds_with_acks_by_the_caller() {
    if !privileged("a_group_completes_rounds_with_acks_by_the_caller") {
        return;
    }
    const N: usize = 3;
    let fabric = fabric(N, Family::V6);
    fabric.pin_neighbours(0).unwrap();
    let mut endpoints = group(&fabric, N, |c| (c.backend, c.acks) = (Backend::Ebpf, Acks::ByCaller));
    let mut seen: [Seen; N] = Default::default();
    for op in 1..=20u64 {
        endpoints[0].elec_broadcast(&round(N, op, 0, 2), &payload_of(op)).unwrap();
        if op % 5 != 0 {
            continue;
        }
        endpoints[0].flush().unwrap();
        for (follower, seen) in endpoints[1..].iter_mut().zip(&mut seen[1..]) {
            seen.until(follower, "the ops", |s| s.log.len() as u64 == op);
        }
        seen[0].poll(&mut endpoints[0]);
        assert_eq!(seen[0].quorums.len() as u64, op - 5, "acknowledged before it was durable");
        // One fsync, one cumulative ack, five ops.
        endpoints[1..].iter_mut().for_each(|follower| acknowledge(follower, op));
        seen[0].until(&mut endpoints[0], "five quorums", |s| s.quorums.len() as u64 == op);
    }
    let stats = endpoints[0].stats().unwrap();
    assert_eq!(stats.kernel(Verdict::Carrier), 20, "{stats:?}");
    let votes = [Verdict::DropVote, Verdict::PassQuorum, Verdict::DropQuorumQuiet];
    assert_eq!(votes.map(|v| stats.kernel(v)).iter().sum::<u64>(), 8, "{stats:?}");
    wait_until("no ack came from a kernel", || {
        endpoints[1..].iter().all(|f| f.stats().unwrap().kernel(Verdict::TxAck) == 0)
    });
}
