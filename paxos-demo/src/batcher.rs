//! Requests on their way into Prepares.
//!
//! Requests are written straight into the payload that will be sent. A batch is taken by whoever has room in
//! the pipeline, as late as possible: an idle leader takes a batch of one at once, a busy one finds in the
//! next batch whatever queued in the meantime. So batching never delays a request that could have been sent.
//!
//! A command that does not fit a batch becomes several entries in a row ([`crate::large`]).

use crate::batch::{self, BATCH_HEADER_BYTES, BatchEntry, ENTRY_HEADER_BYTES};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// How many requests share a Prepare.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Batching {
    /// One: the paper's setting.
    One,
    /// As many as are waiting when the pipeline has room.
    #[default]
    Auto,
}

/// The payload of one Prepare to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of ops.
    pub ops: u64,
    /// Their entries.
    pub payload: Bytes,
}

const CHUNK_BYTES: usize = 64 * 1024;

/// A batch whose time is not known yet: it leaves later.
#[derive(Debug)]
struct Unsent {
    ops: u64,
    payload: BytesMut,
    /// A part of a command is in it.
    holds_part: bool,
}

/// The queue of requests that have no op number yet.
#[derive(Debug)]
pub struct Batcher {
    batching: Batching,
    payload_bytes_max: usize,
    full: VecDeque<Unsent>,
    open: BytesMut,
    open_ops: u64,
    open_holds_part: bool,
    queued_ops: u64,
}

impl Batcher {
    /// An empty queue for payloads of at most `payload_bytes_max`.
    pub fn new(batching: Batching, payload_bytes_max: usize) -> Self {
        Self {
            batching,
            payload_bytes_max,
            full: VecDeque::new(),
            open: BytesMut::with_capacity(CHUNK_BYTES),
            open_ops: 0,
            open_holds_part: false,
            queued_ops: 0,
        }
    }

    /// Ops that a command takes.
    pub fn ops_of(&self, command: &[u8]) -> usize {
        command.len().div_ceil(self.part_bytes()).max(1)
    }

    /// What a batch holds of a command that has it for itself.
    fn part_bytes(&self) -> usize {
        self.payload_bytes_max - BATCH_HEADER_BYTES - ENTRY_HEADER_BYTES
    }

    /// Queues a request, in as many ops as it takes and nothing in between.
    ///
    /// # Panics
    /// If it takes more than 65535.
    pub fn push_request(&mut self, client: u64, request: u64, command: &[u8]) {
        let parts = self.ops_of(command);
        if parts == 1 {
            return self.push(BatchEntry::whole(client, request, command));
        }
        let parts = u16::try_from(parts).expect("the leader bounds commands");
        for (part, command) in (0..parts).zip(command.chunks(self.part_bytes())) {
            self.push(BatchEntry { client, request, command, part, parts });
        }
    }

    /// Whether a part of a command is in what [`Self::take`] gives.
    pub fn next_holds_part(&self) -> bool {
        self.full.front().map_or(self.open_holds_part, |batch| batch.holds_part)
    }

    /// Queues an entry, which must fit a payload alone.
    pub fn push(&mut self, entry: BatchEntry<'_>) {
        let bytes = entry.encoded_bytes();
        debug_assert!(BATCH_HEADER_BYTES + bytes <= self.payload_bytes_max);
        let alone = self.batching == Batching::One;
        if self.open_ops > 0 && (alone || self.open.len() + bytes > self.payload_bytes_max) {
            let batch = self.close();
            self.full.push_back(batch);
        }
        if self.open_ops == 0 {
            self.open.reserve(if alone { BATCH_HEADER_BYTES + bytes } else { self.payload_bytes_max });
            batch::encode_header(0, &mut self.open);
        }
        entry.encode(&mut self.open);
        self.open_holds_part |= entry.parts > 0;
        self.open_ops += 1;
        self.queued_ops += 1;
    }

    /// The next batch, full or not, which leaves now: at `time_ms` of the leader's clock. `None` if nothing
    /// is queued.
    pub fn take(&mut self, time_ms: u64) -> Option<Batch> {
        let Unsent { ops, mut payload, .. } = match self.full.pop_front() {
            Some(batch) => batch,
            None if self.open_ops > 0 => self.close(),
            None => return None,
        };
        self.queued_ops -= ops;
        batch::stamp(&mut payload, time_ms);
        Some(Batch { ops, payload: payload.freeze() })
    }

    /// Number of requests that are queued.
    pub fn queued_ops(&self) -> u64 {
        self.queued_ops
    }

    fn close(&mut self) -> Unsent {
        Unsent {
            ops: std::mem::take(&mut self.open_ops),
            payload: self.open.split(),
            holds_part: std::mem::take(&mut self.open_holds_part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::open;
    use crate::large::Partial;
    use proptest::prelude::*;

    fn push(batcher: &mut Batcher, request: u64, command_bytes: usize) {
        batcher.push(BatchEntry::whole(1, request, &vec![7; command_bytes]));
    }

    #[test]
    fn one_means_one() {
        let mut batcher = Batcher::new(Batching::One, 1000);
        for request in 1..=3 {
            push(&mut batcher, request, 5);
        }
        let sizes: Vec<_> = std::iter::from_fn(|| batcher.take(0)).map(|batch| batch.ops).collect();
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn auto_takes_what_is_there() {
        let mut batcher = Batcher::new(Batching::Auto, 1000);
        assert_eq!(batcher.take(0), None);
        push(&mut batcher, 1, 5);
        assert_eq!(batcher.take(0).unwrap().ops, 1);
        for request in 2..=4 {
            push(&mut batcher, request, 5);
        }
        assert_eq!(batcher.take(0).unwrap().ops, 3);
        assert_eq!(batcher.take(0), None);
    }

    proptest! {
        /// Commands of any length, whole or in parts, come out of the log as they went in.
        #[test]
        fn splitting_and_joining_is_the_identity(
            sizes in proptest::collection::vec(0usize..2000, 0..20),
            one: bool,
        ) {
            const MAX: usize = 200;
            let mut batcher = Batcher::new(if one { Batching::One } else { Batching::Auto }, MAX);
            let command = |request: usize, size: usize| -> Vec<u8> { (0..size).map(|i| (i + request) as u8).collect() };
            let mut ops = 0;
            for (request, size) in sizes.iter().enumerate() {
                let command = command(request, *size);
                ops += batcher.ops_of(&command) as u64;
                batcher.push_request(1, request as u64, &command);
            }
            prop_assert_eq!(batcher.queued_ops(), ops);
            let (mut partial, mut found, mut part) = (Partial::default(), Vec::new(), batcher.next_holds_part());
            while let Some(batch) = batcher.take(0) {
                prop_assert!(batch.payload.len() <= MAX);
                let entries: Vec<_> = open(&batch.payload).unwrap().1.map(Result::unwrap).collect();
                prop_assert_eq!(part, entries.iter().any(|entry| entry.parts > 0));
                part = batcher.next_holds_part();
                for entry in entries {
                    if let Some(command) = partial.join(&entry) {
                        found.push((entry.request as usize, command.to_vec()));
                    }
                }
            }
            let sent: Vec<_> = sizes.iter().enumerate().map(|(r, size)| (r, command(r, *size))).collect();
            prop_assert_eq!(found, sent);
        }

        #[test]
        fn order_is_kept_and_payloads_are_bounded_and_filled(
            sizes in proptest::collection::vec(0usize..300, 0..80),
        ) {
            const MAX: usize = 400;
            let mut batcher = Batcher::new(Batching::Auto, MAX);
            for (request, size) in sizes.iter().enumerate() {
                push(&mut batcher, request as u64, *size);
            }
            prop_assert_eq!(batcher.queued_ops(), sizes.len() as u64);
            let batches: Vec<_> = (1..).map_while(|time_ms| batcher.take(time_ms)).collect();
            prop_assert_eq!(batcher.queued_ops(), 0);

            let mut next = 0;
            for (at, batch) in batches.iter().enumerate() {
                prop_assert!(batch.payload.len() <= MAX);
                let (time_ms, read) = open(&batch.payload).unwrap();
                prop_assert_eq!(time_ms, at as u64 + 1, "the time at which it was taken");
                let read: Vec<_> = read.map(Result::unwrap).collect();
                prop_assert_eq!(read.len() as u64, batch.ops);
                for entry in read {
                    prop_assert_eq!((entry.request, entry.command.len()), (next as u64, sizes[next]));
                    next += 1;
                }
                if at + 1 < batches.len() {
                    prop_assert!(batch.payload.len() + ENTRY_HEADER_BYTES + sizes[next] > MAX, "room was left");
                }
            }
            prop_assert_eq!(next, sizes.len());
        }
    }
}
