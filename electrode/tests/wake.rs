//! Sleeping: whoever waits is woken for what it waits for, by the kernel's doorbells or by a datagram, and not
//! for everything else.

mod common;

use std::time::{Duration, Instant};

use common::actor::{Actor, Prepare};
use common::group::{Seen, open, round};
use common::hosts::{DEADLINE, fabric, wait_until};
use common::privileged;
use electrode::Endpoint;
use electrode::abi::{Header, Verdict};
use electrode::config::{Backend, EndpointConfig};
use electrode::endpoint::Patience;
use electrode::fabric::{Fabric, Family};
use electrode::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use zerocopy::IntoBytes;

fn pair() -> (Fabric, Actor, Endpoint) {
    let fabric = fabric(2, Family::V4);
    let leader = Actor::new(&fabric, 0);
    let mut follower = open(&fabric, 2, 1, &|c: &mut EndpointConfig| c.backend = Backend::Ebpf);
    follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    // Nothing of the neighbours' first meeting happens later.
    leader.prepare_ops(follower.local_addr(), [1]);
    assert_eq!(leader.acks_up_to(1), [1]);
    Seen::default().poll(&mut follower);
    (fabric, leader, follower)
}

/// Sleeps for as long as a test may take while `event` happens; fails if the sleeper is not woken.
fn woken_by(endpoint: &mut Endpoint, patience: Patience, event: impl FnOnce() + Send) {
    let since = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(30));
            event();
        });
        endpoint.wait(DEADLINE, patience).unwrap();
    });
    assert!(since.elapsed() < DEADLINE / 2, "{patience:?}: not woken");
}

fn commit(leader: &Actor, to: std::net::SocketAddr, op: u64) {
    let header: Header = leader.origin.commit(View(0), Epoch(1), OpNumber(op), ReplicaSet::EMPTY);
    leader.socket.send_to(header.as_bytes(), to).unwrap();
}

#[test]
fn an_eager_follower_wakes_for_an_op_and_for_a_commit() {
    if !privileged("an_eager_follower_wakes_for_an_op_and_for_a_commit") {
        return;
    }
    let (_fabric, leader, mut follower) = pair();
    let (to, mut seen) = (follower.local_addr(), Seen::default());
    for op in 2..=5u64 {
        woken_by(&mut follower, Patience::Eager, || leader.prepare_ops(to, [op]));
        seen.poll(&mut follower);
        assert_eq!(seen.log.last().unwrap().first, op);
        woken_by(&mut follower, Patience::Eager, || commit(&leader, to, op));
        seen.poll(&mut follower);
        assert_eq!(seen.commit, op);
    }
    let stats = follower.stats().unwrap();
    // At most one bell each; none for what happened before the sleeper had lain down, on a slow machine.
    assert!((1..=8).contains(&stats.kernel(Verdict::Rang)), "{stats:?}");
    assert_eq!(stats.socket.received, 0, "{stats:?}");
}

#[test]
fn a_patient_follower_sleeps_until_the_batch_is_there() {
    if !privileged("a_patient_follower_sleeps_until_the_batch_is_there") {
        return;
    }
    let (_fabric, leader, mut follower) = pair();
    let (to, mut seen) = (follower.local_addr(), Seen::default());
    woken_by(&mut follower, Patience::Batch(10), || leader.prepare_ops(to, 2..=20));
    // One bell for all of them, at most.
    wait_until("all are logged", || follower.stats().unwrap().kernel(Verdict::TxAck) == 20);
    seen.poll(&mut follower);
    assert_eq!(seen.log.len(), 19);
    let rang = follower.stats().unwrap().kernel(Verdict::Rang);
    assert!(rang <= 1, "{rang} bells");
    // Fewer ops, and commits, let it sleep; they are there when it wakes by itself.
    leader.prepare_ops(to, 21..=25);
    let since = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| commit(&leader, to, 25));
        follower.wait(Duration::from_millis(200), Patience::Batch(10)).unwrap();
    });
    assert!(since.elapsed() >= Duration::from_millis(200), "woken for nothing");
    seen.poll(&mut follower);
    assert_eq!((seen.log.len(), seen.commit), (24, 25));
    assert_eq!(follower.stats().unwrap().kernel(Verdict::Rang), rang);
    // A datagram wakes it in any case: a gap, here.
    woken_by(&mut follower, Patience::Batch(10), || leader.prepare_ops(to, [30]));
    seen.until(&mut follower, "the gap", |s| s.gaps == [(25, 29)]);
    // And what early batches wait for, too.
    woken_by(&mut follower, Patience::Batch(10), || leader.prepare_ops(to, [26]));
    seen.poll(&mut follower);
    assert_eq!(seen.log.last().unwrap().first, 26);
}

#[test]
fn whoever_comes_too_late_to_sleep_does_not() {
    if !privileged("whoever_comes_too_late_to_sleep_does_not") {
        return;
    }
    let (_fabric, leader, mut follower) = pair();
    let to = follower.local_addr();
    leader.prepare_ops(to, [2]);
    assert_eq!(leader.acks_up_to(2), [2]);
    assert!(!follower.arm(Patience::Eager), "an op is there to be polled");
    let since = Instant::now();
    follower.wait(DEADLINE, Patience::Eager).unwrap();
    Seen::default().poll(&mut follower);
    commit(&leader, to, 2);
    wait_until("the commit is absorbed", || follower.stats().unwrap().kernel(Verdict::DropCommit) == 1);
    follower.wait(DEADLINE, Patience::Eager).unwrap();
    assert!(since.elapsed() < DEADLINE / 2, "slept over something");
    assert_eq!(follower.stats().unwrap().kernel(Verdict::Rang), 0);
}

/// L3: of all acks only the one that completes the round wakes the leader.
#[test]
fn a_leader_wakes_for_the_ack_that_completes_its_round() {
    if !privileged("a_leader_wakes_for_the_ack_that_completes_its_round") {
        return;
    }
    const N: usize = 5;
    let fabric = fabric(N, Family::V4);
    let mut leader = open(&fabric, N, 0, &|c: &mut EndpointConfig| c.backend = Backend::Ebpf);
    let epoch = leader.gate().lead(View(0), OpNumber(0)).unwrap();
    let followers: Vec<_> = (1..N).map(|i| Actor::new(&fabric, i)).collect();
    let to = leader.local_addr();
    let mut seen = Seen::default();
    for op in 1..=5 {
        leader.elec_broadcast(&round(N, op, 0, 3), b"x").unwrap();
        leader.flush().unwrap();
        let ack = |i: usize| followers[i].ack(to, &Prepare { leader_epoch: epoch.0, ..Prepare::op(op) }, op);
        (0..2).for_each(ack);
        wait_until("two votes", || leader.stats().unwrap().kernel(Verdict::DropVote) == 2 * op);
        let since = Instant::now();
        leader.wait(Duration::from_millis(50), Patience::Eager).unwrap();
        assert!(since.elapsed() >= Duration::from_millis(50), "woken before the quorum");
        woken_by(&mut leader, Patience::Eager, || ack(2));
        seen.poll(&mut leader);
        assert_eq!(seen.quorums.last(), Some(&op));
        ack(3);
    }
    let stats = leader.stats().unwrap();
    let (woken, quiet) = (stats.kernel(Verdict::PassQuorum), stats.kernel(Verdict::DropQuorumQuiet));
    assert!(woken > 0 && woken + quiet == 5, "{stats:?}");
    assert_eq!(stats.socket.received, woken, "no other ack reaches the process: {stats:?}");
    // Nobody listens: the quorum is complete all the same, and the recount finds it (L4).
    leader.elec_broadcast(&round(N, 6, 0, 3), b"x").unwrap();
    leader.flush().unwrap();
    followers.iter().for_each(|f| f.ack(to, &Prepare { leader_epoch: epoch.0, ..Prepare::op(6) }, 6));
    wait_until("the quorum", || leader.stats().unwrap().kernel(Verdict::DropQuorumQuiet) == quiet + 1);
    seen.poll(&mut leader);
    assert_eq!(seen.quorums.last(), Some(&6));
    assert_eq!(leader.stats().unwrap().socket.received, woken);
}
