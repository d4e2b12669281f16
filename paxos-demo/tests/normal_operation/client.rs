//! A closed-loop client: one request at a time, repeated until it is answered.

use electrode::types::ReplicaId;
use paxos_demo::message::{ClientReply, ClientRequest, ReplyStatus};
use paxos_demo::state_machine::Command;

/// Its next request leaves, or the current one again.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub to: ReplicaId,
    pub datagram: Vec<u8>,
}

/// An answered request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub client: u64,
    pub request: u64,
    pub result: Vec<u8>,
}

pub struct Client {
    pub id: u64,
    requests: u64,
    request: u64,
    command: Vec<u8>,
    leader: ReplicaId,
    pub retry_at: u64,
    /// Highest op known to be answered when the current request was first sent, for the order check.
    pub invoked_after: u64,
}

impl Client {
    pub fn new(id: u64, requests: u64, first_guess: ReplicaId) -> Self {
        Self {
            id,
            requests,
            request: 0,
            command: Vec::new(),
            leader: first_guess,
            retry_at: 0,
            invoked_after: 0,
        }
    }

    pub fn is_done(&self) -> bool {
        self.request > self.requests
    }

    /// Begins the next request; false if that was the last one.
    pub fn begin(&mut self, rng: &mut fastrand::Rng, answered_op: u64) -> bool {
        self.request += 1;
        self.invoked_after = answered_op;
        let key = [b'a' + rng.u8(0..3)];
        let value = vec![rng.u8(..); rng.usize(0..40)];
        let command = match rng.u8(0..4) {
            0 => Command::Get { key: &key },
            1 => Command::Del { key: &key },
            _ => Command::Set { key: &key, value: &value },
        };
        self.command.clear();
        command.encode(&mut self.command).unwrap();
        !self.is_done()
    }

    /// Sends the current request, now and then to somebody who need not be the leader.
    pub fn send(&mut self, now: u64, rng: &mut fastrand::Rng, members: usize) -> Outgoing {
        self.retry_at = now + rng.u64(5_000_000..30_000_000);
        let mut datagram = Vec::new();
        let request = ClientRequest { client: self.id, request: self.request, command: &self.command };
        request.encode(&mut datagram).unwrap();
        let stray = rng.u8(0..10) == 0;
        let to = if stray { ReplicaId(rng.u8(0..members as u8)) } else { self.leader };
        Outgoing { to, datagram }
    }

    /// Whether the reply ends the current request. A hint moves the client to another replica.
    pub fn receive(&mut self, now: u64, reply: &ClientReply<'_>) -> bool {
        assert_eq!(reply.client, self.id);
        match reply.status {
            ReplyStatus::Ok => reply.request == self.request,
            ReplyStatus::NotLeader => {
                if reply.request == self.request && reply.leader != self.leader {
                    self.leader = reply.leader;
                    self.retry_at = now;
                }
                false
            }
            ReplyStatus::TryAgain => false,
            ReplyStatus::BadRequest | ReplyStatus::SessionUnknown => panic!("refused: {reply:?}"),
        }
    }
}
