//! `cluster.toml`: what the members of one consensus group, and their clients, know of each other.
//!
//! A wrong file is refused as a whole, with the line and the reason; an unknown key is an error, because
//! a misspelt timeout that is silently ignored is found out in production.

mod file;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use electrode::abi;
use serde::{Deserialize, Serialize};

use crate::message::TRAVEL_BYTES;
use crate::state_machine::KEPT_RESULT_BYTES_MAX;

/// Slots of a replica's log by default: with [`PAYLOAD_BYTES_MAX_DEFAULT`] just under 24 MiB a replica.
pub const LOG_SLOTS_DEFAULT: u32 = 16_384;
/// Payload room of a log slot by default: what one Ethernet MTU of 1500 holds over IPv4.
pub const PAYLOAD_BYTES_MAX_DEFAULT: u32 = abi::PAYLOAD_BYTES_MAX as u32;
/// Least payload room: one reply holds the result of any op, so whoever changed something learns what it returned.
pub const PAYLOAD_BYTES_MIN: u32 = (TRAVEL_BYTES + KEPT_RESULT_BYTES_MAX) as u32;
/// Quorum rounds in flight by default.
pub const QUORUM_WINDOW_DEFAULT: u32 = 4096;
/// Memory that one replica's log may take: it is locked kernel memory. 65,536 of the largest slots fit.
pub const LOG_BYTES_MAX: u64 = 128 << 20;
/// Bytes of a log slot with so much payload room (wire-format.md, `elec_slots`).
pub(crate) const fn slot_bytes(payload_bytes_max: u32) -> u64 {
    abi::SLOT_HEADER_BYTES as u64 + (payload_bytes_max as u64).next_multiple_of(8) + 8
}

/// An IPv6 header is 20 bytes longer than an IPv4 header, and the MTU is the same.
pub const PAYLOAD_BYTES_MAX_IPV6: u32 = PAYLOAD_BYTES_MAX_DEFAULT - 20;

/// What an acknowledgement promises (rules.md, "Durability modes"). A fast ack promises memory, not disk.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The paper's: an op survives the loss of up to f replicas, process or machine.
    #[default]
    Memory,
    /// As `memory`, and a crashed process loses nothing.
    Process,
    /// Survives all machines at once.
    Disk,
}

impl Durability {
    /// The word in `cluster.toml` and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Disk => "disk",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the leader fills a Prepare.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Batching {
    /// One request a Prepare, the paper's setting.
    One,
    /// As many as have arrived and fit, never waiting for more.
    #[default]
    Auto,
}

/// Which jobs go to the kernel. Each can be switched off alone.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffloadChoice {
    /// Clone Prepares to all followers at TC egress.
    #[serde(default = "yes")]
    pub broadcast: bool,
    /// Log and acknowledge Prepares at ingress.
    #[serde(default = "yes")]
    pub fast_ack: bool,
    /// Count acknowledgements at ingress.
    #[serde(default = "yes")]
    pub quorum: bool,
}

fn yes() -> bool {
    true
}

impl OffloadChoice {
    /// All three.
    pub const ALL: Self = Self { broadcast: true, fast_ack: true, quorum: true };
    /// None of them.
    pub const NONE: Self = Self { broadcast: false, fast_ack: false, quorum: false };

    /// Names of those that are on, as `bench --json` writes them.
    pub fn names(self) -> Vec<String> {
        [(self.broadcast, "broadcast"), (self.fast_ack, "fast_ack"), (self.quorum, "quorum")]
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| name.to_owned())
            .collect()
    }
}

impl Default for OffloadChoice {
    fn default() -> Self {
        Self::ALL
    }
}

impl std::str::FromStr for OffloadChoice {
    type Err = String;

    /// From a list such as `broadcast,fast-ack`; `none` and `all` are words too.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::ALL),
            "none" | "" => return Ok(Self::NONE),
            _ => {}
        }
        let mut choice = Self::NONE;
        for word in text.split(',') {
            match word.trim() {
                "broadcast" => choice.broadcast = true,
                "fast-ack" | "fast_ack" => choice.fast_ack = true,
                "quorum" => choice.quorum = true,
                other => {
                    return Err(format!(
                        "unknown offload '{other}': use broadcast, fast-ack, quorum, all or none"
                    ));
                }
            }
        }
        Ok(choice)
    }
}

/// Timeouts in milliseconds.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// A leader sends an op again to the peers that have not acknowledged it for so long (L6).
    pub resend_timeout_ms: u64,
    /// An idle leader tells the followers its commit number after so long (F10).
    pub commit_notice_delay_ms: u64,
    /// Interval of an idle leader's signs of life.
    pub heartbeat_interval_ms: u64,
    /// A follower that has not heard its leader for so long suspects that it is gone; a quorum of these starts a
    /// view change. Several heartbeats.
    pub leader_timeout_ms: u64,
    /// A client sends a request again when no reply came for so long; doubles up to eight times this.
    pub client_retry_ms: u64,
    /// A client gives up on a request after so long.
    pub request_timeout_ms: u64,
    /// A leader in a quiet dialogue looks for the next packet for so long before it sleeps: on an idle CPU a
    /// sleeper takes longer to wake. Zero never looks.
    pub busy_poll_us: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            resend_timeout_ms: 20,
            commit_notice_delay_ms: 2,
            heartbeat_interval_ms: 50,
            leader_timeout_ms: 300,
            client_retry_ms: 100,
            request_timeout_ms: 5000,
            busy_poll_us: 50,
        }
    }
}

impl Timeouts {
    /// [`Timeouts::client_retry_ms`] as a duration.
    pub fn client_retry(&self) -> Duration {
        Duration::from_millis(self.client_retry_ms)
    }

    /// [`Timeouts::request_timeout_ms`] as a duration.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
}

/// A validated cluster configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Consensus group: packets of another group are not ours (F1).
    pub group: u32,
    /// Address and port of each replica; the position is the replica's index.
    pub replicas: Vec<SocketAddr>,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Which jobs go to the kernel.
    pub offloads: OffloadChoice,
    /// How the leader fills a Prepare.
    pub batching: Batching,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Slots of a replica's log, a power of two.
    pub log_slots: u32,
    /// Payload room of one log slot, and so the largest Prepare.
    pub payload_bytes_max: u32,
    /// Quorum rounds in flight, a power of two.
    pub quorum_window: u32,
    /// The group's key file ([`crate::key_file`]), as written: relative to the configuration file's directory.
    /// [`ClusterConfig::load`] makes a path of it that can be opened. Without one nothing is authenticated.
    pub key_file: Option<PathBuf>,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; check the path given with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of the file is wrong.
    #[error("{}line {line}: {reason}", file_prefix(path.as_deref()))]
    Line {
        /// The file, where there is one.
        path: Option<PathBuf>,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it and what to write instead.
        reason: String,
    },
}

fn file_prefix(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| format!("{}: ", path.display()))
}

/// The line, from 1, in which an offset lies.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

impl ConfigError {
    fn at(text: &str, span: Range<usize>, reason: impl Into<String>) -> Self {
        Self::Line { path: None, line: line_of(text, span.start), reason: reason.into() }
    }

    fn in_file(self, file: &Path) -> Self {
        match self {
            Self::Line { line, reason, .. } => Self::Line { path: Some(file.to_owned()), line, reason },
            other => other,
        }
    }
}

impl ClusterConfig {
    /// A configuration of these replicas with defaults for everything else.
    pub fn new(group: u32, replicas: Vec<SocketAddr>) -> Self {
        let ipv6 = replicas.first().is_some_and(SocketAddr::is_ipv6);
        Self {
            group,
            replicas,
            durability: Durability::default(),
            offloads: OffloadChoice::default(),
            batching: Batching::default(),
            timeouts: Timeouts::default(),
            log_slots: LOG_SLOTS_DEFAULT,
            payload_bytes_max: if ipv6 { PAYLOAD_BYTES_MAX_IPV6 } else { PAYLOAD_BYTES_MAX_DEFAULT },
            quorum_window: QUORUM_WINDOW_DEFAULT,
            key_file: None,
        }
    }

    /// Ops that may be in flight: fewer than there are round slots, which are found by op (L1).
    pub fn window_ops(&self) -> u64 {
        crate::replica::WINDOW_OPS.min(u64::from(self.quorum_window) / 2)
    }

    /// Reads and validates a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config = Self::parse(&text).map_err(|error| error.in_file(path))?;
        if let Some(directory) = path.parent() {
            config.key_file = config.key_file.map(|file| directory.join(file));
        }
        Ok(config)
    }

    /// Parses and validates the text of a file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        file::parse(text)
    }

    /// The text of a file that parses to this configuration.
    pub fn to_toml(&self) -> String {
        file::write(self)
    }

    /// Writes the file.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        std::fs::write(path, self.to_toml())
            .map_err(|source| ConfigError::Write { path: path.to_owned(), source })
    }

    /// Whether the replicas are reached over IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.replicas.first().is_some_and(SocketAddr::is_ipv6)
    }

    /// The hash as it is on the wire: members with and without keys do not hear each other, and say so. Which
    /// keys they hold is not part of it. A client needs no key, but must know whether the group has one.
    pub fn wire_hash(&self) -> u64 {
        electrode::auth::config_hash(self.config_hash(), self.key_file.is_some())
    }

    /// Hash of what all members must agree on, the durability mode included (F1): members with another hash
    /// refuse each other's packets. Offloads, batching and timeouts may differ from member to member. The value
    /// is stable across versions of the program: FNV-1a (64 bits) over a canonical text, mixed once more. What is
    /// stored carries it, so the key file is not part of it: a group gets one without losing its data
    /// ([`Self::wire_hash`]).
    pub fn config_hash(&self) -> u64 {
        let mut hash = fnv1a(FNV_OFFSET, b"electrode cluster configuration 1\n");
        let mut field = |name: &str, value: String| {
            hash = fnv1a(hash, format!("{name}={value}\n").as_bytes());
        };
        field("group", self.group.to_string());
        field("durability", self.durability.to_string());
        field("log_slots", self.log_slots.to_string());
        field("payload_bytes_max", self.payload_bytes_max.to_string());
        for (index, address) in self.replicas.iter().enumerate() {
            field("replica", format!("{index} {address}"));
        }
        // FNV leaves the last bytes badly mixed; zero is kept for "no hash".
        let mixed = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).max(1)
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv1a(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests;
