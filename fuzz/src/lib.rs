//! Fuzz targets: every parser that meets bytes from outside, with what must hold of it beyond "no panic".
//!
//! A [`Target`] is a function of an input that panics if a property is broken. Three things run it:
//!
//! | | feedback | when |
//! |---|---|---|
//! | `tests/replay.rs` | none: the kept corpus as it is | `cargo test` |
//! | [`mutate`], the program `electrode-fuzz run` | none: mutations of the kept corpus, by seed | `scripts/test` |
//! | the program `engine` (feature `engine`), libFuzzer | coverage | `scripts/fuzz` |
//!
//! The corpus ([`corpus`]) is what libFuzzer found worth keeping, one text file a target; inputs that once broke a
//! target are files of their own in `regressions/`. [`memory`] bounds what a parser may take.

pub mod corpus;
pub mod memory;
pub mod mutate;
pub mod targets;

pub use targets::{ALL, Target};
