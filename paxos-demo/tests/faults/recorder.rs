//! Clients that write down what they ask and what they hear: many sessions over one socket, on one thread.
//!
//! Each client sends one request at a time, to whichever of a dozen keys it likes. Keys go out of use after
//! some hundred requests, and fresh ones take their place: what nobody answered clouds few other requests then
//! ([`paxos_demo::linearize::number`]). Now and then a client writes a key of its own and never again; at the
//! end of the run it must be there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use paxos_demo::linearize::number::{Answer, NumberOperation, Request};
use paxos_demo::session::{Group, RequestError, Session, Step};
use paxos_demo::state_machine::{Command, Outcome};

/// Keys in use at a time.
const KEYS: usize = 12;
/// Requests after which a key goes out of use.
const KEY_REQUESTS: u32 = 600;
/// One request in so many writes a key of its own.
const KEEP_EVERY: u32 = 16;

/// A key that clients share: its number in the order in which they come into use.
pub type Key = u32;

/// What was recorded.
#[derive(Default)]
pub struct History {
    pub keys: BTreeMap<Key, Vec<NumberOperation>>,
    /// Keys written once, whose write was answered.
    pub kept: BTreeMap<String, i64>,
    /// Requests that were answered, of all kinds.
    pub answered: u64,
    /// ... of which nobody knows what became of them.
    pub unknown: u64,
    /// ... that were refused with the promise that nothing was applied.
    pub refused: u64,
    /// Copies sent beyond the first.
    pub retries: u64,
}

pub fn key_name(key: Key) -> String {
    format!("key{key}")
}

/// What a client is at.
enum Task {
    Shared { key: Key, request: Request },
    Keep { name: String, number: i64 },
}

struct Client {
    session: Session,
    task: Option<Task>,
    called: u64,
    group: usize,
}

/// The running clients.
pub struct Recorder {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<History>,
}

impl Recorder {
    /// Starts `clients` clients that rest for `pause` between two requests. Half of them lose patience early:
    /// they make the requests whose fate stays open.
    pub fn start(socket: UdpSocket, group: &Group, clients: usize, pause: Duration, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let groups = [group.clone(), group.clone().with_timeout(group.retry() * 5)];
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || {
            let mut run = Run::new(socket, groups, clients, pause, seed);
            run.run(&stopped, &count);
            run.history
        });
        Self { stop, answered, thread: thread.unwrap() }
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets the clients end their requests and returns what they wrote down.
    pub fn finish(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

struct Run {
    socket: UdpSocket,
    groups: [Group; 2],
    clients: Vec<Client>,
    by_id: HashMap<u64, usize>,
    /// When to look after a client.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    pause: Duration,
    keys: [(Key, u32); KEYS],
    fresh: Key,
    numbers: i64,
    start: Instant,
    rng: fastrand::Rng,
    history: History,
}

impl Run {
    fn new(socket: UdpSocket, groups: [Group; 2], clients: usize, pause: Duration, seed: u64) -> Self {
        socket.set_nonblocking(true).unwrap();
        let now = Instant::now();
        let members = groups[0].members().len();
        let client =
            |i: usize| Client { session: Session::new(i % members), task: None, called: 0, group: i % 2 };
        let clients: Vec<_> = (0..clients).map(client).collect();
        Self {
            by_id: clients.iter().enumerate().map(|(i, c)| (c.session.id(), i)).collect(),
            timers: (0..clients.len()).map(|i| Reverse((now, i))).collect(),
            socket,
            groups,
            clients,
            pause,
            keys: std::array::from_fn(|i| (i as Key, 0)),
            fresh: KEYS as Key,
            numbers: 0,
            start: now,
            rng: fastrand::Rng::with_seed(seed),
            history: History::default(),
        }
    }

    fn run(&mut self, stop: &AtomicBool, answered: &AtomicU64) {
        let mut buffer = [0; 2048];
        loop {
            while let Ok(length) = self.socket.recv(&mut buffer) {
                self.on_datagram(&buffer[..length]);
            }
            answered.store(self.history.answered, Ordering::Relaxed);
            let stopping = stop.load(Ordering::Relaxed);
            if stopping && self.clients.iter().all(|client| !client.session.is_busy()) {
                return;
            }
            let now = Instant::now();
            while self.timers.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                let Some(Reverse((_, i))) = self.timers.pop() else { break };
                self.on_time(i, now, stopping);
            }
            let until = self.timers.peek().map_or(now, |Reverse((at, _))| *at);
            self.wait(until.saturating_duration_since(now).min(Duration::from_millis(20)));
        }
    }

    /// Waits for a datagram. Not by the socket's read timeout, which is counted in ticks of milliseconds.
    fn wait(&self, timeout: Duration) {
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let timeout = libc::timespec { tv_sec: 0, tv_nsec: timeout.as_nanos() as _ };
        // SAFETY: one `pollfd` and a timeout that outlive the call.
        unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    }

    /// Time in the history: taken before the first copy is sent, and after the answer was read.
    fn time(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn on_time(&mut self, i: usize, now: Instant, stopping: bool) {
        let client = &mut self.clients[i];
        if !client.session.is_busy() {
            if !stopping {
                self.begin(i);
            }
            return;
        }
        let group = &self.groups[client.group];
        let step = client.session.on_time(group, now);
        self.follow(i, step);
    }

    fn begin(&mut self, i: usize) {
        self.numbers += 1;
        let task = if self.rng.u32(0..KEEP_EVERY) == 0 {
            Task::Keep { name: format!("kept{}", self.numbers), number: self.numbers }
        } else {
            let slot = &mut self.keys[self.rng.usize(0..KEYS)];
            slot.1 += 1;
            if slot.1 > KEY_REQUESTS {
                *slot = (self.fresh, 1);
                self.fresh += 1;
            }
            let request = match self.rng.u32(0..100) {
                0..45 => Request::Get,
                45..75 => Request::Set(self.numbers << 32),
                // Sums that nothing else adds up to.
                75..98 => Request::IncrBy(self.rng.i64(1 << 8..1 << 24)),
                _ => Request::Del,
            };
            Task::Shared { key: slot.0, request }
        };
        let (name, request) = match &task {
            Task::Shared { key, request } => (key_name(*key), *request),
            Task::Keep { name, number } => (name.clone(), Request::Set(*number)),
        };
        let command = encode(name.as_bytes(), request);
        self.clients[i].called = self.time();
        let client = &mut self.clients[i];
        client.task = Some(task);
        client.session.begin(&self.groups[client.group], &command, Instant::now());
        self.send(i);
    }

    fn send(&mut self, i: usize) {
        let session = &self.clients[i].session;
        // Lost like any datagram; the timer sends again.
        for packet in session.packets() {
            let _ = self.socket.send_to(packet, self.groups[0].members()[session.target()]);
        }
        self.timers.push(Reverse((session.resend_at(), i)));
    }

    fn on_datagram(&mut self, datagram: &[u8]) {
        let Some(reply) = self.groups[0].parse_reply(datagram) else { return };
        let Some(&i) = self.by_id.get(&reply.client) else { return };
        let client = &mut self.clients[i];
        let step = client.session.on_reply(&self.groups[client.group], &reply, Instant::now());
        if step == Step::Done {
            let answer = decode(reply.result);
            self.history.answered += 1;
            self.settle(i, Some(answer));
        } else {
            self.follow(i, step);
        }
    }

    fn follow(&mut self, i: usize, step: Step) {
        match step {
            Step::Send => {
                self.history.retries += 1;
                self.send(i);
            }
            Step::Wait(until) => self.timers.push(Reverse((until, i))),
            Step::Failed(RequestError::TryAgain { .. }) => {
                // The promise that nothing was applied is believed here: a write that shows all the same is
                // a number from nowhere.
                self.history.refused += 1;
                self.clients[i].task = None;
                self.rest(i);
            }
            Step::Failed(RequestError::Unknown { .. } | RequestError::SessionLost) => {
                self.history.unknown += 1;
                self.settle(i, None);
            }
            Step::Failed(RequestError::Refused) => panic!("a request was refused as malformed"),
            Step::Done => unreachable!("only a reply completes a request"),
        }
    }

    fn settle(&mut self, i: usize, answer: Option<Answer>) {
        let now = self.time();
        let client = &mut self.clients[i];
        match client.task.take().expect("a session under way has a task") {
            Task::Shared { key, request } => {
                let operation = NumberOperation {
                    called: client.called,
                    request,
                    answered: answer.map(|answer| (now, answer)),
                };
                self.history.keys.entry(key).or_default().push(operation);
            }
            Task::Keep { name, number } => {
                if answer == Some(Answer::Done) {
                    self.history.kept.insert(name, number);
                }
            }
        }
        self.rest(i);
    }

    /// The session may have another id now.
    fn rest(&mut self, i: usize) {
        self.by_id.retain(|_, of| *of != i);
        self.by_id.insert(self.clients[i].session.id(), i);
        self.timers.push(Reverse((Instant::now() + self.pause, i)));
    }
}

pub fn encode(key: &[u8], request: Request) -> Vec<u8> {
    let text;
    let command = match request {
        Request::Get => Command::Get { key },
        Request::Set(number) => {
            text = number.to_string();
            Command::Set { key, value: text.as_bytes() }
        }
        Request::Del => Command::Del { key },
        Request::IncrBy(delta) => Command::IncrBy { key, delta },
    };
    let mut bytes = Vec::new();
    command.encode(&mut bytes).expect("short keys");
    bytes
}

pub fn decode(result: &[u8]) -> Answer {
    match Outcome::parse(result).expect("a result") {
        Outcome::Absent => Answer::Absent,
        Outcome::Done => Answer::Done,
        Outcome::Integer(number) => Answer::Number(number),
        Outcome::Value(value) => Answer::Number(
            std::str::from_utf8(value).unwrap().parse().expect("numbers are all that is written"),
        ),
        other => panic!("{other:?} is no answer to any of these requests"),
    }
}
