//! What tests that keep CPUs busy share: pauses and buffers, and CPUs that append to one log.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::actor::Actor;
use super::raw::set_option;

/// Room for everything that comes while nobody looks.
pub fn grow_receive_buffer(socket: &UdpSocket) {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20);
}

/// Uneven pauses, the same in every run.
pub fn pauses() -> impl Iterator<Item = Duration> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_nanos((state >> 33) % 30_000)
    })
}

/// Keeps the CPU.
pub fn spin(time: Duration) {
    let since = Instant::now();
    while since.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Ops that a sender runs ahead of what is acknowledged before it starts again from there.
const AHEAD: u64 = 64;

/// Where the senders of a log are, and how far it is acknowledged. Each opening of the log has a view of its own.
#[derive(Default)]
pub struct Front {
    /// The view to prepare in and the last op that is acknowledged in it, in one word.
    word: AtomicU64,
    /// Highest op acknowledged in each view.
    acked: Mutex<BTreeMap<u64, u64>>,
}

/// What a sender does next.
pub struct Next {
    pub view: u64,
    /// The last op that is acknowledged.
    pub acked: u64,
    pub op: u64,
}

impl Front {
    const OP_BITS: u32 = 40;

    /// The log was opened.
    pub fn set(&self, view: u64, op: u64) {
        self.word.store(view << Self::OP_BITS | op, Ordering::SeqCst);
    }

    /// What comes after `last`, the view and op that a sender sent last.
    pub fn after(&self, last: &mut (u64, u64)) -> Next {
        let word = self.word.load(Ordering::SeqCst);
        let (view, acked) = (word >> Self::OP_BITS, word & ((1 << Self::OP_BITS) - 1));
        let ahead = last.0 == view && (acked..acked + AHEAD).contains(&last.1);
        let op = if ahead { last.1 + 1 } else { acked + 1 };
        *last = (view, op);
        Next { view, acked, op }
    }

    fn note(&self, view: u64, op: u64) {
        let mut acked = self.acked.lock().unwrap();
        let highest = acked.entry(view).or_default();
        *highest = op.max(*highest);
        // An ack of an older view moves nothing.
        let ours = |word: &u64| word >> Self::OP_BITS == view;
        let raise = |word| ours(&word).then(|| word.max(view << Self::OP_BITS | op));
        let _ = self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, raise);
    }

    /// Notes every ack that reaches the leader, also those that are under way when the senders stop.
    pub fn listen(&self, leader: &Actor, stop: &AtomicBool) {
        loop {
            let stopped = stop.load(Ordering::SeqCst);
            while let Some(ack) = leader.next_ack(Duration::from_millis(20)) {
                self.note(ack.view().0, ack.last().0);
            }
            if stopped {
                return;
            }
        }
    }

    /// The highest op that was acknowledged in each view.
    pub fn acked(&self) -> BTreeMap<u64, u64> {
        self.acked.lock().unwrap().clone()
    }
}

/// A payload that shows by itself whether it belongs to this op and comes from one packet alone.
pub fn unique_payload(view: u64, op: u64, packet: u64) -> Vec<u8> {
    let mut payload = [view.to_le_bytes(), op.to_le_bytes(), packet.to_le_bytes()].concat();
    payload.resize(24 + (packet as usize * 53) % 1300, packet as u8);
    payload
}

#[track_caller]
pub fn assert_unique_payload(view: u64, op: u64, payload: &[u8]) {
    let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
    assert_eq!((word(0), word(8)), (view, op), "a slot holds another op's payload");
    assert_eq!(payload, unique_payload(view, op, word(16)), "op {op}: torn payload");
}
