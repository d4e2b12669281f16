//! A copy of the replicated state after one op, and its bytes.
//!
//! Taking a snapshot is cheap enough for the replica's own thread; turning it into bytes is not, and is done
//! elsewhere. The bytes are canonical: equal states give equal bytes, on every replica.
//!
//! | part | |
//! |---|---|
//! | header, 72 bytes | magic, version, checksum of all that follows it, op, clock, history, contents, two counts |
//! | pairs, by ascending key | `key_bytes u32, value_bytes u32, deadline_ms u64` (0: none)`, key, value` |
//! | sessions, in order of eviction | `client u64, request u64, result_bytes u32, result` |
//! | a command in parts | `client u64, request u64, next u16, parts u16, bytes u32` and what is there; zeros: none |
//!
//! The bytes come from a disk or from another replica, so reading is strict: what was not written by
//! [`Snapshot::encode`] is refused, and memory is taken only for what is there.

use crate::client_table::{ClientTable, Sessions};
use crate::digest::{Chain, Digest};
use crate::large::{COMMAND_BYTES_MAX, Partial};
use crate::state_machine::{KvStore, Pairs};
use bytes::Bytes;
use electrode::types::OpNumber;
use std::fmt;
use thiserror::Error;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: [u8; 8] = *b"elecsnap";
const VERSION: u32 = 2;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    reserved: [u8; 4],
    /// Over everything behind it.
    checksum: U64,
    op: U64,
    clock_ms: U64,
    history: U64,
    contents: U64,
    pairs: U64,
    sessions: U64,
}

const CHECKED_FROM: usize = 24;
const _: () = assert!(size_of::<Header>() == 72 && std::mem::offset_of!(Header, op) == CHECKED_FROM);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PairHeader {
    key_bytes: U32,
    value_bytes: U32,
    deadline_ms: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SessionHeader {
    client: U64,
    request: U64,
    result_bytes: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PartialHeader {
    client: U64,
    request: U64,
    next: U16,
    parts: U16,
    command_bytes: U32,
}

/// Why bytes are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Something else altogether.
    #[error("not a snapshot")]
    Magic,
    /// Written by another version.
    #[error("snapshot of version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// Cut short.
    #[error("snapshot is cut short in its {0}")]
    Truncated(&'static str),
    /// Bent.
    #[error("snapshot is damaged: its checksum does not match")]
    Checksum,
    /// Bytes behind it.
    #[error("{0} bytes follow the snapshot")]
    Trailing(usize),
    /// More sessions than the configuration allows.
    #[error("snapshot of {sessions} client sessions; this configuration keeps {max}")]
    Sessions {
        /// In the snapshot.
        sessions: u64,
        /// In the configuration.
        max: usize,
    },
    /// The checksum is right and the contents are not.
    #[error("snapshot is inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// The replicated state after one op.
#[derive(Clone, PartialEq)]
pub struct Snapshot {
    pub(crate) op: OpNumber,
    pub(crate) clock_ms: u64,
    pub(crate) history: Chain,
    pub(crate) contents: u64,
    pub(crate) pairs: Pairs,
    pub(crate) sessions: Sessions,
    pub(crate) partial: Partial,
}

/// What [`crate::service::Service::restore`] puts together.
pub(crate) struct Restored {
    pub(crate) op: OpNumber,
    pub(crate) history: Chain,
    pub(crate) store: KvStore,
    pub(crate) clients: ClientTable,
    pub(crate) partial: Partial,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("op", &self.op)
            .field("clock_ms", &self.clock_ms)
            .field("digest", &self.digest())
            .field("keys", &self.pairs.len())
            .field("sessions", &self.sessions.len())
            .finish()
    }
}

impl Snapshot {
    /// The last op whose effect is in it.
    pub fn op(&self) -> OpNumber {
        self.op
    }

    /// The digest of the service that it was taken of.
    pub fn digest(&self) -> Digest {
        Digest { history: self.history.value(), contents: self.contents }
    }

    /// The bytes. Takes its time.
    pub fn encode(&self) -> Bytes {
        let mut pairs: Vec<_> = self.pairs.iter().collect();
        pairs.sort_unstable_by(|a, b| a.0.cmp(b.0));
        let pair_bytes = |(key, pair): &(&std::sync::Arc<[u8]>, &crate::state_machine::Pair)| {
            size_of::<PairHeader>() + key.len() + pair.value.len()
        };
        let session_bytes = |(_, _, result): (u64, u64, &[u8])| size_of::<SessionHeader>() + result.len();
        let length = size_of::<Header>()
            + pairs.iter().map(pair_bytes).sum::<usize>()
            + self.sessions.iter().map(session_bytes).sum::<usize>()
            + size_of::<PartialHeader>()
            + self.partial.command.len();

        let mut bytes = Vec::with_capacity(length);
        let header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            reserved: [0; 4],
            checksum: 0.into(),
            op: self.op.0.into(),
            clock_ms: self.clock_ms.into(),
            history: self.history.seed().into(),
            contents: self.contents.into(),
            pairs: (pairs.len() as u64).into(),
            sessions: (self.sessions.len() as u64).into(),
        };
        bytes.extend_from_slice(header.as_bytes());
        for (key, pair) in pairs {
            let header = PairHeader {
                key_bytes: length_u32(key),
                value_bytes: length_u32(&pair.value),
                deadline_ms: pair.deadline_ms.unwrap_or(0).into(),
            };
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&pair.value);
        }
        for (client, request, result) in self.sessions.iter() {
            let header = SessionHeader {
                client: client.into(),
                request: request.into(),
                result_bytes: length_u32(result),
            };
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(result);
        }
        let header = PartialHeader {
            client: self.partial.client.into(),
            request: self.partial.request.into(),
            next: self.partial.next.into(),
            parts: self.partial.parts.into(),
            command_bytes: length_u32(&self.partial.command),
        };
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&self.partial.command);
        let sum = checksum(&bytes[CHECKED_FROM..]);
        bytes[CHECKED_FROM - 8..CHECKED_FROM].copy_from_slice(&sum.to_le_bytes());
        debug_assert_eq!(bytes.len(), length);
        bytes.into()
    }
}

/// Reads what [`Snapshot::encode`] wrote.
pub(crate) fn decode(bytes: &[u8], client_sessions_max: usize) -> Result<Restored, SnapshotError> {
    if !bytes.starts_with(&MAGIC) {
        return Err(SnapshotError::Magic);
    }
    let mut rest = bytes;
    let header: &Header = fixed("header", &mut rest)?;
    if header.version.get() != VERSION || header.reserved != [0; 4] {
        return Err(SnapshotError::Version(header.version.get()));
    }
    if checksum(&bytes[CHECKED_FROM..]) != header.checksum.get() {
        return Err(SnapshotError::Checksum);
    }

    let mut store = KvStore::at(header.clock_ms.get());
    let mut last: Option<&[u8]> = None;
    for _ in 0..header.pairs.get() {
        let pair: &PairHeader = fixed("pairs", &mut rest)?;
        let key = take("pairs", &mut rest, pair.key_bytes)?;
        let value = take("pairs", &mut rest, pair.value_bytes)?;
        if last.is_some_and(|last| last >= key) {
            return Err(SnapshotError::Inconsistent("keys are not in order"));
        }
        last = Some(key);
        let deadline_ms = pair.deadline_ms.get();
        store.set(key, value, (deadline_ms != 0).then_some(deadline_ms));
    }
    if store.contents() != header.contents.get() {
        return Err(SnapshotError::Inconsistent("the pairs do not have the digest that they should have"));
    }

    let sessions = header.sessions.get();
    if sessions > client_sessions_max as u64 {
        return Err(SnapshotError::Sessions { sessions, max: client_sessions_max });
    }
    let mut clients = ClientTable::new(client_sessions_max);
    for known in 0..sessions {
        let session: &SessionHeader = fixed("sessions", &mut rest)?;
        let result = take("sessions", &mut rest, session.result_bytes)?;
        clients.commit(session.client.get(), session.request.get(), |out| out.extend_from_slice(result));
        if clients.len() as u64 != known + 1 {
            return Err(SnapshotError::Inconsistent("a session is there twice"));
        }
    }
    let row: &PartialHeader = fixed("command in parts", &mut rest)?;
    let partial = Partial {
        client: row.client.get(),
        request: row.request.get(),
        next: row.next.get(),
        parts: row.parts.get(),
        command: take("command in parts", &mut rest, row.command_bytes)?.to_vec(),
    };
    let waits =
        partial.next > 0 && partial.next < partial.parts && partial.command.len() <= COMMAND_BYTES_MAX;
    if !waits && partial != Partial::default() {
        return Err(SnapshotError::Inconsistent("a command in parts that cannot be"));
    }
    if !rest.is_empty() {
        return Err(SnapshotError::Trailing(rest.len()));
    }
    Ok(Restored {
        op: OpNumber(header.op.get()),
        history: Chain::seeded(header.history.get()),
        store,
        clients,
        partial,
    })
}

fn checksum(bytes: &[u8]) -> u64 {
    Chain::seeded(0x736e_6170_7368_6f74).bytes(bytes).value()
}

fn length_u32(bytes: &[u8]) -> U32 {
    u32::try_from(bytes.len()).expect("keys, values and results are far shorter").into()
}

fn fixed<'a, T>(what: &'static str, rest: &mut &'a [u8]) -> Result<&'a T, SnapshotError>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    let (value, tail) = T::ref_from_prefix(rest).map_err(|_| SnapshotError::Truncated(what))?;
    *rest = tail;
    Ok(value)
}

fn take<'a>(what: &'static str, rest: &mut &'a [u8], bytes: U32) -> Result<&'a [u8], SnapshotError> {
    let (value, tail) = rest.split_at_checked(bytes.get() as usize).ok_or(SnapshotError::Truncated(what))?;
    *rest = tail;
    Ok(value)
}

#[cfg(test)]
mod tests;
