//! The decisions of the fast path, pure: no packets, no memory, no clock.
//!
//! The kernel programs, their model (`crate::model`) and the handlers of the `udp` backend ask the same
//! questions in the same order:
//!
//! 1. [`admit_config`] (F1), after [`crate::wire::parse`]
//! 2. [`admit_gate`] (F2, L2)
//! 3. [`admit_view`] (F3)
//! 4. [`admit_leader`] (F4) for Prepare and Commit, [`admit_voter`] (L2) for PrepareOk
//! 5. [`append_decision`] (F5, F6, F8), or [`merge_max`] and [`vote_decision`] (L2, L3)
//!
//! Nobody is admitted by an answer that this module does not give. `Err` carries the verdict that ends
//! the packet's way.

use std::net::SocketAddr;

use crate::abi::{Header, Kind, Verdict};
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use crate::words::{self, GateState, GateWord};

/// F1: group and configuration hash are ours.
pub fn admit_config(header: &Header, group: u32, config_hash: u64) -> Result<(), Verdict> {
    if header.group.get() == group && header.config_hash.get() == config_hash {
        Ok(())
    } else {
        Err(Verdict::PassConfig)
    }
}

/// F2, L2: the gate is open for packets of this kind. Messages need no gate.
pub fn admit_gate(kind: Kind, state: GateState) -> Result<(), Verdict> {
    match (kind, state) {
        (Kind::Message, _)
        | (Kind::Prepare | Kind::Commit, GateState::Follow)
        | (Kind::PrepareOk, GateState::Lead) => Ok(()),
        _ => Err(Verdict::PassFrozen),
    }
}

/// F3: the message's view is ours.
pub fn admit_view(ours: View, theirs: View) -> Result<(), Verdict> {
    match theirs.cmp(&ours) {
        std::cmp::Ordering::Less => Err(Verdict::DropViewOld),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Verdict::PassViewNew),
    }
}

/// F4: Prepare and Commit come from the view's leader, from where that member lives, in the life that we know
/// of: a leader that came back without its state would count what was acknowledged to the one before (L11).
pub fn admit_leader(
    leader: ReplicaId,
    members: &[SocketAddr],
    expected: impl FnOnce(ReplicaId) -> u32,
    header: &Header,
    from: SocketAddr,
) -> Result<(), Verdict> {
    let known = header.sender == leader.0
        && lives_at(members, header.sender, from)
        && incarnation_counts(expected(leader), header.incarnation.get());
    if known { Ok(()) } else { Err(Verdict::DropSource) }
}

/// L2: an ack comes from a member, from where it lives, in the life that we know of; never from
/// ourselves. `expected` holds each member's incarnation; zero matches nobody (D1).
pub fn admit_voter(
    me: ReplicaId,
    members: &[SocketAddr],
    expected: impl FnOnce(ReplicaId) -> u32,
    header: &Header,
    from: SocketAddr,
) -> Result<ReplicaId, Verdict> {
    if !lives_at(members, header.sender, from) {
        return Err(Verdict::DropSource);
    }
    let sender = ReplicaId(header.sender);
    if sender == me || !incarnation_counts(expected(sender), header.incarnation.get()) {
        return Err(Verdict::DropVoteStranger);
    }
    Ok(sender)
}

/// Whether an ack of a member's life `theirs` counts where `expected` is awaited.
pub fn incarnation_counts(expected: u32, theirs: u32) -> bool {
    expected != 0 && expected == theirs
}

fn lives_at(members: &[SocketAddr], sender: u8, from: SocketAddr) -> bool {
    members.get(usize::from(sender)).is_some_and(|home| same_address(*home, from))
}

/// Address and port agree; an IPv4 address equals its mapped form, scope and flow label do not count.
pub fn same_address(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}

/// What is known of a slot before it is written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotTag {
    /// Gate epoch under which it was written, 0 for never.
    pub epoch: Epoch,
    /// Last op of the batch in it.
    pub last: OpNumber,
}

/// A Prepare, as far as the log cares.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// First op.
    pub first: OpNumber,
    /// Last op.
    pub last: OpNumber,
    /// Bytes of the batch.
    pub payload_bytes: usize,
}

/// The log that the Prepare meets.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// The gate word: epoch and tail.
    pub gate: GateWord,
    /// Slot `first mod N`.
    pub slot: SlotTag,
    /// Slots of ops up to here may be reused.
    pub released: OpNumber,
    /// Where acks wait for an fsync: the last op that is durable in this epoch. `None`: memory is enough.
    pub durable: Option<OpNumber>,
    /// Payload room of a slot.
    pub slot_payload_bytes: usize,
}

/// What a Prepare is to the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Append {
    /// F5: the next batch, and there is room: log it.
    New,
    /// F8: held already: acknowledge exactly `last`, write nothing.
    Duplicate,
    /// F8: held, but not durable yet: say nothing.
    NotDurable,
    /// F5: ops before it are missing.
    Gap,
    /// F5: partly new; batches are never cut.
    Overlap,
    /// F6: the payload exceeds the slot.
    TooLarge,
    /// F6: the slot still holds an op that may be needed.
    Full,
}

impl Append {
    /// The verdict of a Prepare that is neither logged nor acknowledged.
    pub fn refusal(self) -> Option<Verdict> {
        match self {
            Self::New | Self::Duplicate => None,
            Self::NotDurable => Some(Verdict::DropNotDurable),
            Self::Gap => Some(Verdict::PassGap),
            Self::Overlap => Some(Verdict::PassOverlap),
            Self::TooLarge => Some(Verdict::PassTooLarge),
            Self::Full => Some(Verdict::PassLogFull),
        }
    }
}

/// F5, F6, F8 in the order of the kernel program: position, size, room.
pub fn append_decision(log: &LogState, batch: Incoming) -> Append {
    match position(log.gate.op, batch.first, batch.last) {
        Append::Duplicate => duplicate(batch.last, log.durable),
        Append::New if batch.payload_bytes > log.slot_payload_bytes => Append::TooLarge,
        Append::New => room(log.gate.epoch, log.slot, log.released),
        other => other,
    }
}

/// F5: where a batch lies relative to the tail: `New`, `Duplicate`, `Gap` or `Overlap`.
pub fn position(tail: OpNumber, first: OpNumber, last: OpNumber) -> Append {
    if last <= tail {
        Append::Duplicate
    } else if first <= tail {
        Append::Overlap
    } else if first == tail.next() {
        Append::New
    } else {
        Append::Gap
    }
}

/// F8: whether a duplicate may be acknowledged.
pub fn duplicate(last: OpNumber, durable: Option<OpNumber>) -> Append {
    if durable.is_none_or(|durable| last <= durable) { Append::Duplicate } else { Append::NotDurable }
}

/// F6: a slot is free if it is of an older opening (all of that was drained) or its op is released.
pub fn room(epoch: Epoch, slot: SlotTag, released: OpNumber) -> Append {
    if slot.epoch == epoch && slot.last > released { Append::Full } else { Append::New }
}

/// F8: a duplicate is acknowledged only if the gate, loaded again, is the opening that admitted it.
pub fn still_open(loaded: GateWord, again: GateWord) -> bool {
    again.state == GateState::Follow && loaded.epoch == again.epoch
}

/// F10, L2: the tagged word that replaces `word` once `op` was seen in `epoch`; `None` if it stays.
///
/// The greater word wins, epoch before op: a program that still runs in an older epoch can neither
/// overwrite nor block a newer one, whether user space zeroed the word at the opening or not. When the
/// epoch wraps user space zeroes the words after a grace period (U1).
pub fn merge_max(word: u64, epoch: Epoch, op: OpNumber) -> Option<u64> {
    let merged = words::tagged(epoch, op);
    (merged > word).then_some(merged)
}

/// U9: which word a packet of the leader can raise, and to what: a Commit counts, a Prepare brings ops. One that
/// raises it is a sign of life; others anybody can have kept.
pub fn news(header: &Header) -> News {
    match header.kind() {
        Some(Kind::Commit) => News::Count(header.round_tag.get()),
        _ => News::Op(header.last()),
    }
}

/// U9: what a packet of the leader may say for the first time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// An op that it has prepared.
    Op(OpNumber),
    /// The count of its Commits.
    Count(u64),
}

/// F10: what user space may apply: the commit number seen in this opening, as far as it was drained.
pub fn commit_to_apply(commit_word: u64, epoch: Epoch, drained: OpNumber) -> OpNumber {
    words::op_in_epoch(commit_word, epoch).min(drained)
}

/// L2: an ack echoes the leader's own opening.
pub fn admit_leader_epoch(gate: Epoch, echoed: Epoch) -> Result<(), Verdict> {
    if gate == echoed { Ok(()) } else { Err(Verdict::DropVoteStale) }
}

/// L2: whether an op can have been acknowledged in this opening at all: the slot that its round had carries it,
/// or since then a later one. Without this bound one forged ack would stand for every op to come.
pub fn was_sent(vote: u64, round_op: OpNumber, epoch: Epoch, last: OpNumber) -> bool {
    vote >> crate::abi::VOTE_EPOCH_SHIFT == u64::from(epoch.0) && last <= round_op
}

/// The round that an ack meets (slot `last mod window`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoundState {
    /// `{epoch, op, voters}`.
    pub vote: u64,
    /// The op in full: those 2^19 apart look alike in the word.
    pub op: OpNumber,
    /// View of the round.
    pub view: View,
    /// Tag of the round.
    pub round_tag: u64,
    /// Who may vote.
    pub voters: ReplicaSet,
    /// How many votes complete it; zero is never reached.
    pub threshold: u32,
}

/// A vote that counts, if the compare-and-swap from [`RoundState::vote`] to `word` succeeds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The word with the vote in it.
    pub word: u64,
    /// L3: where this vote puts the round.
    pub tally: Tally,
}

/// L3: what one vote does to a round.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tally {
    /// More are needed.
    Below,
    /// This very vote completes the round: wake user space.
    Completes,
    /// It was complete before.
    Above,
}

/// L2, L3: whether the ack in `header` counts in `round`, and what it does.
///
/// Read the vote word before the rest of the round, and swap against that word: the rest then belongs
/// to it, for user space invalidates the word before it changes anything (L1).
pub fn vote_decision(round: &RoundState, epoch: Epoch, header: &Header) -> Result<Vote, Verdict> {
    let last = header.last();
    let same_round = words::vote_is_for(round.vote, epoch, last)
        && round.op == last
        && round.view == header.view()
        && round.round_tag == header.round_tag.get();
    if !same_round {
        return Err(Verdict::DropVoteStale);
    }
    let sender = ReplicaId(header.sender);
    let before = words::voters_of(round.vote);
    if !round.voters.contains(sender) || before.contains(sender) {
        return Err(Verdict::DropVoteRepeated);
    }
    let votes = before.with(sender).intersection(round.voters).len() as u64;
    let tally = match votes.cmp(&u64::from(round.threshold)) {
        std::cmp::Ordering::Less => Tally::Below,
        std::cmp::Ordering::Equal => Tally::Completes,
        std::cmp::Ordering::Greater => Tally::Above,
    };
    Ok(Vote { word: round.vote | 1 << sender.0, tally })
}

#[cfg(test)]
mod tests;
