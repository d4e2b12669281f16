//! Which ops the log holds, and what appending, installing and snapshotting make of that. The same code for
//! the writer, which needs to know which segments are still needed, and for the reader, which wants the batches.

use std::collections::VecDeque;

use electrode::types::OpNumber;

use crate::log::LogEntry;
use crate::storage::StorageError;

/// A batch's place in the log.
pub(super) trait Span {
    /// First and last op.
    fn ops(&self) -> (OpNumber, OpNumber);
}

impl Span for LogEntry {
    fn ops(&self) -> (OpNumber, OpNumber) {
        (self.first, self.last)
    }
}

/// A snapshot's op, and batches behind it.
#[derive(Clone, Debug)]
pub(super) struct Ledger<T> {
    spans: VecDeque<T>,
    /// Everything up to here is in the snapshot.
    base: OpNumber,
    /// Batches up to here went with deleted segments. A later record must tell why they are not needed.
    gone: OpNumber,
}

impl<T: Span> Ledger<T> {
    /// A log whose last op is `end`, its batches not at hand.
    pub(super) fn of_deleted(end: OpNumber) -> Self {
        Self { spans: VecDeque::new(), base: OpNumber(0), gone: end }
    }

    /// A log that holds nothing but a snapshot.
    pub(super) fn of_snapshot(base: OpNumber) -> Self {
        Self { spans: VecDeque::new(), base, gone: OpNumber(0) }
    }

    /// Last op.
    pub(super) fn end(&self) -> OpNumber {
        self.spans.back().map_or(self.base.max(self.gone), |span| span.ops().1)
    }

    pub(super) fn base(&self) -> OpNumber {
        self.base
    }

    /// Whether batches between the snapshot and the end are not at hand.
    pub(super) fn has_hole(&self) -> bool {
        self.spans.front().map_or(self.gone > self.base, |span| span.ops().0 > self.base.next())
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.spans.front()
    }

    /// The batches.
    pub(super) fn into_spans(self) -> VecDeque<T> {
        self.spans
    }

    /// Appends a batch, which must begin where the log ends.
    pub(super) fn append(&mut self, span: T) -> Result<(), StorageError> {
        let (first, last) = span.ops();
        let end = self.end();
        if first != end.next() || last < first {
            return Err(StorageError::NotContiguous { first, last, end });
        }
        self.spans.push_back(span);
        Ok(())
    }

    /// Forgets all batches that end after `keep`.
    pub(super) fn cut(&mut self, keep: OpNumber) {
        while self.spans.back().is_some_and(|span| span.ops().1 > keep) {
            self.spans.pop_back();
        }
        self.gone = self.gone.min(keep);
    }

    /// Appends a batch of an installation. The first may begin before the end of what the snapshot covers, for
    /// batches keep their boundaries (L6); one that is covered whole is passed over.
    pub(super) fn stage(&mut self, span: T) -> Result<(), StorageError> {
        let (first, last) = span.ops();
        if first <= last && last <= self.base {
            return Ok(());
        }
        if self.end() == self.base && first <= self.base && self.base < last {
            self.spans.push_back(span);
            return Ok(());
        }
        self.append(span)
    }

    /// Everything up to `op` is in a snapshot; an older one than the last is of no interest.
    pub(super) fn snapshot(&mut self, op: OpNumber) {
        if op <= self.base {
            return;
        }
        self.base = op;
        while self.spans.front().is_some_and(|span| span.ops().1 <= op) {
            self.spans.pop_front();
        }
    }
}
