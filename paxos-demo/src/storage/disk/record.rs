//! One record of the log, as bytes: a header with a checksum of its own, then a body.
//!
//! Both checksums start from the segment's salt, which no client knows. Bytes inside a payload that look like
//! a record are therefore none.

use bytes::Bytes;
use electrode::types::{OpNumber, View};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::snapshot_file::SnapshotRef;
use crate::log::LogEntry;

const MAGIC: u32 = u32::from_le_bytes(*b"ElR1");

/// A batch behind the log.
const KIND_ENTRY: u8 = 1;
/// Begins an installation; [`Install::entries`] records of kind `KIND_STAGED` belong to it.
const KIND_INSTALL: u8 = 2;
const KIND_STAGED: u8 = 3;
/// A snapshot of this log is on disk.
const KIND_SNAPSHOT: u8 = 4;

#[repr(C)]
#[derive(Copy, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Header {
    magic: U32,
    kind: u8,
    zero: [u8; 3],
    body_bytes: U32,
    body_crc: U32,
    view: U64,
    first: U64,
    last: U64,
    /// Length of the segment that was synced when this was written: proof that all before it was on disk.
    synced: U64,
    /// Of all before.
    crc: U32,
}

/// Bytes of a record without its body.
pub(super) const HEADER_BYTES: usize = size_of::<Header>();

#[repr(C)]
#[derive(Copy, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct InstallBody {
    keep: U64,
    entries: U64,
    /// All zero if there is none.
    snapshot: SnapshotBody,
}

#[repr(C)]
#[derive(Copy, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct SnapshotBody {
    number: U64,
    op: U64,
    bytes: U64,
    crc: U32,
}

/// Beginning of an installation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Install {
    /// The log is that of this view.
    pub(super) view: View,
    pub(super) keep: OpNumber,
    pub(super) snapshot: Option<SnapshotRef>,
    /// Records that follow and belong to it: without all of them it did not happen.
    pub(super) entries: u64,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Entry(LogEntry),
    Install(Install),
    Staged(LogEntry),
    Snapshot(SnapshotRef),
}

/// Appends a batch to `to`.
pub(super) fn put_entry(to: &mut Vec<u8>, salt: u32, synced: u64, entry: &LogEntry, staged: bool) {
    let kind = if staged { KIND_STAGED } else { KIND_ENTRY };
    let LogEntry { view, first, last, payload } = entry;
    put(to, salt, synced, kind, (view.0, first.0, last.0), payload);
}

/// Appends the beginning of an installation to `to`.
pub(super) fn put_install(to: &mut Vec<u8>, salt: u32, synced: u64, install: &Install) {
    let body = InstallBody {
        keep: install.keep.0.into(),
        entries: install.entries.into(),
        snapshot: install.snapshot.map_or(SnapshotBody::new_zeroed_body(), SnapshotBody::from),
    };
    put(to, salt, synced, KIND_INSTALL, (install.view.0, 0, 0), body.as_bytes());
}

/// Appends the note that a snapshot is on disk to `to`.
pub(super) fn put_snapshot(to: &mut Vec<u8>, salt: u32, synced: u64, snapshot: SnapshotRef) {
    put(to, salt, synced, KIND_SNAPSHOT, (0, 0, 0), SnapshotBody::from(snapshot).as_bytes());
}

fn put(to: &mut Vec<u8>, salt: u32, synced: u64, kind: u8, ops: (u64, u64, u64), body: &[u8]) {
    let mut header = Header {
        magic: MAGIC.into(),
        kind,
        zero: [0; 3],
        body_bytes: u32::try_from(body.len()).expect("a payload is far below 4 GiB").into(),
        body_crc: crc32c::crc32c_append(salt, body).into(),
        view: ops.0.into(),
        first: ops.1.into(),
        last: ops.2.into(),
        synced: synced.into(),
        crc: 0.into(),
    };
    header.crc = header.checksum(salt).into();
    to.extend_from_slice(header.as_bytes());
    to.extend_from_slice(body);
}

/// The record at `at` and where the next one begins, or why there is none.
pub(super) fn get(segment: &Bytes, at: usize, salt: u32) -> Result<(Record, usize), &'static str> {
    let header = Header::read(segment, at, salt)?;
    let begin = at + HEADER_BYTES;
    let end = begin + header.body_bytes.get() as usize;
    if end > segment.len() {
        return Err("record is cut off");
    }
    let body = segment.slice(begin..end);
    if crc32c::crc32c_append(salt, &body) != header.body_crc.get() {
        return Err("checksum of record wrong");
    }
    let record = match header.kind {
        KIND_ENTRY => Record::Entry(header.entry(body)),
        KIND_STAGED => Record::Staged(header.entry(body)),
        KIND_INSTALL => {
            let body = InstallBody::read_from_bytes(&body).map_err(|_| "installation of wrong length")?;
            let snapshot = (body.snapshot.number.get() != 0).then(|| body.snapshot.into());
            let keep = OpNumber(body.keep.get());
            let view = View(header.view.get());
            Record::Install(Install { view, keep, snapshot, entries: body.entries.get() })
        }
        KIND_SNAPSHOT => {
            let body = SnapshotBody::read_from_bytes(&body).map_err(|_| "snapshot note of wrong length")?;
            Record::Snapshot(body.into())
        }
        _ => return Err("record of unknown kind"),
    };
    Ok((record, end))
}

/// Whether a record somewhere behind `from` was written after `end` bytes had been synced.
pub(super) fn proves_synced_beyond(segment: &[u8], from: usize, end: usize, salt: u32) -> bool {
    let magic = MAGIC.to_le_bytes();
    (from..segment.len().saturating_sub(HEADER_BYTES - 1)).any(|at| {
        segment[at..].starts_with(&magic)
            && Header::read(segment, at, salt).is_ok_and(|header| header.synced.get() > end as u64)
    })
}

impl Header {
    fn read(segment: &[u8], at: usize, salt: u32) -> Result<Self, &'static str> {
        let (header, _) = Self::read_from_prefix(&segment[at..]).map_err(|_| "record is cut off")?;
        if header.magic.get() != MAGIC || header.crc.get() != header.checksum(salt) {
            return Err("no record");
        }
        if header.synced.get() > at as u64 {
            return Err("record of another place");
        }
        Ok(header)
    }

    fn checksum(&self, salt: u32) -> u32 {
        crc32c::crc32c_append(salt, &self.as_bytes()[..HEADER_BYTES - size_of::<U32>()])
    }

    fn entry(&self, payload: Bytes) -> LogEntry {
        LogEntry {
            view: View(self.view.get()),
            first: OpNumber(self.first.get()),
            last: OpNumber(self.last.get()),
            payload,
        }
    }
}

impl SnapshotBody {
    fn new_zeroed_body() -> Self {
        Self { number: 0.into(), op: 0.into(), bytes: 0.into(), crc: 0.into() }
    }
}

impl From<SnapshotRef> for SnapshotBody {
    fn from(snapshot: SnapshotRef) -> Self {
        Self {
            number: snapshot.number.into(),
            op: snapshot.op.0.into(),
            bytes: snapshot.bytes.into(),
            crc: snapshot.crc.into(),
        }
    }
}

impl From<SnapshotBody> for SnapshotRef {
    fn from(body: SnapshotBody) -> Self {
        Self {
            number: body.number.get(),
            op: OpNumber(body.op.get()),
            bytes: body.bytes.get(),
            crc: body.crc.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(payload: Vec<u8>) -> LogEntry {
        LogEntry { view: View(3), first: OpNumber(8), last: OpNumber(9), payload: payload.into() }
    }

    const SNAPSHOT: SnapshotRef = SnapshotRef { number: 4, op: OpNumber(70), bytes: 1234, crc: 99 };

    proptest! {
        #[test]
        fn what_is_put_is_got(payload in proptest::collection::vec(any::<u8>(), 0..200), salt: u32) {
            let install = Install { view: View(3), keep: OpNumber(5), snapshot: Some(SNAPSHOT), entries: 1 };
            let bare = Install { snapshot: None, ..install };
            let mut bytes = Vec::new();
            put_entry(&mut bytes, salt, 0, &entry(payload.clone()), false);
            put_install(&mut bytes, salt, 0, &install);
            put_entry(&mut bytes, salt, 0, &entry(payload.clone()), true);
            put_install(&mut bytes, salt, 0, &bare);
            put_snapshot(&mut bytes, salt, 0, SNAPSHOT);
            let bytes = Bytes::from(bytes);
            let mut at = 0;
            for expected in [
                Record::Entry(entry(payload.clone())),
                Record::Install(install),
                Record::Staged(entry(payload)),
                Record::Install(bare),
                Record::Snapshot(SNAPSHOT),
            ] {
                let (record, next) = get(&bytes, at, salt).unwrap();
                prop_assert_eq!(record, expected);
                at = next;
            }
            prop_assert_eq!(at, bytes.len());
            prop_assert!(get(&bytes, at, salt).is_err());
        }

        #[test]
        fn no_bit_changes_unnoticed(payload in proptest::collection::vec(any::<u8>(), 0..40), salt: u32) {
            let mut good = Vec::new();
            put_entry(&mut good, salt, 0, &entry(payload), false);
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(get(&bad.into(), 0, salt).is_err(), "bit {}", bit);
            }
            for end in 0..good.len() {
                prop_assert!(get(&good[..end].to_vec().into(), 0, salt).is_err(), "cut at {}", end);
            }
        }
    }

    #[test]
    fn a_payload_that_looks_like_a_record_is_none() {
        let (salt, guessed) = (0x1234_5678, 0x1234_5679);
        let mut inner = vec![0; 7];
        put_entry(&mut inner, guessed, 5, &entry(vec![1]), false);
        let mut bytes = Vec::new();
        put_entry(&mut bytes, salt, 0, &entry(inner), false);
        assert!(!proves_synced_beyond(&bytes, 1, 4, salt));
        assert!(proves_synced_beyond(&bytes, 1, 4, guessed), "the test can see it");
    }
}
