//! A sender on the same machine that changes a packet while the program is at work on it: what gets into the log is what
//! the tag was checked over, and not what stands in the packet a moment later.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::actor::Prepare;
use crate::common::hosts::{fabric, pin_to_cpu};
use crate::common::privileged;
use crate::common::zerocopy::{self, Buffer};
use crate::target::{At, EVERYWHERE, N, Target, actor};

use electrode::abi::{HEADER_BYTES, Verdict};
use electrode::fabric::Family;
use electrode::types::{OpNumber, ReplicaId, View};

/// Ops that got into the log although their packet was being changed: enough.
const CONTESTED: u64 = 50;
/// Packets after which it is enough where the two threads hardly ever run at once.
const PACKETS_MAX: u64 = 3000;
/// Long enough that computing its tag takes a while.
const PAYLOAD_BYTES: usize = 1200;
/// Every byte of a payload; what is changed becomes all of its complement.
const RIGHT: u8 = 0x5a;
/// The word that is changed, in the middle of the payload.
const CHANGED: usize = (HEADER_BYTES + PAYLOAD_BYTES / 2) / 8;

/// Stops the other thread however the test ends.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn change_under_way(family: Family, at: At) {
    let fabric = fabric(N, family);
    let _stubs = at.stubs(&fabric);
    // Stands for a neighbour that has held the leader's Prepares back and sends them from its address.
    let sender = actor(&fabric, 0);
    zerocopy::enable(&sender.socket);
    let mut target = Target::new(&fabric, at, 1);
    target.endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();

    let to = target.endpoint.local_addr();
    let honest = |op| Prepare { payload: vec![RIGHT; PAYLOAD_BYTES], ..Prepare::op(op) };
    let buffer = Buffer::new();
    let (stop, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut op, mut contested) = (0, 0);

    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        // The other CPU, if there is one.
        pin_to_cpu(0);
        scope.spawn(|| {
            pin_to_cpu(1);
            let word = buffer.word(CHANGED);
            word.store(u64::from_ne_bytes([RIGHT; 8]), Ordering::Relaxed);
            while !stop.load(Ordering::Relaxed) {
                // Right for as long as wrong: a plain store would hide in the store buffer until the next one.
                word.fetch_xor(u64::MAX, Ordering::SeqCst);
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let judged =
            |t: &Target<'_>| [Verdict::TxAck, Verdict::DropTag].map(|v| t.count(v)).iter().sum::<u64>();
        for _ in 0..PACKETS_MAX {
            let datagram = sender.datagram(&honest(op + 1));
            buffer.put(&datagram, CHANGED);
            let (before, changed_before) = (judged(&target), changes.load(Ordering::Relaxed));
            buffer.send(&sender.socket, to, datagram.len());
            // Sending takes the packet through the program; so many changes in that time were made by another CPU.
            let under_way = changes.load(Ordering::Relaxed) - changed_before > 4;
            target.until("the packet to be judged", |t| judged(t) > before);
            if target.count(Verdict::TxAck) > op {
                (op, contested) = (op + 1, contested + u64::from(under_way));
            }
            if contested == CONTESTED {
                break;
            }
        }
    });

    target.until("the log", |t| t.seen.log.len() as u64 == op);
    let wrong = target.seen.log.iter().filter(|entry| entry.payload != honest(entry.last).payload).count();
    assert_eq!(
        wrong, 0,
        "{at:?}, {family:?}: of {op} ops, {contested} of them contested, not what was tagged"
    );
}

#[test]
fn a_packet_that_changes_under_way_is_logged_as_it_was_checked() {
    if !privileged("a_packet_that_changes_under_way_is_logged_as_it_was_checked") {
        return;
    }
    for family in [Family::V4, Family::V6] {
        for at in EVERYWHERE.into_iter().filter(|at| *at != At::UserSpace) {
            change_under_way(family, at);
        }
    }
}
