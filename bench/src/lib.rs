//! Shared parts of the benchmarks: what each figure is measured on, and how it is put beside its baseline.
//!
//! | benchmark | figure |
//! |---|---|
//! | `broadcast` | one `elec_broadcast` and `flush` to 2, 4, 6 peers, until every copy is in its peer's socket |
//! | `ack_round_trip` | a Prepare to one follower and its ack at the leader |
//! | `quorum_round` | a Prepare to all followers and the quorum event at the leader, 3, 5, 7 replicas |
//! | `log` | Prepares into a follower's log and out of it, an op |
//! | `programs` | what each kernel program costs, by `BPF_PROG_TEST_RUN` and in traffic |
//!
//! All hosts are network namespaces on a bridge ([`Site`]) and **one thread drives all of them**. On veth the
//! packet's whole way, the peer's interrupt work included, runs inside the sender's system call; so a figure is
//! the work of everybody who takes part and no wake-up of another thread is in it. What a kernel thread does
//! elsewhere under overload is the one thing that is missed. For throughput and latency of replicas that run
//! side by side, interleaved with their baseline, there is `paxos-demo bench`.
//!
//! [`peers`] is something else: whole groups of other systems beside ours, for `scripts/bench --peers`. [`omni`] is the
//! one of them that is built here.
//!
//! Without privileges the socket figures run on loopback and a line `SKIPPED` says why.
//! `cargo bench -p bench -- --test`, like `cargo test -p bench`, runs everything once without measuring.

mod comparison;
mod group;
mod site;

pub mod frames;
pub mod omni;
pub mod peers;
pub mod programs;
pub mod run_stats;
pub use comparison::{Comparison, Effort};
pub use group::{Group, GroupConfig};
pub use site::{Site, skipped};
