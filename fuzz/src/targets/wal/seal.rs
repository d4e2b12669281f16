//! Checksums and lengths of a data directory made right, over bytes that may be anything. A second
//! implementation of the layouts in `paxos-demo/src/storage`, so that nothing of it need be public.

use super::{Directory, STATE_FILE};

// Segment: header, then records.
const SEGMENT_HEADER_BYTES: usize = 48;
// Record: header, then a body.
const RECORD_HEADER_BYTES: usize = 52;
const RECORD_MAGIC: &[u8] = b"ElR1";
const KIND_INSTALL: u8 = 2;
const KIND_SNAPSHOT: u8 = 4;
/// Number, op, bytes and checksum of a snapshot, in a record's body.
const REFERENCE_BYTES: usize = 28;
const INSTALL_REFERENCE_AT: usize = 16;
// Snapshot: header, then a body.
const SNAPSHOT_HEADER_BYTES: usize = 52;

/// Makes all files right that have the shape of one.
pub(super) fn directory(directory: &mut Directory) {
    let mut references = Vec::new();
    for (name, bytes) in directory.iter_mut() {
        if name.starts_with("snapshot-") {
            references.extend(snapshot(bytes));
        }
    }
    for (name, bytes) in directory.iter_mut() {
        if name.starts_with("wal-") {
            segment(bytes, &references);
        } else if name == STATE_FILE {
            state(bytes);
        }
    }
}

/// The reference to a snapshot that a record has to hold.
type Reference = [u8; REFERENCE_BYTES];

fn snapshot(file: &mut [u8]) -> Option<Reference> {
    let (header, body) = file.split_at_mut_checked(SNAPSHOT_HEADER_BYTES)?;
    let bytes = (body.len() as u64).to_le_bytes();
    header[40..48].copy_from_slice(&bytes);
    header[48..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    header[24..].try_into().ok()
}

fn segment(file: &mut [u8], references: &[Reference]) {
    let Some((header, mut rest)) = file.split_at_mut_checked(SEGMENT_HEADER_BYTES) else { return };
    let (summed, sum) = header.split_at_mut(SEGMENT_HEADER_BYTES - 4);
    sum.copy_from_slice(&crc32c::crc32c(summed).to_le_bytes());
    let salt = u32_at(summed, 12);
    loop {
        let Some((record, tail)) = rest.split_at_mut_checked(RECORD_HEADER_BYTES) else { return };
        let body_bytes = u32_at(record, 8) as usize;
        if !record.starts_with(RECORD_MAGIC) || body_bytes > tail.len() {
            return;
        }
        let (body, tail) = tail.split_at_mut(body_bytes);
        let reference = match record[4] {
            KIND_INSTALL => body.get_mut(INSTALL_REFERENCE_AT..),
            KIND_SNAPSHOT => Some(&mut body[..]),
            _ => None,
        };
        if let Some(reference) = reference.filter(|reference| reference.len() == REFERENCE_BYTES)
            && let Some(of) = references.iter().find(|of| of[..8] == reference[..8])
        {
            reference.copy_from_slice(of);
        }
        record[12..16].copy_from_slice(&crc32c::crc32c_append(salt, body).to_le_bytes());
        let (summed, sum) = record.split_at_mut(RECORD_HEADER_BYTES - 4);
        sum.copy_from_slice(&crc32c::crc32c_append(salt, summed).to_le_bytes());
        rest = tail;
    }
}

/// The checksum is over the state without white space.
fn state(file: &mut Vec<u8>) {
    let Ok(text) = std::str::from_utf8(file) else { return };
    let (Some(begin), Some(end)) = (text.find("\"state\":"), text.rfind("\"crc32c\":")) else { return };
    let Some(state) = text.get(begin + 8..end) else { return };
    let compact: String = state.trim_end().trim_end_matches(',').split_whitespace().collect();
    let sum = crc32c::crc32c(compact.as_bytes());
    let tail = text[end + 9..].trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
    let sealed = format!("{}\"crc32c\": {sum}{tail}", &text[..end]);
    *file = sealed.into_bytes();
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
