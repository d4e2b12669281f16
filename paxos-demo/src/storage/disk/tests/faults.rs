//! Every operation of an installation fails once, in every way; and what a failed fsync must not lead to.

use electrode::types::{OpNumber, View};
use fastrand::Rng;

use super::model::{Held, batch, open, state_at};
use crate::storage::files::{Fault, SimFiles};
use crate::storage::{Opened, StorageError};

/// A log of which 1..=4 are committed, in a directory where all is on disk.
fn example() -> (SimFiles, Held) {
    let files = SimFiles::new();
    let (mut opened, stepper) = open(&files).unwrap();
    let mut held = Held::default();
    for op in 1..=9 {
        let batch = batch(op, op, op);
        opened.storage.append(&batch).unwrap();
        held.append(batch);
    }
    stepper.write();
    opened.storage.save_state(View(3), View(2)).unwrap();
    drop(opened);
    files.kill();
    (files, held)
}

/// What StartView brings: with a snapshot, without, and with more than a segment.
fn installations() -> Vec<(u64, Option<u64>, u64)> {
    vec![(4, None, 12), (4, Some(7), 10), (4, None, 4), (6, Some(20), 20), (4, Some(5), 60)]
}

#[test]
fn an_installation_happens_whole_or_not_at_all() {
    let (files, old) = example();
    for (keep, snapshot, last) in installations() {
        let snapshot = snapshot.map(|op| state_at(op, 50));
        let first = snapshot.as_ref().map_or(keep, |(op, _)| op.0.max(keep)) + 1;
        let entries: Vec<_> = (first..=last).map(|op| batch(op, op, op + 100)).collect();
        let mut new = old.clone();
        new.install(keep, snapshot.clone(), &entries);
        let install = |opened: &mut Opened| {
            let installed = opened.storage.install(View(4), OpNumber(keep), snapshot.clone(), &entries);
            // The state follows (P6).
            installed.and_then(|()| opened.storage.save_state(View(4), View(4)))
        };

        let mut operations = 0;
        let (mut olds, mut news) = (0, 0);
        for step in 0.. {
            for fault in [Fault::Fails, Fault::Full, Fault::Stops] {
                for seed in 0..8 {
                    let files = files.fork();
                    let (mut opened, _) = open(&files).unwrap();
                    let begin = files.operations();
                    files.fault_at(begin + step, fault);
                    let result = install(&mut opened);
                    if result.is_ok() {
                        operations = files.operations() - begin;
                    } else {
                        assert!(opened.storage.poll().is_err(), "D5");
                        assert!(install(&mut opened).is_err(), "D5");
                    }
                    drop(opened);
                    files.lose_power(&mut Rng::with_seed(seed));
                    let (found, _) = open(&files).unwrap();
                    let (is_old, is_new) = (old.matches(&found, &[]), new.matches(&found, &[]));
                    assert!(is_old || is_new, "step {step}, {fault:?}, seed {seed}: {:?}", found.log);
                    assert!(is_new || result.is_err(), "acknowledged, but lost");
                    // U6, P6: the view whose log it is, neither before nor after the log.
                    let view = if is_new { View(4) } else { View(2) };
                    assert_eq!(found.persisted.last_normal_view, view, "step {step}, {fault:?}, seed {seed}");
                    olds += u32::from(is_old);
                    news += u32::from(is_new);
                }
            }
            if step > operations + 1 && operations > 0 {
                break;
            }
        }
        assert!(operations >= 6 && olds > 20 && news > 20, "{operations} {olds} {news}");
    }
}

#[test]
fn a_failed_fsync_is_final_and_what_it_left_is_not_believed() {
    let (files, mut held) = example();
    let (mut opened, stepper) = open(&files).unwrap();
    let next = batch(10, 10, 10);
    opened.storage.append(&next).unwrap();
    // The write goes through, the fsync behind it does not.
    files.fault_at(files.operations() + 1, Fault::Fails);
    assert!(!stepper.write());
    let error = opened.storage.poll().unwrap_err();
    assert!(matches!(&error, StorageError::Io { what: "syncing", .. }), "{error}");
    assert!(error.to_string().contains("wal-"), "{error}");
    // The disk works again; the storage does not (D5).
    for _ in 0..3 {
        assert!(!stepper.write());
        assert!(opened.storage.append(&batch(11, 11, 11)).is_err());
        assert!(opened.storage.save_state(View(9), View(9)).is_err());
        assert!(opened.storage.snapshot(OpNumber(1), bytes::Bytes::new()).is_err());
        assert!(opened.storage.poll().is_err());
    }
    drop(opened);

    // The next process reads what the page cache holds. It may take it, but then it must be on disk.
    files.kill();
    let (opened, _) = open(&files).unwrap();
    held.append(next);
    assert!(held.matches(&opened, &[]));
    drop(opened);
    files.lose_power(&mut Rng::with_seed(1));
    let (opened, _) = open(&files).unwrap();
    assert!(held.matches(&opened, &[]), "found once, so acknowledged, and lost");
}

#[test]
fn an_interrupted_first_start_can_be_begun_again() {
    let mut operations = 0;
    for step in 0.. {
        for seed in 0..8 {
            let files = SimFiles::new();
            files.fault_at(step, Fault::Stops);
            // A life is one that promised something.
            let first = open(&files).and_then(|(mut opened, _)| opened.storage.save_state(View(0), View(0)));
            operations = files.operations();
            files.lose_power(&mut Rng::with_seed(seed));
            let (opened, _) = open(&files).unwrap();
            assert!(opened.log.is_empty() && opened.snapshot.is_none());
            assert!(opened.first_life || step > 0);
            assert!(!opened.first_life || first.is_err(), "a life was forgotten");
        }
        if step > operations {
            break;
        }
    }
}

#[test]
fn snapshots_keep_the_directory_small() {
    let files = SimFiles::new();
    let (mut opened, stepper) = open(&files).unwrap();
    let mut most = 0;
    for op in 1..=400 {
        opened.storage.append(&batch(op, op, op)).unwrap();
        stepper.write();
        if op % 20 == 0 {
            let (op, bytes) = state_at(op - 5, op);
            opened.storage.snapshot(op, bytes).unwrap();
        }
        stepper.keep_house();
        most = most.max(crate::storage::files::Files::list(&files).unwrap().len());
    }
    while stepper.keep_house() || stepper.write() {}
    assert_eq!(opened.storage.poll().unwrap().snapshot, OpNumber(395));
    assert!(most <= 12, "{most} files");
    drop(opened);
    let (opened, _) = open(&files).unwrap();
    assert_eq!(opened.snapshot.unwrap().0, OpNumber(395));
    assert_eq!(opened.log.len(), 5);
}
