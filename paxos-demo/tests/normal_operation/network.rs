//! Replicas, their fast paths and clients in virtual time; packets are lost, duplicated and overtaken as the
//! seed decides. The same seed gives the same run.

use super::client::{Answer, Client};
use super::fast_path::{Batch, Event, FastPath, Frame};
use super::history::History;
use electrode::types::{OpNumber, ReplicaId, ReplicaSet};
use paxos_demo::message::Packet;
use paxos_demo::replica::{Action, Replica, ReplicaConfig};
use paxos_demo::status::Status;
use paxos_demo::{codec, message};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;

pub const MS: u64 = 1_000_000;

/// How bad the network is.
#[derive(Copy, Clone, Debug)]
pub struct Faults {
    pub loss_percent: u8,
    pub duplication_percent: u8,
    /// Packets that take up to 100 times as long as the others.
    pub straggler_percent: u8,
}

/// What happens at a moment.
enum Happening {
    Start(ReplicaId),
    Frame {
        from: ReplicaId,
        to: ReplicaId,
        frame: Frame,
    },
    /// Peer messages and client requests, as bytes.
    Datagram {
        from: SocketAddr,
        to: ReplicaId,
        bytes: Vec<u8>,
    },
    Reply {
        to: usize,
        bytes: Vec<u8>,
    },
    /// The replica looks at what its fast path has for it.
    Poll(ReplicaId),
    /// The replica's deadline, or the scan of L5, may have come.
    Wake(ReplicaId),
    ClientWake(usize),
}

struct Host {
    config: ReplicaConfig,
    replica: Option<Replica>,
    fast_path: FastPath,
    wake_at: u64,
    poll_scheduled: bool,
}

pub struct Network {
    pub now: u64,
    pub history: History,
    rng: fastrand::Rng,
    faults: Faults,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: HashMap<u64, Happening>,
    sequence: u64,
}

impl Network {
    /// `start_at`: when each replica is started; one that is not is dead.
    pub fn new(seed: u64, faults: Faults, configs: Vec<ReplicaConfig>, start_at: &[Option<u64>]) -> Self {
        let members = configs.len();
        let host = |config| Host {
            config,
            replica: None,
            fast_path: FastPath::new(members),
            wake_at: u64::MAX,
            poll_scheduled: false,
        };
        let mut network = Self {
            now: 0,
            history: History::default(),
            rng: fastrand::Rng::with_seed(seed),
            faults,
            hosts: configs.into_iter().map(host).collect(),
            clients: Vec::new(),
            agenda: BinaryHeap::new(),
            happenings: HashMap::new(),
            sequence: 0,
        };
        for (id, at) in start_at.iter().enumerate() {
            if let Some(at) = at {
                network.schedule(*at, Happening::Start(ReplicaId(id as u8)));
            }
        }
        network
    }

    pub fn add_client(&mut self, requests: u64) {
        let guess = ReplicaId(self.rng.u8(0..self.hosts.len() as u8));
        let mut client = Client::new(self.rng.u64(..), requests, guess);
        assert!(client.begin(&mut self.rng, 0));
        self.clients.push(client);
        self.schedule(self.now, Happening::ClientWake(self.clients.len() - 1));
    }

    pub fn clients_done(&self) -> bool {
        self.clients.iter().all(Client::is_done)
    }

    pub fn statuses(&self) -> Vec<Status> {
        self.hosts.iter().filter_map(|host| host.replica.as_ref()).map(Replica::status).collect()
    }

    /// Runs until `done`, at most until `deadline`; whether it was done.
    pub fn run_until(&mut self, deadline: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        while !done(self) {
            let Some(Reverse((at, number))) = self.agenda.pop() else { return false };
            if at > deadline {
                return false;
            }
            self.now = at;
            let happening = self.happenings.remove(&number).expect("scheduled");
            self.happen(happening);
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Start(id) => {
                let host = &mut self.hosts[id.index()];
                host.replica = Some(Replica::new(now, host.config.clone()).unwrap());
                self.carry_out(id);
            }
            Happening::Frame { from, to, frame } => {
                let incarnation = self.hosts[from.index()].config.incarnation;
                let host = &mut self.hosts[to.index()];
                if let Some(ack) = host.fast_path.receive(from, incarnation, frame) {
                    self.transmit(to, from, ack);
                }
                // The doorbell rings late, and sometimes not at all; then the next packet or scan helps.
                if !self.hosts[to.index()].poll_scheduled && self.rng.u8(0..10) > 0 {
                    self.hosts[to.index()].poll_scheduled = true;
                    let at = now + self.rng.u64(0..300_000);
                    self.schedule(at, Happening::Poll(to));
                }
            }
            Happening::Datagram { from, to, bytes } => {
                let Some(replica) = &mut self.hosts[to.index()].replica else { return };
                match Packet::parse(&bytes).unwrap() {
                    Packet::Request(request) => replica.on_request(now, from, request),
                    Packet::Peer(body) => {
                        let sender = replica_at(from);
                        let message = codec::decode(body).unwrap();
                        let incarnation = self.hosts[sender.index()].config.incarnation;
                        let replica = self.hosts[to.index()].replica.as_mut().unwrap();
                        replica.on_peer_message(now, sender, incarnation, message);
                    }
                    packet => panic!("unexpected {packet:?}"),
                }
                self.carry_out(to);
            }
            Happening::Reply { to, bytes } => self.client_reply(to, &bytes),
            Happening::Poll(id) => {
                self.hosts[id.index()].poll_scheduled = false;
                self.poll(id);
            }
            Happening::Wake(id) => {
                self.hosts[id.index()].wake_at = u64::MAX;
                self.poll(id);
                self.tick(id);
            }
            Happening::ClientWake(client) => {
                if self.clients[client].is_done() {
                    return;
                }
                if now >= self.clients[client].retry_at {
                    let members = self.hosts.len();
                    let outgoing = self.clients[client].send(now, &mut self.rng, members);
                    let from = client_address(client);
                    self.datagram(from, outgoing.to, outgoing.datagram);
                }
                self.schedule(self.clients[client].retry_at, Happening::ClientWake(client));
            }
        }
    }

    /// What the library's poll would hand over, in its order.
    fn poll(&mut self, id: ReplicaId) {
        let host = &mut self.hosts[id.index()];
        let Some(replica) = &mut host.replica else { return };
        while let Some(event) = host.fast_path.events.pop_front() {
            match event {
                Event::Logged { view, batch, commit } => {
                    let Batch { first, last, payload } = batch;
                    replica.on_logged(self.now, view, first, last, commit, &payload);
                }
                Event::Commit { view, commit } => replica.on_commit(view, commit),
                Event::Gap { have, seen } => replica.on_gap(self.now, have, seen),
            }
        }
        if replica.is_leading() {
            replica.on_quorum(self.now, host.fast_path.quorum(id));
        }
        self.carry_out(id);
    }

    fn tick(&mut self, id: ReplicaId) {
        let host = &mut self.hosts[id.index()];
        let Some(replica) = &mut host.replica else { return };
        if replica.is_leading() {
            for (peer, acked) in host.fast_path.acked().iter().enumerate() {
                replica.on_acked(ReplicaId(peer as u8), *acked);
            }
        }
        replica.on_tick(self.now);
        let deadline = replica.next_deadline();
        assert!(deadline.is_none_or(|at| at > self.now), "a tick leaves nothing due: {deadline:?}");
        self.carry_out(id);
    }

    /// C4: nothing is applied before its quorum, counted here afresh.
    fn check_commit(&self, id: ReplicaId) {
        let quorum = self.hosts[0].fast_path.quorum(ReplicaId(0));
        if let Some(replica) = &self.hosts[id.index()].replica {
            assert!(replica.commit() <= quorum, "replica {id} commits without a quorum");
            assert!(replica.applied() <= replica.commit(), "replica {id} applies what is not committed");
        }
    }

    /// Does what the replica wants done, and plans its next wake-up.
    fn carry_out(&mut self, id: ReplicaId) {
        self.check_commit(id);
        while let Some(action) = self.next_action(id) {
            let others = ReplicaSet::all(self.hosts.len()).without(id);
            let view = self.hosts[id.index()].replica.as_ref().unwrap().view();
            match action {
                Action::Prepare { first, last, commit, payload } => {
                    let batch = Batch { first, last, payload };
                    self.history.prepared(batch.clone());
                    self.hosts[id.index()].fast_path.prepared(first, last);
                    self.broadcast(id, others, Frame::Prepare { view, batch, commit });
                    if others.is_empty() {
                        self.schedule(self.now, Happening::Poll(id));
                    }
                }
                Action::Resend { first, last, commit, payload, targets } => {
                    assert!(!targets.is_empty() && targets.difference(others).is_empty());
                    let batch = Batch { first, last, payload };
                    self.history.resent(&batch);
                    self.broadcast(id, targets, Frame::Prepare { view, batch, commit });
                }
                Action::CommitNotice { commit } => {
                    self.broadcast(id, others, Frame::Commit { view, commit });
                }
                Action::Send { to, message } => {
                    self.datagram(replica_address(id), to, codec::encode(&message));
                }
                Action::Reply { to, bytes } => self.reply(to, bytes.to_vec()),
                Action::OpenGate { role, view, leader, last_op, commit: OpNumber(0) } => {
                    self.hosts[id.index()].fast_path.open(role, view, leader, last_op);
                }
                Action::ExpectIncarnation { peer, incarnation } => {
                    self.hosts[id.index()].fast_path.expect(peer, incarnation);
                }
                action => panic!("replica {id}: {action:?}"),
            }
        }
        let host = &mut self.hosts[id.index()];
        let scan = if host.replica.as_ref().is_some_and(Replica::is_leading) { 5 * MS } else { 10 * MS };
        let deadline = host.replica.as_ref().and_then(Replica::next_deadline).unwrap_or(u64::MAX);
        let wake_at = deadline.clamp(self.now, self.now + scan);
        if wake_at < host.wake_at {
            host.wake_at = wake_at;
            self.schedule(wake_at, Happening::Wake(id));
        }
    }

    fn next_action(&mut self, id: ReplicaId) -> Option<Action> {
        self.hosts[id.index()].replica.as_mut()?.next_action()
    }

    fn client_reply(&mut self, client: usize, bytes: &[u8]) {
        let Ok(Packet::Reply(reply)) = Packet::parse(bytes) else { panic!("not a reply: {bytes:?}") };
        let ends = self.clients[client].receive(self.now, &reply);
        if reply.status == message::ReplyStatus::Ok {
            let (client_id, request) = (reply.client, reply.request);
            let answer = Answer { client: client_id, request, result: reply.result.to_vec() };
            self.history.answered(answer, ends.then_some(self.clients[client].invoked_after));
        }
        if ends {
            let answered_op = self.history.answered_op;
            if self.clients[client].begin(&mut self.rng, answered_op) {
                self.clients[client].retry_at = self.now;
            }
        }
        if self.clients[client].retry_at <= self.now {
            self.schedule(self.now, Happening::ClientWake(client));
        }
    }

    fn broadcast(&mut self, from: ReplicaId, targets: ReplicaSet, frame: Frame) {
        for to in targets.iter() {
            self.transmit(from, to, frame.clone());
        }
    }

    fn transmit(&mut self, from: ReplicaId, to: ReplicaId, frame: Frame) {
        for at in self.arrivals() {
            self.schedule(at, Happening::Frame { from, to, frame: frame.clone() });
        }
    }

    fn datagram(&mut self, from: SocketAddr, to: ReplicaId, bytes: Vec<u8>) {
        for at in self.arrivals() {
            self.schedule(at, Happening::Datagram { from, to, bytes: bytes.clone() });
        }
    }

    fn reply(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        let to = usize::from(to.port());
        for at in self.arrivals() {
            self.schedule(at, Happening::Reply { to, bytes: bytes.clone() });
        }
    }

    /// When the copies of a packet arrive: none, one or two.
    fn arrivals(&mut self) -> impl Iterator<Item = u64> + use<> {
        let Faults { loss_percent, duplication_percent, straggler_percent } = self.faults;
        let mut percent = |of: u8| self.rng.u8(0..100) < of;
        let copies = [!percent(loss_percent), percent(duplication_percent)];
        let straggles = copies.map(|_| percent(straggler_percent));
        let delays = straggles.map(|late| self.rng.u64(20_000..if late { 10 * MS } else { 100_000 }));
        let now = self.now;
        (0..2).filter(move |copy| copies[*copy]).map(move |copy| now + delays[copy])
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.happenings.insert(self.sequence, happening);
        self.agenda.push(Reverse((at, self.sequence)));
    }
}

fn replica_address(id: ReplicaId) -> SocketAddr {
    ([10, 0, 0, id.0], 7000).into()
}

fn replica_at(address: SocketAddr) -> ReplicaId {
    match address {
        SocketAddr::V4(v4) => ReplicaId(v4.ip().octets()[3]),
        SocketAddr::V6(_) => unreachable!(),
    }
}

fn client_address(client: usize) -> SocketAddr {
    ([10, 1, 0, 0], client as u16).into()
}
