//! The shared memory as loom sees it: words that are swapped, plain words behind them, payloads that must not be
//! read and written at the same time.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering, fence};

use super::Plant;
use crate::abi;
use crate::backend::shared::{At, Memory, Slot, Word};
use crate::backend::{Logged, RoundSlot};
use crate::types::{Epoch, OpNumber, ReplicaId, View};
use crate::words::GateWord;

/// Bytes of a payload: the view and the number of the packet that brought it.
pub(super) type Payload = [u8; 2];

/// Members: us and three peers.
pub(super) const MEMBERS: usize = 4;

const BUSY: u64 = 1 << abi::BUSY_SHIFT;

/// A word that both sides change. Programs reach for `cell`; user space goes through [`Word`], which is where its
/// accesses are weakened.
pub(super) struct Shared {
    pub cell: AtomicU64,
    /// Loads and stores that are weakened to relaxed ones.
    relaxed: bool,
    busy_ignored: bool,
    /// Zero is never stored.
    kept: bool,
}

impl Word for Shared {
    fn load(&self, order: Ordering) -> u64 {
        let order = if self.relaxed { Ordering::Relaxed } else { order };
        let word = self.cell.load(order);
        if self.busy_ignored { word & !BUSY } else { word }
    }

    fn store(&self, value: u64, order: Ordering) {
        if value == 0 && self.kept {
            return;
        }
        let order = if self.relaxed { Ordering::Relaxed } else { order };
        if value == 0 {
            // A word is zeroed under the eyes of programs that swap it. Of a plain store loom forgets that a swap which
            // found the word before it comes before it, and lets the next swap find what is gone.
            self.cell.swap(0, order);
        } else {
            self.cell.store(value, order);
        }
    }

    fn swap(&self, expected: u64, new: u64) -> Result<u64, u64> {
        let swap = |expected| self.cell.compare_exchange(expected, new, Ordering::AcqRel, Ordering::Acquire);
        let mut swapped = swap(expected);
        while let Err(found) = swapped
            && self.busy_ignored
            && found & !BUSY == expected
        {
            swapped = swap(found);
        }
        swapped
    }

    fn and(&self, mask: u64) {
        self.cell.fetch_and(mask, Ordering::AcqRel);
    }
}

/// `struct elec_round`.
pub(super) struct Round {
    pub vote: Shared,
    pub op: AtomicU64,
    pub view: AtomicU64,
    pub round_tag: AtomicU64,
    pub voters: AtomicU64,
    pub threshold: AtomicU64,
}

/// `struct elec_slot`. Several programs may look at its header at once; its payload has one writer at a time and no
/// reader meanwhile, or loom reports the race.
pub(super) struct LogSlot {
    pub epoch: AtomicU64,
    pub view: AtomicU64,
    pub first: AtomicU64,
    pub last: AtomicU64,
    pub payload: UnsafeCell<Payload>,
}

/// One endpoint's memory.
pub(super) struct Weak {
    pub plant: Plant,
    pub view: AtomicU64,
    pub gate: Shared,
    pub released: Shared,
    pub ring_at_op: Shared,
    pub ring_on_quorum: Shared,
    pub acked: [Shared; MEMBERS],
    pub rounds: Vec<Round>,
    pub slots: Vec<LogSlot>,
    /// Words that no program of these explorations looks at.
    idle: Shared,
}

// SAFETY: the payloads alone are no atomics. loom runs its threads one at a time on one thread of the machine and ends
// an execution in which two of them could meet at one.
unsafe impl Sync for Weak {}

impl Weak {
    /// Open as `gate` says, in `view`, with `slots` log slots and `window` rounds (powers of two, or none).
    pub fn new(plant: Plant, gate: GateWord, view: View, slots: usize, window: usize) -> Self {
        let plain = |value: u64| AtomicU64::new(value);
        let word = |relaxed: bool| Shared { cell: plain(0), relaxed, busy_ignored: false, kept: false };
        let round = |_| Round {
            vote: Shared { kept: plant == Plant::RoundNotInvalidated, ..word(plant == Plant::RoundRelaxed) },
            op: plain(0),
            view: plain(0),
            round_tag: plain(0),
            voters: plain(0),
            threshold: plain(0),
        };
        let slot = |_| LogSlot {
            epoch: plain(0),
            view: plain(0),
            first: plain(0),
            last: plain(0),
            payload: UnsafeCell::new(Payload::default()),
        };
        Self {
            plant,
            view: plain(view.0),
            gate: Shared {
                cell: plain(gate.pack()),
                relaxed: plant == Plant::DrainRelaxed,
                busy_ignored: plant == Plant::BusyIgnored,
                kept: false,
            },
            released: word(plant == Plant::ReleaseRelaxed),
            ring_at_op: word(false),
            ring_on_quorum: word(false),
            acked: [(); MEMBERS].map(|()| word(false)),
            rounds: (0..window).map(round).collect(),
            slots: (0..slots).map(slot).collect(),
            idle: word(false),
        }
    }

    pub fn round(&self, op: OpNumber) -> &Round {
        &self.rounds[op.0 as usize & (self.rounds.len() - 1)]
    }

    pub fn log_slot(&self, first: OpNumber) -> &LogSlot {
        &self.slots[first.0 as usize & (self.slots.len() - 1)]
    }
}

impl Memory for Weak {
    type Word = Shared;

    fn word(&self, at: At) -> &Shared {
        match at {
            At::Gate => &self.gate,
            At::Released => &self.released,
            At::RingAtOp => &self.ring_at_op,
            At::RingOnQuorum => &self.ring_on_quorum,
            At::Acked(peer) => &self.acked[peer.index()],
            At::Vote(op) => &self.round(op).vote,
            At::Durable | At::Commit | At::HeardOp | At::HeardCount | At::RingAtCommit => &self.idle,
        }
    }

    fn slot<R>(&self, first: OpNumber, read: impl FnOnce(Slot<'_>) -> R) -> R {
        let slot = self.log_slot(first);
        let plain = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let (epoch, view) = (plain(&slot.epoch), View(plain(&slot.view)));
        let [first, last] = [&slot.first, &slot.last].map(|op| OpNumber(plain(op)));
        slot.payload.with(|payload| {
            // SAFETY: loom ends the execution if somebody writes there meanwhile.
            let payload: &[u8] = unsafe { &*payload };
            let batch = Logged { view, first, last, round_tag: 0, leader_epoch: Epoch(0), payload };
            read(Slot { epoch, batch })
        })
    }

    fn describe(&self, round: &RoundSlot) {
        let slot = self.round(round.op);
        if self.plant == Plant::RoundPublishedFirst {
            slot.vote.store(crate::words::vote_word(round.epoch, round.op), Ordering::Release);
        }
        let plain = |word: &AtomicU64, value: u64| word.store(value, Ordering::Relaxed);
        plain(&slot.op, round.op.0);
        plain(&slot.view, round.view.0);
        plain(&slot.round_tag, round.tag);
        plain(&slot.voters, round.voters.mask().into());
        plain(&slot.threshold, round.threshold.into());
    }

    fn window(&self) -> u32 {
        self.rounds.len() as u32
    }

    fn configure(&self, view: View, _leader: ReplicaId) {
        self.view.store(view.0, Ordering::Relaxed);
    }

    fn members(&self) -> usize {
        MEMBERS
    }

    fn fence(&self) {
        if self.plant != Plant::FenceLeftOut {
            fence(Ordering::SeqCst);
        }
    }
}
