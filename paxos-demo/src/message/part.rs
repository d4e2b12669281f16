//! What does not fit a datagram travels in parts, either way.

use super::{MessageError, TAG_HAVE, TAG_PART, exact, length, reserved, split};
use bytes::BufMut;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Fixed part of a [`Part`].
pub const PART_HEADER_BYTES: usize = size_of::<PartHeader>();
const _: () = assert!(PART_HEADER_BYTES == 32 && size_of::<HaveHeader>() == 24);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PartHeader {
    tag: u8,
    asks: u8,
    bytes: U16,
    total_bytes: U32,
    offset: U32,
    attempt: U16,
    reserved: [u8; 2],
    client: U64,
    request: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HaveHeader {
    tag: u8,
    reserved: [u8; 3],
    have: U32,
    client: U64,
    request: U64,
}

/// A part of a command, from the client, or of a result, from the leader.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Session.
    pub client: u64,
    /// Number within the session.
    pub request: u64,
    /// As in [`super::ClientRequest`]; 0 for a result, and where the end of the command is not in the window.
    pub attempt: u16,
    /// Length of the whole.
    pub total_bytes: u32,
    /// Where this begins in it.
    pub offset: u32,
    /// The last part of a window: the other side says what it has.
    pub asks: bool,
    /// The part; not empty.
    pub bytes: &'a [u8],
}

impl<'a> Part<'a> {
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, MessageError> {
        let what = "part";
        let (header, bytes) = split::<PartHeader>(what, datagram)?;
        reserved(what, header.asks <= 1 && header.reserved == [0; 2])?;
        exact(what, header.bytes.get(), bytes)?;
        let (total_bytes, offset) = (header.total_bytes.get(), header.offset.get());
        let within = !bytes.is_empty() && u64::from(offset) + bytes.len() as u64 <= u64::from(total_bytes);
        if !within {
            return Err(MessageError::Beyond { offset, total_bytes });
        }
        let (client, request) = (header.client.get(), header.request.get());
        let (attempt, asks) = (header.attempt.get(), header.asks == 1);
        Ok(Self { client, request, attempt, total_bytes, offset, asks, bytes })
    }

    /// Appends the datagram to `out`.
    ///
    /// # Panics
    /// If it is longer than 65535 bytes; it is cut to fit a datagram.
    pub fn encode(&self, out: &mut impl BufMut) {
        let header = PartHeader {
            tag: TAG_PART,
            asks: self.asks.into(),
            bytes: length("part", self.bytes).expect("parts are short"),
            total_bytes: self.total_bytes.into(),
            offset: self.offset.into(),
            attempt: self.attempt.into(),
            reserved: [0; 2],
            client: self.client.into(),
            request: self.request.into(),
        };
        out.put_slice(header.as_bytes());
        out.put_slice(self.bytes);
    }
}

/// Where a window that begins at `offset` ends.
pub fn window_end(whole_bytes: usize, offset: usize, payload_bytes_max: usize) -> usize {
    whole_bytes.min(offset + (payload_bytes_max - PART_HEADER_BYTES) * crate::large::WINDOW_PARTS)
}

/// The parts of `whole` from `offset` on, as many as make a window, where a datagram holds
/// `payload_bytes_max`.
pub fn window<'a>(
    client: u64,
    request: u64,
    attempt: u16,
    whole: &'a [u8],
    offset: usize,
    payload_bytes_max: usize,
) -> impl Iterator<Item = Part<'a>> {
    let piece = payload_bytes_max - PART_HEADER_BYTES;
    let end = window_end(whole.len(), offset, payload_bytes_max);
    whole[offset.min(end)..end].chunks(piece).enumerate().map(move |(index, bytes)| {
        let offset = offset + index * piece;
        let asks = offset + bytes.len() == end;
        let total_bytes = whole.len() as u32;
        Part { client, request, attempt, total_bytes, offset: offset as u32, asks, bytes }
    })
}

/// So much of a command has arrived, says the leader; so much of a result has, says the client. What is sent
/// next begins there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Have {
    /// Session.
    pub client: u64,
    /// Number within the session.
    pub request: u64,
    /// Bytes.
    pub have: u32,
}

impl Have {
    pub(super) fn parse(datagram: &[u8]) -> Result<Self, MessageError> {
        let what = "have";
        let (header, rest) = split::<HaveHeader>(what, datagram)?;
        reserved(what, header.reserved == [0; 3])?;
        exact(what, 0, rest)?;
        Ok(Self { client: header.client.get(), request: header.request.get(), have: header.have.get() })
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut impl BufMut) {
        let header = HaveHeader {
            tag: TAG_HAVE,
            reserved: [0; 3],
            have: self.have.into(),
            client: self.client.into(),
            request: self.request.into(),
        };
        out.put_slice(header.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Packet;
    use super::*;
    use crate::large::WINDOW_PARTS;
    use proptest::prelude::*;

    #[test]
    fn parts_are_within_their_whole() {
        let mut bytes = Vec::new();
        let part = Part {
            client: 1,
            request: 2,
            attempt: 0x0304,
            total_bytes: 10,
            offset: 7,
            asks: true,
            bytes: b"abc",
        };
        part.encode(&mut bytes);
        assert_eq!(Packet::parse(&bytes), Ok(Packet::Part(part)));
        let bent = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            Packet::parse(&bytes).map(|_| ()).unwrap_err()
        };
        assert_eq!(bent(1, 2), MessageError::Reserved("part"));
        assert_eq!(bent(14, 1), MessageError::Reserved("part"));
        assert_eq!(bent(2, 4), MessageError::Length { what: "part", declared: 4, actual: 3 });
        assert_eq!(bent(8, 8), MessageError::Beyond { offset: 8, total_bytes: 10 });
        assert!(matches!(bent(11, 0xff), MessageError::Beyond { .. }));
        let mut empty = Vec::new();
        Part { bytes: b"", ..part }.encode(&mut empty);
        assert!(matches!(Packet::parse(&empty), Err(MessageError::Beyond { .. })));
    }

    #[test]
    fn haves_round_trip() {
        let mut bytes = Vec::new();
        let have = Have { client: 1, request: 2, have: 3 };
        have.encode(&mut bytes);
        assert_eq!(Packet::parse(&bytes), Ok(Packet::Have(have)));
        bytes[2] = 1;
        assert_eq!(Packet::parse(&bytes), Err(MessageError::Reserved("have")));
        bytes[2] = 0;
        bytes.push(0);
        assert!(matches!(Packet::parse(&bytes), Err(MessageError::Length { .. })));
    }

    proptest! {
        #[test]
        fn windows_cover_the_whole(length in 1usize..9000, payload in 40usize..300) {
            let whole: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut joined = Vec::new();
            while joined.len() < length {
                let parts: Vec<_> = window(1, 2, 1, &whole, joined.len(), payload).collect();
                prop_assert!((1..=WINDOW_PARTS).contains(&parts.len()));
                for (index, part) in parts.iter().enumerate() {
                    let mut bytes = Vec::new();
                    part.encode(&mut bytes);
                    prop_assert!(bytes.len() <= payload);
                    prop_assert_eq!(Packet::parse(&bytes), Ok(Packet::Part(*part)));
                    prop_assert_eq!(part.offset as usize, joined.len());
                    prop_assert_eq!(part.asks, index + 1 == parts.len());
                    joined.extend_from_slice(part.bytes);
                }
            }
            prop_assert_eq!(joined, whole);
        }
    }
}
