//! Random lives with random deaths: what is found afterwards is one moment of the life before, and none older
//! than what was said to be on disk.

use electrode::types::{OpNumber, View};
use fastrand::Rng;
use proptest::prelude::*;

use super::model::{Held, batch, open, state_at};
use crate::storage::Opened;
use crate::storage::disk::Stepper;
use crate::storage::files::{Fault, SimFiles};

/// A replica's life, as its storage sees it.
struct Life {
    opened: Opened,
    stepper: Stepper,
    /// All moments so far; the last one is now.
    moments: Vec<Held>,
    /// The newest of them that is known to be on disk.
    durable: usize,
    /// Snapshots of this log, and the op of the newest that is known to be on disk.
    own: Vec<(OpNumber, bytes::Bytes)>,
    snapshot: OpNumber,
    /// No installation takes this back.
    commit: u64,
    views: (u64, u64),
    nonce: u64,
}

impl Life {
    fn now(&self) -> &Held {
        self.moments.last().expect("a life has a beginning")
    }

    /// Does something; false once the storage has failed.
    fn act(&mut self, rng: &mut Rng) -> bool {
        self.nonce += 1;
        let end = self.now().end();
        let storage = &mut self.opened.storage;
        match rng.u8(..20) {
            0..=8 => {
                let batch = batch(end + 1, end + rng.u64(1..5), self.nonce);
                if storage.append(&batch).is_err() {
                    return false;
                }
                let mut next = self.now().clone();
                next.append(batch);
                self.moments.push(next);
            }
            9..=12 => {
                self.stepper.write();
            }
            13 => {
                self.stepper.keep_house();
            }
            14 | 15 => self.commit = self.now().boundary(rng.u64(self.commit..=end)).max(self.commit),
            16 if self.commit > 0 => {
                let snapshot = state_at(self.commit, self.nonce);
                self.own.push(snapshot.clone());
                if storage.snapshot(snapshot.0, snapshot.1).is_err() {
                    return false;
                }
            }
            17 => {
                let views = (self.views.0 + rng.u64(0..3), self.views.1 + rng.u64(0..2));
                // May be on disk even if the call fails: nothing is known about it then.
                if storage.save_state(View(views.0), View(views.1)).is_err() {
                    return false;
                }
                self.views = views;
                self.durable = self.moments.len() - 1;
            }
            18 | 19 => {
                let keep = rng.u64(self.commit..=end);
                let op = keep + rng.u64(0..4);
                let snapshot = (rng.bool() && op > self.base()).then(|| state_at(op, self.nonce));
                let mut rest = self.now().clone();
                rest.install(keep, snapshot.clone(), &[]);
                let begin = rest.end();
                // The first batch may begin within the snapshot.
                let straddle = rest.batches.is_empty() && snapshot.is_some();
                let mut first = if straddle { begin + 1 - rng.u64(0..begin.min(3)) } else { begin + 1 };
                let mut entries = Vec::new();
                for _ in 0..rng.u8(..6) {
                    self.nonce += 1;
                    let last = first.max(begin + 1) + rng.u64(0..3);
                    entries.push(batch(first, last, self.nonce));
                    first = last + 1;
                }
                let mut next = self.now().clone();
                next.install(keep, snapshot.clone(), &entries);
                self.moments.push(next);
                if self.opened.storage.install(View(0), OpNumber(keep), snapshot, &entries).is_err() {
                    return false;
                }
                self.durable = self.moments.len() - 1;
                self.commit = self.commit.max(begin);
            }
            _ => {}
        }
        self.look()
    }

    /// Op of the newest snapshot that may be on disk; an installation never brings an older one.
    fn base(&self) -> u64 {
        self.own.iter().map(|(op, _)| op.0).max().unwrap_or(0).max(self.now().base())
    }

    /// Listens to what the storage says.
    fn look(&mut self) -> bool {
        let Ok(progress) = self.opened.storage.poll() else { return false };
        self.snapshot = progress.snapshot;
        // The earliest moment that it can mean.
        let mut possible = self.moments[self.durable..].iter();
        self.durable +=
            possible.position(|held| held.end() == progress.durable.0).expect("some moment's end");
        true
    }
}

/// Opens what is there and compares it with the life before.
fn begin(files: &SimFiles, before: Option<&Life>) -> Life {
    let (opened, stepper) = open(files).expect("nothing that a crash leaves stops a replica");
    let mut life = Life {
        moments: Vec::new(),
        durable: 0,
        own: Vec::new(),
        snapshot: OpNumber(0),
        commit: 0,
        views: (opened.persisted.view.0, opened.persisted.last_normal_view.0),
        nonce: 0,
        opened,
        stepper,
    };
    if let Some(before) = before {
        let possible = &before.moments[before.durable..];
        assert!(
            possible.iter().any(|held| held.matches(&life.opened, &before.own)),
            "found {:?} and {:?}, expected one of {possible:?}",
            life.opened.snapshot,
            life.opened.log
        );
        let base = life.opened.snapshot.as_ref().map_or(OpNumber(0), |(op, _)| *op);
        assert!(base >= before.snapshot, "a snapshot that was on disk is gone");
        assert!(life.views >= before.views, "views went back");
        life.nonce = before.nonce + 1000;
        life.commit = before.commit;
    }
    let held = Held { installed: life.opened.snapshot.clone(), batches: life.opened.log.clone() };
    let end = held.end();
    life.moments.push(held);
    assert_eq!(life.opened.storage.poll().unwrap().durable, OpNumber(end));
    // Only what was on disk counts as committed.
    life.commit = life.now().boundary(life.commit.min(end));
    life
}

fn check(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let files = SimFiles::new();
    let mut life = begin(&files, None);
    for _ in 0..4 {
        match rng.u8(..4) {
            0 => {}
            1 => files.fault_at(files.operations() + rng.u64(..60), Fault::Fails),
            2 => files.fault_at(files.operations() + rng.u64(..60), Fault::Full),
            _ => files.fault_at(files.operations() + rng.u64(..60), Fault::Stops),
        }
        for _ in 0..rng.usize(..80) {
            if !life.act(&mut rng) {
                // D5: for ever.
                assert!(life.opened.storage.poll().is_err());
                assert!(life.opened.storage.append(&batch(1, 1, 1)).is_err());
                assert!(life.opened.storage.save_state(View(9), View(9)).is_err());
                assert!(life.opened.storage.install(View(0), OpNumber(0), None, &[]).is_err());
                break;
            }
        }
        if rng.bool() {
            files.kill();
            life = begin(&files, Some(&life));
        }
        files.lose_power(&mut rng);
        life = begin(&files, Some(&life));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn after_any_crash_one_moment_is_found(seed: u64) {
        check(seed);
    }
}
