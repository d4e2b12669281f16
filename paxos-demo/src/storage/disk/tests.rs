//! One file a question. Most work on [`crate::storage::files::SimFiles`] and step by hand; processes that are
//! killed and disks that are full are real, in `tests/storage.rs`.

mod background;
mod crash;
mod damage;
mod faults;
mod model;

use electrode::types::{OpNumber, View};

use super::super::files::SimFiles;

/// U6: the new log tells whose it is, whether the state that follows it came to disk or not.
#[test]
fn an_installed_log_brings_its_view_along() {
    let files = SimFiles::new();
    let mut first = model::open(&files).unwrap().0;
    first.storage.install(View(7), OpNumber(0), None, &[]).unwrap();
    drop(first);
    assert_eq!(model::open(&files).unwrap().0.persisted.last_normal_view, View(7));
}
