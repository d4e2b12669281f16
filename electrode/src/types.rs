//! The words of the protocol as types: view, op number, epoch, replica, replica set.

use bitvec::{array::BitArray, order::Lsb0};
use serde::{Deserialize, Serialize};
use std::fmt;

use crate::abi;

/// View number (VR section 4): each view has one leader.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct View(pub u64);

impl View {
    /// The view after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Operation number: position in the replicated log, 1 for the first op, 0 for "none".
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpNumber(pub u64);

impl OpNumber {
    /// The op after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Number of one opening of the gate, 1..=8191; 0 is never used (D1).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u16);

impl Epoch {
    /// Largest epoch: 13 bits of the gate word.
    pub const MAX: u16 = (1 << abi::EPOCH_BITS) - 1;

    /// The next epoch; wraps from [`Epoch::MAX`] to 1.
    pub fn next(self) -> Self {
        if self.0 >= Self::MAX { Self(1) } else { Self(self.0 + 1) }
    }
}

/// Index of a member of the group, below [`abi::MEMBERS_MAX`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u8);

impl ReplicaId {
    /// The index as `usize`, for tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Set of members, one bit each: voters of a round, targets of a broadcast.
#[derive(Copy, Clone, Default, PartialEq, Eq, Hash)]
pub struct ReplicaSet(BitArray<[u32; 1], Lsb0>);

impl ReplicaSet {
    /// The empty set.
    pub const EMPTY: Self = Self(BitArray::ZERO);

    /// Members `0..members`.
    pub fn all(members: usize) -> Self {
        assert!(members <= abi::MEMBERS_MAX);
        (0..members).map(|i| ReplicaId(i as u8)).collect()
    }

    /// From the mask used on the wire: bit i is member i.
    pub fn from_mask(mask: u32) -> Self {
        Self(BitArray::new([mask]))
    }

    /// The mask used on the wire.
    pub fn mask(self) -> u32 {
        self.0.data[0]
    }

    /// This set with `id` in it.
    #[must_use]
    pub fn with(mut self, id: ReplicaId) -> Self {
        self.0.set(id.index(), true);
        self
    }

    /// This set without `id`.
    #[must_use]
    pub fn without(mut self, id: ReplicaId) -> Self {
        self.0.set(id.index(), false);
        self
    }

    /// Whether `id` is in the set; false for an index that no member can have.
    pub fn contains(self, id: ReplicaId) -> bool {
        self.0.get(id.index()).is_some_and(|bit| *bit)
    }

    /// Number of members in the set.
    pub fn len(self) -> usize {
        self.mask().count_ones() as usize
    }

    /// Whether nobody is in the set.
    pub fn is_empty(self) -> bool {
        self.mask() == 0
    }

    /// Members in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self::from_mask(self.mask() & other.mask())
    }

    /// Members of this set that are not in `other`.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        Self::from_mask(self.mask() & !other.mask())
    }

    /// Members in ascending order.
    pub fn iter(self) -> impl Iterator<Item = ReplicaId> {
        let mut mask = self.mask();
        std::iter::from_fn(move || {
            (mask != 0).then(|| {
                let id = ReplicaId(mask.trailing_zeros() as u8);
                mask &= mask - 1;
                id
            })
        })
    }
}

impl FromIterator<ReplicaId> for ReplicaSet {
    fn from_iter<T: IntoIterator<Item = ReplicaId>>(ids: T) -> Self {
        ids.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for ReplicaSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|id| id.0)).finish()
    }
}

macro_rules! display_as_number {
    ($($t:ty),*) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_as_number!(View, OpNumber, Epoch, ReplicaId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_operations_agree_with_masks() {
        let set = ReplicaSet::from_mask(0b1011);
        assert_eq!(set.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(set.len(), 3);
        assert_eq!(set.without(ReplicaId(1)).mask(), 0b1001);
        assert_eq!(set.difference(ReplicaSet::from_mask(0b1)).mask(), 0b1010);
        assert_eq!(ReplicaSet::all(32).mask(), u32::MAX);
        assert!(!set.contains(ReplicaId(200)));
    }

    #[test]
    fn epoch_wraps_past_zero() {
        assert_eq!(Epoch(Epoch::MAX).next(), Epoch(1));
        assert_eq!(Epoch(0).next(), Epoch(1));
    }
}
