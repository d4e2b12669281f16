//! A follower: both CPUs send the ops that come next, copies of them and gaps, with different bytes; user space drains,
//! takes over, freezes and follows the next view. C8, C6, U1, U2.
//!
//! Each opening has a view of its own, so that an ack tells under which opening it was given.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Hook, Offloads};
use electrode::types::{OpNumber, ReplicaId, View};
use electrode::{Endpoint, Event};

use super::CPUS;
use super::common::actor::{Actor, Prepare};
use super::common::group::open;
use super::common::hosts::{DEADLINE, pass_stubs, pin_to_cpu, wait_until};
use super::common::stress::{
    Front, Next, assert_unique_payload, grow_receive_buffer, pauses, spin, unique_payload,
};
use super::cpus::Counters;
use super::sender::{self, Port};

const LOG_SLOTS: u32 = 128;

/// What the senders and the one who listens to acks share.
struct Fire<'f> {
    leader: Actor,
    fabric: &'f electrode::fabric::Fabric,
    sent: AtomicU64,
    front: Front,
    stop: AtomicBool,
}

impl Fire<'_> {
    /// One CPU: mostly the next ops, sometimes one that is held already or one too far.
    fn send(&self, cpu: u64) {
        pin_to_cpu(cpu as usize);
        let port = Port::new(self.fabric, 1, &self.sent);
        let (mut packet, mut last) = (cpu, (0, 0));
        while !self.stop.load(Ordering::Relaxed) {
            let Next { view, acked, op: next } = self.front.after(&mut last);
            let op = match packet % 31 {
                7 => acked.max(1),
                19 => next + 2,
                _ => next,
            };
            let payload = unique_payload(view, op, packet);
            let prepare = Prepare { view, tag: packet, payload, ..Prepare::op(op) };
            port.send(&port.frame(0, &self.leader.datagram(&prepare)));
            packet += CPUS as u64;
        }
    }
}

/// What the follower was handed, checked as it comes (C6).
#[derive(Default)]
struct Drained(u64);

impl Drained {
    fn take(&mut self, event: &Event<'_>) {
        if let Event::Logged { view, first, last, payload } = event {
            assert_eq!((first.0, last.0), (self.0 + 1, self.0 + 1), "the log has a hole or a repetition");
            assert_unique_payload(view.0, first.0, payload);
            self.0 = last.0;
        }
    }
}

/// Freezes and follows again until the time is over; what each view's drain returned.
fn own(fire: &Fire<'_>, follower: &mut Endpoint, time: Duration) -> BTreeMap<u64, u64> {
    let (mut drained, mut held) = (Drained::default(), BTreeMap::new());
    let started = Instant::now();
    for (view, pause) in (0..).zip(pauses()) {
        if started.elapsed() > time {
            break;
        }
        // Of this opening alone: how long they take together is the machine's affair.
        let since = Instant::now();
        follower.gate().follow(View(view), ReplicaId(0), OpNumber(drained.0)).unwrap();
        fire.front.set(view, drained.0);
        let base = drained.0;
        // Mostly user space only drains; sometimes it appends and acknowledges as well (U8).
        let budget = if view % 4 == 0 { 64 } else { 0 };
        while drained.0 == base {
            assert!(since.elapsed() < DEADLINE, "nothing logged in view {view}: {:?}", follower.stats());
            follower.elec_poll_message(budget, &mut |event| drained.take(&event)).unwrap();
        }
        spin(pause);
        let last = follower.gate().freeze(&mut |event| drained.take(&event)).unwrap();
        assert_eq!(last.0, drained.0);
        held.insert(view, last.0);
    }
    held
}

pub fn hammer(hook: Hook, time: Duration) {
    let fabric = sender::fabric(2);
    let _stubs = pass_stubs(&fabric);
    let leader = Actor::new(&fabric, 0);
    // The last ack of an opening is the one that matters: none may be lost for want of room.
    grow_receive_buffer(&leader.socket);
    let mut follower = open(&fabric, 2, 1, &|c: &mut EndpointConfig| {
        (c.backend, c.hook, c.log_slots) = (Backend::Ebpf, hook, LOG_SLOTS);
        c.offloads = Offloads { fast_ack: true, ..Offloads::NONE };
    });
    let counters = Counters::of(fabric.host(1));
    let fire = Fire {
        leader,
        fabric: &fabric,
        sent: AtomicU64::new(0),
        front: Front::default(),
        stop: AtomicBool::new(false),
    };
    let held = std::thread::scope(|scope| {
        let _stop = super::StopAtEnd(&fire.stop);
        (0..CPUS as u64).for_each(|cpu| {
            drop(scope.spawn({
                let fire = &fire;
                move || fire.send(cpu)
            }))
        });
        scope.spawn(|| fire.front.listen(&fire.leader, &fire.stop));
        own(&fire, &mut follower, time)
    });

    let acked = fire.front.acked();
    for (view, op) in &acked {
        assert!(*op <= held[view], "view {view}: op {op} was acked, the drain returned {}", held[view]);
    }
    assert!(acked.len() > held.len() / 2, "acks in {} of {} openings only", acked.len(), held.len());
    let sent = fire.sent.load(Ordering::SeqCst);
    wait_until("every frame is judged", || counters.judged() >= sent);
    assert_eq!(counters.judged(), sent, "counters do not add up: {:?}", counters.by_cpu());
    counters.assert_parallel(CPUS, &[Verdict::TxAck]);
    for verdict in [Verdict::TxAckRepeated, Verdict::PassFrozen, Verdict::PassGap, Verdict::PassViewNew] {
        println!("{}: {}", verdict.name(), counters.count(&[verdict]));
    }
    assert!(counters.count(&[Verdict::TxAckRepeated]) > 0 && counters.count(&[Verdict::PassFrozen]) > 0);
    for wrong in [Verdict::DropChecksum, Verdict::PassMalformed, Verdict::DropSource] {
        assert_eq!(counters.count(&[wrong]), 0, "{}", wrong.name());
    }
    println!("{hook:?}: {sent} Prepares, {} openings, acks in {}", held.len(), acked.len());
}
