//! One file a question. Most work on [`crate::storage::files::SimFiles`] and step by hand; processes that are
//! killed and disks that are full are real, in `tests/storage.rs`.

mod background;
mod crash;
mod damage;
mod faults;
mod model;

use electrode::types::{OpNumber, View};

use super::segment;
use crate::storage::files::{Files, SimFiles};

/// U6: the new log tells whose it is, whether the state that follows it came to disk or not; also when the record
/// that told is long deleted.
#[test]
fn an_installed_log_brings_its_view_along() {
    let files = SimFiles::new();
    let (mut opened, _) = model::open(&files).unwrap();
    opened.storage.save_state(View(3), View(2)).unwrap();
    opened.storage.install(View(7), OpNumber(0), None, &[]).unwrap();
    drop(opened);
    let (mut opened, stepper) = model::open(&files).unwrap();
    assert_eq!((opened.persisted.view, opened.persisted.last_normal_view), (View(7), View(7)));
    for op in 1..=100 {
        opened.storage.append(&model::batch(op, op, op)).unwrap();
        stepper.write();
    }
    let (op, bytes) = model::state_at(99, 1);
    opened.storage.snapshot(op, bytes).unwrap();
    while stepper.keep_house() || stepper.write() {}
    assert!(!files.list().unwrap().contains(&segment::name(1)), "the record is still there");
    drop(opened);
    let (opened, _) = model::open(&files).unwrap();
    assert_eq!((opened.persisted.view, opened.persisted.last_normal_view), (View(7), View(7)));
}
