//! One client session: numbered requests, each executed once, over datagrams that may be lost. Sans-IO: the
//! command line client, the load generator and the RESP front-end all drive this.
//!
//! A request is sent to the replica that is believed to lead, again when no answer comes in time, and
//! elsewhere when an answer says who leads. All copies carry the same number, so however many arrive, the
//! command is executed once. When the client gives up it cannot know whether the command was executed: the
//! session ends there ([`Session::renew`] starts another), for a late copy must not meet a reused number.
//!
//! Reads ([`Command::is_read`]) change nothing, so none of this matters to them: they may be executed any
//! number of times, take no number from the writes ([`READ`]), and one without an answer has not been applied.

use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use electrode::abi::HEADER_BYTES;
use electrode::types::{ReplicaSet, View};
use electrode::wire::{self, Origin};
use zerocopy::IntoBytes;

use crate::config::ClusterConfig;
use crate::message::{self, ClientReply, ClientRequest, Packet, ReplyStatus};
use crate::state_machine::Command;

/// Set in the numbers of reads, which are counted apart from writes: the group does not remember them.
pub const READ: u64 = 1 << 63;

/// What a client knows of the group.
#[derive(Clone, Debug)]
pub struct Group {
    origin: Origin,
    members: Vec<SocketAddr>,
    payload_bytes_max: usize,
    retry: Duration,
    timeout: Duration,
}

/// A command that no replica can take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the request takes {bytes} bytes, one datagram of this group holds {max}; use a shorter key or value"
)]
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
                config_hash: config.config_hash(),
                sender: None,
                incarnation: 0,
            },
            members: config.replicas.clone(),
            payload_bytes_max: config.payload_bytes_max as usize,
            retry: config.timeouts.client_retry(),
            timeout: config.timeouts.request_timeout(),
        }
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

    /// Longest command.
    pub fn command_bytes_max(&self) -> usize {
        message::command_bytes_max(self.payload_bytes_max)
    }

    /// Refuses a command that is too long before anything is sent.
    pub fn check(&self, command: &[u8]) -> Result<(), CommandTooLong> {
        let max = self.command_bytes_max();
        if command.len() > max { Err(CommandTooLong { bytes: command.len(), max }) } else { Ok(()) }
    }

    /// Writes a datagram into `out`: header, then what `body` appends.
    fn encode(&self, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        out.clear();
        out.resize(HEADER_BYTES, 0);
        body(out);
        let payload_bytes = (out.len() - HEADER_BYTES) as u16;
        let header = self.origin.message(View(0), ReplicaSet::EMPTY, payload_bytes);
        out[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    }

    /// Writes a request's datagram into `out`. The command was checked.
    pub fn encode_request(&self, request: &ClientRequest<'_>, out: &mut Vec<u8>) {
        self.encode(out, |out| {
            request.encode(out).expect("a checked command is shorter than 64 KiB");
        });
    }

    /// Writes a status request's datagram into `out`.
    pub fn encode_status_request(&self, nonce: u64, out: &mut Vec<u8>) {
        self.encode(out, |out| message::encode_status_request(nonce, out));
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

/// A number that no other session has: from the system's entropy, never zero.
pub fn random_id() -> u64 {
    // Every RandomState has keys of its own, seeded by the system.
    std::hash::RandomState::new().build_hasher().finish().max(1)
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing was applied: every copy was turned down, or it was a read.
    #[error("the group did not take the request: {reason}; nothing was applied, try again")]
    TryAgain {
        /// What the replicas said, if they said something.
        reason: &'static str,
    },
    /// Nobody answered in time: whether it was applied is not known.
    #[error(
        "no answer within {waited_ms} ms after {sends} sends; the request may have been applied or not. Is the leader \
         up and reachable?"
    )]
    Unknown {
        /// How long it was waited for.
        waited_ms: u64,
        /// Copies sent.
        sends: u32,
    },
    /// The group forgot the session: whether the request was applied is not known.
    #[error("the group does not know this session any more; the request may have been applied or not")]
    SessionLost,
    /// The command makes no sense to the group.
    #[error("the group refused the request as malformed")]
    Refused,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send [`Session::packet`] to [`Session::target`].
    Send,
    /// Nothing until then, unless a reply comes.
    Wait(Instant),
    /// The reply holds the result of the command.
    Done,
    /// It failed; the session has been renewed where its fate is open.
    Failed(RequestError),
}

/// A session with at most one request under way.
#[derive(Debug)]
pub struct Session {
    id: u64,
    /// Writes and reads begun so far.
    writes: u64,
    reads: u64,
    /// Number of the request under way.
    request: u64,
    busy: bool,
    target: usize,
    packet: Vec<u8>,
    started: Instant,
    resend_at: Instant,
    pause: Duration,
    sends: u32,
    /// Sends that were answered with "nothing was done".
    turned_down: u32,
    /// The last send was: a reply that the network doubled does not count for another send.
    answered: bool,
    reason: &'static str,
}

impl Session {
    /// A new session with a random id that first asks member `target`.
    pub fn new(target: usize) -> Self {
        Self::with_id(random_id(), target)
    }

    /// A new session with an id of the caller's making, which nobody may ever have used before.
    pub fn with_id(id: u64, target: usize) -> Self {
        let now = Instant::now();
        Self {
            id,
            writes: 0,
            reads: 0,
            request: 0,
            busy: false,
            target,
            packet: Vec::new(),
            started: now,
            resend_at: now,
            pause: Duration::ZERO,
            sends: 0,
            turned_down: 0,
            answered: false,
            reason: "no answer",
        }
    }

    /// The session's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Index of the member to send to.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Turns to another member, which somebody else found to lead.
    pub fn set_target(&mut self, target: usize) {
        self.target = target;
    }

    /// The datagram of the request under way.
    pub fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// Whether a request is under way.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// When the request under way was begun.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When [`Session::on_time`] has something to do.
    pub fn resend_at(&self) -> Instant {
        self.resend_at
    }

    /// Copies of the request under way that were sent.
    pub fn sends(&self) -> u32 {
        self.sends
    }

    /// Begins a request: send [`Session::packet`] next.
    ///
    /// # Panics
    /// If one is under way, or the command was not checked by [`Group::check`].
    pub fn begin(&mut self, group: &Group, command: &[u8], now: Instant) {
        assert!(!self.busy, "one request at a time");
        assert!(group.check(command).is_ok(), "the command was checked");
        self.request = if Command::parse(command).is_ok_and(|command| command.is_read()) {
            self.reads += 1;
            READ | self.reads
        } else {
            self.writes += 1;
            self.writes
        };
        let request = ClientRequest { client: self.id, request: self.request, command };
        group.encode_request(&request, &mut self.packet);
        self.busy = true;
        self.started = now;
        self.pause = group.retry;
        self.resend_at = now + self.pause;
        self.sends = 1;
        self.turned_down = 0;
        self.answered = false;
        self.reason = "no answer";
    }

    /// A reply arrived, possibly to somebody else or to an older request.
    pub fn on_reply(&mut self, group: &Group, reply: &ClientReply<'_>, now: Instant) -> Step {
        if !self.busy || reply.client != self.id || reply.request != self.request {
            return Step::Wait(self.resend_at);
        }
        match reply.status {
            ReplyStatus::Ok => {
                self.busy = false;
                Step::Done
            }
            ReplyStatus::NotLeader => {
                self.turn_down("no replica leads");
                let leader = reply.leader.index();
                if leader < group.members.len() && leader != self.target {
                    self.target = leader;
                    // At once, but a group that sends us in circles is asked at the pace of the timer.
                    if self.turned_down <= group.members.len() as u32 {
                        self.pause = group.retry;
                        return self.send(group, now);
                    }
                }
                Step::Wait(self.resend_at)
            }
            ReplyStatus::TryAgain => {
                self.turn_down("too many requests are under way, or it is still forming");
                Step::Wait(self.resend_at)
            }
            ReplyStatus::BadRequest => {
                self.busy = false;
                Step::Failed(RequestError::Refused)
            }
            ReplyStatus::SessionUnknown => {
                if self.is_read() {
                    self.turn_down("it does not know the session");
                    return Step::Wait(self.resend_at);
                }
                self.renew();
                Step::Failed(RequestError::SessionLost)
            }
        }
    }

    /// Time passed.
    pub fn on_time(&mut self, group: &Group, now: Instant) -> Step {
        if !self.busy || now < self.resend_at {
            return Step::Wait(self.resend_at);
        }
        let waited = now.saturating_duration_since(self.started);
        if waited >= group.timeout {
            // Turned down as often as sent: no copy is left that could still be applied. (A copy that the
            // network made would belong to a session that has ended.)
            let nothing_was_done = self.turned_down >= self.sends || self.is_read();
            let error = if nothing_was_done {
                RequestError::TryAgain { reason: self.reason }
            } else {
                RequestError::Unknown { waited_ms: waited.as_millis() as u64, sends: self.sends }
            };
            if self.turned_down < self.sends {
                // A client without time for a second copy would ask a dead replica for ever.
                self.target = (self.target + 1) % group.members.len();
            }
            if self.is_read() {
                self.busy = false;
            } else {
                self.renew();
            }
            return Step::Failed(error);
        }
        // Silence: the believed leader may be gone. Every other copy goes elsewhere, and whoever gets it
        // says who leads; a member that is merely slow is not left at once.
        if self.turned_down < self.sends && self.sends.is_multiple_of(2) {
            self.target = (self.target + 1) % group.members.len();
        }
        self.send(group, now)
    }

    /// Whether the request under way is a read.
    fn is_read(&self) -> bool {
        self.request & READ != 0
    }

    fn turn_down(&mut self, reason: &'static str) {
        if !self.answered {
            self.answered = true;
            self.turned_down += 1;
        }
        self.reason = reason;
    }

    fn send(&mut self, group: &Group, now: Instant) -> Step {
        self.sends += 1;
        self.answered = false;
        self.resend_at = (now + self.pause).min(self.started + group.timeout).max(now);
        self.pause = (self.pause * 2).min(group.retry * 8);
        Step::Send
    }

    /// Ends the session and starts another, when the fate of a request is open.
    pub fn renew(&mut self) {
        self.id = random_id();
        (self.writes, self.reads, self.request) = (0, 0, 0);
        self.busy = false;
    }
}

#[cfg(test)]
mod tests;
