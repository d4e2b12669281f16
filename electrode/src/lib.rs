//! Electrode: the repetitive jobs of a consensus protocol, done in the Linux kernel with eBPF.
//!
//! A leader sends the same message to every follower, each follower answers "I hold it", the leader counts to
//! a majority. Electrode takes these three jobs off the process (Zhou et al., "Electrode: Accelerating
//! Distributed Protocols with eBPF", NSDI 2023) and leaves everything that needs thought to it: views,
//! elections, recovery, durability. What the kernel may do on a replica's behalf is ruled by F1 to F11 and L1
//! to L11, which code and tests cite.
//!
//! # The way a packet takes
//!
//! ```text
//!  leader    elec_broadcast -> socket -> TC egress: one copy a peer            (elec_tx)
//!                                            |
//!                                          wire
//!                                            |
//!  follower                              ingress: log, then acknowledge        (elec_rx_tc or elec_rx_xdp)
//!                                            |
//!                                          wire
//!                                            |
//!  leader    elec_poll_message <- socket <- ingress: count to the quorum       (elec_rx_tc or elec_rx_xdp)
//! ```
//!
//! The follower's process may sleep through it: it finds the message in a log that it shares with the kernel,
//! whenever it looks. Whatever the kernel cannot judge (a gap, a full log, a new view, a foreign packet) goes
//! on to the process unchanged, which judges by the same rules; so a group works the same without kernel
//! programs, only slower, and members with and without them mix.
//!
//! # One message, three peers, one event
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! use electrode::config::EndpointConfig;
//! use electrode::endpoint::Patience;
//! use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
//! use electrode::{Endpoint, Event, Round};
//!
//! /// Member 0 leads; 1, 2 and 3 are its peers, each on a host of its own.
//! fn members() -> Vec<SocketAddr> {
//!     (1..=4).map(|host| SocketAddr::from(([10, 0, 0, host], 7000))).collect()
//! }
//!
//! fn leader() -> electrode::Result<()> {
//!     let mut endpoint = Endpoint::open(EndpointConfig::new(members(), ReplicaId(0)))?;
//!     println!("{:?}", endpoint.choice()); // the kernel or sockets, and why
//!     endpoint.gate().lead(View(0), OpNumber(0))?;
//!
//!     let peers = ReplicaSet::all(4).without(ReplicaId(0));
//!     let round = Round {
//!         first: OpNumber(1),
//!         last: OpNumber(1),
//!         commit: OpNumber(0),
//!         tag: 0,
//!         targets: peers,
//!         voters: peers,
//!         threshold: 2, // two of the three
//!         independent: false,
//!     };
//!     endpoint.elec_broadcast(&round, b"hello")?;
//!
//!     let mut complete = false;
//!     while !complete {
//!         endpoint.wait(Duration::from_millis(10), Patience::Eager)?;
//!         endpoint.elec_poll_message(64, &mut |event| {
//!             if let Event::Quorum { last, .. } = event {
//!                 println!("two peers hold op {last}"); // comes once
//!                 complete = true;
//!             }
//!         })?;
//!         // Packets get lost: after a while, `endpoint.resend(&round, peers, b"hello")?`.
//!     }
//!     Ok(())
//! }
//!
//! fn peer(me: u8) -> electrode::Result<()> {
//!     let mut endpoint = Endpoint::open(EndpointConfig::new(members(), ReplicaId(me)))?;
//!     endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0))?;
//!     loop {
//!         endpoint.wait(Duration::from_secs(1), Patience::Eager)?;
//!         endpoint.elec_poll_message(64, &mut |event| {
//!             if let Event::Logged { first, payload, .. } = event {
//!                 println!("op {first}: {payload:?}"); // acknowledged already
//!             }
//!         })?;
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! `examples/quorum.rs` is this as one program that makes its own virtual hosts:
//! `cargo run -p electrode --features fabric --example quorum`.
//!
//! # Modules, in reading order
//!
//! 1. [`types`]: view, op number, replica, set of replicas. [`config`]: what an endpoint is opened with.
//! 2. [`endpoint`]: the handle. Leader and follower, the gate (freeze, drain, open), waiting.
//! 3. [`abi`] and [`wire`]: the header that every packet carries, and the counters. [`words`]: the 64-bit words
//!    that kernel and process change by compare-and-swap. [`quorum`]: thresholds.
//!    [`auth`]: keys and the tag.
//! 4. [`rules`]: the decisions, pure. [`model`]: the kernel's side as a step machine in plain Rust, the oracle of
//!    tests.
//! 5. `backend`, `attach`, `net` (private): sockets alone or with kernel programs (crate `electrode-bpf`),
//!    putting these on hooks, asking the kernel for routes and neighbours.
//! 6. [`probe`]: what this machine can do and what `auto` would choose. [`inspect`]: what is on the hooks now.
//!    The program `elecctl` shows both.
//! 7. [`privileges`]: what opening an endpoint needs, for what, and how to be without it afterwards.
//! 8. `fabric` (feature): virtual hosts for examples, tests and demos.
//!
//! # Features
//!
//! | feature | default | what it brings | what it needs |
//! |---|---|---|---|
//! | `ebpf` | yes | the kernel programs; without it, sockets | clang and libelf to build |
//! | `cli` | yes | the program `elecctl` | clap, serde_json |
//! | `fabric` | no | virtual hosts | rtnetlink; root at run time |
//! | `simulation` | no | endpoints over a simulated network; for the tests of this project | |
//!
//! The library alone, with the kernel programs: `default-features = false, features = ["ebpf"]`.
//!
//! # Limits
//!
//! - Linux on little-endian machines. The kernel programs want 6.1 or later (6.6 for hooks that go away with
//!   their process in every case), CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and an Ethernet-like interface;
//!   [`config::Backend::Auto`] uses sockets elsewhere, and [`Endpoint::choice`] says why.
//! - Members on one host and in one network namespace talk over sockets: their packets meet no hook.
//! - A group has up to 32 members of one address family. A message has up to 1392 bytes over IPv4, 1372 over
//!   IPv6; a larger one is refused before anything is sent. Fragments, IP options and VLAN tags inside the
//!   frame are left to the stack.
//! - An ack promises memory, not disk, unless [`config::Acks::ByCaller`] leaves it to the process.
//! - Without keys ([`auth`]) source addresses are checked, and the network is trusted to keep them. With keys members
//!   are authenticated, clients are not, and nothing is encrypted.
//! - The library resends nothing and elects nobody: the protocol above it does, crate `paxos-demo` for one.

pub mod abi;
#[cfg(feature = "ebpf")]
mod attach;
pub mod auth;
mod backend;
pub mod clock;
pub mod config;
pub mod endpoint;
mod error;
#[cfg(feature = "fabric")]
pub mod fabric;
pub mod inspect;
pub mod model;
mod net;
pub mod privileges;
pub mod probe;
pub mod quorum;
pub mod rules;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
mod stats;
pub mod types;
pub mod wire;
pub mod words;
#[cfg(feature = "ebpf")]
pub use attach::{PassStub, attach_pass_stub};
pub use error::{Error, Result};

pub use endpoint::{Choice, Endpoint, Event, Patience, Round};
pub use net::{Direction, Interface, SocketStats, XdpMode, XdpProgram};
pub use stats::{Stats, Traffic};
