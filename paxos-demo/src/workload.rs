//! Load: N client sessions over one socket in one thread, every answer checked. In a closed loop each session asks
//! as soon as it was answered; in an open one requests arrive at a fixed rate ([`arrivals`]).
//!
//! The generator shares two CPUs with the replicas that it measures, so it must be cheap: replies are taken
//! and requests sent in batches, and nothing is allocated per request. It must be right as well: each session
//! owns its keys, so it knows what every answer has to be ([`model`]).

mod arrivals;
pub mod batch_socket;
mod control;
mod look;
pub mod model;
mod unanswered;

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use self::arrivals::Arrivals;
use self::batch_socket::BatchSocket;
pub use self::control::{Control, Phase};
pub use self::look::Look;
use self::model::Model;
pub use self::unanswered::Unanswered;
use crate::message::ClientReply;
use crate::session::{CommandTooLong, Group, Session, Step, random_id};

/// Slowest answer that the histogram tells apart from slower ones.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Descriptions of errors kept; their number is counted in full.
const ERROR_SAMPLES: usize = 8;

/// What load to make.
#[derive(Copy, Clone, Debug)]
pub struct Load {
    /// Sessions, each with one request under way.
    pub clients: usize,
    /// Size of the values.
    pub payload_bytes: usize,
    /// Requests that arrive in a second; `None`: a closed loop.
    pub rate: Option<f64>,
}

impl Load {
    /// Whether a single session asks, and asks again as soon as it was answered.
    fn is_dialogue(&self) -> bool {
        self.clients == 1 && self.rate.is_none()
    }
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Requests answered within the measured window.
    pub requests: u64,
    /// Length of that window.
    pub seconds: f64,
    /// Answers checked in the whole run.
    pub checked: u64,
    /// Wrong and missing answers of the whole run.
    pub errors: u64,
    /// The first few of them, described.
    pub error_samples: Vec<String>,
    /// Requests sent again, in the whole run.
    pub retries: u64,
    /// Nanoseconds from first send to answer, within the window; in an open loop from arrival to answer. Requests that
    /// had no answer when the window ended count with the time until then: in an open loop all of them, in a closed
    /// one those that had waited longer than any answer took.
    pub latency: Histogram<u64>,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Values of this size do not fit.
    #[error("--payload-bytes: {0}")]
    TooLong(#[from] CommandTooLong),
    /// The socket failed.
    #[error("load generator's socket: {0}")]
    Socket(#[from] io::Error),
}

/// Largest value that fits one datagram of this group.
pub fn payload_bytes_max(group: &Group) -> usize {
    group.part_bytes_max().saturating_sub(model::COMMAND_OVERHEAD_BYTES)
}

/// Runs `load` until `control` says otherwise. `socket` reaches the group and is used by nobody else.
pub fn run(socket: UdpSocket, group: &Group, load: Load, control: &Control) -> Result<Outcome, LoadError> {
    let mut longest = Vec::new();
    Model::new(0, load.payload_bytes).longest_command(&mut longest);
    let (bytes, max) = (longest.len(), group.part_bytes_max());
    if bytes > max {
        return Err(CommandTooLong { bytes, max }.into());
    }
    if load.rate.is_some() {
        arrivals::be_punctual()?;
    }
    let mut run = Run::new(socket, group, load, control)?;
    run.work()?;
    Ok(run.outcome)
}

struct Client {
    session: Session,
    model: Model,
    /// When the request under way arrived.
    arrived: Instant,
}

struct Run<'a> {
    group: &'a Group,
    load: Load,
    control: &'a Control,
    socket: BatchSocket,
    /// The member that all sessions send to: the socket is connected to it.
    leader: usize,
    heard_at: Instant,
    clients: Vec<Client>,
    /// None in a closed loop, and none in the end.
    arrivals: Option<Arrivals>,
    by_id: HashMap<u64, usize>,
    /// Sessions whose packet is to be sent.
    outbox: Vec<usize>,
    command: Vec<u8>,
    phase: Phase,
    window_start: Option<Instant>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(socket: UdpSocket, group: &'a Group, load: Load, control: &'a Control) -> Result<Self, LoadError> {
        let leader = 0;
        socket.connect(group.members()[leader])?;
        // Long enough to sleep in, short enough that a lost packet is noticed soon after its retry time.
        socket.set_read_timeout(Some((group.retry() / 4).max(Duration::from_millis(1))))?;
        let start = Instant::now();
        let mut clients = Vec::with_capacity(load.clients);
        let mut by_id = HashMap::with_capacity(load.clients);
        for index in 0..load.clients {
            let id = random_id();
            by_id.insert(id, index);
            clients.push(Client {
                session: Session::with_id(id, leader),
                model: Model::new(id, load.payload_bytes),
                arrived: start,
            });
        }
        Ok(Self {
            group,
            load,
            control,
            socket: BatchSocket::new(socket, load.clients),
            leader,
            heard_at: start,
            clients,
            arrivals: load.rate.map(|rate| Arrivals::new(start, rate, load.clients)),
            by_id,
            outbox: Vec::with_capacity(load.clients),
            command: Vec::new(),
            phase: Phase::WarmUp,
            window_start: None,
            outcome: Outcome {
                requests: 0,
                seconds: 0.0,
                checked: 0,
                errors: 0,
                error_samples: Vec::new(),
                retries: 0,
                latency: Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3)
                    .expect("constant bounds are valid"),
            },
        })
    }

    fn work(&mut self) -> Result<(), LoadError> {
        let start = Instant::now();
        if self.arrivals.is_none() {
            (0..self.clients.len()).for_each(|index| self.next(index, start));
        }
        let scan_interval = self.group.retry() / 4;
        let mut scan_at = start + scan_interval;
        loop {
            self.send()?;
            let received = self.receive()?;
            let now = Instant::now();
            // What has come belongs to the phase in which it came.
            for i in 0..received {
                self.on_datagram(i, now);
            }
            if let Some(arrivals) = &mut self.arrivals {
                arrivals.advance(now);
            }
            self.follow_phase(now);
            if self.phase == Phase::Abort {
                return Ok(());
            }
            self.assign(now);
            if received > 0 {
                self.heard_at = now;
                self.control.count(self.outcome.checked);
            }
            if now >= scan_at {
                scan_at = now + scan_interval;
                (0..self.clients.len()).for_each(|index| self.on_time(index, now));
            }
            if self.phase == Phase::Drain && self.clients.iter().all(|client| !client.session.is_busy()) {
                return Ok(());
            }
        }
    }

    /// Waits for answers, but not beyond the next arrival.
    fn receive(&mut self) -> io::Result<usize> {
        if let Some(arrivals) = &self.arrivals {
            let time = arrivals.next_at().saturating_duration_since(Instant::now());
            if !self.socket.is_readable_within(time.min(self.group.retry() / 4))? {
                return Ok(0);
            }
        }
        if self.load.is_dialogue() {
            let look = Look::begin();
            while !self.socket.is_readable_within(Duration::ZERO)? && look.goes_on() {}
        }
        self.socket.receive()
    }

    /// Lets idle sessions begin what has arrived.
    fn assign(&mut self, now: Instant) {
        while let Some((index, arrived)) = self.arrivals.as_mut().and_then(Arrivals::assign) {
            self.next(index, now);
            self.clients[index].arrived = arrived;
        }
    }

    /// Measures from the first moment at which this thread saw the phase to that at which it saw the next.
    fn follow_phase(&mut self, now: Instant) {
        let phase = self.control.phase();
        if phase == self.phase {
            return;
        }
        match (self.phase, phase) {
            (_, Phase::Measure) => self.window_start = Some(now),
            (Phase::Measure, _) => self.end_window(now),
            _ => {}
        }
        self.phase = phase;
        if phase == Phase::Drain && self.arrivals.take().is_some() {
            // As in a closed loop from here on: every key is read once more.
            let idle = (0..self.clients.len()).filter(|index| !self.clients[*index].session.is_busy());
            idle.collect::<Vec<_>>().into_iter().for_each(|index| self.next(index, now));
        }
    }

    fn end_window(&mut self, now: Instant) {
        let start = self.window_start.unwrap_or(now);
        self.outcome.seconds = now.saturating_duration_since(start).as_secs_f64();
        let busy = self.clients.iter().filter(|client| client.session.is_busy()).map(|client| client.arrived);
        let waiting = busy.chain(self.arrivals.iter().flat_map(Arrivals::waiting));
        let which = if self.arrivals.is_some() { Unanswered::All } else { Unanswered::SlowerThanAnswers };
        which.record(waiting, now, &mut self.outcome.latency);
    }

    /// Lets a session begin what comes next, if anything does.
    fn next(&mut self, index: usize, now: Instant) {
        let client = &mut self.clients[index];
        self.command.clear();
        let more = match self.phase {
            Phase::WarmUp | Phase::Measure => {
                client.model.next(&mut self.command);
                true
            }
            Phase::Drain => client.model.next_check(&mut self.command),
            Phase::Abort => false,
        };
        if more {
            client.session.begin(self.group, &self.command, now);
            client.arrived = now;
            self.outbox.push(index);
        }
    }

    fn on_datagram(&mut self, i: usize, now: Instant) {
        let Some(reply) = self.group.parse_reply(self.socket.datagram(i)) else { return };
        let Some(&index) = self.by_id.get(&reply.client) else { return };
        let client = &mut self.clients[index];
        match client.session.on_reply(self.group, &reply, now) {
            Step::Wait(_) => {}
            Step::Send => {
                self.outcome.retries += 1;
                self.outbox.push(index);
            }
            Step::Done => {
                let verdict = client.model.check(reply.result);
                let latency = now.saturating_duration_since(client.arrived);
                self.outcome.checked += 1;
                if self.phase == Phase::Measure {
                    self.outcome.requests += 1;
                    self.outcome.latency.saturating_record(latency.as_nanos() as u64);
                }
                if let Err(text) = verdict {
                    let text = format!("{text} (reply {})", describe(&reply));
                    self.failed(index, text, now);
                } else {
                    self.answered(index, now);
                }
            }
            Step::Failed(error) => self.failed(index, error.to_string(), now),
        }
    }

    /// A session is free again.
    fn answered(&mut self, index: usize, now: Instant) {
        match &mut self.arrivals {
            Some(arrivals) => arrivals.is_idle(index),
            None => self.next(index, now),
        }
    }

    fn on_time(&mut self, index: usize, now: Instant) {
        let client = &mut self.clients[index];
        if !client.session.is_busy() {
            return;
        }
        match client.session.on_time(self.group, now) {
            Step::Send => {
                self.outcome.retries += 1;
                self.outbox.push(index);
                // One lost packet is no reason to leave a leader that answers the other sessions.
                if now.saturating_duration_since(self.heard_at) < self.group.retry() * 2 {
                    client.session.set_target(self.leader);
                }
            }
            Step::Failed(error) => self.failed(index, error.to_string(), now),
            Step::Wait(_) | Step::Done => {}
        }
    }

    /// Counts an error. The session goes on, but not in the end: there would be no end of it.
    fn failed(&mut self, index: usize, error: String, now: Instant) {
        self.outcome.errors += 1;
        if self.outcome.error_samples.len() < ERROR_SAMPLES {
            self.outcome.error_samples.push(error);
        }
        self.renew(index);
        if self.phase != Phase::Drain {
            self.answered(index, now);
        }
    }

    /// A session of which it is not known what its keys hold goes on with other keys.
    fn renew(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.session.renew();
        let id = client.session.id();
        client.model = Model::new(id, self.load.payload_bytes);
        self.by_id.retain(|_, of| *of != index);
        self.by_id.insert(id, index);
    }

    fn send(&mut self) -> io::Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        // The last session to be sent elsewhere decides; the others learn of it here.
        let moved =
            self.outbox.iter().rev().map(|&i| self.clients[i].session.target()).find(|&t| t != self.leader);
        if let Some(leader) = moved {
            self.leader = leader;
            self.socket.connect(self.group.members()[leader])?;
            self.clients.iter_mut().for_each(|client| client.session.set_target(leader));
        }
        let clients = &self.clients;
        // Packets of one length leave as one.
        self.outbox.sort_by_key(|&index| std::cmp::Reverse(clients[index].session.bytes()));
        self.socket.send(self.outbox.iter().flat_map(|&index| clients[index].session.packets()))?;
        self.outbox.clear();
        Ok(())
    }
}

fn describe(reply: &ClientReply<'_>) -> String {
    format!("to request {} of session {:016x} in view {}", reply.request, reply.client, reply.view)
}

#[cfg(test)]
mod tests;
