//! One file a question. Most work on [`crate::storage::files::SimFiles`] and step by hand; processes that are
//! killed and disks that are full are real, in `tests/storage.rs`.

mod background;
mod crash;
mod damage;
mod faults;
mod model;
