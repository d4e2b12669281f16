//! What the kernel passes up (U8): gaps, a full log, batches beyond a slot. A follower loses and reorders
//! nothing, and acknowledges what it holds and nothing else.

mod common;

use std::time::{Duration, Instant};

use common::actor::{Actor, Prepare, payload_of};
use common::group::{Entry, Seen, group, open, round};
use common::hosts::{DEADLINE, fabric, wait_until};
use common::privileged;
use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, TcMechanism, UdpSend};
use electrode::fabric::{Fabric, Family};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::{Endpoint, Round};

/// A leader played by a socket and an open follower.
fn pair(adjust: &dyn Fn(&mut EndpointConfig)) -> (Fabric, Actor, Endpoint) {
    let fabric = fabric(2, Family::V4);
    let leader = Actor::new(&fabric, 0);
    let mut follower = open(&fabric, 2, 1, &|c: &mut EndpointConfig| {
        c.backend = Backend::Ebpf;
        adjust(c);
    });
    follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    (fabric, leader, follower)
}

/// Waits until the programs have judged so many packets this way.
fn await_verdict(endpoint: &Endpoint, verdict: Verdict, count: u64) {
    wait_until(verdict.name(), || endpoint.stats().unwrap().kernel(verdict) >= count);
}

fn assert_log(seen: &Seen, ops: u64) {
    let expected: Vec<Entry> =
        (1..=ops).map(|op| Entry { first: op, last: op, payload: payload_of(op) }).collect();
    assert_eq!(seen.log, expected);
}

#[test]
fn a_gap_is_told_waits_and_closes() {
    if !privileged("a_gap_is_told_waits_and_closes") {
        return;
    }
    for backend in [Backend::Ebpf, Backend::Udp(UdpSend::Mmsg)] {
        let (_fabric, leader, mut follower) = pair(&|c| c.backend = backend);
        let (to, mut seen) = (follower.local_addr(), Seen::default());
        leader.prepare_ops(to, [1, 2]);
        seen.until(&mut follower, "two ops", |s| s.log.len() == 2);
        assert_eq!(leader.acks_up_to(2).last(), Some(&2));
        // Early ones, the newest first.
        leader.prepare_ops(to, [6, 5, 4]);
        seen.until(&mut follower, "a gap", |s| !s.gaps.is_empty());
        seen.poll(&mut follower);
        assert_eq!(seen.gaps.last(), Some(&(2, 3)));
        assert_eq!(leader.acks_so_far(), [0u64; 0], "nothing is acknowledged over a gap");
        assert_eq!(seen.log.len(), 2);
        // What is missing closes it for all of them.
        leader.prepare_ops(to, [3]);
        seen.until(&mut follower, "all of them", |s| s.log.len() == 6);
        assert_eq!(leader.acks_up_to(6).last(), Some(&6));
        assert_log(&seen, 6);
        // From here on the kernel appends again, and needs nobody to poll.
        leader.prepare_ops(to, [7]);
        if backend != Backend::Ebpf {
            seen.until(&mut follower, "the next", |s| s.log.len() == 7);
        }
        assert_eq!(leader.acks_up_to(7).last(), Some(&7));
        seen.poll(&mut follower);
        assert_log(&seen, 7);
        if backend == Backend::Ebpf {
            let stats = follower.stats().unwrap();
            assert_eq!((stats.logged_by_kernel, stats.logged_by_user), (4, 3), "{stats:?}");
        }
    }
}

/// Numbers without order, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A network that loses a third, doubles a few and shuffles the rest; the leader sends again what is missing.
#[test]
fn loss_duplication_and_reordering_lose_nothing() {
    if !privileged("loss_duplication_and_reordering_lose_nothing") {
        return;
    }
    const OPS: u64 = 400;
    for seed in 1..=8 {
        let (_fabric, leader, mut follower) = pair(&|c| c.log_slots = 32);
        let (to, mut seen, mut random) = (follower.local_addr(), Seen::default(), Random(seed));
        let since = Instant::now();
        let mut acked = 0;
        while acked < OPS {
            assert!(since.elapsed() < DEADLINE, "seed {seed}: {acked} acked, {} logged", seen.log.len());
            let mut packets: Vec<u64> = (acked + 1..=(acked + 24).min(OPS))
                .flat_map(|op| vec![op; [0, 1, 1, 1, 2, 0][random.below(6) as usize]])
                .collect();
            for i in (1..packets.len()).rev() {
                packets.swap(i, random.below(i as u64 + 1) as usize);
            }
            for op in packets {
                leader.prepare_ops(to, [op]);
                if random.below(8) == 0 {
                    seen.poll(&mut follower);
                }
            }
            if random.below(3) == 0 {
                seen.poll(&mut follower);
            }
            let held_before = acked;
            while let Some(ack) = leader.next_ack(Duration::from_millis(1)) {
                acked = acked.max(ack.last().0);
            }
            if acked == held_before {
                seen.poll(&mut follower);
            }
        }
        let held = follower.gate().freeze(&mut |event| seen.take(&event)).unwrap();
        assert!(held.0 >= acked, "seed {seed}: {acked} acked, {held} held");
        assert_eq!(held.0, OPS);
        assert_log(&seen, OPS);
        let stats = follower.stats().unwrap();
        assert!(stats.logged_by_kernel > 0 && stats.logged_by_user > 0, "seed {seed}: {stats:?}");
        assert!(stats.kernel(Verdict::PassGap) > 0, "seed {seed}: {stats:?}");
    }
}

#[test]
fn a_full_log_goes_on_in_user_space() {
    if !privileged("a_full_log_goes_on_in_user_space") {
        return;
    }
    const SLOTS: u64 = 16;
    let (_fabric, leader, mut follower) = pair(&|c| c.log_slots = SLOTS as u32);
    let (to, mut seen) = (follower.local_addr(), Seen::default());
    for turn in 0..5 {
        let base = turn * 50;
        leader.prepare_ops(to, base + 1..=base + 50);
        // Nobody polls: what finds no slot is not acknowledged, and what comes after is not either.
        await_verdict(&follower, Verdict::PassLogFull, turn + 1);
        assert_eq!(leader.acks_so_far(), (base + 1..=base + SLOTS).collect::<Vec<_>>());
        seen.until(&mut follower, "all of them", |s| s.log.len() as u64 == base + 50);
        assert_eq!(leader.acks_up_to(base + 50).last(), Some(&(base + 50)));
        assert_log(&seen, base + 50);
    }
    let stats = follower.stats().unwrap();
    assert_eq!((stats.logged_by_kernel, stats.logged_by_user), (5 * SLOTS, 5 * (50 - SLOTS)), "{stats:?}");
}

#[test]
fn a_batch_beyond_the_slot_is_logged_by_user_space() {
    if !privileged("a_batch_beyond_the_slot_is_logged_by_user_space") {
        return;
    }
    let (_fabric, leader, mut follower) = pair(&|c| c.payload_bytes_max = Some(64));
    let (to, mut seen) = (follower.local_addr(), Seen::default());
    let sizes = [64, 65, 1, 1392, 1392, 64, 63];
    for (op, size) in (1..).zip(sizes) {
        leader.prepare(to, &Prepare { payload: vec![op as u8; size], ..Prepare::op(op) });
        seen.until(&mut follower, "the batch", |s| s.log.len() as u64 == op);
        assert_eq!(leader.acks_up_to(op), [op]);
        assert_eq!(seen.log.last().unwrap().payload, vec![op as u8; size]);
    }
    let stats = follower.stats().unwrap();
    assert_eq!(stats.kernel(Verdict::PassTooLarge), 3, "{stats:?}");
    assert_eq!((stats.logged_by_kernel, stats.logged_by_user), (4, 3), "{stats:?}");
}

/// F8: the ack of a duplicate says exactly what the duplicate said, whoever logged the op.
#[test]
fn duplicates_are_acknowledged_again() {
    if !privileged("duplicates_are_acknowledged_again") {
        return;
    }
    let (_fabric, leader, mut follower) = pair(&|c| c.log_slots = 4);
    let (to, mut seen) = (follower.local_addr(), Seen::default());
    leader.prepare_ops(to, 1..=4);
    assert_eq!(leader.acks_up_to(4), [1, 2, 3, 4]);
    leader.prepare_ops(to, [3, 1]);
    assert_eq!(leader.acks_so_far(), [3, 1], "in the log");
    seen.poll(&mut follower);
    leader.prepare_ops(to, [2]);
    assert_eq!(leader.acks_so_far(), [2], "drained and released");
    // Beyond the slots: by user space.
    leader.prepare_ops(to, 5..=10);
    await_verdict(&follower, Verdict::PassLogFull, 1);
    seen.until(&mut follower, "user space's turn", |s| s.log.len() == 10);
    leader.acks_up_to(10);
    leader.acks_so_far();
    let repeated = follower.stats().unwrap().kernel(Verdict::TxAckRepeated);
    leader.prepare_ops(to, [10, 7]);
    assert_eq!(leader.acks_so_far(), [10, 7], "logged by user space");
    assert_eq!(follower.stats().unwrap().kernel(Verdict::TxAckRepeated), repeated + 2);
    // Overlap with what is held: batches are never cut (L6), so this is nobody's resend.
    leader.prepare(to, &Prepare { first: 10, last: 11, ..Prepare::op(10) });
    seen.until(&mut follower, "nothing", |_| true);
    await_verdict(&follower, Verdict::PassOverlap, 1);
    seen.poll(&mut follower);
    assert_eq!(leader.acks_so_far(), [0u64; 0]);
    assert_eq!((follower.held().0, follower.stats().unwrap().dropped_early), (10, 1));
    assert_log(&seen, 10);
}

/// F2: where the programs can outlive the process, they stop when the process does not renew the lease.
#[test]
fn the_lease_of_an_owner_that_stopped_polling_runs_out() {
    if !privileged("the_lease_of_an_owner_that_stopped_polling_runs_out") {
        return;
    }
    for (tc, leased) in [(TcMechanism::Clsact, true), (TcMechanism::Tcx, false)] {
        let (_fabric, leader, mut follower) = pair(&|c| c.tc = tc);
        let (to, mut seen) = (follower.local_addr(), Seen::default());
        leader.prepare_ops(to, [1]);
        assert_eq!(leader.acks_up_to(1), [1]);
        std::thread::sleep(Duration::from_millis(700));
        leader.prepare_ops(to, [1, 2, 3]);
        let acks = leader.acks_so_far();
        if !leased {
            assert_eq!(acks, [1, 2, 3], "links go with the process and need no lease");
            continue;
        }
        assert_eq!(acks, [0u64; 0], "neither new ones nor duplicates");
        assert_eq!(follower.stats().unwrap().kernel(Verdict::PassLease), 3);
        // It was only slow: what came meanwhile is in its socket.
        seen.until(&mut follower, "what came meanwhile", |s| s.log.len() == 3);
        assert_eq!(leader.acks_up_to(3).last(), Some(&3));
        leader.prepare_ops(to, [4]);
        assert_eq!(leader.acks_up_to(4), [4]);
        seen.poll(&mut follower);
        assert_log(&seen, 4);
        assert_eq!(follower.stats().unwrap().kernel(Verdict::TxAck), 2);
    }
}

/// A whole group in which one follower hardly ever polls: the quorum never waits for it, and it catches up.
#[test]
fn a_starved_poller_catches_up() {
    if !privileged("a_starved_poller_catches_up") {
        return;
    }
    const N: usize = 3;
    const OPS: u64 = 3000;
    let fabric = fabric(N, Family::V4);
    let mut endpoints = group(&fabric, N, |c| {
        c.backend = Backend::Ebpf;
        c.log_slots = 64;
    });
    let [leader, busy, starved] = &mut endpoints[..] else { unreachable!() };
    let mut seen: [Seen; N] = Default::default();
    let payload = |op: u64| vec![op as u8; 700];
    let mut sent = 0;
    let since = Instant::now();
    while seen[0].quorums.len() < OPS as usize {
        assert!(since.elapsed() < DEADLINE, "{} rounds: {:?}", seen[0].quorums.len(), starved.stats());
        while sent < OPS && leader.rounds_in_flight() < 32 {
            sent += 1;
            leader.elec_broadcast(&round(N, sent, 0, 1), &payload(sent)).unwrap();
        }
        seen[0].poll(leader);
        seen[1].poll(busy);
    }
    // Its own log took 64 of them, its socket some, the rest is lost to it; the leader knows how far it is.
    let stuck = leader.acked(ReplicaId(2));
    assert!(stuck.0 < OPS, "it was not starved");
    while leader.acked(ReplicaId(2)).0 < OPS {
        assert!(since.elapsed() < DEADLINE, "stuck at {}: {:?}", leader.acked(ReplicaId(2)), starved.stats());
        seen[2].poll(starved);
        let next = leader.acked(ReplicaId(2)).0 + 1;
        for op in next..(next + 8).min(OPS + 1) {
            let again = Round { targets: ReplicaSet::EMPTY.with(ReplicaId(2)), ..round(N, op, 0, 1) };
            leader.resend(&again, again.targets, &payload(op)).unwrap();
        }
        seen[0].poll(leader);
    }
    for (endpoint, seen) in [busy, starved].into_iter().zip(&mut seen[1..]) {
        seen.until(endpoint, "the whole log", |s| s.log.len() == OPS as usize);
        assert!((1..).zip(&seen.log).all(|(op, e)| (e.first, &e.payload) == (op, &payload(op))));
    }
    assert_eq!(seen[0].quorums, (1..=OPS).collect::<Vec<_>>());
}

/// Both followers have something in their way; the round completes when user space has repaired it.
#[test]
fn a_quorum_completes_after_repair() {
    if !privileged("a_quorum_completes_after_repair") {
        return;
    }
    const N: usize = 3;
    let fabric = fabric(N, Family::V4);
    let mut endpoints = group(&fabric, N, |c| {
        c.backend = Backend::Ebpf;
        c.log_slots = if c.me == ReplicaId(1) { 4 } else { 256 };
    });
    let [leader, full, gapped] = &mut endpoints[..] else { unreachable!() };
    let mut seen: [Seen; N] = Default::default();
    let both = ReplicaSet::from_mask(0b110);
    for op in 1..=10u64 {
        // One misses op 5.
        let targets = if op == 5 { both.without(ReplicaId(2)) } else { both };
        leader.elec_broadcast(&Round { targets, ..round(N, op, 0, 2) }, &payload_of(op)).unwrap();
        leader.flush().unwrap();
    }
    await_verdict(full, Verdict::PassLogFull, 1);
    await_verdict(gapped, Verdict::PassGap, 5);
    wait_until("the kernel's acks", || {
        (leader.acked(ReplicaId(1)), leader.acked(ReplicaId(2))) == (OpNumber(4), OpNumber(4))
    });
    seen[0].until(leader, "what both hold", |s| s.quorums.len() == 4);
    seen[2].until(gapped, "the gap", |s| s.gaps == [(4, 5)]);
    let again = Round { targets: ReplicaSet::EMPTY.with(ReplicaId(2)), ..round(N, 5, 0, 2) };
    leader.resend(&again, again.targets, &payload_of(5)).unwrap();
    leader.flush().unwrap();
    seen[2].until(gapped, "the rest", |s| s.log.len() == 10);
    seen[1].until(full, "the rest", |s| s.log.len() == 10);
    seen[0].until(leader, "all quorums", |s| s.quorums == (1..=10).collect::<Vec<_>>());
    assert_log(&seen[1], 10);
    assert_log(&seen[2], 10);
}
