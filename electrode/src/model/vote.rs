//! A PrepareOk meets the quorum rounds: L2, L3.
//!
//! Once it is known that the op was sent at all: first the sender's cumulative maximum, which is what commit
//! is recounted from (L4), then its bit in the round, which is the hint that wakes user space.

use super::ingress::{self, Next, Run};
use super::{Kernel, Round, swap};
use crate::abi::Verdict;
use crate::rules::{self, RoundState, Tally};
use crate::types::{Epoch, OpNumber, ReplicaSet, View};

/// Steps of a vote; `tries` counts the compare-and-swaps left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    LoadVote,
    ReadRound { vote: u64 },
    LoadAcked { round: RoundState },
    SwapAcked { round: RoundState, expected: u64, tries: u32 },
    ReadVoters { round: RoundState },
    SwapVote { round: RoundState, tries: u32 },
    LoadQuorumBell,
    TakeQuorumBell { bell: u64 },
}

impl At {
    /// Whether the step changes shared memory.
    pub(super) fn writes(&self) -> bool {
        matches!(self, At::SwapAcked { .. } | At::SwapVote { .. } | At::TakeQuorumBell { .. })
    }

    fn next(self) -> Next {
        Ok(ingress::At::Vote(self))
    }
}

impl Run {
    pub(super) fn vote(&mut self, at: At, kernel: &mut Kernel) -> Next {
        match at {
            At::LoadAcked { round } => {
                let sender = usize::from(self.header().sender);
                self.merge_acked(round, kernel.control.acked[sender], kernel.params.swap_tries, kernel)
            }
            At::SwapAcked { round, expected, tries } => {
                let sender = usize::from(self.header().sender);
                let merged = rules::merge_max(expected, self.tag(kernel), self.header().last());
                let merged = merged.expect("only a greater word is swapped in");
                match swap(&mut kernel.control.acked[sender], expected, merged) {
                    Ok(()) => At::ReadVoters { round }.next(),
                    Err(found) => self.merge_acked(round, found, tries, kernel),
                }
            }
            At::LoadVote => At::ReadRound { vote: self.round(kernel).vote }.next(),
            // What stands behind the vote word belongs to it if the swap that follows succeeds (L1).
            At::ReadRound { vote } => {
                let round = self.round(kernel);
                let state = RoundState {
                    vote,
                    op: OpNumber(round.op),
                    view: View(round.view),
                    round_tag: round.round_tag,
                    voters: ReplicaSet::EMPTY,
                    threshold: 0,
                };
                if !rules::was_sent(vote, state.op, self.gate.epoch, self.header().last()) {
                    return Err(Verdict::DropVoteStale);
                }
                At::LoadAcked { round: state }.next()
            }
            At::ReadVoters { round: state } => {
                let round = self.round(kernel);
                let voters = ReplicaSet::from_mask(round.voters);
                let state = RoundState { voters, threshold: round.threshold, ..state };
                self.cast(state, kernel.params.swap_tries)
            }
            At::SwapVote { round, tries } => {
                let vote = rules::vote_decision(&round, self.gate.epoch, self.header())?;
                let by_or = kernel.plants.vote_by_or;
                let word = &mut self.round(kernel).vote;
                if by_or {
                    *word |= vote.word & !round.vote;
                } else if let Err(found) = swap(word, round.vote, vote.word) {
                    return self.cast(RoundState { vote: found, ..round }, tries);
                }
                match vote.tally {
                    Tally::Below => Err(Verdict::DropVote),
                    Tally::Above => Err(Verdict::DropVoteRepeated),
                    Tally::Completes => At::LoadQuorumBell.next(),
                }
            }
            At::LoadQuorumBell => match kernel.control.ring_on_quorum {
                0 => Err(Verdict::DropQuorumQuiet),
                bell => At::TakeQuorumBell { bell }.next(),
            },
            At::TakeQuorumBell { bell } => {
                let taken = swap(&mut kernel.control.ring_on_quorum, bell, 0).is_ok();
                Err(if taken { Verdict::PassQuorum } else { Verdict::DropQuorumQuiet })
            }
        }
    }

    /// The epoch that a maximum is tagged with.
    fn tag(&self, kernel: &Kernel) -> Epoch {
        if kernel.plants.untagged_maxima { Epoch(0) } else { self.gate.epoch }
    }

    fn merge_acked(&self, round: RoundState, found: u64, tries: u32, kernel: &Kernel) -> Next {
        match rules::merge_max(found, self.tag(kernel), self.header().last()) {
            None => At::ReadVoters { round }.next(),
            Some(_) if tries == 0 => Err(Verdict::PassContended),
            Some(_) => At::SwapAcked { round, expected: found, tries: tries - 1 }.next(),
        }
    }

    /// L2: a vote counts in the round that it is for, whatever votes came in between.
    fn cast(&self, round: RoundState, tries: u32) -> Next {
        rules::vote_decision(&round, self.gate.epoch, self.header())?;
        if tries == 0 {
            return Err(Verdict::PassContended);
        }
        At::SwapVote { round, tries: tries - 1 }.next()
    }

    fn round<'k>(&self, kernel: &'k mut Kernel) -> &'k mut Round {
        kernel.round_mut(self.header().last())
    }
}
