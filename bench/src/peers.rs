//! `scripts/bench --peers`: our group beside other systems, in the same namespaces and under the same closed-loop
//! clients.
//!
//! | system | what it is |
//! |---|---|
//! | `ebpf` `udp` | our replica, with kernel programs and without ([`mod@paxos_demo::bench::run`]) |
//! | `omnipaxos` | another library's consensus ([`crate::omni`]) over the batched sockets of `udp`, measured by the same code |
//! | `omnipaxos-plain` | the same node over plain UDP: a system call for each datagram, out and in |
//! | `etcd` | the server as Debian packs it, over gRPC (`peers/etcd.rs`, feature `etcd`) |
//!
//! Within one repeat the systems run back to back, in turning order, and a ratio is the median over such pairs
//! ([`ratio`]).

#[cfg(feature = "etcd")]
pub mod etcd;
pub mod ratio;
pub mod table;

use std::path::PathBuf;

use clap::ValueEnum;
use paxos_demo::bench::run::RunSpec;
use paxos_demo::cli::{BackendChoice, HookChoice};
use paxos_demo::config::{Batching, Durability, LOG_SLOTS_DEFAULT, OffloadChoice};
use paxos_demo::report::{Batch, Host, Latency, Run, Setting};
use serde::Serialize;

use self::ratio::Ratio;

/// Version of the report's schema.
pub const SCHEMA: u32 = 1;

/// What is compared.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Our replica with kernel programs.
    Ebpf,
    /// Our replica over kernel UDP.
    Udp,
    /// OmniPaxos over the batched sockets of our library.
    Omnipaxos,
    /// OmniPaxos over plain UDP: a system call for each datagram.
    OmnipaxosPlain,
    /// etcd.
    Etcd,
}

impl System {
    /// The word on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Udp => "udp",
            Self::Omnipaxos => "omnipaxos",
            Self::OmnipaxosPlain => "omnipaxos-plain",
            Self::Etcd => "etcd",
        }
    }

    /// The program to start as a replica; etcd is none.
    pub fn program(self) -> &'static str {
        match self {
            Self::Ebpf | Self::Udp => "paxos-demo",
            Self::Omnipaxos | Self::OmnipaxosPlain => "omnipaxos_node",
            Self::Etcd => "etcd",
        }
    }

    /// How many requests share a message: ours is told, the others do as they like.
    fn batch(self, asked: Batch) -> Batch {
        match self {
            Self::Ebpf | Self::Udp => asked,
            Self::Omnipaxos | Self::OmnipaxosPlain | Self::Etcd => Batch(Batching::Auto),
        }
    }

    /// One run of a system whose replicas speak the protocol of ours.
    pub fn run_spec(self, shape: &Shape, repeat: usize, program: PathBuf) -> RunSpec {
        RunSpec {
            backend: match self {
                Self::Ebpf => BackendChoice::Ebpf,
                Self::Udp | Self::Omnipaxos => BackendChoice::Udp,
                Self::OmnipaxosPlain => BackendChoice::UdpSendto,
                Self::Etcd => BackendChoice::Auto,
            },
            setting: Setting {
                replicas: shape.replicas,
                clients: shape.clients,
                rate_rps: None,
                payload_bytes: shape.payload_bytes,
                batch: self.batch(shape.batch),
                durability: Durability::Memory,
                authentication: false,
                log_slots: LOG_SLOTS_DEFAULT,
            },
            offloads: OffloadChoice::ALL,
            hook: HookChoice::Auto,
            seconds: shape.seconds,
            repeat,
            program: Some(program),
        }
    }
}

/// What the runs that are compared have in common.
#[derive(Copy, Clone, Debug)]
pub struct Shape {
    /// Members of the group.
    pub replicas: usize,
    /// Closed-loop clients.
    pub clients: usize,
    /// Size of the values.
    pub payload_bytes: usize,
    /// Length of the measured window.
    pub seconds: f64,
    /// Requests in a message of our leader.
    pub batch: Batch,
}

impl Default for Shape {
    fn default() -> Self {
        Self { replicas: 5, clients: 16, payload_bytes: 64, seconds: 2.0, batch: Batch(Batching::Auto) }
    }
}

/// One run of one system.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerRun {
    /// Which.
    pub system: System,
    /// Members of the group.
    pub replicas: usize,
    /// Closed-loop clients.
    pub clients: usize,
    /// Size of the values.
    pub payload_bytes: usize,
    /// Requests in a message of the leader.
    pub batch: Batch,
    /// Number of the repeat, from 0: runs of one repeat were interleaved.
    pub repeat: usize,
    /// Length of the measured window.
    pub seconds: f64,
    /// Requests answered within it.
    pub requests: u64,
    /// Wrong or missing answers, and differing states.
    pub errors: u64,
    /// Requests a second.
    pub throughput_rps: f64,
    /// Time from the first send to the answer.
    pub latency_us: Latency,
    /// Busy time of the whole machine over the requests.
    pub cpu_us_per_request: f64,
}

impl PeerRun {
    /// A run that [`paxos_demo::bench::run::measure`] made.
    pub fn of(system: System, run: &Run) -> Self {
        Self {
            system,
            replicas: run.setting.replicas,
            clients: run.setting.clients,
            payload_bytes: run.setting.payload_bytes,
            batch: run.setting.batch,
            repeat: run.repeat,
            seconds: run.seconds,
            requests: run.requests,
            errors: run.errors,
            throughput_rps: run.throughput_rps,
            latency_us: run.latency_us,
            cpu_us_per_request: run.cpu_us_per_request,
        }
    }
}

/// What the answers of a run were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many were checked.
    pub checked: u64,
    /// Wrong and missing ones, described.
    pub problems: Vec<String>,
}

/// `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct PeersReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Where it was measured.
    pub host: Host,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
    /// Every run, in the order in which they ran.
    pub runs: Vec<PeerRun>,
    /// Over the runs.
    pub ratios: Vec<Ratio>,
}

/// What a reader must know of a system that is not ours.
pub fn note(system: System) -> Option<&'static str> {
    match system {
        System::Ebpf | System::Udp => None,
        System::Omnipaxos => Some(
            "omnipaxos: the library with its storage in memory, over the same batched UDP sockets as `udp` (sendmmsg, \
             recvmmsg, UDP_SEGMENT, UDP_GRO); no recovery, no log on disk.",
        ),
        System::OmnipaxosPlain => Some(
            "omnipaxos-plain: the same node over plain UDP, a system call for each datagram that is sent or received; \
             messages share datagrams as in `omnipaxos`.",
        ),
        System::Etcd => Some(
            "etcd: not the same work. It speaks gRPC over TCP, keeps versions, and writes a log with fsync (here to \
             tmpfs, where that costs nothing but the call).",
        ),
    }
}

/// The systems in the order of this repeat: nobody is always first on a machine that has just rested.
pub fn turned(systems: &[System], repeat: usize) -> Vec<System> {
    let mut order = systems.to_vec();
    order.rotate_left(repeat % systems.len().max(1));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_first_once() {
        let systems = [System::Ebpf, System::Udp, System::Etcd];
        let first: Vec<_> = (0..4).map(|repeat| turned(&systems, repeat)[0]).collect();
        assert_eq!(first, [System::Ebpf, System::Udp, System::Etcd, System::Ebpf]);
        assert!((0..4).all(|repeat| turned(&systems, repeat).len() == 3));
        assert_eq!(turned(&[], 3), []);
    }

    #[test]
    fn a_system_has_one_name_everywhere() {
        for system in System::value_variants() {
            let on_command_line = system.to_possible_value().expect("none is hidden");
            assert_eq!(on_command_line.get_name(), system.as_str());
            assert_eq!(serde_json::to_value(system).unwrap(), system.as_str());
        }
    }

    /// The run is refused if the replicas say that they have others.
    #[test]
    fn the_two_nodes_over_omnipaxos_differ_in_their_sockets_alone() {
        let spec = |system: System| system.run_spec(&Shape::default(), 0, system.program().into());
        let (batched, plain) = (spec(System::Omnipaxos), spec(System::OmnipaxosPlain));
        assert_eq!((batched.backend, plain.backend), (BackendChoice::Udp, BackendChoice::UdpSendto));
        assert_eq!((batched.program, batched.setting), (plain.program, plain.setting));
    }

    #[test]
    fn only_our_leader_is_told_how_to_batch() {
        let shape = Shape { batch: Batch(Batching::One), ..Shape::default() };
        let batch = |system: System| system.run_spec(&shape, 0, PathBuf::new()).setting.batch.0;
        assert_eq!((batch(System::Ebpf), batch(System::Udp)), (Batching::One, Batching::One));
        assert_eq!(
            (batch(System::Omnipaxos), batch(System::OmnipaxosPlain)),
            (Batching::Auto, Batching::Auto)
        );
    }
}
