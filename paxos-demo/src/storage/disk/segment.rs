//! One file of the log: a header, then records.
//!
//! A segment appears under its name with its header synced, and the one before it is synced whole by then. So
//! only the end of the last segment can be torn, and only in what was written since the last sync.

use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Owner;
use super::record::{self, Record};
use crate::storage::StorageError;
use crate::storage::files::Files;

const MAGIC: [u8; 8] = *b"elecwal\n";
const VERSION: u32 = 1;

#[repr(C)]
#[derive(Copy, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Header {
    magic: [u8; 8],
    version: U32,
    /// Where the checksums of its records start from.
    salt: U32,
    number: U64,
    /// Last op of the log when the segment was begun: tells a reader what older segments held.
    end: U64,
    config_hash: U64,
    id: u8,
    zero: [u8; 3],
    /// Of all before.
    crc: U32,
}

/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = size_of::<Header>();

/// Name of segment `number`.
pub(super) fn name(number: u64) -> String {
    format!("wal-{number:012}")
}

/// The number in a name; twelve digits.
pub(super) fn number(file: &str) -> Option<u64> {
    let number = file.strip_prefix("wal-")?.parse().ok()?;
    (name(number) == file && number < 1_000_000_000_000).then_some(number)
}

/// The bytes before the first record.
pub(super) fn header(owner: Owner, number: u64, salt: u32, end: OpNumber) -> Vec<u8> {
    let mut header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        salt: salt.into(),
        number: number.into(),
        end: end.0.into(),
        config_hash: owner.config_hash.into(),
        id: owner.id.0,
        zero: [0; 3],
        crc: 0.into(),
    };
    header.crc = header.checksum().into();
    header.as_bytes().to_vec()
}

impl Header {
    fn checksum(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[..HEADER_BYTES - size_of::<U32>()])
    }
}

/// A segment that was read.
pub(super) struct Scan {
    pub(super) salt: u32,
    /// Last op of the log when it was begun.
    pub(super) end: OpNumber,
    pub(super) bytes: Bytes,
    /// Records and where they begin.
    pub(super) records: Vec<(usize, Record)>,
    /// Bytes that are good; less than all only if the end is torn.
    pub(super) good: usize,
    /// What is wrong behind them.
    pub(super) torn: Option<&'static str>,
}

/// Reads segment `number`. In the `last` one the end may be torn, as long as nothing shows that it had been
/// synced: a record that was written later.
pub(super) fn scan(files: &dyn Files, owner: Owner, number: u64, last: bool) -> Result<Scan, StorageError> {
    let name = name(number);
    let damaged = |offset: usize, reason: String| StorageError::Damaged {
        path: files.path(&name),
        offset: offset as u64,
        reason,
    };
    let bytes = Bytes::from(files.read(&name).map_err(StorageError::io("reading", files.path(&name)))?);
    let (salt, end) = check_header(files, owner, number, &bytes)?;

    let mut records = Vec::new();
    let mut at = HEADER_BYTES;
    let mut torn = None;
    while at < bytes.len() {
        match record::get(&bytes, at, salt) {
            Ok((record, next)) => {
                records.push((at, record));
                at = next;
            }
            Err(reason) => {
                torn = Some(reason);
                break;
            }
        }
    }
    let broken = at;
    if let Some(begin) = half_an_installation(&records) {
        let at_record = records.iter().position(|(at, _)| *at == begin).expect("it is one of them");
        records.truncate(at_record);
        at = begin;
        torn = torn.or(Some("installation is cut off"));
    }
    if let Some(reason) = torn {
        if !last {
            return Err(damaged(broken, format!("{reason}, and later segments follow")));
        }
        if record::proves_synced_beyond(&bytes, broken, at, salt) {
            return Err(damaged(broken, format!("{reason}, and records follow that were written later")));
        }
    }
    Ok(Scan { salt, end, records, good: at, torn, bytes })
}

fn check_header(
    files: &dyn Files,
    owner: Owner,
    number: u64,
    bytes: &[u8],
) -> Result<(u32, OpNumber), StorageError> {
    let path = || files.path(&name(number));
    let damaged = |reason: &str| StorageError::Damaged { path: path(), offset: 0, reason: reason.into() };
    let (header, _) = Header::read_from_prefix(bytes).map_err(|_| damaged("header is cut off"))?;
    if header.magic != MAGIC || header.crc.get() != header.checksum() {
        return Err(damaged("checksum of header wrong"));
    }
    if header.version.get() != VERSION {
        let reason = format!("version {}, this program writes {VERSION}", header.version);
        return Err(damaged(&reason));
    }
    if header.number.get() != number {
        return Err(damaged("it has the name of another segment"));
    }
    if header.id != owner.id.0 {
        let found = ReplicaId(header.id);
        return Err(StorageError::WrongReplica { path: path(), found, expected: owner.id });
    }
    let found = header.config_hash.get();
    if found != owner.config_hash {
        return Err(StorageError::WrongConfig { path: path(), found, expected: owner.config_hash });
    }
    Ok((header.salt.get(), OpNumber(header.end.get())))
}

/// Where an installation begins whose last batches are missing.
fn half_an_installation(records: &[(usize, Record)]) -> Option<usize> {
    let staged = records.iter().rev().take_while(|(_, record)| matches!(record, Record::Staged(_))).count();
    match records.get(records.len().checked_sub(staged + 1)?) {
        Some((at, Record::Install(install))) if (staged as u64) < install.entries => Some(*at),
        _ => None,
    }
}
