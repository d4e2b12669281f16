//! The command line: names, options and exit codes that scripts rely on.

mod bench;
mod choices;
mod client;
mod cluster;
mod demo;
mod failover;
mod groups;
mod key;
mod plot;
mod replica;
mod simulate;
mod soak;
#[cfg(test)]
mod tests;
mod values;

use clap::{Parser, Subcommand};

pub use bench::BenchArgs;
pub use choices::{BackendChoice, FastPathArgs, GroupArgs, HookChoice, Switch, TcChoice};
pub use client::{ClientArgs, ClientRequestArgs};
pub use cluster::ClusterArgs;
pub use demo::DemoArgs;
pub use failover::FailoverArgs;
pub use groups::{GroupsArgs, Leaders};
pub use key::KeyArgs;
pub use plot::PlotArgs;
pub use replica::ReplicaArgs;
pub use simulate::SimulateArgs;
pub use soak::{SoakArgs, SoakBackend};

/// Exit code: done.
pub const EXIT_DONE: u8 = 0;
/// Exit code: failed, or a wrong result.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: wrong use. clap exits with the same.
pub const EXIT_USAGE: u8 = 2;

/// Multi-Paxos (Viewstamped Replication) over Electrode: reference replica, demo and benchmark.
#[derive(Debug, Parser)]
#[command(name = "paxos-demo", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one replica of a group until it is told to stop.
    Replica(ReplicaArgs),
    /// Send one request to a running group.
    Client(ClientArgs),
    /// Keep a whole group up on this machine until Ctrl-C.
    Cluster(ClusterArgs),
    /// Compare backends, interleaved.
    Bench(BenchArgs),
    /// Draw what reports of `bench` have in them.
    Plot(PlotArgs),
    /// Run five replicas, check every answer, show eBPF beside kernel UDP.
    Demo(DemoArgs),
    /// Kill the leader again and again and measure for how long nobody is served.
    Failover(FailoverArgs),
    /// Compare backends with several groups on the same hosts, interleaved.
    Groups(GroupsArgs),
    /// Load a group for a long time: nothing may grow, every packet must be counted, nothing may be left.
    Soak(SoakArgs),
    /// Make and change the keys of a group.
    ///
    /// A group with a key file believes no packet in a member's name that was not made with a key of the group. Each
    /// replica reads its copy of the file at start and on SIGHUP, and `client status` says what it holds. To change
    /// the key while the group runs, finish each step at every replica (copy the file, signal, look at the status)
    /// before the next:
    ///
    ///   paxos-demo key add FILE      # a new key, say 2: everybody accepts both
    ///   paxos-demo key send FILE 2   # everybody sends with the new one
    ///   paxos-demo key drop FILE 1   # the old one is worth nothing any more
    ///
    /// Who sends with a key that another one does not hold is not heard by it until that one has read its file; the
    /// status counts that as drop_key.
    #[command(subcommand, verbatim_doc_comment)]
    Key(KeyArgs),
    /// Run groups in virtual time under every fault, by seed; exits 1 if a rule is broken.
    Simulate(SimulateArgs),
}
