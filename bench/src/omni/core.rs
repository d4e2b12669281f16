//! The node without its socket: requests and messages in, replies and messages out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};
use omnipaxos::errors::ConfigError;
use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::PaxosMsg;
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use paxos_demo::batch::BatchEntry;
use paxos_demo::client_table::Lookup;
use paxos_demo::in_flight::{InFlight, InFlightLookup};
use paxos_demo::message::{ClientReply, ClientRequest, ReplyStatus, part_bytes_max};
use paxos_demo::replica::CLIENT_SESSIONS_MAX;
use paxos_demo::service::Service;
use paxos_demo::session::READ;
use paxos_demo::state_machine::{Command, fitting};
use paxos_demo::status::{Counters, RoleName, Status};

use super::Op;
use super::wire::{Inbox, Outbox, member_of};

/// Room that a message takes beside its entries: names, ballot, numbers and the length of the list.
const MESSAGE_OVERHEAD_BYTES: usize = 64;
/// The log is trimmed whenever it has grown by so many entries.
const TRIM_ENTRIES: usize = 1024;

/// A read that waits for its proof: as with us, the first entry that was proposed after it arrived.
#[derive(Debug)]
struct Read {
    /// Log length at which that one is in it.
    needs: usize,
    to: SocketAddr,
    client: u64,
    request: u64,
    command: Bytes,
}

/// Replies that wait to be sent, back to back.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    each: Vec<(SocketAddr, Range<usize>)>,
}

impl Replies {
    fn push(&mut self, to: SocketAddr, reply: &ClientReply<'_>) {
        let start = self.bytes.len();
        reply.encode(&mut self.bytes);
        self.each.push((to, start..self.bytes.len()));
    }

    /// Hands them over.
    pub fn take<E>(&mut self, mut send: impl FnMut(SocketAddr, &[u8]) -> Result<(), E>) -> Result<(), E> {
        for (to, reply) in self.each.drain(..) {
            send(to, &self.bytes[reply])?;
        }
        self.bytes.clear();
        Ok(())
    }
}

/// The library's node, the replicated state and what waits for it.
pub struct Core {
    me: ReplicaId,
    paxos: OmniPaxos<Op, MemoryStorage<Op>>,
    /// Messages of the others, not handled yet.
    incoming: Vec<Message<Op>>,
    /// Room for what the library wants sent.
    outgoing: Vec<Message<Op>>,
    inbox: Inbox,
    /// For the others.
    pub outbox: Outbox,
    /// For clients.
    pub replies: Replies,
    /// Status requests: who, their nonce and length.
    pub asked: Vec<(SocketAddr, u64, usize)>,
    service: Service,
    /// Entries applied.
    applied: usize,
    in_flight: InFlight,
    reads: VecDeque<Read>,
    /// Bytes of the entries that were proposed since messages were last taken from the library.
    proposed_bytes: usize,
    datagram_bytes_max: usize,
    /// Length of the log at which it is trimmed next.
    trim_at: usize,
    result: Vec<u8>,
}

impl Core {
    /// An empty log in a group of so many members.
    pub fn new(
        me: ReplicaId,
        members: usize,
        datagram_bytes_max: usize,
        cluster: ClusterConfig,
        server: ServerConfig,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            me,
            paxos: cluster.build_for_server(server, MemoryStorage::default())?,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            inbox: Inbox::new(members),
            outbox: Outbox::new(members, datagram_bytes_max),
            replies: Replies::default(),
            asked: Vec::new(),
            service: Service::new(CLIENT_SESSIONS_MAX),
            applied: 0,
            in_flight: InFlight::default(),
            reads: VecDeque::new(),
            proposed_bytes: 0,
            datagram_bytes_max,
            trim_at: TRIM_ENTRIES,
            result: Vec::new(),
        })
    }

    /// A member's datagram.
    pub fn on_peer(&mut self, from: ReplicaId, bytes: &[u8]) {
        if let Err(error) = self.inbox.take(from, bytes, &mut self.incoming) {
            eprintln!("warning: from {from}: {error}");
        }
    }

    /// A client's request.
    pub fn on_request(&mut self, from: SocketAddr, request: ClientRequest<'_>) {
        if !self.leads() {
            return self.answer(from, &request, ReplyStatus::NotLeader, &[]);
        }
        let ClientRequest { client, request: number, command, .. } = request;
        match Command::parse(command) {
            Ok(parsed) if client != 0 && parsed.is_read() => {
                let needs = self.paxos.get_accepted_idx() + 1;
                let command = Bytes::copy_from_slice(command);
                self.reads.push_back(Read { needs, to: from, client, request: number, command });
            }
            Ok(_) if client != 0 && number != 0 && number & READ == 0 => self.on_write(from, &request),
            _ => self.answer(from, &request, ReplyStatus::BadRequest, &[]),
        }
    }

    fn on_write(&mut self, from: SocketAddr, request: &ClientRequest<'_>) {
        let ClientRequest { client, request: number, command, .. } = *request;
        match self.in_flight.lookup(client, number, from) {
            InFlightLookup::Newer => {}
            InFlightLookup::Duplicate | InFlightLookup::Stale => return,
            InFlightLookup::Absent => match self.service.lookup(client, number) {
                Lookup::New => {}
                Lookup::Unknown if number == 1 => {}
                Lookup::Unknown => return self.answer(from, request, ReplyStatus::SessionUnknown, &[]),
                Lookup::Stale => return,
                Lookup::Cached(result) => {
                    let result = result.to_vec();
                    return self.answer(from, request, ReplyStatus::Ok, &result);
                }
            },
        }
        self.in_flight.insert(client, number, from);
        self.propose(Op { client, request: number, command: Bytes::copy_from_slice(command) });
    }

    /// Proposes an entry. What was proposed before leaves first if both do not fit one datagram.
    fn propose(&mut self, op: Op) {
        let bytes = op.command.len() + Op::OVERHEAD_BYTES;
        if self.proposed_bytes + bytes + MESSAGE_OVERHEAD_BYTES > self.datagram_bytes_max {
            self.take_outgoing();
        }
        self.proposed_bytes += bytes;
        self.paxos.append(op).unwrap_or_else(|error| panic!("nobody reconfigures the group: {error:?}"));
    }

    /// Moves what the library wants sent to the outbox.
    fn take_outgoing(&mut self) {
        self.paxos.take_outgoing_messages(&mut self.outgoing);
        for message in self.outgoing.drain(..) {
            self.outbox.push(&message);
        }
        self.proposed_bytes = 0;
    }

    /// The library's clock.
    pub fn tick(&mut self) {
        self.paxos.tick();
    }

    /// Trims the log to what somebody may still need, a little at a time: all nodes drop it at once.
    fn trim(&mut self) {
        let length = self.paxos.get_accepted_idx();
        if length >= self.trim_at && self.leads() {
            self.trim_at = length + TRIM_ENTRIES;
            // Refused while somebody has less than is decided: then the next time.
            let _ = self.paxos.trim(None);
        }
    }

    /// Handles what arrived after the requests were proposed, applies what is decided, and gathers what is to be sent.
    pub fn settle(&mut self) {
        let mut incoming = std::mem::take(&mut self.incoming);
        for message in incoming.drain(..) {
            if is_compaction(&message) {
                // Applied before it goes.
                self.apply();
            }
            self.paxos.handle_incoming(message);
        }
        self.incoming = incoming;
        if !self.leads() {
            // Their clients ask again.
            self.in_flight = InFlight::default();
            self.reads.clear();
        }
        self.apply();
        self.answer_reads();
        if self.reads.back().is_some_and(|read| read.needs > self.paxos.get_accepted_idx()) {
            // Nothing else would prove it.
            self.propose(Op::no_op());
        }
        self.trim();
        self.take_outgoing();
    }

    fn apply(&mut self) {
        if self.paxos.get_decided_idx() <= self.applied {
            return;
        }
        for entry in self.paxos.read_decided_suffix(self.applied).unwrap_or_default() {
            let LogEntry::Decided(op) = entry else {
                unreachable!("neither trimmed before it was applied nor a stop sign: {entry:?}")
            };
            self.applied += 1;
            let Op { client, request, command } = op;
            let entry = BatchEntry::whole(client, request, &command);
            let result = self.service.apply(OpNumber(self.applied as u64), 0, entry);
            let (Some(result), Some(to)) = (result, self.in_flight.complete(client, request)) else {
                continue;
            };
            let reply = reply(ReplyStatus::Ok, self.me, View(0), (client, request), 0, result);
            self.replies.push(to, &reply);
        }
    }

    fn answer_reads(&mut self) {
        while self.reads.front().is_some_and(|read| read.needs <= self.applied) {
            let Some(read) = self.reads.pop_front() else { return };
            self.result.clear();
            self.service.read(&read.command, &mut self.result);
            let result = fitting(&self.result, part_bytes_max(self.datagram_bytes_max));
            let reply = reply(ReplyStatus::Ok, self.me, View(0), (read.client, read.request), 0, result);
            self.replies.push(read.to, &reply);
        }
    }

    fn answer(&mut self, to: SocketAddr, request: &ClientRequest<'_>, status: ReplyStatus, result: &[u8]) {
        let leader = self.leader().unwrap_or(self.me);
        let id = (request.client, request.request);
        self.replies.push(to, &reply(status, leader, View(0), id, request.attempt, result));
    }

    fn leader(&self) -> Option<ReplicaId> {
        self.paxos.get_current_leader().and_then(|(node, _)| member_of(node))
    }

    /// Whether this node leads and its log is that of a majority.
    fn leads(&self) -> bool {
        matches!(self.paxos.get_current_leader(), Some((node, true)) if node == self.paxos.get_pid())
    }

    /// What a status reply says: the library's ballot is the view, its decided index the commit number.
    pub fn status(&self) -> Status {
        let view = View(u64::from(self.paxos.get_promise().n));
        let role = match self.paxos.get_current_leader() {
            Some((node, true)) if node == self.paxos.get_pid() => RoleName::Leader,
            Some((_, true)) => RoleName::Follower,
            _ => RoleName::Forming,
        };
        let op = |index: usize| OpNumber(index as u64);
        Status {
            id: self.me,
            view,
            last_normal_view: view,
            role,
            leader: self.leader().unwrap_or(self.me),
            last_op: op(self.paxos.get_accepted_idx()),
            commit: op(self.paxos.get_decided_idx()),
            applied: op(self.applied),
            digest: self.service.digest(),
            log_first_op: op(self.paxos.get_compacted_idx() + 1),
            log_bytes: 0,
            keys: self.service.keys() as u64,
            client_sessions: self.service.client_sessions() as u64,
            counters: Counters::default(),
        }
    }
}

fn reply(
    status: ReplyStatus,
    leader: ReplicaId,
    view: View,
    (client, request): (u64, u64),
    attempt: u16,
    result: &[u8],
) -> ClientReply<'_> {
    ClientReply { status, leader, view, client, request, attempt, result }
}

fn is_compaction(message: &Message<Op>) -> bool {
    matches!(message, Message::SequencePaxos(message) if matches!(message.msg, PaxosMsg::Compaction(_)))
}
