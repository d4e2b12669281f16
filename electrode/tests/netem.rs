//! Loss, delay, duplication and reordering by the kernel's own netem, and pacing by fq: not every kernel has them, so
//! `scripts/kernels` runs this in its guests.

mod common;

use std::time::{Duration, Instant};

use common::foreign::command;
use common::group::{Entry, Seen, group, round};
use common::hosts::{DEADLINE, fabric};
use common::privileged;
use electrode::abi::Verdict;
use electrode::config::Backend;
use electrode::fabric::Family;
use electrode::types::ReplicaSet;
use electrode::{Endpoint, Patience};

const N: usize = 3;
const OPS: u64 = 300;
/// Ops in flight at most.
const WINDOW: u64 = 32;
/// Without a new quorum for so long the oldest op is sent again.
const RESEND: Duration = Duration::from_millis(20);

fn payload(op: u64) -> Vec<u8> {
    format!("op {op}").into_bytes()
}

/// Sends the oldest op that is not committed again, to everybody.
fn resend(leader: &mut Endpoint, op: u64) {
    let again = round(N, op, op - 1, 1);
    leader.resend(&again, ReplicaSet::all(N), &payload(op)).unwrap();
    leader.flush().unwrap();
}

fn commit_all(endpoints: &mut [Endpoint], seen: &mut [Seen]) {
    let (mut sent, mut done, mut since) = (0, 0, Instant::now());
    while done < OPS {
        assert!(since.elapsed() < DEADLINE, "{done} of {OPS} after {DEADLINE:?} without progress");
        while sent < OPS.min(done + WINDOW) {
            sent += 1;
            // A majority with the leader's own vote.
            endpoints[0].elec_broadcast(&round(N, sent, done, 1), &payload(sent)).unwrap();
        }
        endpoints[0].wait(RESEND, Patience::Eager).unwrap();
        for (endpoint, seen) in endpoints.iter_mut().zip(seen.iter_mut()) {
            seen.poll(endpoint);
        }
        let best = seen[0].quorums.iter().max().copied().unwrap_or(0);
        if best > done {
            (done, since) = (best, Instant::now());
        } else {
            resend(&mut endpoints[0], done + 1);
        }
    }
}

#[test]
#[ignore = "needs sch_netem and sch_fq: scripts/kernels runs it"]
fn netem_and_fq_lose_nothing() {
    if !privileged("netem_and_fq_lose_nothing") {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let fabric = fabric(N, family);
        for i in 0..N {
            let netem = "root netem loss 8% duplicate 3% delay 2ms 2ms";
            command(fabric.switch(), &format!("tc qdisc replace dev {} {netem}", fabric.port_name(i)));
            let host = fabric.host(i);
            command(host.netns(), &format!("tc qdisc replace dev {} root fq", host.interface()));
        }
        let mut endpoints = group(&fabric, N, |c| c.backend = Backend::Ebpf);
        let mut seen: Vec<_> = (0..N).map(|_| Seen::default()).collect();
        commit_all(&mut endpoints, &mut seen);
        // Each follower gets what it still misses.
        let since = Instant::now();
        while seen[1..].iter().any(|s| s.log.len() < OPS as usize) {
            assert!(
                since.elapsed() < DEADLINE,
                "followers hold {:?}",
                seen.iter().map(|s| s.log.len()).collect::<Vec<_>>()
            );
            let next = seen[1..].iter().map(|s| s.log.len() as u64 + 1).min().unwrap();
            resend(&mut endpoints[0], next.min(OPS));
            std::thread::sleep(Duration::from_millis(5));
            for (endpoint, seen) in endpoints.iter_mut().zip(seen.iter_mut()) {
                seen.poll(endpoint);
            }
        }
        let expected: Vec<_> =
            (1..=OPS).map(|op| Entry { first: op, last: op, payload: payload(op) }).collect();
        for (follower, seen) in endpoints[1..].iter().zip(&seen[1..]) {
            assert_eq!(seen.log, expected);
            let stats = follower.stats().unwrap();
            assert!(stats.kernel(Verdict::TxAck) > 0 && stats.kernel(Verdict::PassGap) > 0, "{stats:?}");
        }
    }
}
