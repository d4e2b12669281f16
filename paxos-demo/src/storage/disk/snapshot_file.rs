//! Snapshots as files. A file counts only if the log refers to it (number, op, length, checksum): the record
//! in the log is what makes a snapshot take effect, so that it can do so together with other changes.

use bytes::Bytes;
use electrode::types::OpNumber;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Owner;
use crate::storage::StorageError;
use crate::storage::files::{Files, read_if_there, write_whole};

const MAGIC: [u8; 8] = *b"elecsnap";
const VERSION: u32 = 1;

#[repr(C)]
#[derive(Copy, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Header {
    magic: [u8; 8],
    version: U32,
    id: u8,
    zero: [u8; 3],
    config_hash: U64,
    number: U64,
    op: U64,
    bytes: U64,
    crc: U32,
}

/// What the log knows about a snapshot.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct SnapshotRef {
    /// Number of the file, never used twice; greater than 0.
    pub(super) number: u64,
    pub(super) op: OpNumber,
    pub(super) bytes: u64,
    pub(super) crc: u32,
}

/// Name of snapshot file `number`.
pub(super) fn name(number: u64) -> String {
    format!("snapshot-{number:012}")
}

/// The number in a name; twelve digits.
pub(super) fn number(file: &str) -> Option<u64> {
    let number = file.strip_prefix("snapshot-")?.parse().ok()?;
    (name(number) == file && number < 1_000_000_000_000).then_some(number)
}

/// Writes a snapshot: on disk when it returns, but without effect.
pub(super) fn write(
    files: &dyn Files,
    owner: Owner,
    number: u64,
    op: OpNumber,
    bytes: &[u8],
) -> Result<SnapshotRef, StorageError> {
    let snapshot = SnapshotRef { number, op, bytes: bytes.len() as u64, crc: crc32c::crc32c(bytes) };
    write_whole(files, &name(number), &[header(owner, snapshot).as_bytes(), bytes])?;
    Ok(snapshot)
}

/// Reads a snapshot that the log refers to.
pub(super) fn read(files: &dyn Files, owner: Owner, snapshot: SnapshotRef) -> Result<Bytes, StorageError> {
    let name = name(snapshot.number);
    let damaged = |offset, reason: &str| StorageError::Damaged {
        path: files.path(&name),
        offset,
        reason: reason.into(),
    };
    let Some(file) = read_if_there(files, &name)? else {
        return Err(damaged(0, "the snapshot that the log refers to is missing"));
    };
    match Header::read_from_prefix(&file) {
        Ok((found, _)) if found == header(owner, snapshot) => {}
        _ => return Err(damaged(0, "not the snapshot that the log refers to")),
    }
    let begin = size_of::<Header>();
    let body = Bytes::from(file).slice(begin..);
    if body.len() as u64 != snapshot.bytes || crc32c::crc32c(&body) != snapshot.crc {
        return Err(damaged(begin as u64, "checksum of the snapshot wrong"));
    }
    Ok(body)
}

fn header(owner: Owner, snapshot: SnapshotRef) -> Header {
    Header {
        magic: MAGIC,
        version: VERSION.into(),
        id: owner.id.0,
        zero: [0; 3],
        config_hash: owner.config_hash.into(),
        number: snapshot.number.into(),
        op: snapshot.op.0.into(),
        bytes: snapshot.bytes.into(),
        crc: snapshot.crc.into(),
    }
}
