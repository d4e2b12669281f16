//! Every ack of a group with keys has a tag that its leader accepts and nobody else does, whoever makes it: the program,
//! user space on its slow path, or the caller once an op is durable.

use std::time::Instant;

use crate::common::actor::QUIET;
use crate::common::attacker::keys;
use crate::common::group::{Seen, open};
use crate::common::hosts::{DEADLINE, fabric};
use crate::common::privileged;
use crate::target::{EVERYWHERE, N, actor};

use electrode::abi::Verdict;
use electrode::config::{Acks, EndpointConfig};
use electrode::fabric::Family;
use electrode::types::{OpNumber, ReplicaId, View};

#[test]
fn every_ack_has_a_tag_for_its_leader() {
    if !privileged("every_ack_has_a_tag_for_its_leader") {
        return;
    }
    for at in EVERYWHERE {
        for acks in [Acks::OnReceipt, Acks::ByCaller] {
            let fabric = fabric(N, Family::V4);
            let _stubs = at.stubs(&fabric);
            let leader = actor(&fabric, 0);
            let mut follower = open(&fabric, N, 1, &|c: &mut EndpointConfig| {
                at.configure(c, &keys(2));
                c.acks = acks;
            });
            follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
            let (to, mut seen) = (follower.local_addr(), Seen::default());
            // New; known; early, so that user space has them; and what closes the gap.
            for (sent, held) in [(&[1, 2][..], 2), (&[2], 2), (&[5, 4], 2), (&[3], 5)] {
                leader.prepare_ops(to, sent.iter().copied());
                seen.until(&mut follower, "the ops", |s| s.log.len() as u64 == held);
                if sent == [5, 4] {
                    seen.until(&mut follower, "the gap", |s| !s.gaps.is_empty());
                    continue;
                }
                if acks == Acks::ByCaller {
                    follower.acknowledge(OpNumber(held)).unwrap();
                    follower.flush().unwrap();
                }
                let since = Instant::now();
                loop {
                    assert!(since.elapsed() < DEADLINE, "{at:?} {acks:?}: no ack of {held}");
                    // A duplicate is answered by a poll where no program is.
                    seen.poll(&mut follower);
                    follower.flush().unwrap();
                    let Some(ack) = leader.next_ack(QUIET) else { continue };
                    let story = format!("{at:?} {acks:?}: ack of {}", ack.last());
                    assert_eq!(keys(2).admit(ReplicaId(0), &ack, &[]), Ok(()), "{story}");
                    assert_eq!(keys(2).admit(ReplicaId(2), &ack, &[]), Err(Verdict::DropTarget), "{story}");
                    if ack.last().0 == held {
                        break;
                    }
                }
            }
        }
    }
}
