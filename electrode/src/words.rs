//! The words that kernel and user space change by compare-and-swap, as values (rules.md, "Terms").
//!
//! | word | layout, high bits first |
//! |---|---|
//! | gate | `state:2, busy:1, epoch:13, op:48` |
//! | tagged op | `0:3, epoch:13, op:48` |
//! | vote | `epoch:13, op:19, voters:32` |
//! | hardware address | `0:15, valid:1, mac:48` |

use crate::abi;
use crate::types::{Epoch, OpNumber, ReplicaSet};

const OP_MASK: u64 = (1 << abi::OP_BITS) - 1;
const EPOCH_MASK: u64 = (1 << abi::EPOCH_BITS) - 1;
const VOTE_OP_MASK: u64 = (1 << abi::VOTE_OP_BITS) - 1;

/// The word of a hardware address, its first byte lowest; zero where there is none.
pub fn mac_word(mac: Option<[u8; 6]>) -> u64 {
    mac.map_or(0, |m| abi::MAC_VALID | u64::from_le_bytes([m[0], m[1], m[2], m[3], m[4], m[5], 0, 0]))
}

/// What the kernel may do for an endpoint.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GateState {
    /// Nothing: every packet goes to user space. The zero value (D1).
    Frozen = 0,
    /// Log and acknowledge Prepares.
    Follow = 1,
    /// Count acknowledgements.
    Lead = 2,
}

/// The gate word of one endpoint; all zero is [`GateState::Frozen`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct GateWord {
    /// What the kernel may do.
    pub state: GateState,
    /// A kernel program is filling a slot (F7).
    pub busy: bool,
    /// Number of this opening.
    pub epoch: Epoch,
    /// Tail: last contiguous op in the kernel log.
    pub op: OpNumber,
}

impl GateWord {
    /// The zero word.
    pub const ZERO: Self = Self { state: GateState::Frozen, busy: false, epoch: Epoch(0), op: OpNumber(0) };

    /// From the word in shared memory. The unused fourth state reads as `Frozen`.
    pub fn unpack(word: u64) -> Self {
        Self {
            state: match word >> abi::STATE_SHIFT {
                1 => GateState::Follow,
                2 => GateState::Lead,
                _ => GateState::Frozen,
            },
            busy: word >> abi::BUSY_SHIFT & 1 == 1,
            epoch: Epoch((word >> abi::OP_BITS & EPOCH_MASK) as u16),
            op: OpNumber(word & OP_MASK),
        }
    }

    /// The word for shared memory.
    pub fn pack(self) -> u64 {
        (self.state as u64) << abi::STATE_SHIFT
            | u64::from(self.busy) << abi::BUSY_SHIFT
            | tagged(self.epoch, self.op)
    }
}

/// An op tagged with the epoch in which it was seen.
pub fn tagged(epoch: Epoch, op: OpNumber) -> u64 {
    (u64::from(epoch.0) & EPOCH_MASK) << abi::OP_BITS | op.0 & OP_MASK
}

/// The op of a tagged word if it belongs to `epoch`, else op 0.
pub fn op_in_epoch(word: u64, epoch: Epoch) -> OpNumber {
    if word >> abi::OP_BITS == u64::from(epoch.0) { OpNumber(word & OP_MASK) } else { OpNumber(0) }
}

/// A vote word without votes.
pub fn vote_word(epoch: Epoch, op: OpNumber) -> u64 {
    (u64::from(epoch.0) & EPOCH_MASK) << abi::VOTE_EPOCH_SHIFT | (op.0 & VOTE_OP_MASK) << abi::VOTE_OP_SHIFT
}

/// The voters in a vote word.
pub fn voters_of(vote: u64) -> ReplicaSet {
    ReplicaSet::from_mask(vote as u32)
}

/// Whether a vote word is for this epoch and op (L2); ops 2^19 apart look alike, windows are smaller.
pub fn vote_is_for(vote: u64, epoch: Epoch, op: OpNumber) -> bool {
    vote & !0xffff_ffff == vote_word(epoch, op)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gate_word_round_trips(state in 0u8..3, busy: bool, epoch in 0u16..=Epoch::MAX, op in 0u64..1 << 48) {
            let state = [GateState::Frozen, GateState::Follow, GateState::Lead][usize::from(state)];
            let word = GateWord { state, busy, epoch: Epoch(epoch), op: OpNumber(op) };
            prop_assert_eq!(GateWord::unpack(word.pack()), word);
        }

        #[test]
        fn votes_of_another_round_are_told_apart(e in 1u16..=Epoch::MAX, op in 1u64..1 << 40, bits: u32) {
            let vote = vote_word(Epoch(e), OpNumber(op)) | u64::from(bits);
            prop_assert!(vote_is_for(vote, Epoch(e), OpNumber(op)));
            prop_assert!(!vote_is_for(vote, Epoch(e).next(), OpNumber(op)));
            prop_assert!(!vote_is_for(vote, Epoch(e), OpNumber(op + 1)));
            prop_assert_eq!(voters_of(vote).mask(), bits);
        }
    }

    #[test]
    fn a_mac_keeps_its_memory_order() {
        let word = mac_word(Some([2, 0, 0, 0, 0, 9]));
        assert_eq!((word & 0xff, word >> 40 & 0xff), (2, 9));
        assert_ne!(word & abi::MAC_VALID, 0);
        assert_eq!(mac_word(None), 0);
    }

    #[test]
    fn zero_means_frozen() {
        assert_eq!(GateWord::unpack(0), GateWord::ZERO);
        assert_eq!(GateWord::ZERO.pack(), 0);
        assert_eq!(op_in_epoch(0, Epoch(1)), OpNumber(0));
    }
}
