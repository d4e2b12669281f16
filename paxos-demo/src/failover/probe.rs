//! Who notices that a group does not serve, and when it does again.
//!
//! Two kinds, since they answer two questions. *Probes* ask how long the group takes: a fresh small write every
//! few milliseconds to each replica in turn, none of them sent twice. The *client* asks how long a client waits:
//! one request after the other, with the retries of the library, as the command line and the Redis front-end
//! do it.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::message::ReplyStatus;
use crate::session::{Group, Session};
use crate::state_machine::Command;

/// Pause between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(2);
/// After this a probe is not waited for any more.
const PROBE_PATIENCE: Duration = Duration::from_millis(100);
/// Pause of the client between two requests.
const CLIENT_PAUSE: Duration = Duration::from_millis(1);

/// A request that was served.
#[derive(Copy, Clone, Debug)]
pub struct Served {
    /// When it was first sent.
    pub called: Instant,
    /// When its answer was there.
    pub answered: Instant,
}

/// A thread that asks, and what it was answered. Dropping it ends it.
#[derive(Debug)]
pub struct Prober {
    served: Receiver<Served>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Probes over a socket that reaches the group.
    pub fn probes(socket: UdpSocket, group: Group) -> io::Result<Self> {
        socket.set_read_timeout(Some(PROBE_EVERY))?;
        Self::start("probes", move |served, stop| probe(&socket, &group, served, stop))
    }

    /// A client with retries.
    pub fn client(mut client: Client) -> io::Result<Self> {
        Self::start("client", move |served, stop| {
            while !stop.load(Ordering::Relaxed) {
                let called = Instant::now();
                if client.put(b"client", b"value").is_ok() {
                    let _ = served.send(Served { called, answered: Instant::now() });
                }
                std::thread::sleep(CLIENT_PAUSE);
            }
        })
    }

    fn start(
        name: &str,
        work: impl FnOnce(&Sender<Served>, &AtomicBool) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, served) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(&sender, &stopped))?;
        Ok(Self { served, stop, thread: Some(thread) })
    }

    /// When the first request was answered that was called after `since`: an answer to an earlier one may have
    /// been on its way already. `None` if there is none for so long.
    pub fn first_answer(&self, since: Instant, patience: Duration) -> Option<Instant> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let served = self.served.recv_timeout(left).ok()?;
            if served.called > since {
                return Some(served.answered);
            }
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn probe(socket: &UdpSocket, group: &Group, served: &Sender<Served>, stop: &AtomicBool) {
    let mut command = Vec::new();
    Command::Set { key: b"probe", value: b"value" }.encode(&mut command).expect("a short key");
    // A session of one request each: what nobody answers is in nobody's way.
    let mut under_way: HashMap<u64, Instant> = HashMap::new();
    let mut buffer = [0; 2048];
    let mut next = Instant::now();
    let mut target = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next {
            next = now + PROBE_EVERY;
            under_way.retain(|_, called| now.duration_since(*called) < PROBE_PATIENCE);
            let mut session = Session::new(target);
            session.begin(group, &command, now);
            under_way.insert(session.id(), now);
            // Lost like any datagram; others follow.
            for packet in session.packets() {
                let _ = socket.send_to(packet, group.members()[target]);
            }
            target = (target + 1) % group.members().len();
        }
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        if let Some(reply) = group.parse_reply(&buffer[..length])
            && let Some(called) = under_way.remove(&reply.client)
            && reply.status == ReplyStatus::Ok
        {
            let _ = served.send(Served { called, answered: Instant::now() });
        }
    }
}
