//! A change of keys while rounds go on.

use std::time::Instant;

use crate::common::actor::Prepare;
use crate::common::attacker::{Attacker, key, keys};
use crate::common::group::{Seen, group, round};
use crate::common::hosts::DEADLINE;
use crate::common::privileged;
use crate::target::{N, everywhere, liar};

use electrode::Endpoint;
use electrode::abi::Verdict;
use electrode::auth::Keys;

/// Two keys are valid meanwhile: no round is lost, and no packet refused.
#[test]
fn keys_change_under_traffic() {
    if !privileged("keys_change_under_traffic") {
        return;
    }
    everywhere(|fabric, at| {
        let mut endpoints = group(fabric, N, |c| at.configure(c, &keys(1)));
        let mut seen: Vec<_> = (0..N).map(|_| Seen::default()).collect();
        let mut op = 0;
        let mut rounds = |endpoints: &mut [Endpoint], change: Option<(usize, &Keys)>| {
            // Rounds are in flight while the key changes.
            for _ in 0..5 {
                op += 1;
                endpoints[0].elec_broadcast(&round(N, op, op - 1, N as u32 - 1), &op.to_le_bytes()).unwrap();
                endpoints[0].flush().unwrap();
            }
            if let Some((member, keys)) = change {
                endpoints[member].set_keys(keys).unwrap();
            }
            let since = Instant::now();
            while seen[0].quorums.last() != Some(&op) {
                assert!(since.elapsed() < DEADLINE, "{at:?}: {:?}", endpoints[0].stats());
                for (endpoint, seen) in endpoints.iter_mut().zip(&mut seen) {
                    seen.poll(endpoint);
                }
            }
        };
        rounds(&mut endpoints, None);
        for old in 1..=3 {
            let new = old + 1;
            let steps = [
                Keys::new(key(old)).with(key(new)).unwrap(),
                Keys::new(key(new)).with(key(old)).unwrap(),
                Keys::new(key(new)),
            ];
            for step in &steps {
                (0..N).for_each(|member| rounds(&mut endpoints, Some((member, step))));
            }
        }
        let ops = 5 * (1 + 3 * 3 * N as u64);
        assert_eq!(seen[0].quorums, (1..=ops).collect::<Vec<_>>(), "{at:?}");
        for endpoint in &endpoints {
            let stats = endpoint.stats().unwrap();
            let wrong = [Verdict::DropTag, Verdict::DropKey, Verdict::DropTarget, Verdict::DropAckFailed];
            let refused: u64 = stats
                .kernel
                .iter()
                .chain(&stats.refused)
                .filter(|(v, _)| wrong.contains(v))
                .map(|(_, n)| n)
                .sum();
            assert_eq!(refused, 0, "{at:?}: {stats:?}");
        }
        // The first key is gone from everybody.
        let attacker = Attacker::new(fabric, N);
        let late = liar(fabric, 0, 1);
        let follower = &mut endpoints[1];
        let count = |follower: &Endpoint| {
            let stats = follower.stats().unwrap();
            let all = stats.kernel.iter().chain(&stats.refused);
            all.filter(|(v, _)| *v == Verdict::DropKey).map(|(_, n)| n).sum::<u64>()
        };
        attacker.send_as(0, 1, &[late.datagram(&Prepare::op(ops + 1))]);
        let since = Instant::now();
        while count(follower) == 0 {
            assert!(since.elapsed() < DEADLINE, "{at:?}");
            seen[1].poll(follower);
        }
    });
}
