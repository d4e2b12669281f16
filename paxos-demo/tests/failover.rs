//! Redis clients while leaders are killed: only what is in flight at that moment may fail, the error says
//! what is known, and everything else is served, in order, once.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use common::{PATIENCE, free_ports, loopback, program, request, start, wait_for};
use paxos_demo::cluster::{Cluster, Spec};
use paxos_demo::status::RoleName;
use paxos_demo::stop::Stop;

/// Requests that a client sends ahead.
const AHEAD: usize = 8;
const CLIENTS: usize = 6;
const KILLS: usize = 4;

/// A kill, from just before the signal until the process was gone.
#[derive(Copy, Clone, Debug)]
struct Kill {
    replica: usize,
    began: Instant,
    ended: Instant,
}

/// A request that failed.
#[derive(Clone, Debug)]
struct Failed {
    /// The replica that was asked, and since when the connection had been open.
    replica: usize,
    opened: Instant,
    sent: Instant,
    failed: Instant,
    /// What the replica said, or that it said nothing any more.
    error: Option<String>,
}

impl Failed {
    /// Whether it was in flight when somebody was killed. A connection to the victim breaks for what is sent
    /// before the client has noticed, too.
    fn is_due_to(&self, kill: &Kill) -> bool {
        let until = if self.error.is_none() { self.opened } else { self.sent };
        let same = self.error.is_some() || self.replica == kill.replica;
        same && until <= kill.ended && self.failed >= kill.began
    }
}

/// A client that increments a key of its own, and turns to another replica when its own is gone.
struct Client<'a> {
    number: usize,
    addresses: &'a [SocketAddr],
    replica: usize,
    opened: Instant,
    stream: Option<BufReader<TcpStream>>,
    /// How often its key was incremented: at least, at most.
    at_least: i64,
    at_most: i64,
}

impl Client<'_> {
    fn connect(&mut self) {
        let since = Instant::now();
        while self.stream.is_none() {
            assert!(since.elapsed() < PATIENCE, "no replica takes a connection");
            self.opened = Instant::now();
            match TcpStream::connect(self.addresses[self.replica]) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    self.stream = Some(BufReader::new(stream));
                }
                Err(_) => self.replica = (self.replica + 1) % self.addresses.len(),
            }
        }
    }

    /// Sends some requests and takes their replies.
    fn work(&mut self, served: &AtomicU64, failures: &Mutex<Vec<Failed>>) {
        self.connect();
        let key = format!("client{}", self.number);
        let bytes: Vec<u8> = (0..AHEAD).flat_map(|_| request(&[b"INCR", key.as_bytes()])).collect();
        let sent = Instant::now();
        let fail = |this: &mut Self, error: Option<String>| {
            let failed =
                Failed { replica: this.replica, opened: this.opened, sent, failed: Instant::now(), error };
            failures.lock().unwrap().push(failed);
        };
        let mut stream = self.stream.take().expect("just connected");
        let mut broken = stream.get_mut().write_all(&bytes).is_err();
        for _ in 0..AHEAD {
            let mut line = String::new();
            broken = broken || !matches!(stream.read_line(&mut line), Ok(1..)) || !line.ends_with("\r\n");
            if broken {
                // Nobody says what became of it.
                self.at_most += 1;
                fail(self, None);
                continue;
            }
            match line.trim_end().split_at(1) {
                (":", count) => {
                    let count: i64 = count.parse().unwrap();
                    assert!(
                        self.at_least < count && count <= self.at_most + 1,
                        "{key} is {count} after {} to {} increments",
                        self.at_least,
                        self.at_most
                    );
                    (self.at_least, self.at_most) = (count, count);
                    served.fetch_add(1, Ordering::Relaxed);
                }
                ("-", error) => {
                    if !error.starts_with("TRYAGAIN ") {
                        self.at_most += 1;
                    }
                    fail(self, Some(error.to_owned()));
                }
                _ => panic!("{line:?} is no answer to INCR"),
            }
        }
        if broken {
            self.replica = (self.replica + 1) % self.addresses.len();
        } else {
            self.stream = Some(stream);
        }
    }
}

fn leader(cluster: &Cluster) -> usize {
    wait_for("a leader", || {
        let statuses = cluster.statuses(PATIENCE).unwrap();
        let leads = |id: &usize| statuses[*id].as_ref().is_some_and(|s| s.replica.role == RoleName::Leader);
        (0..statuses.len()).find(leads)
    })
}

fn only_what_is_in_flight_fails(mut spec: Spec) {
    spec.resp_port = Some(free_ports(3));
    let mut cluster = start(spec);
    let addresses: Vec<SocketAddr> = (0..3).map(|id| cluster.resp_address(id).unwrap()).collect();
    let (failures, mut kills) = (Mutex::new(Vec::new()), Vec::new());
    let served: [AtomicU64; CLIENTS] = Default::default();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = |number: usize| {
            let (addresses, served, failures, stop) = (&addresses, &served[number], &failures, &stop);
            scope.spawn(move || {
                let replica = number % 3;
                let opened = Instant::now();
                let mut client =
                    Client { number, addresses, replica, opened, stream: None, at_least: 0, at_most: 0 };
                while !stop.load(Ordering::Relaxed) {
                    client.work(served, failures);
                }
                client.at_least
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        // Each client is served again before the next kill, and in the end.
        let everybody = |what: &str| {
            let before: Vec<u64> = served.iter().map(|n| n.load(Ordering::Relaxed)).collect();
            wait_for(what, || {
                let moved =
                    |(n, before): (&AtomicU64, &u64)| n.load(Ordering::Relaxed) > before + 2 * AHEAD as u64;
                served.iter().zip(&before).all(moved).then_some(())
            });
        };
        for _ in 0..KILLS {
            everybody("all clients to be served");
            cluster.await_ready(PATIENCE, &Stop::default()).unwrap_or_else(|error| panic!("{error}"));
            let replica = leader(&cluster);
            let began = Instant::now();
            cluster.kill(replica).unwrap();
            kills.push(Kill { replica, began, ended: Instant::now() });
            everybody("all clients to be served again");
            cluster.restart(replica).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        let counts =
            clients.into_iter().map(|c| c.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        assert!(counts.sum::<i64>() > 0);
    });
    let failures = failures.into_inner().unwrap();
    let said = failures.iter().filter(|failed| failed.error.is_some()).count();
    println!(
        "{} served; {} failed: {said} with an error, the rest with the connection",
        served.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>(),
        failures.len()
    );
    for failed in &failures {
        assert!(kills.iter().any(|kill| failed.is_due_to(kill)), "{failed:?} is due to none of {kills:?}");
        if let Some(error) = &failed.error {
            assert!(error.starts_with("TRYAGAIN ") || error.starts_with("UNKNOWN "), "{error}");
        }
    }
    // The leader's own clients lose what they had sent; more than that is too much.
    assert!(failures.len() <= KILLS * CLIENTS * AHEAD, "{} failed", failures.len());
}

#[test]
fn only_what_is_in_flight_fails_over_udp() {
    only_what_is_in_flight_fails(loopback(3));
}

#[cfg(feature = "ebpf")]
#[test]
fn only_what_is_in_flight_fails_over_ebpf() {
    if common::privileged("only_what_is_in_flight_fails_over_ebpf") {
        let mut spec = Spec::new(3).unwrap();
        (spec.program, spec.backend) = (program(), paxos_demo::cli::BackendChoice::Ebpf);
        only_what_is_in_flight_fails(spec);
    }
}

#[test]
fn failover_is_measured() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = std::process::Command::new(program())
        .args(["failover", "--kills", "2", "--backend", "udp", "--leader-timeout-ms", "200", "--json"])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["kills"], &report["replicas"]), (&1.into(), &2.into(), &3.into()));
    for who in ["group_ms", "client_ms"] {
        let [p50, p99, max] = ["p50", "p99", "max"].map(|name| report[who][name].as_f64().unwrap());
        // How long is for a benchmark to judge.
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max + 0.1, "{report}");
    }
}
