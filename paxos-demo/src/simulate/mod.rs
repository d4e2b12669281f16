//! Deterministic simulation: whole groups in virtual time, with everything that can go wrong going wrong.
//!
//! The replica core, its driver and the user-space half of the library are those that ship; only sockets,
//! kernel programs, clock and disk are replaced. The kernel programs are [`electrode::model`], stopped between
//! any two of their steps, on two CPUs a replica. Or they are the bytecode ([`whole`], [`bytecode`]): then
//! programs, and calls of the fast path, which is the one that ships, are one event each.
//!
//! ```text
//!  Driver (core + Endpoint) ──FastPath──> kernel_path ──> Machine: kernel memory, CPUs, socket
//!        │                                                    ▲
//!        └──Transport──> wire (faults) ──frames───────────────┘
//!  all of it: World, moved on by pump() in the order of one event queue and one random generator
//! ```
//!
//! A process runs one step of its driver at a time. Whatever it does to the outside (a send, a call of the
//! fast path, a write to its disk) is an *effect*: there its kernel programs may run on, the process may be
//! stopped for a while (then the world goes on, nested inside that call), or die.
//!
//! A [`story`] is told in the same world: its lines take the place of random faults.
//!
//! What must hold is checked from outside ([`check`]): frames, calls of fast path and disk, what is handed to
//! the replica and what it wants done. A seed decides everything; the same seed gives the same trace.

mod bytecode;
mod check;
mod clients;
mod command;
mod compare;
mod cpu;
mod disk;
mod effect;
mod encoder;
mod faults;
mod kernel_path;
mod keys;
mod machine;
mod processes;
mod pump;
mod recordings;
mod run;
pub mod story;
#[cfg(test)]
mod tests;
mod trace;
mod transport;
mod watched_path;
mod weather;
mod whole;
mod wire;
mod world;

pub use check::{Coverage, Violation};
pub use command::{SimulateError, simulate};
pub use run::{Outcome, Setting, run_seed};
pub use whole::Programs;
