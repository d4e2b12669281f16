//! User space's half of the memory that running kernel programs share: freeze, drain, open, rounds, recount's words.
//!
//! Everything that rests on memory order is here, apart from how the memory is reached: [`Memory`] is the mapped maps
//! ([`super::ebpf`]) and, in tests, a memory that may return every value which the orders allow
//! (`super::weak_memory`). What the programs promise in return stands in `bpf/src/words.h`: loads acquire, swaps
//! are full barriers.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Heard, Logged, Opening, RoundSlot, Wake};
use crate::abi;
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use crate::words::{self, GateState, GateWord};

const BUSY: u64 = 1 << abi::BUSY_SHIFT;
/// Zero in these bits is `Frozen` (D1).
const STATE: u64 = 0b11 << abi::STATE_SHIFT;

/// A word that both sides change.
pub(crate) trait Word {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    /// `Err` is the word that was found instead of `expected`. Acquires and, if it swaps, releases.
    fn swap(&self, expected: u64, new: u64) -> Result<u64, u64>;
    /// Acquires and releases.
    fn and(&self, mask: u64);
}

impl Word for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        Self::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        Self::store(self, value, order);
    }

    fn swap(&self, expected: u64, new: u64) -> Result<u64, u64> {
        self.compare_exchange(expected, new, AcqRel, Acquire)
    }

    fn and(&self, mask: u64) {
        self.fetch_and(mask, AcqRel);
    }
}

/// Which word.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Gate,
    Released,
    Durable,
    Commit,
    HeardOp,
    HeardCount,
    RingAtOp,
    RingAtCommit,
    RingOnQuorum,
    /// A peer's cumulative maximum (L2).
    Acked(ReplicaId),
    /// The vote word of the round that ends with this op.
    Vote(OpNumber),
}

/// A published slot as read.
pub(crate) struct Slot<'a> {
    pub epoch: u64,
    pub batch: Logged<'a>,
}

/// What one endpoint shares with its programs.
pub(crate) trait Memory {
    type Word: Word;

    fn word(&self, at: At) -> &Self::Word;

    /// The slot of the batch that begins with `first`. The caller has seen it published (at or below the tail of a
    /// gate word that it acquired) and not released it, so no program writes it (F6).
    fn slot<R>(&self, first: OpNumber, read: impl FnOnce(Slot<'_>) -> R) -> R;

    /// Writes what stands behind a round's vote word, which is invalid.
    fn describe(&self, round: &RoundSlot);

    /// Quorum rounds.
    fn window(&self) -> u32;

    /// Writes view, leader and members. The gate is frozen (F0).
    fn configure(&self, view: View, leader: ReplicaId);

    /// How many members there are.
    fn members(&self) -> usize;

    /// Sequentially consistent.
    fn fence(&self);
}

/// The gate word. What was published before it may be read.
pub(crate) fn gate(memory: &impl Memory) -> GateWord {
    GateWord::unpack(memory.word(At::Gate).load(Acquire))
}

/// U1: from here on no program's swap succeeds. Busy bit, epoch and tail stay.
pub(crate) fn freeze(memory: &impl Memory) {
    memory.word(At::Gate).and(!STATE);
    // F0: what is written under the frozen gate must not be seen before the freeze, or a program that met the next
    // configuration could look at the gate again and find it as it was. The AND alone orders what came before it.
    memory.fence();
}

/// U2: hands over what was logged after `from` in this epoch; returns the last op.
///
/// # Panics
/// If the log is not what the gate says: epoch and contiguity are verified, not assumed. A mismatch is a bug in the
/// programs, and an op that was not read is not held.
pub(crate) fn drain(memory: &impl Memory, from: OpNumber, sink: &mut dyn FnMut(Logged<'_>)) -> OpNumber {
    let gate = gate(memory);
    let mut at = from;
    while at < gate.op {
        at = memory.slot(at.next(), |slot| {
            let Slot { epoch, batch } = slot;
            assert!(
                epoch == u64::from(gate.epoch.0) && batch.first == at.next() && batch.last >= batch.first,
                "kernel log broken at op {}: slot holds {}..={} of epoch {epoch}, gate is {gate:?}",
                at.next(),
                batch.first,
                batch.last,
            );
            let last = batch.last;
            sink(batch);
            last
        });
    }
    at
}

/// U1: until no program holds the log. `wait` is asked again and again; once it says `false`, a grace period (`grace`)
/// ends every program that runs now, and what one that was stopped for long leaves is only its busy bit.
pub(crate) fn await_writers<E>(
    memory: &impl Memory,
    mut wait: impl FnMut() -> bool,
    grace: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    while gate(memory).busy {
        if !wait() {
            grace()?;
            memory.word(At::Gate).and(!BUSY);
            break;
        }
    }
    Ok(())
}

/// U6: opens the gate. `frozen` is its word since the freeze; no program holds the log any more.
///
/// # Panics
/// If it is another word now: somebody else opened this gate, or a program does hold the log.
pub(crate) fn open(memory: &impl Memory, frozen: GateWord, opening: &Opening) {
    let epoch = opening.epoch;
    memory.word(At::Released).store(opening.tail.0, Relaxed);
    memory.word(At::Commit).store(0, Relaxed);
    memory.word(At::Durable).store(0, Relaxed);
    // Of this epoch already, so that no program of an older one brings its own back.
    let Heard { op, count } = opening.heard;
    memory.word(At::HeardOp).store(words::tagged(epoch, op), Relaxed);
    memory.word(At::HeardCount).store(words::tagged(epoch, OpNumber(count)), Relaxed);
    if opening.fresh {
        memory.configure(opening.view, opening.leader);
        for peer in 0..memory.members() {
            memory.word(At::Acked(ReplicaId(peer as u8))).store(0, Relaxed);
        }
        if opening.state == GateState::Lead {
            // L8: old votes die with the epoch.
            for slot in 0..memory.window() {
                memory.word(At::Vote(OpNumber(slot.into()))).store(0, Relaxed);
            }
        }
    }
    let expected = GateWord { busy: false, ..frozen }.pack();
    let open = GateWord { state: opening.state, busy: false, epoch, op: opening.tail };
    memory.fence();
    // U6: exactly the frozen word, or somebody else opened this gate.
    let swapped = memory.word(At::Gate).swap(expected, open.pack());
    assert!(swapped.is_ok(), "two owners of one gate: {:?}", gate(memory));
}

/// F6: slots of ops up to here may be reused: whoever reads the word in a program, reads after us.
pub(crate) fn release(memory: &impl Memory, op: OpNumber) {
    memory.word(At::Released).store(op.0, Release);
}

/// L1: invalidates, describes, publishes. A program that still votes in the old round fails its swap.
pub(crate) fn begin_round(memory: &impl Memory, round: &RoundSlot) {
    let vote = memory.word(At::Vote(round.op));
    vote.store(0, Relaxed);
    // What follows must not be seen before.
    memory.fence();
    memory.describe(round);
    vote.store(words::vote_word(round.epoch, round.op), Release);
}

/// Highest op that a peer acknowledged in `epoch` (L2).
pub(crate) fn acked(memory: &impl Memory, epoch: Epoch, peer: ReplicaId) -> OpNumber {
    words::op_in_epoch(memory.word(At::Acked(peer)).load(Acquire), epoch)
}

/// Votes counted in a round (L4).
pub(crate) fn votes(memory: &impl Memory, epoch: Epoch, op: OpNumber) -> ReplicaSet {
    let vote = memory.word(At::Vote(op)).load(Acquire);
    if words::vote_is_for(vote, epoch, op) { words::voters_of(vote) } else { ReplicaSet::EMPTY }
}

/// Arms the doorbells. Whoever logs, merges or votes after this sees them; what came before, the caller sees, who
/// looks once more.
pub(crate) fn arm(memory: &impl Memory, wake: Wake) {
    let at = |op: Option<OpNumber>| op.map_or(0, |op| op.0.max(1));
    memory.word(At::RingAtOp).store(at(wake.at_op), Relaxed);
    memory.word(At::RingAtCommit).store(at(wake.at_commit), Relaxed);
    memory.word(At::RingOnQuorum).store(wake.on_quorum.into(), Relaxed);
    memory.fence();
}
