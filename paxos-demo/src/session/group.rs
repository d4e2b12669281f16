//! What a client knows of the group, and the datagrams that it speaks.

use std::net::SocketAddr;
use std::time::Duration;

use electrode::abi::HEADER_BYTES;
use electrode::auth;
use electrode::types::{ReplicaSet, View};
use electrode::wire::{self, Origin};
use zerocopy::IntoBytes;

use crate::config::ClusterConfig;
use crate::large;
use crate::message::{self, ClientReply, ClientRequest, Have, Packet};

/// What a client knows of the group.
#[derive(Clone, Debug)]
pub struct Group {
    origin: Origin,
    members: Vec<SocketAddr>,
    payload_bytes_max: usize,
    command_bytes_max: usize,
    retry: Duration,
    timeout: Duration,
}

/// A command that no replica can take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request takes {bytes} bytes, this group takes {max} at a time; use a shorter key or value")]
pub struct CommandTooLong {
    /// Its length.
    pub bytes: usize,
    /// The longest possible.
    pub max: usize,
}

impl Group {
    /// The group of a configuration.
    pub fn new(config: &ClusterConfig) -> Self {
        Self {
            origin: Origin {
                group: config.group,
                config_hash: config.wire_hash(),
                sender: None,
                incarnation: 0,
            },
            members: config.replicas.clone(),
            payload_bytes_max: config.payload_bytes_max as usize,
            command_bytes_max: large::command_bytes_max(
                message::part_bytes_max(config.payload_bytes_max as usize),
                config.window_ops(),
            ),
            retry: config.timeouts.client_retry(),
            timeout: config.timeouts.request_timeout(),
        }
    }

    /// The same group, which has keys, or none: clients hold no key, but the hash says that there is one.
    #[must_use]
    pub fn with_keys(mut self, config: &ClusterConfig, has_keys: bool) -> Self {
        self.origin.config_hash = auth::config_hash(config.config_hash(), has_keys);
        self
    }

    /// The same group with another time after which a request is given up.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Addresses of the members, by index.
    pub fn members(&self) -> &[SocketAddr] {
        &self.members
    }

    /// When a request is given up.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When a request without an answer is sent again for the first time.
    pub fn retry(&self) -> Duration {
        self.retry
    }

    /// How long a datagram that the network doubled may be on its way.
    pub(super) fn linger(&self) -> Duration {
        self.retry
    }

    /// Longest command.
    pub fn command_bytes_max(&self) -> usize {
        self.command_bytes_max
    }

    /// Longest command that travels in one datagram and takes one op.
    pub fn part_bytes_max(&self) -> usize {
        message::part_bytes_max(self.payload_bytes_max)
    }

    /// Refuses a command that is too long before anything is sent.
    pub fn check(&self, command: &[u8]) -> Result<(), CommandTooLong> {
        let max = self.command_bytes_max();
        if command.len() > max { Err(CommandTooLong { bytes: command.len(), max }) } else { Ok(()) }
    }

    /// Writes a datagram into `out`: header, then what `body` appends.
    fn encode(&self, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        out.clear();
        self.append(out, body);
    }

    /// Appends a datagram to `out`.
    fn append(&self, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        body(out);
        let payload_bytes = (out.len() - start - HEADER_BYTES) as u16;
        let header = self.origin.message(View(0), ReplicaSet::EMPTY, payload_bytes);
        out[start..start + HEADER_BYTES].copy_from_slice(header.as_bytes());
    }

    /// Length of all datagrams that [`Self::encode_window`] writes but the last.
    pub(super) fn datagram_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes_max
    }

    /// Whether the end of a command is in the window that begins at `from`.
    pub(super) fn is_last_window(&self, command: &[u8], from: usize) -> bool {
        message::window_end(command.len(), from, self.payload_bytes_max) == command.len()
    }

    /// Writes the datagrams of a window of parts into `out`, back to back.
    pub(super) fn encode_window(&self, request: &ClientRequest<'_>, from: usize, out: &mut Vec<u8>) {
        let ClientRequest { client, request, attempt, command } = *request;
        out.clear();
        for part in message::window(client, request, attempt, command, from, self.payload_bytes_max) {
            self.append(out, |out| part.encode(out));
        }
    }

    /// Writes the datagram that asks for more of a result into `out`.
    pub(super) fn encode_have(&self, have: &Have, out: &mut Vec<u8>) {
        self.encode(out, |out| have.encode(out));
    }

    /// Writes a request's datagram into `out`. The command was checked.
    pub fn encode_request(&self, request: &ClientRequest<'_>, out: &mut Vec<u8>) {
        self.encode(out, |out| {
            request.encode(out).expect("a checked command is shorter than 64 KiB");
        });
    }

    /// Makes another copy of a request's datagram.
    pub(super) fn set_attempt(datagram: &mut [u8], attempt: u16) {
        ClientRequest::set_attempt(&mut datagram[HEADER_BYTES..], attempt);
    }

    /// Writes a status request's datagram into `out`: as long as a datagram may be, for so may the reply.
    pub fn encode_status_request(&self, nonce: u64, out: &mut Vec<u8>) {
        let bytes = self.payload_bytes_max;
        self.encode(out, |out| message::encode_status_request(nonce, bytes, out));
    }

    /// The application's part of a datagram of this group; `None` for anything else.
    pub fn parse<'a>(&self, datagram: &'a [u8]) -> Option<Packet<'a>> {
        let (header, payload) = wire::parse(datagram).ok()?;
        let ours =
            header.group.get() == self.origin.group && header.config_hash.get() == self.origin.config_hash;
        if ours { Packet::parse(payload).ok() } else { None }
    }

    /// The client reply in a datagram of this group.
    pub fn parse_reply<'a>(&self, datagram: &'a [u8]) -> Option<ClientReply<'a>> {
        match self.parse(datagram)? {
            Packet::Reply(reply) => Some(reply),
            _ => None,
        }
    }
}
