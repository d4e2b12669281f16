//! What an endpoint is opened with, and the checks that it passes first.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::abi;
use crate::auth::{self, Keys};
use crate::error::{Error, Result};
use crate::types::{ReplicaId, ReplicaSet};

/// How the `udp` backend sends.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UdpSend {
    /// sendmmsg and recvmmsg: the honest modern baseline.
    #[default]
    Mmsg,
    /// A sendto for each peer, a receive for each datagram: the paper's baseline.
    Sendto,
    /// One send to an IP multicast group for each broadcast.
    Multicast,
}

/// Who runs the fast path.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Backend {
    /// The kernel if it can, else UDP sockets; [`crate::Endpoint::choice`] tells which and why.
    #[default]
    Auto,
    /// eBPF programs, or an error.
    Ebpf,
    /// Sockets.
    Udp(UdpSend),
}

impl Backend {
    /// Name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Udp(UdpSend::Mmsg) => "udp",
            Self::Udp(UdpSend::Sendto) => "udp-sendto",
            Self::Udp(UdpSend::Multicast) => "udp-multicast",
        }
    }
}

impl std::str::FromStr for Backend {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        [
            Self::Auto,
            Self::Ebpf,
            Self::Udp(UdpSend::Mmsg),
            Self::Udp(UdpSend::Sendto),
            Self::Udp(UdpSend::Multicast),
        ]
        .into_iter()
        .find(|b| b.name() == s)
        .ok_or_else(|| format!("unknown backend `{s}`; there are auto, ebpf, udp, udp-sendto, udp-multicast"))
    }
}

/// Where the ingress program runs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Native XDP where the driver has it, TC ingress on virtual devices.
    #[default]
    Auto,
    /// Native XDP.
    Xdp,
    /// Generic XDP.
    XdpGeneric,
    /// TC ingress: a tcx link, clsact before kernel 6.6.
    Tc,
}

impl Hook {
    /// Name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

impl std::str::FromStr for Hook {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        [Self::Auto, Self::Xdp, Self::XdpGeneric, Self::Tc]
            .into_iter()
            .find(|h| h.name() == s)
            .ok_or_else(|| format!("unknown hook `{s}`; there are auto, xdp, xdp-generic, tc"))
    }
}

/// How TC programs are attached.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum TcMechanism {
    /// tcx where the kernel has it, else clsact.
    #[default]
    Auto,
    /// A tcx link (kernel 6.6 and later).
    Tcx,
    /// A filter on a clsact qdisc.
    Clsact,
}

/// The three jobs that the kernel can take over, each on its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Offloads {
    /// One send, a copy a peer at TC egress (paper section 4.1).
    pub broadcast: bool,
    /// A follower's kernel logs and acknowledges (paper section 4.2).
    pub fast_ack: bool,
    /// The leader's kernel counts (paper section 4.3).
    pub quorum: bool,
}

impl Offloads {
    /// All three.
    pub const ALL: Self = Self { broadcast: true, fast_ack: true, quorum: true };
    /// None: the kernel programs pass everything.
    pub const NONE: Self = Self { broadcast: false, fast_ack: false, quorum: false };
}

impl Default for Offloads {
    fn default() -> Self {
        Self::ALL
    }
}

/// Who acknowledges what a follower has logged.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Acks {
    /// Whoever logs, at once: an ack promises memory (mode `memory`, the paper's).
    #[default]
    OnReceipt,
    /// The caller, by [`crate::Endpoint::acknowledge`], once it is durable (mode `disk`).
    ByCaller,
}

/// One replica of one consensus group behind one UDP address.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Consensus group; members of other groups are not heard.
    pub group: u32,
    /// Address of every member, by index; at most 32, one address family.
    pub members: Vec<SocketAddr>,
    /// Which of them this is.
    pub me: ReplicaId,
    /// Hash of what all members must agree on; a different one is not heard (F1).
    pub config_hash: u64,
    /// Keys of the group, or none: members are known by their addresses alone. All members must agree whether
    /// there are keys; [`crate::Endpoint::set_keys`] changes them.
    pub keys: Option<Keys>,
    /// This life of the replica, not zero.
    pub incarnation: u32,
    /// The lives of the others that count at first; zero: none until [`crate::Endpoint::expect_incarnation`].
    pub peer_incarnation: u32,
    /// Interface that carries the address; found by itself if not named.
    pub interface: Option<String>,
    /// Who runs the fast path.
    pub backend: Backend,
    /// Which jobs the kernel takes.
    pub offloads: Offloads,
    /// Where the ingress program runs.
    pub hook: Hook,
    /// How TC programs are attached.
    pub tc: TcMechanism,
    /// Who acknowledges.
    pub acks: Acks,
    /// Slots of the kernel log, a power of two. The default and the default slot size take 24 MiB.
    pub log_slots: u32,
    /// Largest payload in bytes; `None`: what the interface's MTU holds.
    pub payload_bytes_max: Option<usize>,
    /// Rounds that may be in flight, in ops; a power of two below 2^19.
    pub quorum_window: u32,
    /// How long [`crate::Endpoint::wait`] looks before it sleeps, after a poll that brought something. A
    /// sleeper on an idle CPU takes tens of microseconds to wake; zero never looks.
    pub busy_poll: Duration,
}

impl EndpointConfig {
    /// Member `me` of a group with all three offloads and the backend chosen automatically.
    pub fn new(members: Vec<SocketAddr>, me: ReplicaId) -> Self {
        Self {
            group: 1,
            members,
            me,
            config_hash: 0,
            keys: None,
            incarnation: 1,
            peer_incarnation: 1,
            interface: None,
            backend: Backend::Auto,
            offloads: Offloads::ALL,
            hook: Hook::Auto,
            tc: TcMechanism::Auto,
            acks: Acks::OnReceipt,
            log_slots: 16 * 1024,
            payload_bytes_max: None,
            quorum_window: 16 * 1024,
            busy_poll: Duration::ZERO,
        }
    }

    /// The endpoint's own address.
    pub fn addr(&self) -> SocketAddr {
        self.members[self.me.index()]
    }

    /// The configuration hash in every header: the caller's, and whether there are keys.
    pub fn wire_hash(&self) -> u64 {
        auth::config_hash(self.config_hash, self.keys.is_some())
    }

    /// Everybody else.
    pub fn peers(&self) -> ReplicaSet {
        ReplicaSet::all(self.members.len()).without(self.me)
    }

    /// Refuses what cannot work, and says why.
    pub fn validate(&self) -> Result<()> {
        let bad = |reason: String| Err(Error::Config(reason));
        let n = self.members.len();
        if n == 0 || n > abi::MEMBERS_MAX {
            return bad(format!("{n} members; a group has 1 to {}", abi::MEMBERS_MAX));
        }
        if self.me.index() >= n {
            return bad(format!("member {} of {n}; indices go from 0 to {}", self.me, n - 1));
        }
        for (i, addr) in self.members.iter().enumerate() {
            if addr.is_ipv4() != self.members[0].is_ipv4() {
                return bad(format!("member {i} ({addr}) has another address family than member 0"));
            }
            if let Err(why) = reachable(addr) {
                return bad(format!("member {i}: {why}"));
            }
            if self.members[..i].contains(addr) {
                return bad(format!("members share the address {addr}"));
            }
        }
        if self.incarnation == 0 {
            return bad("incarnation 0 means unknown; count from 1".into());
        }
        if !self.log_slots.is_power_of_two() || self.log_slots > 1 << 20 {
            return bad(format!("log_slots {} is not a power of two up to 2^20", self.log_slots));
        }
        if !self.quorum_window.is_power_of_two() || self.quorum_window > 1 << 18 {
            return bad(format!("quorum_window {} is not a power of two up to 2^18", self.quorum_window));
        }
        if self.payload_bytes_max.is_some_and(|bytes| bytes > self.payload_room(1500)) {
            return bad(format!(
                "payload_bytes_max {} exceeds the {} bytes that an MTU of 1500 holds",
                self.payload_bytes_max.unwrap_or_default(),
                self.payload_room(1500)
            ));
        }
        Ok(())
    }

    /// Payload that an IP packet of `mtu` bytes holds behind all headers.
    pub fn payload_room(&self, mtu: usize) -> usize {
        let ip = if self.members[0].is_ipv4() { 20 } else { 40 };
        mtu.min(1500).saturating_sub(ip + 8 + abi::HEADER_BYTES).min(abi::PAYLOAD_BYTES_MAX)
    }
}

/// Whether others can reach a replica under this address; otherwise why not, and what to write instead.
pub fn reachable(addr: &SocketAddr) -> std::result::Result<(), String> {
    let not = |what: &str, instead: &str| {
        Err(format!("{addr} is not an address that others can reach, for it is {what}: write {instead}"))
    };
    const UNICAST: &str = "the unicast address of the replica's interface";
    if addr.port() == 0 {
        return not("without a port", "one that is not 0");
    }
    if addr.ip().is_unspecified() {
        return not("every address of whoever reads it", UNICAST);
    }
    if addr.ip().is_multicast() {
        return not("a multicast address", UNICAST);
    }
    match addr {
        SocketAddr::V4(v4) if v4.ip().is_broadcast() => not("the broadcast address", UNICAST),
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => not("an IPv4 address in IPv6's clothes", &format!("{ip}:{}", v6.port())),
            None if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
                not("link-local without an interface", "a global or unique local address (fd00::/8)")
            }
            None => Ok(()),
        },
        SocketAddr::V4(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(members: &[&str]) -> EndpointConfig {
        EndpointConfig::new(members.iter().map(|m| m.parse().unwrap()).collect(), ReplicaId(0))
    }

    fn refusal(config: &EndpointConfig) -> String {
        config.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn a_sound_configuration_passes() {
        config(&["10.0.0.1:1", "10.0.0.2:1"]).validate().unwrap();
        config(&["[fd00::1]:1", "[fd00::2]:1"]).validate().unwrap();
    }

    #[test]
    fn contradictions_are_named() {
        assert!(refusal(&config(&[])).contains("0 members"));
        assert!(refusal(&config(&["10.0.0.1:1", "[fd00::2]:1"])).contains("family"));
        assert!(refusal(&config(&["10.0.0.1:1", "10.0.0.1:1"])).contains("share"));
        assert!(refusal(&config(&["0.0.0.0:1"])).contains("reach"));
        for (addr, instead) in [
            ("10.0.0.1:0", "not 0"),
            ("[::]:1", "unicast"),
            ("224.0.0.1:1", "unicast"),
            ("[ff02::1]:1", "unicast"),
            ("255.255.255.255:1", "unicast"),
            ("[::ffff:10.0.0.1]:7", "write 10.0.0.1:7"),
            ("[fe80::1]:1", "fd00::/8"),
        ] {
            let said = refusal(&config(&[addr]));
            assert!(said.contains(addr) && said.contains(instead), "{said}");
        }
        let mut c = config(&["10.0.0.1:1"]);
        c.log_slots = 1000;
        assert!(refusal(&c).contains("power of two"));
        let mut c = config(&["10.0.0.1:1"]);
        c.me = ReplicaId(3);
        assert!(refusal(&c).contains("member 3 of 1"));
        let mut c = config(&["[fd00::1]:1"]);
        c.payload_bytes_max = Some(1373);
        assert!(refusal(&c).contains("1372"));
    }

    #[test]
    fn names_round_trip() {
        for name in ["auto", "ebpf", "udp", "udp-sendto", "udp-multicast"] {
            assert_eq!(name.parse::<Backend>().unwrap().name(), name);
        }
        assert!("tcp".parse::<Backend>().unwrap_err().contains("udp-sendto"));
    }
}
