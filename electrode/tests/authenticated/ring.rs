//! A neighbour on the same machine that changes a frame while the program is at work on it: what gets into the log is
//! what the tag was checked over, and not what stands in the packet a moment later.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::actor::Prepare;
use crate::common::attacker::Attacker;
use crate::common::privileged;
use crate::common::ring::{Ring, aligned};
use crate::target::{At, EVERYWHERE, N, Target, actor, liar};

use electrode::abi::{HEADER_BYTES, Verdict};
use electrode::fabric::Family;
use electrode::types::{OpNumber, ReplicaId, View};

/// Ops that must have got into the log.
const OPS: u64 = 200;
/// Long enough that computing its tag takes a while.
const PAYLOAD_BYTES: usize = 1200;

/// Stops the other thread however the test ends.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn change_under_way(family: Family, at: At) {
    let fabric = crate::common::hosts::fabric(N + 1, family);
    let _stubs = at.stubs(&fabric);
    // Swallows the acks; its Prepares are what a neighbour on the path may have held back.
    let _leader = actor(&fabric, 0);
    let held_back = liar(&fabric, 0, 2);
    let attacker = Attacker::new(&fabric, N);
    let mut target = Target::new(&fabric, at, 1);
    target.endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();

    let honest = |op| Prepare { payload: vec![op as u8; PAYLOAD_BYTES], ..Prepare::op(op) };
    let frame = |op| attacker.spoof_unsummed(0, 1, &held_back.datagram(&honest(op)));
    let headers = frame(1).len() - PAYLOAD_BYTES;
    assert!(headers > HEADER_BYTES);
    let changed = aligned(headers + PAYLOAD_BYTES / 2);
    let ring = Ring::new(attacker.netns(), "eth0");
    let (op_now, stop) = (std::sync::atomic::AtomicU64::new(1), AtomicBool::new(false));

    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            let word = ring.word(changed);
            while !stop.load(Ordering::Relaxed) {
                let right = u64::from_ne_bytes([op_now.load(Ordering::Relaxed) as u8; 8]);
                word.store(right, Ordering::Relaxed);
                word.store(!right, Ordering::Relaxed);
                word.store(right, Ordering::Relaxed);
            }
        });
        let judged = |t: &Target<'_>| [Verdict::TxAck, Verdict::DropTag].map(|v| t.count(v)).iter().sum::<u64>();
        for op in 1..=OPS {
            op_now.store(op, Ordering::Relaxed);
            while target.count(Verdict::TxAck) < op {
                ring.put(&frame(op), changed, 8);
                let before = judged(&target);
                ring.send();
                target.until("the frame to be judged", |t| judged(t) > before);
            }
        }
    });

    target.until("the log", |t| t.seen.log.len() as u64 == OPS);
    for (entry, op) in target.seen.log.iter().zip(1..) {
        assert!(entry.payload == honest(op).payload, "{at:?}, {family:?}: op {op} is not what was tagged");
    }
}

#[test]
fn a_frame_that_changes_under_way_is_logged_as_it_was_checked() {
    if !privileged("a_frame_that_changes_under_way_is_logged_as_it_was_checked") {
        return;
    }
    for family in [Family::V4, Family::V6] {
        for at in EVERYWHERE.into_iter().filter(|at| *at != At::UserSpace) {
            change_under_way(family, at);
        }
    }
}
