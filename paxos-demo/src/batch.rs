//! The payload of a Prepare: when it was made, then one entry for each op of the batch, back to back.
//!
//! The payload begins with `time_ms u64`: the leader's clock when the batch left. Replicas have no other
//! clock for what they replicate (expiry), so all of them see the same time at the same op. An entry is
//! `{client u64, request u64, command_bytes u16, part u16, parts u16, reserved [u8; 2]}` and the command. The
//! number of entries is the number of ops, so a payload names no op itself: entry i of the batch
//! `first..=last` is op `first + i`.
//!
//! A command that does not fit one batch is several ops in a row: `parts` of them, of which this is number
//! `part`, from 0 ([`crate::large`]). Both are 0 where the entry holds all of its command.
//!
//! An entry of client 0 without a command is a **no-op**: a leader puts one into the log to have an op of its
//! own view there. It belongs to no session and changes nothing but the history and the clock.

use crate::message::{MessageError, length, reserved, split};
use bytes::BufMut;
use zerocopy::byteorder::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes that an entry takes besides its command.
pub const ENTRY_HEADER_BYTES: usize = size_of::<EntryHeader>();

/// Bytes in front of the entries.
pub const BATCH_HEADER_BYTES: usize = size_of::<BatchHeader>();

const _: () = assert!(ENTRY_HEADER_BYTES == 24 && BATCH_HEADER_BYTES == 8);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct BatchHeader {
    time_ms: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EntryHeader {
    client: U64,
    request: U64,
    command_bytes: U16,
    part: U16,
    parts: U16,
    reserved: [u8; 2],
}

/// One op: a client's request as it stands in the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BatchEntry<'a> {
    /// Session of the client.
    pub client: u64,
    /// Number of the request within the session.
    pub request: u64,
    /// What to execute, or a part of it.
    pub command: &'a [u8],
    /// Which part, from 0.
    pub part: u16,
    /// How many parts there are; 0 if this is all of it, else at least 2.
    pub parts: u16,
}

impl<'a> BatchEntry<'a> {
    /// An op that does nothing.
    pub const NO_OP: Self = BatchEntry::whole(0, 0, &[]);

    /// A command in one op.
    pub const fn whole(client: u64, request: u64, command: &'a [u8]) -> Self {
        Self { client, request, command, part: 0, parts: 0 }
    }

    /// Whether this does nothing.
    pub fn is_no_op(&self) -> bool {
        self.client == 0 && self.command.is_empty()
    }

    /// Whether the request is complete with this op.
    pub fn is_last_part(&self) -> bool {
        self.parts == 0 || self.part + 1 == self.parts
    }

    /// Bytes that this entry takes.
    pub fn encoded_bytes(&self) -> usize {
        ENTRY_HEADER_BYTES + self.command.len()
    }

    /// Appends the entry to `out`.
    ///
    /// # Panics
    /// If the command is longer than 65535 bytes; the leader refuses it long before.
    pub fn encode(&self, out: &mut impl BufMut) {
        let header = EntryHeader {
            client: self.client.into(),
            request: self.request.into(),
            command_bytes: length("command", self.command).expect("the leader bounds commands"),
            part: self.part.into(),
            parts: self.parts.into(),
            reserved: [0; 2],
        };
        out.put_slice(header.as_bytes());
        out.put_slice(self.command);
    }
}

/// Appends what stands in front of the entries; `time_ms` is unix time.
pub fn encode_header(time_ms: u64, out: &mut impl BufMut) {
    out.put_slice(BatchHeader { time_ms: time_ms.into() }.as_bytes());
}

/// Writes another time into a payload.
///
/// # Panics
/// If `payload` does not begin with what [`encode_header`] wrote.
pub fn stamp(payload: &mut [u8], time_ms: u64) {
    let (header, _) = BatchHeader::mut_from_prefix(payload).expect("begins with its header");
    header.time_ms = time_ms.into();
}

/// The time of a payload and its entries in order. The first flaw of an entry is returned and ends the
/// iteration.
pub fn open(payload: &[u8]) -> Result<(u64, Entries<'_>), MessageError> {
    let (header, rest) = split::<BatchHeader>("batch", payload)?;
    Ok((header.time_ms.get(), Entries { rest }))
}

/// Iterator of [`open`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    fn take(&mut self) -> Result<BatchEntry<'a>, MessageError> {
        let what = "batch entry";
        let (header, rest) = split::<EntryHeader>(what, self.rest)?;
        reserved(what, header.reserved == [0; 2])?;
        let (part, parts) = (header.part.get(), header.parts.get());
        // One way to write each: what is whole has no parts.
        if if parts == 0 { part > 0 } else { parts == 1 || part >= parts } {
            return Err(MessageError::Part { part, parts });
        }
        let declared = usize::from(header.command_bytes.get());
        let (command, rest) = rest.split_at_checked(declared).ok_or(MessageError::Length {
            what,
            declared,
            actual: rest.len(),
        })?;
        self.rest = rest;
        let (client, request) = (header.client.get(), header.request.get());
        Ok(BatchEntry { client, request, command, part, parts })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<BatchEntry<'a>, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.take();
        if entry.is_err() {
            self.rest = &[];
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flaw_ends_the_batch() {
        let mut payload = Vec::new();
        encode_header(7, &mut payload);
        BatchEntry::whole(1, 1, b"one").encode(&mut payload);
        let second = payload.len();
        BatchEntry::whole(2, 1, b"two").encode(&mut payload);

        payload[second + 16] = 4;
        let (time_ms, read) = open(&payload).unwrap();
        assert_eq!(time_ms, 7);
        let read: Vec<_> = read.collect();
        let flaw = MessageError::Length { what: "batch entry", declared: 4, actual: 3 };
        assert_eq!(read, [Ok(BatchEntry::whole(1, 1, b"one")), Err(flaw)]);

        payload[second + 16] = 3;
        payload[second + 22] = 1;
        assert_eq!(open(&payload).unwrap().1.last(), Some(Err(MessageError::Reserved("batch entry"))));
        let mut cut = open(&payload[..18]).unwrap().1;
        assert!(matches!(cut.next(), Some(Err(MessageError::Truncated { .. }))));
        assert!(matches!(open(&payload[..7]), Err(MessageError::Truncated { .. })));
    }

    #[test]
    fn parts_that_cannot_be_are_refused() {
        for (part, parts, good) in [
            (0, 0, true),
            (1, 0, false),
            (0, 1, false),
            (0, 2, true),
            (1, 2, true),
            (2, 2, false),
            (9, 3, false),
        ] {
            let mut payload = Vec::new();
            encode_header(0, &mut payload);
            let entry = BatchEntry { part, parts, ..BatchEntry::whole(1, 1, b"c") };
            entry.encode(&mut payload);
            let read = open(&payload).unwrap().1.next().unwrap();
            assert_eq!(read, if good { Ok(entry) } else { Err(MessageError::Part { part, parts }) });
        }
    }

    proptest! {
        #[test]
        fn batches_round_trip(
            time_ms: u64,
            ops in proptest::collection::vec(
                (any::<u64>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
        ) {
            let mut payload = Vec::new();
            encode_header(0, &mut payload);
            for (client, request, command) in &ops {
                BatchEntry::whole(*client, *request, command).encode(&mut payload);
            }
            stamp(&mut payload, time_ms);
            let (time, read) = open(&payload).unwrap();
            prop_assert_eq!(time, time_ms);
            let read: Vec<_> = read.map(Result::unwrap).collect();
            let entry_bytes = read.iter().map(BatchEntry::encoded_bytes).sum::<usize>();
            prop_assert_eq!(BATCH_HEADER_BYTES + entry_bytes, payload.len());
            prop_assert_eq!(
                read.iter().map(|e| (e.client, e.request, e.command.to_vec())).collect::<Vec<_>>(), ops);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(open(&bytes).map_or(0, |(_, entries)| entries.count()) <= 5);
        }
    }
}
