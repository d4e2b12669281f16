//! Clients: a few sessions with one request at a time, retried through whatever happens.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use electrode::model::frame;
use fastrand::Rng;

use super::check::replay::{Answer, Replay};
use super::weather::{MS, US, Weather};
use super::wire::build;
use super::world::{Frame, Happening, World};
use crate::config::ClusterConfig;
use crate::session::{Group, RequestError, Session, Step};
use crate::state_machine::{COMMAND_HEADER_BYTES, Command};

/// One of them.
pub(super) struct Client {
    addr: SocketAddr,
    session: Session,
    /// Requests that are still to be made.
    left: u32,
    command: Vec<u8>,
    /// Last op known to be answered when the request was made.
    after: usize,
}

/// All of them, and what they saw.
pub(super) struct Clients {
    group: Group,
    /// Sessions speak in instants: this is time zero, and only differences matter.
    origin: Instant,
    all: Vec<Client>,
    /// Session ids are counted, not random: a seed replays.
    next_id: u64,
    value_bytes_max: usize,
    pub replay: Replay,
    pub answers: u64,
    /// Highest op whose answer was seen.
    answered_op: usize,
    /// Requests whose fate is open.
    pub unknown: u64,
    pub turned_down: u64,
}

impl Clients {
    pub(super) fn new(weather: &Weather, config: &ClusterConfig, rng: &mut Rng) -> Self {
        let mut clients = Self {
            group: Group::new(config).with_keys(config, weather.authenticated),
            origin: Instant::now(),
            all: Vec::new(),
            next_id: 1,
            value_bytes_max: weather.value_bytes_max,
            replay: Replay::default(),
            answers: 0,
            answered_op: 0,
            unknown: 0,
            turned_down: 0,
        };
        for index in 0..weather.clients {
            let session = clients.session(rng.usize(0..weather.members));
            let addr = ([10, 1, 0, index as u8 + 1], 9000).into();
            clients.all.push(Client { addr, session, left: u32::MAX, command: Vec::new(), after: 0 });
        }
        clients
    }

    fn session(&mut self, target: usize) -> Session {
        self.next_id += 1;
        Session::with_id(self.next_id, target)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whose address this is.
    pub(super) fn at(&self, addr: SocketAddr) -> Option<usize> {
        self.all.iter().position(|client| client.addr == addr)
    }

    /// Everybody makes `requests` more and stops.
    pub(super) fn finish(&mut self, requests: u32) {
        // From now on every request has to be served, those of before too (B4).
        self.group = self.group.clone().with_timeout(Duration::from_secs(60));
        for client in &mut self.all {
            client.left = requests;
        }
    }

    /// Whether all requests were answered, and none is left to be made.
    pub(super) fn done(&self) -> bool {
        self.all.iter().all(|client| client.left == 0 && !client.session.is_busy())
    }

    fn instant(&self, now: u64) -> Instant {
        self.origin + Duration::from_nanos(now)
    }
}

impl World {
    /// A client's timer, or its first look.
    pub(super) fn client_timer(&mut self, index: usize) {
        let now = self.clients.instant(self.now);
        if !self.clients.all[index].session.is_busy() {
            if self.clients.all[index].left == 0 {
                return;
            }
            self.next_request(index);
            return;
        }
        let Clients { group, all, .. } = &mut self.clients;
        let step = all[index].session.on_time(group, now);
        self.client_step(index, step, None);
    }

    fn next_request(&mut self, index: usize) {
        let now = self.clients.instant(self.now);
        let answered_op = self.clients.answered_op;
        let room = self.clients.group.command_bytes_max() - COMMAND_HEADER_BYTES - 1;
        let longest = self.clients.value_bytes_max.min(room);
        let client = &mut self.clients.all[index];
        client.left = client.left.saturating_sub(1);
        client.after = answered_op;
        let key = [b'a' + self.rng.u8(0..3)];
        let mut value = vec![0; self.rng.usize(0..=longest)];
        value.fill_with(|| self.rng.u8(..));
        // What is executed twice shows in a number.
        let command = match self.rng.u8(0..8) {
            0 => Command::Get { key: &key },
            1 => Command::Del { key: &key },
            2 => Command::Get { key: b"n" },
            3 | 4 => Command::IncrBy { key: b"n", delta: 1 },
            _ => Command::Set { key: &key, value: &value },
        };
        client.command.clear();
        command.encode(&mut client.command).expect("a short key");
        let command = std::mem::take(&mut client.command);
        let Clients { group, all, .. } = &mut self.clients;
        all[index].session.begin(group, &command, now);
        all[index].command = command;
        self.client_send(index);
    }

    fn client_send(&mut self, index: usize) {
        let client = &self.clients.all[index];
        let target = client.session.target();
        let to = self.config.replicas[target];
        let frames: Vec<_> = client.session.packets().map(|packet| build(client.addr, to, packet)).collect();
        for frame in frames {
            self.send_request(target, frame);
        }
        self.plan_client(index);
    }

    fn plan_client(&mut self, index: usize) {
        let client = &self.clients.all[index];
        let at = client.session.resend_at().duration_since(self.clients.origin).as_nanos() as u64;
        self.plan(at.max(self.now + US), Happening::ClientTimer { client: index });
    }

    /// A frame reached a client.
    pub(super) fn reach_client(&mut self, index: usize, bytes: &Frame) {
        let Ok(datagram) = frame::parse(bytes, self.clients.all[index].addr) else { return };
        let now = self.clients.instant(self.now);
        let Clients { group, all, .. } = &mut self.clients;
        let Some(packet) = group.parse(datagram.payload(bytes)) else { return };
        if !all[index].session.is_busy() {
            return;
        }
        let (client, request) = (all[index].session.id(), all[index].session.request());
        let step = all[index].session.on_packet(group, &packet, now);
        let result = (step == Step::Done).then(|| Answer {
            client,
            request,
            command: all[index].command.clone(),
            result: all[index].session.result(&packet).to_vec(),
            after: all[index].after,
        });
        self.client_step(index, step, result);
    }

    fn client_step(&mut self, index: usize, step: Step, answer: Option<Answer>) {
        match step {
            Step::Send => self.client_send(index),
            Step::Wait(_) => {}
            Step::Done => {
                let answer = answer.expect("a reply ends a request");
                let Self { clients, checker, trace, .. } = self;
                clients.answers += 1;
                trace.mix(&[index as u64, answer.request, answer.after as u64]);
                match clients.replay.answered(checker.committed_ops(), answer) {
                    Ok(op) => clients.answered_op = clients.answered_op.max(op),
                    Err(violation) => self.violate(Err(violation)),
                }
                self.pause_client(index);
            }
            Step::Failed(error) => {
                match error {
                    RequestError::TryAgain { .. } => self.clients.turned_down += 1,
                    _ => self.clients.unknown += 1,
                }
                let target = self.rng.usize(0..self.weather.members);
                self.clients.all[index].session = self.clients.session(target);
                // The request is made again as another one; while the faults are over it has to succeed.
                self.clients.all[index].left = self.clients.all[index].left.saturating_add(1);
                self.pause_client(index);
            }
        }
    }

    fn pause_client(&mut self, index: usize) {
        let at = self.now
            + if self.rng.u8(0..8) == 0 { self.rng.u64(0..5 * MS) } else { self.rng.u64(0..200 * US) };
        self.plan(at, Happening::ClientTimer { client: index });
    }
}
