//! What tests of whole clusters share: the replicas are processes of the program under test.
#![allow(dead_code, unused_imports)]

mod privileged;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use paxos_demo::cli::BackendChoice;
use paxos_demo::cluster::{Cluster, Spec};
use paxos_demo::stop::Stop;

pub use self::privileged::privileged;

/// Long enough for a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_paxos-demo"))
}

/// A specification whose replicas run the program under test over kernel UDP on loopback.
pub fn loopback(replicas: usize) -> Spec {
    let mut spec = Spec::new(replicas).unwrap();
    spec.program = program();
    spec.loopback = true;
    spec.backend = BackendChoice::Udp;
    spec
}

pub fn start(spec: Spec) -> Cluster {
    Cluster::start(spec, &Stop::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The first of `count` ports in a row that are free now.
pub fn free_ports(count: u16) -> u16 {
    for _ in 0..1000 {
        let first = 20_000 + u16::try_from(paxos_demo::session::random_id() % 12_000).unwrap();
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (first..first + count).all(free) {
            return first;
        }
    }
    panic!("no {count} free ports in a row");
}

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "still waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Signals a process that the test started and has not reaped.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

/// Processes whose parent is `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// A Redis client that shows bytes as they are.
pub struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// One reply; a bulk string with its length line cut off, nil as `(nil)`.
    pub fn reply(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        match line.strip_prefix('$').map(|n| n.parse::<i64>().unwrap()) {
            None => line,
            Some(-1) => "(nil)".to_owned(),
            Some(length) => {
                let mut body = vec![0; length as usize + 2];
                self.stream.read_exact(&mut body).unwrap();
                String::from_utf8_lossy(&body[..length as usize]).into_owned()
            }
        }
    }

    pub fn call(&mut self, arguments: &[&str]) -> String {
        let arguments: Vec<&[u8]> = arguments.iter().map(|a| a.as_bytes()).collect();
        self.send(&request(&arguments));
        self.reply()
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

pub fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
