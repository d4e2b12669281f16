//! The kernel programs, access by access and order by order: `fast_ack.h` `elec_prepare`, `elec_repeat`; `quorum.h`
//! `elec_vote`; `words.h`.
//!
//! As weak as any machine that they run on. A load of a word (`elec_load`) acquires and comes after all loads before it; a swap
//! that swaps is a full barrier, one that does not orders nothing that anything rests on; everything else is relaxed.
//!
//! Where a program loads a word that it will swap, the load is a read-modify-write here (on other machines than x86 it is
//! one, and on x86 no load is late): of a load and then a swap by one thread loom would not see that the swap could have
//! come before an earlier load of another.

use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicU64, fence};

use super::Plant;
use super::memory::{Payload, Weak};
use crate::abi::{Header, Kind, Verdict};
use crate::rules::{self, Append, RoundState, SlotTag, Tally};
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use crate::words::{self, GateWord};

/// How often a program looks again at a busy log (`ELEC_BUSY_TRIES`), and tries a swap (`ELEC_SWAP_TRIES`). Fewer
/// than in the C program: each further one repeats the one before.
const BUSY_TRIES: u32 = 1;
const SWAP_TRIES: u32 = 3;

/// A Prepare of one op.
#[derive(Copy, Clone, Debug)]
pub(super) struct Prepare {
    pub view: View,
    pub op: OpNumber,
    pub payload: Payload,
}

/// What a follower's program answers.
#[derive(Copy, Clone, Debug)]
pub(super) struct Ack {
    pub view: View,
    /// The opening that it was given under.
    pub epoch: Epoch,
    pub op: OpNumber,
}

/// How a program on a Prepare ended.
pub(super) struct Prepared {
    pub verdict: Verdict,
    pub ack: Option<Ack>,
    pub rang: bool,
}

/// `elec_swap`.
fn swap(memory: &Weak, word: &AtomicU64, expected: u64, new: u64) -> Result<u64, u64> {
    let barrier = memory.plant != Plant::SwapNoBarrier;
    if barrier {
        fence(SeqCst);
    }
    let swapped = word.compare_exchange(expected, new, AcqRel, Relaxed);
    if barrier && swapped.is_ok() {
        fence(SeqCst);
    }
    swapped
}

/// `elec_load`.
fn load(word: &AtomicU64) -> u64 {
    fence(Acquire);
    word.load(Acquire)
}

/// The same, of a word that is about to be swapped.
fn load_to_swap(word: &AtomicU64) -> u64 {
    fence(Acquire);
    word.fetch_or(0, Acquire)
}

fn load_gate(memory: &Weak) -> GateWord {
    let relaxed = memory.plant == Plant::GateRelaxed;
    GateWord::unpack(if relaxed {
        memory.gate.cell.fetch_or(0, Relaxed)
    } else {
        load_to_swap(&memory.gate.cell)
    })
}

/// `elec_take_bell`: true for exactly one caller once `value` has reached it.
fn take_bell(memory: &Weak, bell: &AtomicU64, value: u64) -> bool {
    let at = bell.load(Relaxed);
    at != 0 && value >= at && swap(memory, bell, at, 0).is_ok()
}

/// A Prepare from the leader's address arrives.
pub(super) fn prepare(memory: &Weak, packet: Prepare) -> Prepared {
    let mut rang = false;
    let mut answered = None;
    let verdict = log(memory, packet, &mut rang, &mut answered).unwrap_or_else(|verdict| verdict);
    let acks = matches!(verdict, Verdict::TxAck | Verdict::TxAckRepeated);
    let ack = acks.then(|| Ack { view: packet.view, epoch: answered.expect("set"), op: packet.op });
    Prepared { verdict, ack, rang }
}

fn log(
    memory: &Weak,
    packet: Prepare,
    rang: &mut bool,
    answered: &mut Option<Epoch>,
) -> Result<Verdict, Verdict> {
    let Prepare { view, op, payload } = packet;
    let mut gate = load_gate(memory);
    rules::admit_gate(Kind::Prepare, gate.state)?;
    rules::admit_view(View(memory.view.load(Relaxed)), view)?;
    *answered = Some(gate.epoch);
    for _ in 0..BUSY_TRIES {
        if !gate.busy {
            break;
        }
        let now = load_gate(memory);
        if !rules::still_open(gate, now) {
            return Err(Verdict::PassRaced);
        }
        gate = now;
    }
    match rules::position(gate.op, op, op) {
        Append::New => {}
        Append::Duplicate => {
            let open = memory.plant == Plant::DuplicateUnchecked
                || rules::still_open(gate, GateWord::unpack(load(&memory.gate.cell)));
            return if open { Ok(Verdict::TxAckRepeated) } else { Err(Verdict::PassRaced) };
        }
        refused => return Err(refused.refusal().expect("neither new nor held")),
    }
    let slot = memory.log_slot(op);
    let tag =
        SlotTag { epoch: Epoch(slot.epoch.load(Relaxed) as u16), last: OpNumber(slot.last.load(Relaxed)) };
    let released = OpNumber(load(&memory.released.cell));
    if let Some(full) = rules::room(gate.epoch, tag, released).refusal()
        && memory.plant != Plant::ReuseUnreleased
    {
        return Err(full);
    }
    // F7: busy in; body and header; tail forward and busy out.
    let busy = GateWord { busy: true, ..gate };
    let published = GateWord { op, ..gate };
    let first = if memory.plant == Plant::PublishBeforeFill { published } else { busy };
    if gate.busy || swap(memory, &memory.gate.cell, gate.pack(), first.pack()).is_err() {
        return Err(Verdict::PassBusy);
    }
    slot.payload.with_mut(|to| {
        // SAFETY: loom ends the execution if somebody reads or writes there meanwhile.
        unsafe { *to = payload };
    });
    slot.view.store(view.0, Relaxed);
    slot.first.store(op.0, Relaxed);
    slot.last.store(op.0, Relaxed);
    slot.epoch.store(gate.epoch.0.into(), Relaxed);
    let done = match memory.plant {
        Plant::PublishBeforeFill => Ok(0),
        Plant::PublishRelaxed => {
            memory.gate.cell.compare_exchange(busy.pack(), published.pack(), Relaxed, Relaxed)
        }
        _ => swap(memory, &memory.gate.cell, busy.pack(), published.pack()),
    };
    if done.is_err() {
        // `elec_clear_busy`: whatever else the word says now is user space's business.
        memory.gate.cell.fetch_and(!(1 << crate::abi::BUSY_SHIFT), AcqRel);
        return Err(Verdict::PassRaced);
    }
    *rang = take_bell(memory, &memory.ring_at_op.cell, op.0);
    Ok(Verdict::TxAck)
}

/// An ack on its way to the leader: its header, and who sent it.
#[derive(Clone)]
pub(super) struct Vote {
    pub sender: ReplicaId,
    pub header: Header,
}

/// How a program on an ack ended.
pub(super) struct Voted {
    pub verdict: Verdict,
    /// The doorbell was taken: the packet goes on to user space.
    pub woke: bool,
}

/// An ack of a member arrives.
pub(super) fn vote(memory: &Weak, ack: &Vote) -> Voted {
    let mut woke = false;
    let verdict = count(memory, ack, &mut woke).unwrap_or_else(|verdict| verdict);
    Voted { verdict, woke }
}

fn count(memory: &Weak, ack: &Vote, woke: &mut bool) -> Result<Verdict, Verdict> {
    let header = &ack.header;
    let (gate, last) = (load_gate(memory), header.last());
    rules::admit_gate(Kind::PrepareOk, gate.state)?;
    rules::admit_view(View(memory.view.load(Relaxed)), header.view())?;
    rules::admit_leader_epoch(gate.epoch, header.leader_epoch())?;
    let round = memory.round(last);
    let mut seen = load_to_swap(&round.vote.cell);
    if !rules::was_sent(seen, OpNumber(round.op.load(Relaxed)), gate.epoch, last) {
        return Err(Verdict::DropVoteStale);
    }
    raise(memory, &memory.acked[ack.sender.index()].cell, gate.epoch, last)?;
    let described = RoundState {
        vote: 0,
        op: OpNumber(round.op.load(Relaxed)),
        view: View(round.view.load(Relaxed)),
        round_tag: round.round_tag.load(Relaxed),
        voters: ReplicaSet::from_mask(round.voters.load(Relaxed) as u32),
        threshold: round.threshold.load(Relaxed) as u32,
    };
    for _ in 0..SWAP_TRIES {
        let vote = rules::vote_decision(&RoundState { vote: seen, ..described }, gate.epoch, header)?;
        let swapped = if memory.plant == Plant::VoteByOr {
            Ok(round.vote.cell.fetch_or(vote.word & !seen, AcqRel))
        } else {
            swap(memory, &round.vote.cell, seen, vote.word)
        };
        if let Err(found) = swapped {
            if !words::vote_is_for(found, gate.epoch, last) {
                return Err(Verdict::DropVoteStale);
            }
            seen = found;
            continue;
        }
        return match vote.tally {
            Tally::Below => Ok(Verdict::DropVote),
            Tally::Above => Ok(Verdict::DropVoteRepeated),
            Tally::Completes => {
                *woke = take_bell(memory, &memory.ring_on_quorum.cell, u64::MAX);
                Ok(if *woke { Verdict::PassQuorum } else { Verdict::DropQuorumQuiet })
            }
        };
    }
    Err(Verdict::PassContended)
}

/// `elec_raise`.
fn raise(memory: &Weak, word: &AtomicU64, epoch: Epoch, op: OpNumber) -> Result<(), Verdict> {
    let mut seen = load_to_swap(word);
    for _ in 0..SWAP_TRIES {
        let Some(merged) = rules::merge_max(seen, epoch, op) else { return Ok(()) };
        if memory.plant == Plant::MaximumStored {
            word.store(merged, Release);
            return Ok(());
        }
        match swap(memory, word, seen, merged) {
            Ok(_) => return Ok(()),
            Err(found) => seen = found,
        }
    }
    Err(Verdict::PassContended)
}
