//! A whole group on this machine.
pub mod process;
pub mod ready;
