//! Bytes that are not what was written: refused, or cut off if nobody was told of them; never a panic.

use std::collections::BTreeMap;

use bytes::Bytes;
use electrode::types::{OpNumber, View};
use proptest::prelude::*;

use super::model::{HASH, ID, batch, open, state_at};
use crate::config::Durability;
use crate::log::LogEntry;
use crate::storage::disk::record::{self, Install};
use crate::storage::disk::snapshot_file::SnapshotRef;
use crate::storage::disk::{Owner, segment};
use crate::storage::files::{Files, SimFiles};
use crate::storage::{StorageError, open_files};

type Directory = BTreeMap<String, Vec<u8>>;

fn contents(files: &SimFiles) -> Directory {
    files.list().unwrap().into_iter().map(|name| (name.clone(), files.read(&name).unwrap())).collect()
}

fn directory(contents: &Directory) -> SimFiles {
    let files = SimFiles::new();
    contents.iter().for_each(|(name, bytes)| files.put(name, bytes.clone()));
    files
}

/// Three segments and a snapshot, each batch synced by itself, the last two together. Returns the log behind
/// the snapshot, and where the last segment's last group begins.
fn example() -> (Directory, Vec<LogEntry>, usize) {
    let files = SimFiles::new();
    let (mut opened, stepper) = open(&files).unwrap();
    let mut log = Vec::new();
    for op in 1..=20 {
        let batch = batch(op, op, op);
        opened.storage.append(&batch).unwrap();
        log.push(batch);
        stepper.write();
        if op == 8 {
            let (op, bytes) = state_at(3, 1);
            opened.storage.snapshot(op, bytes).unwrap();
            stepper.keep_house();
        }
    }
    while stepper.keep_house() || stepper.write() {}
    let segments = || contents(&files).into_iter().filter(|(name, _)| name.starts_with("wal-"));
    let before: Vec<_> = segments().map(|(_, bytes)| bytes.len()).collect();
    assert!(before.len() >= 3, "{before:?}");
    for op in 21..=22 {
        log.push(batch(op, op, 1));
        opened.storage.append(log.last().unwrap()).unwrap();
    }
    stepper.write();
    let after = segments().count();
    assert_eq!(after, before.len(), "the last group is in the last segment");
    drop(opened);
    log.retain(|batch| batch.last > OpNumber(3));
    (contents(&files), log, *before.last().unwrap())
}

fn refused(contents: &Directory) -> StorageError {
    let before = directory(contents);
    let error = open(&before).err().expect("refused");
    assert_eq!(&self::contents(&before), contents, "what is refused is left alone");
    error
}

#[test]
fn every_damaged_bit_is_refused_but_in_the_last_group() {
    let (good, log, last_group) = example();
    let last = good.keys().rfind(|name| name.starts_with("wal-")).unwrap().clone();
    assert_eq!(open(&directory(&good)).unwrap().0.log, log);
    let (mut refusals, mut repairs) = (0, 0);
    for (name, bytes) in &good {
        if name == "replica.json" {
            continue; // Its own test.
        }
        for at in 0..bytes.len() {
            let mut bad = good.clone();
            bad.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
            if *name == last && at >= last_group {
                let (opened, _) = open(&directory(&bad)).unwrap();
                assert_eq!(opened.log, log[..opened.log.len()], "{name} {at}");
                assert!((log.len() - 2..log.len()).contains(&opened.log.len()), "{name} {at}");
                assert_eq!(opened.warnings.len(), 1);
                repairs += 1;
            } else {
                let error = refused(&bad);
                assert!(matches!(&error, StorageError::Damaged { .. }), "{name} {at}: {error}");
                assert!(error.to_string().contains(name.as_str()), "{name} {at}: {error}");
                refusals += 1;
            }
        }
    }
    assert!(refusals > 1000 && repairs > 100, "{refusals} {repairs}");
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let (good, log, last_group) = example();
    let last = good.keys().rfind(|name| name.starts_with("wal-")).unwrap().clone();
    for end in last_group..good[&last].len() {
        let mut cut = good.clone();
        cut.get_mut(&last).unwrap().truncate(end);
        let files = directory(&cut);
        let (mut opened, stepper) = open(&files).unwrap();
        let whole = opened.log.len();
        assert_eq!(opened.log, log[..whole]);
        assert!(whole == log.len() - 2 || whole == log.len() - 1);
        // The log goes on where it was cut, and nothing of the torn end comes back.
        let next = OpNumber(opened.log.last().unwrap().last.0 + 1);
        opened.storage.append(&batch(next.0, next.0, 99)).unwrap();
        stepper.write();
        drop(opened);
        let (again, _) = open(&files).unwrap();
        assert_eq!(again.log.len(), whole + 1);
        assert!(again.warnings.is_empty(), "{:?}", again.warnings);
    }
}

#[test]
fn a_file_that_is_missing_is_noticed() {
    let (good, ..) = example();
    let last = good.keys().rfind(|name| name.starts_with("wal-")).unwrap().clone();
    for name in good.keys().filter(|name| **name != last) {
        let mut less = good.clone();
        less.remove(name);
        let error = refused(&less);
        match name.as_str() {
            "replica.json" => assert!(matches!(error, StorageError::OrphanLog { .. }), "{error}"),
            _ => assert!(matches!(error, StorageError::Damaged { .. }), "{name}: {error}"),
        }
    }
    let mut none = good.clone();
    none.retain(|name, _| name == "replica.json");
    assert!(matches!(refused(&none), StorageError::NoLog { .. }));
}

#[test]
fn another_mode_is_refused() {
    let (good, ..) = example();
    let open = |files: SimFiles| {
        open_files(std::sync::Arc::new(files), Durability::Memory, ID, HASH, true).err().expect("refused")
    };
    let error = open(directory(&good));
    assert!(matches!(error, StorageError::WrongDurability { found: Durability::Disk, .. }), "{error}");
    let mut less = good;
    less.remove("replica.json");
    assert!(matches!(open(directory(&less)), StorageError::OrphanLog { .. }));
}

/// A segment of records that are whole, whatever they say.
fn forged(number: u64, end: u64, records: &[(u8, u64, u64, u64)]) -> Vec<u8> {
    let owner = Owner { id: ID, config_hash: HASH };
    let mut bytes = segment::header(owner, number, 7, OpNumber(end));
    for &(kind, a, b, c) in records {
        let synced = bytes.len() as u64;
        let entry = LogEntry {
            view: View(c),
            first: OpNumber(a),
            last: OpNumber(b),
            payload: Bytes::from_static(b"x"),
        };
        let snapshot = SnapshotRef { number: b, op: OpNumber(a), bytes: c, crc: 0 };
        match kind {
            0 => record::put_entry(&mut bytes, 7, synced, &entry, false),
            1 => record::put_entry(&mut bytes, 7, synced, &entry, true),
            2 => {
                let install = Install {
                    view: View(b),
                    keep: OpNumber(a),
                    snapshot: (b > 4).then_some(snapshot),
                    entries: c,
                };
                record::put_install(&mut bytes, 7, synced, &install);
            }
            _ => record::put_snapshot(&mut bytes, 7, synced, snapshot),
        }
    }
    bytes
}

fn small_or_huge() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..8, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_directory_makes_it_panic(
        edits in proptest::collection::vec((any::<u16>(), any::<u16>(), 0u8..5, any::<u8>()), 1..6)
    ) {
        let (mut files, ..) = example();
        for (which, at, what, byte) in edits {
            let names: Vec<_> = files.keys().cloned().collect();
            let name = &names[usize::from(which) % names.len()];
            let bytes = files.get_mut(name).unwrap();
            let at = usize::from(at) % (bytes.len() + 1);
            match what {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                2 => bytes.iter_mut().skip(at).take(9).for_each(|b| *b = byte),
                3 => { bytes.drain(..at); }
                _ => {
                    let other = names[usize::from(byte) % names.len()].clone();
                    let bytes = files[name].clone();
                    files.insert(other, bytes);
                }
            }
        }
        if let Err(error) = open(&directory(&files)).map(drop) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_records_make_it_panic(
        number in prop_oneof![Just(1u64), Just(999_999_999_999)],
        end in small_or_huge(),
        records in proptest::collection::vec((0u8..4, small_or_huge(), small_or_huge(), small_or_huge()), 0..8),
    ) {
        let mut files = contents(&{
            let files = SimFiles::new();
            drop(open(&files).unwrap());
            files
        });
        files.retain(|name, _| name == "replica.json");
        files.insert(segment::name(number), forged(number, end, &records));
        let files = directory(&files);
        if let Ok((mut opened, stepper)) = open(&files) {
            let next = opened.storage.poll().unwrap().durable.next();
            let _ = opened.storage.append(&batch(next.0, next.0, 1));
            stepper.write();
        }
    }
}
