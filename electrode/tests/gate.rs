//! The gate under fire: two CPUs append while user space freezes, drains and reopens (U1, U2, U6, U8).

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use common::actor::{Actor, Prepare, QUIET};
use common::group::{PORT, Seen, open, round};
use common::hosts::{DEADLINE, fabric, pin_to_cpu};
use common::privileged;
use common::stress::{Front, Next, assert_unique_payload, grow_receive_buffer, pauses, spin, unique_payload};
use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Offloads};
use electrode::fabric::Family;
use electrode::types::{OpNumber, ReplicaId, View};
use electrode::{Endpoint, Event};

/// More than there are epochs, so that they wrap.
const FREEZES: u64 = 10_000;
/// Small enough for slots to be used again and again, also across openings.
const LOG_SLOTS: u32 = 128;

/// The two senders, what came back to them, and when to stop.
struct Fire {
    leader: Actor,
    to: SocketAddr,
    front: Front,
    stop: AtomicBool,
}

impl Fire {
    /// One sender: the ops that come next, as fast as it can. Both send the same ops with different bytes.
    fn hammer(&self, sender: u64, backwards: bool) {
        pin_to_cpu(sender as usize);
        let (mut packet, mut last) = (sender, (0, 0));
        while !self.stop.load(Ordering::Relaxed) {
            let Next { view, acked, op } = self.front.after(&mut last);
            // Backwards in small steps: out of order, so that user space must take the log over.
            let op = if backwards && sender == 1 { acked + 1 + (3 - op % 4) } else { op };
            let payload = unique_payload(view, op, packet);
            let prepare = Prepare { view, tag: packet, payload, ..Prepare::op(op) };
            // A full buffer loses the packet; there are more.
            let _ = self.leader.socket.send_to(&self.leader.datagram(&prepare), self.to);
            packet += 2;
        }
    }

    /// Runs `owner` on this thread while both CPUs send, and stops them whatever becomes of it.
    fn during<T>(&self, backwards: bool, owner: impl FnOnce() -> T) -> T {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        std::thread::scope(|scope| {
            let _stop = Stop(&self.stop);
            for sender in 0..2 {
                scope.spawn(move || self.hammer(sender, backwards));
            }
            scope.spawn(|| self.front.listen(&self.leader, &self.stop));
            owner()
        })
    }
}

/// What the follower was handed, checked as it comes (C6).
#[derive(Default)]
struct Drained {
    last: u64,
    ops: u64,
}

impl Drained {
    fn take(&mut self, event: &Event<'_>) {
        if let Event::Logged { view, first, last, payload } = event {
            assert_eq!(first.0, self.last + 1, "the log has a hole or a repetition");
            assert_eq!(first, last);
            assert_unique_payload(view.0, first.0, payload);
            self.last = last.0;
            self.ops += 1;
        }
    }
}

fn follower_under_fire(test: impl FnOnce(&Fire, &mut Endpoint)) {
    let fabric = fabric(2, Family::V4);
    let leader = Actor::new(&fabric, 0);
    // The last ack of an opening is the one that matters: none may be lost for want of room.
    grow_receive_buffer(&leader.socket);
    let fire = Fire {
        leader,
        to: (fabric.host(1).addr(), PORT).into(),
        front: Front::default(),
        stop: AtomicBool::new(false),
    };
    let adjust = |c: &mut EndpointConfig| {
        c.backend = Backend::Ebpf;
        c.offloads = Offloads { fast_ack: true, ..Offloads::NONE };
        c.log_slots = LOG_SLOTS;
    };
    test(&fire, &mut open(&fabric, 2, 1, &adjust));
}

/// C8: each opening has a view of its own, so that an ack tells under which opening it was given.
#[test]
fn no_ack_that_the_drain_did_not_return() {
    if !privileged("no_ack_that_the_drain_did_not_return") {
        return;
    }
    follower_under_fire(|fire, follower| {
        let mut drained = Drained::default();
        let mut held = BTreeMap::new();
        fire.during(false, || {
            for (view, pause) in (0..FREEZES).zip(pauses()) {
                // Of this opening alone: how long they take together is the machine's affair.
                let since = Instant::now();
                follower.gate().follow(View(view), ReplicaId(0), OpNumber(drained.last)).unwrap();
                fire.front.set(view, drained.last);
                let base = drained.last;
                // Mostly user space only drains; sometimes it appends and acknowledges as well (U8).
                let budget = if view % 4 == 0 { 64 } else { 0 };
                while drained.last == base {
                    assert!(
                        since.elapsed() < DEADLINE,
                        "nothing logged in view {view}: {:?}",
                        follower.stats()
                    );
                    follower.elec_poll_message(budget, &mut |event| drained.take(&event)).unwrap();
                }
                spin(pause);
                let last = follower.gate().freeze(&mut |event| drained.take(&event)).unwrap();
                assert_eq!(last.0, drained.last);
                held.insert(view, last.0);
            }
        });
        let acked = fire.front.acked();
        assert!(acked.len() as u64 > FREEZES / 10 * 9, "only {} openings were acknowledged in", acked.len());
        for (view, op) in &acked {
            assert!(*op <= held[view], "view {view}: op {op} was acked, the drain returned {}", held[view]);
        }
        let stats = follower.stats().unwrap();
        assert!(stats.kernel(Verdict::TxAck) >= FREEZES / 2, "{stats:?}");
        assert!(stats.kernel(Verdict::PassFrozen) > 0, "no packet met a frozen gate: {stats:?}");
        assert!(stats.kernel(Verdict::TxAckRepeated) > 0, "the senders did not overlap: {stats:?}");
        assert!(drained.ops >= FREEZES);
    });
}

/// U8: user space takes the log over whenever something came out of order, and gives it back.
#[test]
fn two_appenders_never_overlap() {
    if !privileged("two_appenders_never_overlap") {
        return;
    }
    follower_under_fire(|fire, follower| {
        let mut drained = Drained::default();
        follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
        let mut taken_over = 0;
        fire.during(true, || {
            while taken_over < 100 || drained.ops < 1000 {
                let (since, before) = (Instant::now(), (taken_over, drained.ops));
                while (taken_over, drained.ops) == before {
                    assert!(since.elapsed() < DEADLINE, "only {} ops: {:?}", drained.ops, follower.stats());
                    for _ in 0..64 {
                        follower.elec_poll_message(256, &mut |event| drained.take(&event)).unwrap();
                    }
                    taken_over = follower.stats().unwrap().taken_over;
                }
            }
        });
        let held = follower.gate().freeze(&mut |event| drained.take(&event)).unwrap();
        let acked = fire.front.acked()[&0];
        assert!(acked <= held.0, "op {acked} was acked, the drain returned {held}");
        let stats = follower.stats().unwrap();
        assert!(stats.logged_by_kernel > 0 && stats.logged_by_user > 0, "{stats:?}");
        assert_eq!(stats.logged_by_kernel + stats.logged_by_user, drained.ops);
    });
}

/// L8: acks of an earlier opening do not count in a later one, whoever counts.
#[test]
fn old_votes_die_with_the_opening() {
    if !privileged("old_votes_die_with_the_opening") {
        return;
    }
    for quorum in [true, false] {
        let fabric = fabric(3, Family::V4);
        let mut leader = open(&fabric, 3, 0, &|c: &mut EndpointConfig| {
            c.backend = Backend::Ebpf;
            c.offloads = Offloads { quorum, ..Offloads::NONE };
        });
        let followers = [1, 2].map(|i| Actor::new(&fabric, i));
        let to = leader.local_addr();
        let quorums = |leader: &mut Endpoint, expect: &[u64]| {
            let mut seen = Seen::default();
            if expect.is_empty() {
                std::thread::sleep(QUIET);
                seen.poll(leader);
            }
            seen.until(leader, "quorum", |s| s.quorums.len() == expect.len());
            assert_eq!(seen.quorums, expect);
        };

        let old = leader.gate().lead(View(0), OpNumber(0)).unwrap();
        leader.elec_broadcast(&round(3, 1, 0, 2), b"1").unwrap();
        followers[0].ack(to, &Prepare { leader_epoch: old.0, ..Prepare::op(1) }, 1);
        quorums(&mut leader, &[]);
        leader.gate().freeze(&mut |_| {}).unwrap();
        let new = leader.gate().lead(View(0), OpNumber(0)).unwrap();
        assert_ne!(old, new);
        leader.elec_broadcast(&round(3, 1, 0, 2), b"1").unwrap();
        followers[1].ack(to, &Prepare { leader_epoch: new.0, ..Prepare::op(1) }, 1);
        followers[0].ack(to, &Prepare { leader_epoch: old.0, ..Prepare::op(1) }, 1);
        quorums(&mut leader, &[]);
        followers[0].ack(to, &Prepare { leader_epoch: new.0, ..Prepare::op(1) }, 1);
        quorums(&mut leader, &[1]);
        let stats = leader.stats().unwrap();
        let refused = stats.refused.iter().filter(|(v, _)| *v == Verdict::DropVoteStale).count();
        assert_eq!(stats.kernel(Verdict::DropVoteStale) + refused as u64, 1, "{stats:?}");
    }
}
