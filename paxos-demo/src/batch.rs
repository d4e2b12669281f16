//! The payload of a Prepare: one entry for each op of the batch, back to back.
//!
//! An entry is `{client u64, request u64, command_bytes u16, reserved [u8; 6]}` and the command. The number
//! of entries is the number of ops, so a payload names no op itself: entry i of the batch `first..=last` is
//! op `first + i`.

use crate::message::{MessageError, length, reserved, split};
use bytes::BufMut;
use zerocopy::byteorder::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes that an entry takes besides its command.
pub const ENTRY_HEADER_BYTES: usize = size_of::<EntryHeader>();

const _: () = assert!(ENTRY_HEADER_BYTES == 24);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EntryHeader {
    client: U64,
    request: U64,
    command_bytes: U16,
    reserved: [u8; 6],
}

/// One op: a client's request as it stands in the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BatchEntry<'a> {
    /// Session of the client.
    pub client: u64,
    /// Number of the request within the session.
    pub request: u64,
    /// What to execute.
    pub command: &'a [u8],
}

impl BatchEntry<'_> {
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
            reserved: [0; 6],
        };
        out.put_slice(header.as_bytes());
        out.put_slice(self.command);
    }
}

/// Reads the entries of a payload in order. The first flaw is returned and ends the iteration.
pub fn entries(payload: &[u8]) -> Entries<'_> {
    Entries { rest: payload }
}

/// Iterator of [`entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    fn take(&mut self) -> Result<BatchEntry<'a>, MessageError> {
        let what = "batch entry";
        let (header, rest) = split::<EntryHeader>(what, self.rest)?;
        reserved(what, header.reserved == [0; 6])?;
        let declared = usize::from(header.command_bytes.get());
        let (command, rest) = rest.split_at_checked(declared).ok_or(MessageError::Length {
            what,
            declared,
            actual: rest.len(),
        })?;
        self.rest = rest;
        Ok(BatchEntry { client: header.client.get(), request: header.request.get(), command })
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
        BatchEntry { client: 1, request: 1, command: b"one" }.encode(&mut payload);
        let second = payload.len();
        BatchEntry { client: 2, request: 1, command: b"two" }.encode(&mut payload);

        payload[second + 16] = 4;
        let read: Vec<_> = entries(&payload).collect();
        let flaw = MessageError::Length { what: "batch entry", declared: 4, actual: 3 };
        assert_eq!(read, [Ok(BatchEntry { client: 1, request: 1, command: b"one" }), Err(flaw)]);

        payload[second + 16] = 3;
        payload[second + 20] = 1;
        assert_eq!(entries(&payload).last(), Some(Err(MessageError::Reserved("batch entry"))));
        assert!(matches!(entries(&payload[..10]).next(), Some(Err(MessageError::Truncated { .. }))));
    }

    proptest! {
        #[test]
        fn batches_round_trip(
            ops in proptest::collection::vec(
                (any::<u64>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
        ) {
            let mut payload = Vec::new();
            for (client, request, command) in &ops {
                BatchEntry { client: *client, request: *request, command }.encode(&mut payload);
            }
            let read: Result<Vec<_>, _> = entries(&payload).collect();
            let read = read.unwrap();
            prop_assert_eq!(read.iter().map(BatchEntry::encoded_bytes).sum::<usize>(), payload.len());
            prop_assert_eq!(
                read.iter().map(|e| (e.client, e.request, e.command.to_vec())).collect::<Vec<_>>(), ops);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(entries(&bytes).count() <= 5);
        }
    }
}
