//! The log in user space: batches in op order, contiguous.
//!
//! Batches keep the boundaries with which they were first sent, because a resend must be identical to the
//! first send (L6), and the kernel's duplicate check (F8) relies on it. The prefix that nobody will ask for
//! any more is forgotten, whole batches at a time.

use bytes::Bytes;
use electrode::types::{OpNumber, View};
use std::collections::VecDeque;
use thiserror::Error;

/// One batch: the payload of one Prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// View whose leader ordered it.
    pub view: View,
    /// First op.
    pub first: OpNumber,
    /// Last op.
    pub last: OpNumber,
    /// The entries ([`crate::batch`]).
    pub payload: Bytes,
}

/// A batch that does not continue the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("batch {first}..={last} does not continue a log that ends at op {end}")]
pub struct NotContiguous {
    /// First op of the batch.
    pub first: OpNumber,
    /// Last op of the batch.
    pub last: OpNumber,
    /// Last op of the log.
    pub end: OpNumber,
}

/// Batches `first_op()..=last_op()`.
#[derive(Clone, Debug, Default)]
pub struct Log {
    entries: VecDeque<LogEntry>,
    last_op: OpNumber,
    payload_bytes: usize,
}

impl Log {
    /// Last op; 0 if there never was one.
    pub fn last_op(&self) -> OpNumber {
        self.last_op
    }

    /// Oldest op that is still there; the op after the last if none is.
    pub fn first_op(&self) -> OpNumber {
        self.entries.front().map_or(self.last_op.next(), |entry| entry.first)
    }

    /// Bytes of all payloads that are still there.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no batch is there (any more).
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends a batch, which must begin where the log ends.
    pub fn append(&mut self, entry: LogEntry) -> Result<(), NotContiguous> {
        if entry.first != self.last_op.next() || entry.last < entry.first {
            return Err(NotContiguous { first: entry.first, last: entry.last, end: self.last_op });
        }
        self.last_op = entry.last;
        self.payload_bytes += entry.payload.len();
        self.entries.push_back(entry);
        Ok(())
    }

    /// The batch that holds `op`.
    pub fn get(&self, op: OpNumber) -> Option<&LogEntry> {
        let entry = self.entries.get(self.index_of(op))?;
        (entry.first <= op).then_some(entry)
    }

    /// The batch that holds `op` (or the oldest one, if `op` was forgotten) and all that follow.
    pub fn entries_from(&self, op: OpNumber) -> impl Iterator<Item = &LogEntry> {
        self.entries.range(self.index_of(op)..)
    }

    /// Index of the first batch that ends at or after `op`. Batches of one op, or of about equal size, make
    /// the guess right or nearly so; the bisection is for all others.
    fn index_of(&self, op: OpNumber) -> usize {
        let from_front = op.0.saturating_sub(self.first_op().0);
        if let Ok(guess) = usize::try_from(from_front)
            && self.entries.get(guess).is_some_and(|entry| entry.first <= op && op <= entry.last)
        {
            return guess;
        }
        self.entries.partition_point(|entry| entry.last < op)
    }

    /// Forgets all batches that end at or before `op`.
    pub fn truncate_prefix(&mut self, op: OpNumber) {
        while let Some(entry) = self.entries.front()
            && entry.last <= op
        {
            self.payload_bytes -= entry.payload.len();
            self.entries.pop_front();
        }
    }

    /// Forgets all batches that end after `op`, where a batch ends.
    pub fn truncate_suffix(&mut self, op: OpNumber) {
        while let Some(entry) = self.entries.back()
            && entry.last > op
        {
            debug_assert!(entry.first > op, "batches are kept or dropped whole");
            self.payload_bytes -= entry.payload.len();
            self.last_op = OpNumber(entry.first.0 - 1);
            self.entries.pop_back();
        }
    }

    /// Begins anew behind `op`: what came before is in a snapshot.
    pub fn reset(&mut self, op: OpNumber) {
        *self = Self { last_op: op, ..Self::default() };
    }

    /// Forgets the oldest batches until at most `payload_bytes_max` are left, but none that ends after `op`.
    pub fn shrink_to(&mut self, payload_bytes_max: usize, op: OpNumber) {
        while self.payload_bytes > payload_bytes_max
            && let Some(entry) = self.entries.front()
            && entry.last <= op
        {
            self.payload_bytes -= entry.payload.len();
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(first: u64, last: u64) -> LogEntry {
        let payload = Bytes::from(vec![first as u8; (last - first + 1) as usize]);
        LogEntry { view: View(0), first: OpNumber(first), last: OpNumber(last), payload }
    }

    #[test]
    fn only_what_continues_the_log_is_appended() {
        let mut log = Log::default();
        assert!(log.append(batch(2, 2)).is_err(), "a gap");
        log.append(batch(1, 3)).unwrap();
        assert!(log.append(batch(3, 4)).is_err(), "an overlap");
        assert!(log.append(batch(1, 3)).is_err(), "a duplicate");
        let refused = log.append(LogEntry { last: OpNumber(3), ..batch(4, 4) }).unwrap_err();
        assert_eq!(refused.to_string(), "batch 4..=3 does not continue a log that ends at op 3");
        log.append(batch(4, 4)).unwrap();
        assert_eq!((log.last_op(), log.len(), log.payload_bytes()), (OpNumber(4), 2, 4));
    }

    #[test]
    fn a_truncated_log_goes_on_where_it_ended() {
        let mut log = Log::default();
        log.append(batch(1, 2)).unwrap();
        log.append(batch(3, 6)).unwrap();
        log.truncate_prefix(OpNumber(4));
        assert_eq!(log.first_op(), OpNumber(3), "a batch is forgotten whole or not at all");
        log.truncate_prefix(OpNumber(6));
        assert!(log.is_empty());
        assert_eq!((log.first_op(), log.last_op(), log.payload_bytes()), (OpNumber(7), OpNumber(6), 0));
        assert_eq!(log.get(OpNumber(6)), None);
        log.append(batch(7, 7)).unwrap();
        assert_eq!(log.get(OpNumber(7)), Some(&batch(7, 7)));
    }

    #[test]
    fn the_bound_on_bytes_spares_what_is_not_applied() {
        let mut log = Log::default();
        for op in 1..=10 {
            log.append(batch(op, op)).unwrap();
        }
        log.shrink_to(4, OpNumber(3));
        assert_eq!(log.first_op(), OpNumber(4));
        log.shrink_to(4, OpNumber(10));
        assert_eq!((log.first_op(), log.payload_bytes()), (OpNumber(7), 4));
    }

    proptest! {
        #[test]
        fn lookup_agrees_with_a_search(sizes in proptest::collection::vec(1u64..5, 0..60), forget in 0u64..120) {
            let mut log = Log::default();
            let mut batches = Vec::new();
            for size in sizes {
                let first = log.last_op().0 + 1;
                batches.push(batch(first, first + size - 1));
                log.append(batches.last().unwrap().clone()).unwrap();
            }
            log.truncate_prefix(OpNumber(forget));
            batches.retain(|batch| batch.last.0 > forget);
            prop_assert_eq!(log.payload_bytes(), batches.iter().map(|b| b.payload.len()).sum::<usize>());
            for op in (0..=log.last_op().0 + 2).map(OpNumber) {
                let found = batches.iter().find(|batch| batch.first <= op && op <= batch.last);
                prop_assert_eq!(log.get(op), found);
                let from: Vec<_> = batches.iter().filter(|batch| batch.last >= op).collect();
                prop_assert_eq!(log.entries_from(op).collect::<Vec<_>>(), from);
            }
        }
    }
}
