//! The node: one thread that takes what arrived, gives it to the library, and sends what comes of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use electrode::config::{Backend, EndpointConfig, UdpSend};
use electrode::types::ReplicaId;
use electrode::{Endpoint, Event, Patience};
use omnipaxos::errors::ConfigError as OmniConfigError;
use omnipaxos::{ClusterConfig as OmniCluster, ServerConfig};
use paxos_demo::cli::{BackendChoice, ReplicaArgs};
use paxos_demo::config::{ClusterConfig, ConfigError};
use paxos_demo::message::Packet;
use paxos_demo::node::{Node, NodeStatus};

use super::core::Core;

/// Datagrams taken at once.
const POLL_BUDGET: usize = 256;
/// The library's clock. Nothing but elections and resends waits for it.
const TICK: Duration = Duration::from_millis(100);
/// Ticks after which a silent leader is suspected, as long as with us (`leader_timeout_ms`).
const ELECTION_TICKS: u64 = 3;
/// Ticks after which what was lost while a leader begins is sent again.
const RESEND_TICKS: u64 = 1;
/// Messages that the library makes room for at first.
const BUFFER_MESSAGES: usize = 1024;

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There are no such sockets here.
    #[error(
        "a node over OmniPaxos cannot run over {0}: no packet of it meets a kernel program, and it broadcasts nothing; \
         try --backend udp (many datagrams a system call, the default) or --backend udp-sendto (one)"
    )]
    Backend(BackendChoice),
    /// The library does not take it.
    #[error("omnipaxos: {0:?}")]
    Omni(OmniConfigError),
    /// The namespace could not be entered.
    #[error("cannot enter the network namespace {}: {reason}", path.display())]
    Netns {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The socket failed.
    #[error(transparent)]
    Endpoint(#[from] electrode::Error),
    /// Signals cannot be handled.
    #[error("signal handler: {0}")]
    Signals(#[from] io::Error),
}

/// The sockets that stand for what the command line asks for. `auto` is the batched ones: nothing else is a choice.
fn sockets(asked: BackendChoice) -> Result<UdpSend, NodeError> {
    match asked {
        BackendChoice::Auto | BackendChoice::Udp => Ok(UdpSend::Mmsg),
        BackendChoice::UdpSendto => Ok(UdpSend::Sendto),
        BackendChoice::Ebpf | BackendChoice::UdpMulticast => Err(NodeError::Backend(asked)),
    }
}

/// Runs a node until SIGTERM or SIGINT. It takes the options of `paxos-demo replica`, and has no use for those that
/// choose a hook or a directory.
pub fn run(args: &ReplicaArgs) -> Result<(), NodeError> {
    let sockets = sockets(args.backend)?;
    let config = ClusterConfig::load(&args.config)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    if let Some(path) = &args.netns {
        electrode::fabric::netns::enter_path(path)
            .map_err(|e| NodeError::Netns { path: path.clone(), reason: e.to_string() })?;
    }
    let me = ReplicaId(args.id);
    let mut endpoint_config = EndpointConfig::new(config.replicas.clone(), me);
    endpoint_config.group = config.group;
    endpoint_config.config_hash = config.config_hash();
    endpoint_config.interface = args.interface.clone();
    endpoint_config.backend = Backend::Udp(sockets);
    endpoint_config.payload_bytes_max = Some(config.payload_bytes_max as usize);
    endpoint_config.busy_poll = Duration::from_micros(config.timeouts.busy_poll_us);
    let endpoint = Endpoint::open(endpoint_config)?;

    let members = config.replicas.len();
    let cluster =
        OmniCluster { configuration_id: 1, nodes: (1..=members as u64).collect(), ..OmniCluster::default() };
    let server = ServerConfig {
        pid: u64::from(me.0) + 1,
        election_tick_timeout: ELECTION_TICKS,
        resend_message_tick_timeout: RESEND_TICKS,
        buffer_size: BUFFER_MESSAGES,
        // Clients ask member 0 first.
        leader_priority: u32::from(me.0 == 0),
        ..ServerConfig::default()
    };
    let core =
        Core::new(me, members, endpoint.payload_bytes_max(), cluster, server).map_err(NodeError::Omni)?;
    println!("node {me} on {}", endpoint.local_addr());
    let company_delay = Duration::from_millis(config.timeouts.commit_notice_delay_ms);
    let mut node = OmniNode { endpoint, core, sockets, company_delay, alone_at: None };
    node.serve(&stop)
}

struct OmniNode {
    endpoint: Endpoint,
    core: Core,
    sockets: UdpSend,
    company_delay: Duration,
    /// When what waits for company has waited long enough.
    alone_at: Option<Instant>,
}

impl OmniNode {
    fn serve(&mut self, stop: &AtomicBool) -> Result<(), NodeError> {
        let mut tick_at = Instant::now() + TICK;
        self.send(Instant::now())?;
        while !stop.load(Ordering::Relaxed) {
            self.poll()?;
            let now = Instant::now();
            if now >= tick_at {
                tick_at = now + TICK;
                self.core.tick();
            }
            self.core.settle();
            self.send(now)?;
            let until = self.alone_at.map_or(tick_at, |at| at.min(tick_at));
            self.endpoint.wait(until.saturating_duration_since(Instant::now()), Patience::Eager)?;
        }
        Ok(())
    }

    /// Takes what has arrived. Plain sockets give one datagram at a time, and whatever came has to be with the library
    /// before it says what is to be sent: otherwise each request would travel alone.
    fn poll(&mut self) -> Result<(), NodeError> {
        let mut taken = self.poll_once()?;
        let mut events = taken;
        while self.sockets == UdpSend::Sendto && events > 0 && taken < POLL_BUDGET {
            events = self.poll_once()?;
            taken += events;
        }
        Ok(())
    }

    /// Requests are proposed at once, and so the messages of the others find them. Returns how many datagrams came.
    fn poll_once(&mut self) -> Result<usize, NodeError> {
        let Self { endpoint, core, .. } = self;
        let events = endpoint.elec_poll_message(POLL_BUDGET, &mut |event| {
            let Event::Message { from, sender, payload, .. } = event else { return };
            match (Packet::parse(payload), sender) {
                (Ok(Packet::Request(request)), _) => core.on_request(from, request),
                (Ok(Packet::Peer(bytes)), Some(sender)) => core.on_peer(sender, bytes),
                (Ok(Packet::StatusRequest { nonce, bytes }), _) => core.asked.push((from, nonce, bytes)),
                _ => {}
            }
        })?;
        Ok(events)
    }

    fn send(&mut self, now: Instant) -> Result<(), NodeError> {
        let Self { endpoint, core, .. } = self;
        let all = self.alone_at.is_some_and(|at| now >= at);
        core.outbox.take(all, |to, datagram| endpoint.send_to_member(to, datagram))?;
        core.replies.take(|to, reply| endpoint.send_message(to, reply))?;
        self.alone_at = match (core.outbox.has_waiting(), self.alone_at) {
            (false, _) => None,
            (true, Some(at)) if now < at => Some(at),
            (true, _) => Some(now + self.company_delay),
        };
        while let Some((to, nonce, bytes_max)) = self.core.asked.pop() {
            let bytes_max = bytes_max.min(self.endpoint.payload_bytes_max());
            if let Some(reply) = self.status()?.into_reply(nonce, bytes_max) {
                self.endpoint.send_message(to, &reply)?;
            }
        }
        self.endpoint.flush()?;
        Ok(())
    }

    fn status(&self) -> Result<NodeStatus, NodeError> {
        let node = Node { incarnation: 1, ..Node::of(&self.endpoint)? };
        Ok(NodeStatus { replica: self.core.status(), node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_batched_unless_plain_ones_are_asked_for_and_nothing_else_is_there() {
        assert_eq!(sockets(BackendChoice::Auto).unwrap(), UdpSend::Mmsg);
        assert_eq!(sockets(BackendChoice::Udp).unwrap(), UdpSend::Mmsg);
        assert_eq!(sockets(BackendChoice::UdpSendto).unwrap(), UdpSend::Sendto);
        for refused in [BackendChoice::Ebpf, BackendChoice::UdpMulticast] {
            let text = sockets(refused).unwrap_err().to_string();
            assert!(text.contains(refused.as_str()) && text.contains("--backend udp-sendto"), "{text}");
        }
    }
}
