//! Datagrams of the application: what a client and a replica say to each other, as fixed little-endian
//! structs in front of variable bytes. The first byte is a tag.
//!
//! | tag | datagram | fixed part | then |
//! |---|---|---|---|
//! | 1 | client request | 24 bytes | command |
//! | 2 | client reply | 32 bytes | result |
//! | 3 | replica to replica | 1 byte | [`crate::peer::PeerMessage`], see [`crate::codec`] |
//! | 4 | status request | 16 bytes | zeros: room for the reply |
//! | 5 | status reply | 16 bytes | JSON |
//! | 6 | part of a command or a result | 32 bytes | the part |
//! | 7 | so much of it is there | 24 bytes | |
//!
//! Anybody can send a datagram, so parsing is strict: every byte is accounted for, reserved bytes are zero,
//! and whatever does not fit is a [`MessageError`] that says what was wrong. Nothing here allocates.

use bytes::BufMut;
use electrode::types::{ReplicaId, View};
use zerocopy::byteorder::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

mod error;
mod part;
#[cfg(test)]
mod tests;

pub use error::MessageError;
pub use part::{Have, PART_HEADER_BYTES, Part, window, window_end};

/// First byte of a client request.
pub const TAG_CLIENT_REQUEST: u8 = 1;
/// First byte of a client reply.
pub const TAG_CLIENT_REPLY: u8 = 2;
/// First byte of a message between replicas.
pub const TAG_PEER: u8 = 3;
/// First byte of a status request.
pub const TAG_STATUS_REQUEST: u8 = 4;
/// First byte of a status reply.
pub const TAG_STATUS_REPLY: u8 = 5;
/// First byte of a part.
pub const TAG_PART: u8 = 6;
/// First byte of a word about parts.
pub const TAG_HAVE: u8 = 7;

/// Fixed part of a client request.
pub const REQUEST_HEADER_BYTES: usize = size_of::<RequestHeader>();
/// Fixed part of a client reply.
pub const REPLY_HEADER_BYTES: usize = size_of::<ReplyHeader>();

/// Room that a message between replicas takes beside the batch or the bytes that it carries.
pub const PEER_MESSAGE_ROOM: usize = 44;
/// Most that a command travels behind: as the only entry of a batch in a message between replicas. A reply's
/// header is smaller, so whatever can be stored can be read back.
pub const TRAVEL_BYTES: usize =
    PEER_MESSAGE_ROOM + crate::batch::ENTRY_HEADER_BYTES + crate::batch::BATCH_HEADER_BYTES;

/// Longest command of one op, or part of a longer one, where one datagram holds `payload_bytes_max`.
pub const fn part_bytes_max(payload_bytes_max: usize) -> usize {
    payload_bytes_max.saturating_sub(TRAVEL_BYTES)
}

const _: () = assert!(REQUEST_HEADER_BYTES == 24 && REPLY_HEADER_BYTES == 32);
const _: () = assert!(REPLY_HEADER_BYTES <= TRAVEL_BYTES && REQUEST_HEADER_BYTES <= TRAVEL_BYTES);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RequestHeader {
    tag: u8,
    reserved0: u8,
    command_bytes: U16,
    attempt: U16,
    reserved1: [u8; 2],
    client: U64,
    request: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ReplyHeader {
    tag: u8,
    status: u8,
    leader: u8,
    reserved0: u8,
    result_bytes: U16,
    attempt: U16,
    view: U64,
    client: U64,
    request: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct StatusHeader {
    tag: u8,
    reserved: [u8; 7],
    nonce: U64,
}

/// A client asks for a command to be executed once.
///
/// A session is a random `client` number; its requests are numbered from 1, and a new one is sent only once
/// the previous one was answered. A client that gives up on an answer cannot know whether the command was
/// executed; it starts a new session.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest<'a> {
    /// Session.
    pub client: u64,
    /// Number within the session, from 1.
    pub request: u64,
    /// Which copy of it this is, from 1. The answer echoes it, so that a client knows which copies were turned
    /// down.
    pub attempt: u16,
    /// What to execute ([`crate::state_machine::Command`]).
    pub command: &'a [u8],
}

impl<'a> ClientRequest<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let what = "client request";
        let (header, command) = split::<RequestHeader>(what, bytes)?;
        reserved(what, header.reserved0 == 0 && header.reserved1 == [0; 2])?;
        exact(what, header.command_bytes.get(), command)?;
        let (client, request) = (header.client.get(), header.request.get());
        Ok(Self { client, request, attempt: header.attempt.get(), command })
    }

    /// Makes another copy of an encoded datagram.
    pub fn set_attempt(datagram: &mut [u8], attempt: u16) {
        if let Ok((header, _)) = RequestHeader::mut_from_prefix(datagram) {
            header.attempt = attempt.into();
        }
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut impl BufMut) -> Result<(), MessageError> {
        let header = RequestHeader {
            tag: TAG_CLIENT_REQUEST,
            reserved0: 0,
            command_bytes: length("command", self.command)?,
            attempt: self.attempt.into(),
            reserved1: [0; 2],
            client: self.client.into(),
            request: self.request.into(),
        };
        out.put_slice(header.as_bytes());
        out.put_slice(self.command);
        Ok(())
    }
}

/// How a request ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReplyStatus {
    /// Executed; the result follows.
    Ok = 0,
    /// Nothing was done: ask `leader`.
    NotLeader = 1,
    /// Nothing was done: too much is in flight, or the group is still forming. Try again.
    TryAgain = 2,
    /// Nothing was done and never will be: the command makes no sense or is too long.
    BadRequest = 3,
    /// The session is not known (any more), so it is not known whether this request was executed before.
    /// Nothing was done now. Start a new session.
    SessionUnknown = 4,
    /// A read was executed and its result does not fit: its length (u32) and
    /// its checksum (u64) follow. The leader keeps it for a
    /// while; it is asked for with a [`Have`] and comes in parts.
    Large = 5,
}

impl ReplyStatus {
    fn from_wire(byte: u8) -> Result<Self, MessageError> {
        Ok(match byte {
            0 => Self::Ok,
            1 => Self::NotLeader,
            2 => Self::TryAgain,
            3 => Self::BadRequest,
            4 => Self::SessionUnknown,
            5 => Self::Large,
            _ => return Err(MessageError::UnknownStatus(byte)),
        })
    }
}

/// The answer to a [`ClientRequest`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ClientReply<'a> {
    /// How it ended.
    pub status: ReplyStatus,
    /// Leader of `view`: where to send the next request.
    pub leader: ReplicaId,
    /// View of the replica that answers.
    pub view: View,
    /// Session.
    pub client: u64,
    /// Request that this answers.
    pub request: u64,
    /// If nothing was done: the copy that this is said of.
    pub attempt: u16,
    /// Result of the command ([`crate::state_machine::Outcome`]) if `Ok`, what it is like if
    /// `Large`, else empty.
    pub result: &'a [u8],
}

impl<'a> ClientReply<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let what = "client reply";
        let (header, result) = split::<ReplyHeader>(what, bytes)?;
        reserved(what, header.reserved0 == 0)?;
        exact(what, header.result_bytes.get(), result)?;
        Ok(Self {
            status: ReplyStatus::from_wire(header.status)?,
            leader: ReplicaId(header.leader),
            view: View(header.view.get()),
            client: header.client.get(),
            request: header.request.get(),
            attempt: header.attempt.get(),
            result,
        })
    }

    /// Length and checksum of the result that waits at the leader.
    pub fn large(&self) -> Option<(usize, u64)> {
        let (bytes, checksum) =
            self.result.split_first_chunk().filter(|_| self.status == ReplyStatus::Large)?;
        Some((u32::from_le_bytes(*bytes) as usize, u64::from_le_bytes(checksum.try_into().ok()?)))
    }

    /// What [`Self::large`] reads.
    pub fn describe_large(result: &[u8]) -> [u8; 12] {
        let mut description = [0; 12];
        description[..4].copy_from_slice(&(result.len() as u32).to_le_bytes());
        description[4..].copy_from_slice(&crate::large::checksum(result).to_le_bytes());
        description
    }

    /// Length of the datagram.
    pub fn encoded_bytes(&self) -> usize {
        REPLY_HEADER_BYTES + self.result.len()
    }

    /// Appends the datagram to `out`.
    ///
    /// # Panics
    /// If the result is longer than 65535 bytes; a state machine returns no more than it was given.
    pub fn encode(&self, out: &mut impl BufMut) {
        let header = ReplyHeader {
            tag: TAG_CLIENT_REPLY,
            status: self.status as u8,
            leader: self.leader.0,
            reserved0: 0,
            result_bytes: length("result", self.result).expect("results are bounded by commands"),
            attempt: self.attempt.into(),
            view: self.view.0.into(),
            client: self.client.into(),
            request: self.request.into(),
        };
        out.put_slice(header.as_bytes());
        out.put_slice(self.result);
    }
}

/// A datagram, told apart by its tag.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Client to replica.
    Request(ClientRequest<'a>),
    /// Replica to client.
    Reply(ClientReply<'a>),
    /// Client to leader: of a command. Leader to client: of a result.
    Part(Part<'a>),
    /// Leader to client: of the command. Client to leader: of the result.
    Have(Have),
    /// Replica to replica; the bytes behind the tag, for [`crate::codec::decode`].
    Peer(&'a [u8]),
    /// Anybody to replica: how are you? As long as the reply may be: who is asked in a stranger's name sends the
    /// stranger no more than it was sent.
    StatusRequest {
        /// Echoed in the reply.
        nonce: u64,
        /// Length of the request.
        bytes: usize,
    },
    /// Replica to whoever asked.
    StatusReply {
        /// From the request.
        nonce: u64,
        /// A [`crate::status::Status`].
        json: &'a [u8],
    },
}

impl<'a> Packet<'a> {
    /// Reads one datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        match *bytes.first().ok_or(MessageError::Empty)? {
            TAG_CLIENT_REQUEST => ClientRequest::parse(bytes).map(Self::Request),
            TAG_CLIENT_REPLY => ClientReply::parse(bytes).map(Self::Reply),
            TAG_PEER => Ok(Self::Peer(&bytes[1..])),
            TAG_STATUS_REQUEST => {
                let (nonce, room) = parse_status("status request", bytes)?;
                reserved("status request", room.iter().all(|byte| *byte == 0))?;
                Ok(Self::StatusRequest { nonce, bytes: bytes.len() })
            }
            TAG_STATUS_REPLY => {
                let (nonce, json) = parse_status("status reply", bytes)?;
                Ok(Self::StatusReply { nonce, json })
            }
            TAG_PART => Part::parse(bytes).map(Self::Part),
            TAG_HAVE => Have::parse(bytes).map(Self::Have),
            tag => Err(MessageError::UnknownTag(tag)),
        }
    }
}

/// Appends a status request of so many bytes to `out`, at least those that it takes: the reply will not be longer.
pub fn encode_status_request(nonce: u64, bytes: usize, out: &mut impl BufMut) {
    let header = StatusHeader { tag: TAG_STATUS_REQUEST, reserved: [0; 7], nonce: nonce.into() };
    out.put_slice(header.as_bytes());
    out.put_bytes(0, bytes.saturating_sub(size_of::<StatusHeader>()));
}

/// Appends a status reply to `out`.
pub fn encode_status_reply(nonce: u64, json: &[u8], out: &mut impl BufMut) {
    let header = StatusHeader { tag: TAG_STATUS_REPLY, reserved: [0; 7], nonce: nonce.into() };
    out.put_slice(header.as_bytes());
    out.put_slice(json);
}

fn parse_status<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), MessageError> {
    let (header, rest) = split::<StatusHeader>(what, bytes)?;
    reserved(what, header.reserved == [0; 7])?;
    Ok((header.nonce.get(), rest))
}

/// The fixed part `T` at the front of `bytes`, and what follows it.
pub(crate) fn split<'a, T>(what: &'static str, bytes: &'a [u8]) -> Result<(&'a T, &'a [u8]), MessageError>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    T::ref_from_prefix(bytes).map_err(|_| MessageError::Truncated {
        what,
        need: size_of::<T>(),
        have: bytes.len(),
    })
}

pub(crate) fn reserved(what: &'static str, zero: bool) -> Result<(), MessageError> {
    if zero { Ok(()) } else { Err(MessageError::Reserved(what)) }
}

pub(crate) fn length(what: &'static str, bytes: &[u8]) -> Result<U16, MessageError> {
    match u16::try_from(bytes.len()) {
        Ok(length) => Ok(length.into()),
        Err(_) => Err(MessageError::TooLong { what, bytes: bytes.len() }),
    }
}

fn exact(what: &'static str, declared: u16, rest: &[u8]) -> Result<(), MessageError> {
    let declared = usize::from(declared);
    if declared == rest.len() {
        Ok(())
    } else {
        Err(MessageError::Length { what, declared, actual: rest.len() })
    }
}
