//! A leader broadcasts one message to three peers and gets one event when two of them hold it.
//!
//! ```text
//! cargo run -p electrode --features fabric --example quorum
//! ```
//!
//! As root, the four live on virtual hosts (network namespaces on a bridge, gone when the program ends) and
//! the kernel does the work. Without privileges they share the loopback interface, where `auto` chooses
//! sockets, because packets within a host meet no hook. The program says which it was.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use electrode::config::EndpointConfig;
use electrode::fabric::{Fabric, FabricConfig, FabricError};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::{Endpoint, Event, Round};

/// A leader and three peers.
const MEMBERS: usize = 4;
const LEADER: ReplicaId = ReplicaId(0);
/// How many peers must hold the message.
const THRESHOLD: u32 = 2;
const PORT: u16 = 7000;
/// Far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[allow(dead_code, reason = "the test of this example starts at `run`")]
fn main() -> Result<(), Box<dyn Error>> {
    let fabric = Fabric::new(FabricConfig { hosts: MEMBERS, ..FabricConfig::default() });
    run(fabric, &mut io::stdout())
}

/// What happened, for whoever wants to check it.
#[derive(Debug, Default)]
pub struct Seen {
    /// Quorum events at the leader.
    pub quorums: usize,
    /// Peers that were handed the message.
    pub logged: Vec<u8>,
}

/// On virtual hosts if they could be made, on loopback otherwise.
pub fn run(fabric: Result<Fabric, FabricError>, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let endpoints = match &fabric {
        Ok(fabric) => {
            writeln!(out, "{MEMBERS} virtual hosts, each in a network namespace of its own")?;
            on_hosts(fabric)?
        }
        Err(reason) => {
            writeln!(out, "no virtual hosts: {reason}")?;
            writeln!(out, "{MEMBERS} ports of this host instead")?;
            on_loopback()?
        }
    };
    let choice = endpoints[0].choice();
    writeln!(out, "`auto` chose backend {}, hook {}", choice.backend, choice.hook)?;
    if let Some(reason) = &choice.reason {
        writeln!(out, "  because {reason}")?;
    }
    let seen = one_round(endpoints, out)?;
    if seen.quorums != 1 || seen.logged.len() != MEMBERS - 1 {
        return Err(format!("expected one event and three holders: {seen:?}").into());
    }
    Ok(())
}

/// A socket stays in the namespace in which it is opened, and so do the programs of its endpoint.
fn on_hosts(fabric: &Fabric) -> Result<Vec<Endpoint>, Box<dyn Error>> {
    let members: Vec<SocketAddr> = fabric.hosts().iter().map(|host| (host.addr(), PORT).into()).collect();
    let mut endpoints = Vec::new();
    for (i, host) in fabric.hosts().iter().enumerate() {
        let config = EndpointConfig::new(members.clone(), ReplicaId(i as u8));
        endpoints.push(host.netns().run(|| Endpoint::open(config))??);
    }
    Ok(endpoints)
}

/// Ports that were free a moment ago.
fn on_loopback() -> Result<Vec<Endpoint>, Box<dyn Error>> {
    let sockets = (0..MEMBERS).map(|_| std::net::UdpSocket::bind("127.0.0.1:0"));
    let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
    let members = sockets.iter().map(|s| s.local_addr()).collect::<io::Result<Vec<_>>>()?;
    drop(sockets);
    let open = |i| Ok(Endpoint::open(EndpointConfig::new(members.clone(), ReplicaId(i as u8)))?);
    (0..MEMBERS).map(open).collect()
}

fn one_round(mut endpoints: Vec<Endpoint>, out: &mut dyn Write) -> Result<Seen, Box<dyn Error>> {
    let peers = ReplicaSet::all(MEMBERS).without(LEADER);
    for (i, endpoint) in endpoints.iter_mut().enumerate() {
        if i == LEADER.index() {
            endpoint.gate().lead(View(0), OpNumber(0))?;
        } else {
            endpoint.gate().follow(View(0), LEADER, OpNumber(0))?;
        }
    }
    // The kernel copies a packet only for peers whose hardware address it knows; first packets, sent one by
    // one, resolve them. Broadcasting right away would work as well, without the copies.
    if endpoints[0].choice().backend == "ebpf" {
        endpoints[0].send_commit(OpNumber(0), peers)?;
        let since = Instant::now();
        while endpoints[0].reached_by_carrier() != peers && since.elapsed() < PATIENCE {
            endpoints[0].flush()?;
        }
    }

    let round = Round {
        first: OpNumber(1),
        last: OpNumber(1),
        commit: OpNumber(0),
        tag: 7,
        targets: peers,
        voters: peers,
        threshold: THRESHOLD,
        independent: false,
    };
    endpoints[0].elec_broadcast(&round, b"hello")?;
    writeln!(out, "leader: broadcast op 1, \"hello\", to {} peers", peers.len())?;

    let mut seen = Seen::default();
    let mut lines = Vec::new();
    let since = Instant::now();
    // Everybody gets its turn once more after the last event, so that a second one would be seen.
    let mut idle_turns = 0;
    while idle_turns < 100 {
        if since.elapsed() > PATIENCE {
            return Err(format!("not done after {PATIENCE:?}: {seen:?}").into());
        }
        for (i, endpoint) in endpoints.iter_mut().enumerate() {
            endpoint.elec_poll_message(64, &mut |event| match event {
                Event::Logged { first, payload, .. } => {
                    seen.logged.push(i as u8);
                    let text = String::from_utf8_lossy(payload);
                    lines.push(format!("peer {i}: holds op {first}, {text:?}"));
                }
                Event::Quorum { last, .. } => {
                    seen.quorums += 1;
                    lines.push(format!("leader: event: {THRESHOLD} peers hold op {last}"));
                }
                _ => {}
            })?;
        }
        if seen.quorums > 0 && seen.logged.len() == MEMBERS - 1 {
            idle_turns += 1;
        }
    }
    for line in lines {
        writeln!(out, "{line}")?;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let stats = endpoint.stats()?;
        let counted: Vec<_> =
            stats.kernel.iter().filter(|(_, n)| *n > 0).map(|(v, n)| format!("{} {n}", v.name())).collect();
        if !counted.is_empty() {
            writeln!(out, "kernel of member {i}: {}", counted.join(", "))?;
        }
    }
    Ok(seen)
}
