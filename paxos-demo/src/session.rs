//! One client session: numbered requests, each executed once, over datagrams that may be lost. Sans-IO: the
//! command line client, the load generator and the RESP front-end all drive this.
//!
//! A request is sent to the replica that is believed to lead, again when no answer comes in time, and
//! elsewhere when an answer says who leads. All copies carry the same number, so however many arrive, the
//! command is executed once. When the client gives up it cannot know whether the command was executed: the
//! session ends there ([`Session::renew`] starts another), for a late copy must not meet a reused number.
//!
//! A command that does not fit a datagram goes out in windows of numbered parts: the next window when the leader
//! says what it has ([`transfer`]). It is executed only once all parts were there, so as long as the last part was not
//! sent nothing can have been applied. A result that does not fit is pulled in the same way; if the leader does
//! not have it any more, the session reads again.
//!
//! Reads ([`Command::is_read`]) change nothing, so none of this matters to them: they may be executed any
//! number of times, take no number from the writes ([`READ`]), and one without an answer has not been applied.

mod answers;
mod copies;
mod error;
mod group;
mod transfer;

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use self::copies::Copies;
use self::transfer::{Pull, Upload};
use crate::message::{ClientRequest, Packet};
use crate::state_machine::Command;

pub use error::RequestError;
pub use group::{CommandTooLong, Group};

/// Set in the numbers of reads, which are counted apart from writes: the group does not remember them.
pub const READ: u64 = 1 << 63;

/// A number that no other session has: from the system's entropy, never zero.
pub fn random_id() -> u64 {
    // Every RandomState has keys of its own, seeded by the system.
    std::hash::RandomState::new().build_hasher().finish().max(1)
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send [`Session::packets`] to [`Session::target`].
    Send,
    /// Nothing until then, unless a reply comes.
    Wait(Instant),
    /// The result of the command is there: [`Session::result`].
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
    /// Datagrams of the request, back to back, each of `stride` bytes but the last.
    packet: Vec<u8>,
    stride: usize,
    /// Of a command in parts.
    upload: Option<Upload>,
    /// Of a result in parts.
    pull: Option<Pull>,
    /// What came in parts.
    pulled: Vec<u8>,
    started: Instant,
    resend_at: Instant,
    pause: Duration,
    copies: Copies,
    /// Sends since there was progress, whole or not.
    tries: u32,
    /// Times that it was sent on at once to somebody who was said to lead.
    redirects: u32,
    /// Something came back after the last send.
    heard: bool,
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
            stride: 1,
            upload: None,
            pull: None,
            pulled: Vec::new(),
            started: now,
            resend_at: now,
            pause: Duration::ZERO,
            copies: Copies::none(now),
            tries: 0,
            redirects: 0,
            heard: false,
            reason: "no answer",
        }
    }

    /// The session's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Number of the request under way.
    pub fn request(&self) -> u64 {
        self.request
    }

    /// Index of the member to send to.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Turns to another member, which somebody else found to lead.
    pub fn set_target(&mut self, target: usize) {
        self.target = target;
    }

    /// What is to be sent: one datagram, or a window of parts.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        match &self.pull {
            Some(pull) => pull.packet.chunks(pull.packet.len().max(1)),
            None => self.packet.chunks(self.stride),
        }
    }

    /// Bytes of all that is to be sent.
    pub fn bytes(&self) -> usize {
        self.pull.as_ref().map_or(self.packet.len(), |pull| pull.packet.len())
    }

    /// The result of the request that `packet` completed; taken from here if it came in parts.
    pub fn result<'a>(&'a self, packet: &Packet<'a>) -> &'a [u8] {
        match packet {
            Packet::Reply(reply) => reply.result,
            _ => &self.pulled,
        }
    }

    /// The same, to be kept.
    pub fn take_result(&mut self, packet: &Packet<'_>) -> Vec<u8> {
        match packet {
            Packet::Reply(reply) => reply.result.to_vec(),
            _ => std::mem::take(&mut self.pulled),
        }
    }

    /// Length of the result that comes in parts, if one does.
    pub fn pull_bytes(&self) -> Option<usize> {
        self.pull.as_ref().map(Pull::total_bytes)
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

    /// When the request under way is given up.
    pub fn deadline(&self, group: &Group) -> Instant {
        self.started + group.timeout()
    }

    /// Copies of the request under way that were sent, and of which the group may have executed one.
    pub fn sends(&self) -> u32 {
        self.copies.sent()
    }

    /// Begins a request: send [`Session::packets`] next.
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
        self.pulled = Vec::new();
        self.busy = true;
        self.started = now;
        self.pause = group.retry();
        self.resend_at = now + self.pause;
        self.copies = Copies::none(now);
        (self.tries, self.redirects) = (1, 0);
        self.reason = "no answer";
        if command.len() <= group.part_bytes_max() {
            let request = ClientRequest { client: self.id, request: self.request, attempt: 0, command };
            group.encode_request(&request, &mut self.packet);
            self.stride = self.packet.len();
        } else {
            self.upload = Some(Upload::new(command));
            self.stride = group.datagram_bytes();
        }
        self.write_packets(group, now);
    }

    /// Writes what is sent next, and counts it if it is a whole copy of the request.
    fn write_packets(&mut self, group: &Group, now: Instant) {
        self.heard = false;
        let attempt = self.copies.next_attempt();
        let whole = match &self.upload {
            None => {
                Group::set_attempt(&mut self.packet, attempt);
                true
            }
            Some(upload) => {
                let whole = upload.is_last_window(group);
                let attempt = if whole { attempt } else { 0 };
                upload.write(group, (self.id, self.request), attempt, &mut self.packet);
                whole
            }
        };
        // A window without the end of the command changes nothing, and is no copy that waits for an answer.
        if whole {
            self.copies.send(now);
        }
    }

    /// Time passed.
    pub fn on_time(&mut self, group: &Group, now: Instant) -> Step {
        if !self.busy || now < self.resend_at {
            return Step::Wait(self.resend_at);
        }
        let waited = now.saturating_duration_since(self.started);
        if waited >= group.timeout() {
            let nothing_was_done = self.is_read() || self.copies.is_settled(now, group.linger());
            let error = if nothing_was_done {
                RequestError::TryAgain { reason: self.reason }
            } else {
                RequestError::Unknown { waited_ms: waited.as_millis() as u64, sends: self.sends() }
            };
            // A client without time for a second copy would ask a dead replica for ever, or one that is no member
            // any more.
            self.target = (self.target + 1) % group.members().len();
            if self.is_read() {
                self.end();
            } else {
                self.renew();
            }
            return Step::Failed(error);
        }
        // A question that was lost is asked once more; then the result counts as gone.
        if let Some(pull) = &mut self.pull
            && pull.ask_again(group, self.id, self.request)
        {
            self.resend_at = (now + group.retry()).min(self.deadline(group)).max(now);
            return Step::Send;
        }
        self.pull = None;
        let deadline = self.deadline(group);
        if now + group.linger() > deadline && !self.copies.is_open() && !self.is_read() {
            // Too late for another copy to be settled by then.
            self.resend_at = deadline;
            return Step::Wait(self.resend_at);
        }
        // Silence: the believed leader may be gone. Every other copy goes elsewhere, and whoever gets it
        // says who leads; a member that is merely slow is not left at once. One that answers, but only to turn the
        // request down, may be a busy leader, or a replica that waits for a leader for ever.
        let silent = self.copies.is_open() || !self.heard;
        if self.tries.is_multiple_of(if silent { 2 } else { 4 }) {
            self.turn_to((self.target + 1) % group.members().len());
        }
        self.send(group, now)
    }

    /// Whether the request under way is a read.
    fn is_read(&self) -> bool {
        self.request & READ != 0
    }

    /// What another member has of a command in parts is not known.
    fn turn_to(&mut self, target: usize) {
        self.target = target;
        if let Some(upload) = &mut self.upload {
            upload.begin_again();
        }
    }

    fn send(&mut self, group: &Group, now: Instant) -> Step {
        self.tries += 1;
        if let Some(upload) = &mut self.upload {
            upload.resume();
        }
        self.write_packets(group, now);
        self.resend_at = (now + self.pause).min(self.deadline(group)).max(now);
        self.pause = (self.pause * 2).min(group.retry() * 8);
        Step::Send
    }

    /// The request under way is over.
    fn end(&mut self) {
        self.busy = false;
        (self.upload, self.pull) = (None, None);
    }

    /// Ends the session and starts another, when the fate of a request is open.
    pub fn renew(&mut self) {
        self.id = random_id();
        (self.writes, self.reads, self.request) = (0, 0, 0);
        self.end();
    }
}

#[cfg(test)]
mod tests;
