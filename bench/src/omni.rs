//! A replica over [OmniPaxos](https://docs.rs/omnipaxos), for `scripts/bench --peers`: another library's consensus under
//! the same clients, the same state machine and the same sockets as our own replica.
//!
//! ```text
//!   clients ──requests──> node (node.rs) ──append──> omnipaxos::OmniPaxos ──messages──> outbox (wire.rs) ──> UDP
//!           <──replies───      │  <──decided entries──       │  <─────────messages────── inbox  (wire.rs) <──
//!                              └──> paxos_demo::service::Service
//! ```
//!
//! It is meant to be fast, for a comparison that a slow opponent loses says nothing:
//!
//! - It sends and receives with the `udp` backend of our own library: `sendmmsg` and `recvmmsg`, large buffers, what
//!   goes to or comes from one host as one (UDP_SEGMENT, UDP_GRO), the same waits. No packet meets a kernel program.
//! - A batch size of 1, and nothing is taken from the library before all that arrived was given to it: it then joins
//!   entries, acceptances and decided indexes of one round by itself. No request waits for a timer.
//! - A message that fits shares a datagram with others for the same member. A `Decide` alone waits for company as
//!   long as our leader's commit number does (`commit_notice_delay_ms`).
//! - A read takes no entry in the log, as with us: it waits for the first one that was proposed after it arrived.
//! - The log is trimmed, so that it stays short.
//!
//! With `--backend udp-sendto` the same node runs over plain sockets, as a user of that library would write them first: one
//! `sendto` for each datagram, one receive call for each, no UDP_SEGMENT. All else is equal: it still takes all that arrived
//! before it asks the library what to send, and messages share datagrams. `scripts/bench --peers` shows both, as
//! `omnipaxos` and `omnipaxos-plain`.
//!
//! What it leaves out, for it is not measured: recovery and persistence (a node that dies is gone), expiry (no time is
//! replicated), commands and results of more than a datagram, keys, Redis clients.

mod core;
mod node;
mod op;
mod wire;

pub use node::{NodeError, run};
pub use op::Op;
pub use wire::{Inbox, Outbox, WireError};
