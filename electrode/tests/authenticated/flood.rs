//! Many times what the group itself sends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::actor::Prepare;
use crate::common::attacker::{Attacker, keys};
use crate::common::group::{Seen, group, round};
use crate::common::hosts::{DEADLINE, fabric, wait_until};
use crate::common::privileged;
use crate::target::{EVERYWHERE, N, liar};

use electrode::abi::Verdict;
use electrode::fabric::Family;

/// Whatever the attacker can send, rounds go on completing, and nothing of it is in anybody's log.
#[test]
fn commits_go_on_in_a_flood() {
    if !privileged("commits_go_on_in_a_flood") {
        return;
    }
    const ROUNDS: u64 = 150;
    /// Forged datagrams for each of the group's own.
    const TIMES: u64 = 20;
    for at in EVERYWHERE {
        let fabric = fabric(N + 1, Family::V4);
        let _stubs = at.stubs(&fabric);
        let mut endpoints = group(&fabric, N, |c| at.configure(c, &keys(2)));
        let epoch = endpoints[0].gate().epoch();
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let attacker = Attacker::new(&fabric, N);
        let liars: Vec<_> = (0..N).map(|member| liar(&fabric, member, 4)).collect();
        let prepare = |op| Prepare { leader_epoch: epoch.0, ..Prepare::op(op) };
        let mut frames = Vec::new();
        for op in 1..=ROUNDS {
            for member in 1..N {
                frames.push(attacker.spoof(0, member, &liars[0].datagram(&prepare(op))));
                frames.push(attacker.spoof(0, member, &liars[0].commit_datagram(op, op)));
                let vote = liars[member].ack_datagram(&prepare(op), op);
                frames.push(attacker.spoof(member, 0, &vote));
            }
        }
        let mut seen: Vec<_> = (0..N).map(|_| Seen::default()).collect();
        std::thread::scope(|s| {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for burst in frames.chunks(32) {
                        attacker.send(burst);
                        sent.fetch_add(burst.len() as u64, Ordering::Relaxed);
                    }
                }
            });
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for op in 1..=ROUNDS {
                    // Each round is three datagrams to each follower and back, at most.
                    wait_until("the flood", || {
                        sent.load(Ordering::Relaxed) >= op * TIMES * 2 * (N as u64 - 1)
                    });
                    let round = round(N, op, op - 1, N as u32 - 1);
                    let payload = op.to_le_bytes();
                    endpoints[0].elec_broadcast(&round, &payload).unwrap();
                    endpoints[0].flush().unwrap();
                    let (since, mut asked) = (Instant::now(), Instant::now());
                    while seen[0].quorums.last() != Some(&op) {
                        assert!(since.elapsed() < DEADLINE, "round {op}: {:?}", endpoints[0].stats());
                        for (endpoint, seen) in endpoints.iter_mut().zip(&mut seen) {
                            seen.poll(endpoint);
                        }
                        // A flooded cable loses packets, as any.
                        if asked.elapsed() > Duration::from_millis(20) {
                            endpoints[0].resend(&round, round.targets, &payload).unwrap();
                            asked = Instant::now();
                        }
                    }
                }
            }));
            stop.store(true, Ordering::Relaxed);
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        assert_eq!(seen[0].quorums, (1..=ROUNDS).collect::<Vec<_>>(), "{at:?}");
        for (endpoint, seen) in endpoints.iter_mut().zip(&mut seen).skip(1) {
            seen.poll(endpoint);
            let log: Vec<_> = seen.log.iter().map(|e| e.payload.clone()).collect();
            assert_eq!(log, (1..=ROUNDS).map(|op| op.to_le_bytes().to_vec()).collect::<Vec<_>>(), "{at:?}");
            assert!(seen.commit < ROUNDS, "{at:?}: a forged commit number");
        }
        for endpoint in &endpoints {
            let stats = endpoint.stats().unwrap();
            let refused: u64 =
                stats.refused.iter().filter(|(v, _)| *v == Verdict::DropTag).map(|(_, n)| n).sum();
            let refused = refused + stats.kernel(Verdict::DropTag);
            let own = 3 * ROUNDS;
            assert!(
                refused > own,
                "{at:?}: {refused} of {} forged ones were refused",
                sent.load(Ordering::Relaxed)
            );
        }
    }
}
