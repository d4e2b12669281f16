//! A data directory of durability `disk` with anything in its files: `storage::open_stepped`, in memory.
//!
//! The input is a byte of flags and files: a byte that names the file, its length (u16) and its bytes. With flag
//! 1 checksums and lengths are made right where they stand ([`seal`]), so that mutations get past them; without
//! flag 2 the replica is not told that this may be its first start.

mod seal;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};
use paxos_demo::log::LogEntry;
use paxos_demo::storage::disk::Stepper;
use paxos_demo::storage::files::{Files, SimFiles};
use paxos_demo::storage::{self, Opened, STATE_FILE, StorageError};

use super::Target;
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "wal",
    run,
    seeds,
    words: &[
        b"ElR1\x01",
        b"ElR1\x02",
        b"ElR1\x03",
        b"ElR1\x04",
        b"elecwal\n",
        b"elecsnap",
        b"\"view\": 9",
        b"\"met\": [1]",
        b"4294967295",
        b"18446744073709551615",
    ],
    bytes_max: 4096,
    thousands: 1000,
};

type Directory = BTreeMap<String, Vec<u8>>;

const ID: ReplicaId = ReplicaId(2);
const HASH: u64 = 0x0123_4567_89ab_cdef;
/// Small, so that segments end often.
const SEGMENT_BYTES_MAX: u64 = 600;
const SEAL: u8 = 1;
const BOOTSTRAP: u8 = 2;

fn open(files: &SimFiles, bootstrap: bool) -> Result<(Opened, Stepper), StorageError> {
    storage::open_stepped(Arc::new(files.clone()), ID, HASH, bootstrap, SEGMENT_BYTES_MAX)
}

fn batch(first: u64, last: u64) -> LogEntry {
    let payload = Bytes::from(format!("ops {first} to {last}"));
    LogEntry { view: View(first % 3), first: OpNumber(first), last: OpNumber(last), payload }
}

/// Directories as replicas leave them: fresh, with batches, with a snapshot, with installations.
fn seeds() -> Vec<Vec<u8>> {
    let (mut seeds, files) = (Vec::new(), SimFiles::new());
    let mut keep = || {
        let directory = contents(&files);
        [BOOTSTRAP, SEAL | BOOTSTRAP, SEAL].iter().for_each(|flags| seeds.push(write(*flags, &directory)));
    };
    let (mut opened, stepper) = open(&files, true).expect("an empty directory");
    keep();
    for op in 1..=5 {
        opened.storage.append(&batch(op, op)).expect("in order");
        stepper.write();
    }
    keep();
    opened.storage.install(View(4), OpNumber(3), None, &[batch(4, 6), batch(7, 7)]).expect("kept");
    keep();
    opened.storage.snapshot(OpNumber(5), Bytes::from_static(b"state at 5")).expect("background");
    while stepper.keep_house() || stepper.write() {}
    keep();
    opened.storage.save_state(View(6), View(4)).expect("saved");
    let snapshot = Some((OpNumber(9), Bytes::from_static(b"state at 9")));
    opened.storage.install(View(6), OpNumber(0), snapshot, &[batch(9, 11)]).expect("kept");
    opened.storage.append(&batch(12, 12)).expect("in order");
    while stepper.keep_house() || stepper.write() {}
    keep();
    seeds.extend(ends(contents(&files)).map(|directory| write(SEAL | BOOTSTRAP, &directory)));
    seeds
}

/// What a directory may come to: its last bytes torn off, and then no number left for another life.
fn ends(directory: Directory) -> impl Iterator<Item = Directory> {
    let mut torn = directory;
    let (_, segment) = torn.iter_mut().rfind(|(name, _)| name.starts_with("wal-")).expect("a segment");
    segment.truncate(segment.len() - 3);
    let mut last_life = torn.clone();
    let state = last_life.get_mut(STATE_FILE).expect("a state");
    let text = String::from_utf8_lossy(state);
    let (front, back) = text.split_once("\"incarnation\": ").expect("a number");
    let back = back.trim_start_matches(|digit: char| digit.is_ascii_digit());
    *state = format!("{front}\"incarnation\": {}{back}", u32::MAX).into_bytes();
    [torn, last_life].into_iter()
}

/// Names by number; what is not a name of the storage's is not its business.
fn name(number: u8) -> String {
    let whole = |number: u8| match number {
        0 => STATE_FILE.to_owned(),
        1..32 => format!("wal-{number:012}"),
        _ => format!("snapshot-{:012}", number - 31),
    };
    match number {
        0..64 => whole(number),
        64..128 => format!("{}.new", whole(number - 64)),
        _ => format!("note-{number}"),
    }
}

fn read(input: &[u8]) -> Option<(u8, Directory)> {
    let (&flags, mut rest) = input.split_first()?;
    let mut directory = Directory::new();
    while let [number, low, high, tail @ ..] = rest {
        let bytes = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (file, tail) = tail.split_at(bytes);
        directory.insert(name(*number), file.to_vec());
        rest = tail;
    }
    Some((flags, directory))
}

fn write(flags: u8, directory: &Directory) -> Vec<u8> {
    let mut bytes = vec![flags];
    for (file, content) in directory {
        let number = (0..=255).find(|number| name(*number) == *file).expect("a name that the input has");
        bytes.push(number);
        bytes.extend_from_slice(&u16::try_from(content.len()).expect("small files").to_le_bytes());
        bytes.extend_from_slice(content);
    }
    bytes
}

fn contents(files: &SimFiles) -> Directory {
    let names = files.list().expect("in memory");
    names.into_iter().map(|name| (name.clone(), files.read(&name).expect("listed"))).collect()
}

fn run(input: &[u8]) {
    let Some((flags, mut directory)) = read(input) else { return };
    if flags & SEAL != 0 {
        seal::directory(&mut directory);
    }
    let files = SimFiles::new();
    directory.iter().for_each(|(name, bytes)| files.put(name, bytes.clone()));
    let bytes: usize = directory.values().map(Vec::len).sum();

    // Each file is read, kept and in part written again; a record of 52 bytes is a batch in the log.
    let opened = bounded(64 * bytes + 256 * 1024, || open(&files, flags & BOOTSTRAP != 0));
    let (mut opened, stepper) = match opened {
        Ok(opened) => opened,
        Err(_) => return assert_eq!(contents(&files), directory, "what is refused is left alone"),
    };
    check(&opened);
    let (snapshot, log, state) = (opened.snapshot.clone(), opened.log.clone(), opened.persisted.clone());
    let end = log.last().map(|batch| batch.last).or(snapshot.as_ref().map(|s| s.0)).unwrap_or(OpNumber(0));

    // A log that was found goes on, and all of it is found again.
    let next = batch(end.0.wrapping_add(1), end.0.wrapping_add(1));
    let appended = end.0 != u64::MAX && opened.storage.append(&next).is_ok();
    stepper.write();
    assert!(opened.storage.poll().is_ok(), "in memory nothing fails");
    drop((opened, stepper));
    let (again, _) = open(&files, false).unwrap_or_else(|e| panic!("what was repaired is refused: {e}"));
    check(&again);
    assert!(again.warnings.is_empty(), "repaired once is repaired: {:?}", again.warnings);
    assert_eq!(again.snapshot, snapshot);
    let expected: Vec<LogEntry> = log.into_iter().chain(appended.then_some(next)).collect();
    assert_eq!(again.log, expected);
    assert_eq!((again.persisted.view, again.persisted.met), (state.view, state.met));
    assert_eq!(again.persisted.last_normal_view, state.last_normal_view);
    assert!(again.persisted.incarnation > state.incarnation, "each life has a number of its own");
}

/// What a replica relies on.
fn check(opened: &Opened) {
    let base = opened.snapshot.as_ref().map_or(OpNumber(0), |(op, _)| *op);
    let mut end = base;
    for (index, batch) in opened.log.iter().enumerate() {
        // The first may begin before the end of what the snapshot covers.
        let follows = batch.first.0 == end.0 + 1 || index == 0 && batch.first <= end;
        assert!(follows && end < batch.last, "ops {} to {} behind {end}", batch.first, batch.last);
        end = batch.last;
    }
    let state = &opened.persisted;
    assert_eq!((state.id, state.config_hash), (ID, HASH));
    assert_ne!(state.incarnation, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If a layout changes, this says that the target no longer gets past the checksums.
    #[test]
    fn what_is_right_is_sealed_as_it_was() {
        let seeds = seeds();
        assert!(seeds.iter().all(|seed| seed.len() <= TARGET.bytes_max));
        for seed in seeds.into_iter().take(15) {
            let (flags, directory) = read(&seed).unwrap();
            assert_eq!(write(flags, &directory), seed);
            let mut sealed = directory.clone();
            seal::directory(&mut sealed);
            assert_eq!(sealed, directory);
        }
    }

    /// And that it does: one op is changed, and with the checksums made right it is the log's.
    #[test]
    fn a_change_under_the_checksums_is_read() {
        let (_, mut directory) = read(&seeds()[3]).unwrap();
        let segment = directory.get_mut(&name(1)).unwrap();
        let at = segment.windows(5).position(|bytes| bytes == b"ops 1").expect("the first batch");
        segment[at] = b'O';
        let files = |directory: &Directory| {
            let files = SimFiles::new();
            directory.iter().for_each(|(name, bytes)| files.put(name, bytes.clone()));
            files
        };
        assert!(open(&files(&directory), true).is_err());
        seal::directory(&mut directory);
        assert_eq!(open(&files(&directory), true).unwrap().0.log[0].payload, "Ops 1 to 1");
    }
}
