//! What a connection is asked and answers by itself: greetings, settings, what clients want to know when
//! they connect. It needs no replica.

use super::command::{Refusal, printable};
use super::wire::{Protocol, Reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The version of Redis whose words are spoken; clients choose what they ask by it.
const REDIS_VERSION: &str = "7.0.0";
/// Longest name that a client may give itself.
const NAME_BYTES_MAX: usize = 256;
/// What CONFIG GET knows: nothing can be set, and these are asked for by benchmarks.
const SETTINGS: [(&str, &str); 3] = [("appendonly", "no"), ("databases", "1"), ("save", "")];

/// What all connections of a server share.
#[derive(Debug)]
pub struct Shared {
    /// Connections now.
    pub clients: AtomicUsize,
    /// When the server was started.
    pub started: Instant,
    /// Index of the member that it belongs to.
    pub replica: usize,
    /// Its port.
    pub port: u16,
}

/// What a connection remembers of its client.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    number: u64,
    name: Vec<u8>,
    /// Which RESP it speaks.
    pub protocol: Protocol,
}

/// What a request comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Reply.
    Reply(Reply),
    /// Reply and close.
    Close(Reply),
    /// A question for the group.
    NotHere,
}

impl Client {
    /// A new connection.
    pub fn new(shared: Arc<Shared>, number: u64) -> Self {
        Self { shared, number, name: Vec::new(), protocol: Protocol::Resp2 }
    }

    /// Answers a request, if no replica is needed; `name` is in lower case.
    pub fn answer(&mut self, name: &str, rest: &[&[u8]]) -> Result<Answer, Refusal> {
        Ok(Answer::Reply(match (name, rest) {
            ("ping", []) => Reply::Simple("PONG"),
            ("ping" | "echo", [text]) => Reply::Bulk(text.to_vec()),
            ("select", [b"0"]) => Reply::Simple("OK"),
            ("select", [_]) => return Err(Refusal::Plain("ERR DB index is out of range")),
            ("quit", _) => return Ok(Answer::Close(Reply::Simple("OK"))),
            ("reset", []) => {
                self.protocol = Protocol::Resp2;
                self.name.clear();
                Reply::Simple("RESET")
            }
            ("hello", _) => self.hello(rest)?,
            ("client", [word, rest @ ..]) => self.client(&lower(word), rest)?,
            ("config", [word, patterns @ ..]) => config(&lower(word), patterns)?,
            // redis-cli asks for documentation when it starts; there is none.
            ("command", [word, ..]) if lower(word) == "count" => Reply::Integer(0),
            ("command", [word, ..]) if lower(word) == "docs" => Reply::Map(Vec::new()),
            ("command", _) => Reply::Array(Vec::new()),
            ("info", _) => Reply::Bulk(self.info().into_bytes()),
            ("ping" | "echo" | "select" | "reset" | "client" | "config", _) => return Err(Refusal::Arity),
            _ => return Ok(Answer::NotHere),
        }))
    }

    /// `HELLO [version [SETNAME name]]`; there are no users to authenticate.
    fn hello(&mut self, rest: &[&[u8]]) -> Result<Reply, Refusal> {
        let (protocol, words) = match rest {
            [] => (self.protocol, rest),
            [b"2", words @ ..] => (Protocol::Resp2, words),
            [b"3", words @ ..] => (Protocol::Resp3, words),
            _ => return Err(Refusal::Plain("NOPROTO unsupported protocol version")),
        };
        match words {
            [] => {}
            [word, name] if lower(word) == "setname" => self.set_name(name)?,
            [word, ..] => {
                let word = printable(word);
                return Err(Refusal::Said(format!("ERR Syntax error in HELLO option '{word}'")));
            }
        }
        self.protocol = protocol;
        let text = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
        Ok(Reply::Map(vec![
            ("server", text("redis")),
            ("version", text(REDIS_VERSION)),
            ("proto", Reply::Integer(if protocol == Protocol::Resp3 { 3 } else { 2 })),
            ("id", Reply::Integer(self.number as i64)),
            ("mode", text("standalone")),
            ("role", text("master")),
            ("modules", Reply::Array(Vec::new())),
        ]))
    }

    fn client(&mut self, word: &str, rest: &[&[u8]]) -> Result<Reply, Refusal> {
        Ok(match (word, rest) {
            ("setinfo", [_, _]) => Reply::Simple("OK"),
            ("setname", [name]) => {
                self.set_name(name)?;
                Reply::Simple("OK")
            }
            ("getname", []) if self.name.is_empty() => Reply::Null,
            ("getname", []) => Reply::Bulk(self.name.clone()),
            ("id", []) => Reply::Integer(self.number as i64),
            ("setinfo" | "setname" | "getname" | "id", _) => {
                let text = format!("ERR wrong number of arguments for 'client|{word}' command");
                return Err(Refusal::Said(text));
            }
            _ => return Err(unknown_subcommand("CLIENT", word)),
        })
    }

    fn set_name(&mut self, name: &[u8]) -> Result<(), Refusal> {
        if name.len() > NAME_BYTES_MAX || !name.iter().all(u8::is_ascii_graphic) {
            return Err(Refusal::Plain(
                "ERR Client names cannot contain spaces, newlines or special characters.",
            ));
        }
        self.name = name.to_vec();
        Ok(())
    }

    fn info(&self) -> String {
        let Shared { clients, started, replica, port } = &*self.shared;
        let (clients, seconds) = (clients.load(Ordering::Relaxed), started.elapsed().as_secs());
        [
            "# Server".to_owned(),
            format!("redis_version:{REDIS_VERSION}"),
            format!("paxos_demo_version:{}", env!("CARGO_PKG_VERSION")),
            "redis_mode:standalone".to_owned(),
            format!("process_id:{}", std::process::id()),
            format!("tcp_port:{port}"),
            format!("uptime_in_seconds:{seconds}"),
            format!("replica:{replica}"),
            "\r\n# Clients".to_owned(),
            format!("connected_clients:{clients}"),
            format!("maxclients:{}", super::CONNECTIONS_MAX),
            // Whichever replica is asked: it forwards, so clients may write here.
            "\r\n# Replication".to_owned(),
            "role:master".to_owned(),
            String::new(),
        ]
        .join("\r\n")
    }
}

fn config(word: &str, patterns: &[&[u8]]) -> Result<Reply, Refusal> {
    match (word, patterns) {
        ("get", [_, ..]) => {
            let asked = |name: &str| {
                patterns
                    .iter()
                    .any(|pattern| *pattern == b"*" || pattern.eq_ignore_ascii_case(name.as_bytes()))
            };
            let found = SETTINGS.iter().filter(|(name, _)| asked(name));
            Ok(Reply::Map(
                found.map(|(name, value)| (*name, Reply::Bulk(value.as_bytes().to_vec()))).collect(),
            ))
        }
        ("get", []) => Err(Refusal::Plain("ERR wrong number of arguments for 'config|get' command")),
        ("set", _) => {
            Err(Refusal::Plain("ERR CONFIG SET failed: this server is configured by its cluster.toml alone"))
        }
        ("resetstat", []) => Ok(Reply::Simple("OK")),
        _ => Err(unknown_subcommand("CONFIG", word)),
    }
}

fn unknown_subcommand(command: &str, word: &str) -> Refusal {
    let word = printable(word.as_bytes());
    Refusal::Said(format!("ERR unknown subcommand '{word}'. Try {command} HELP."))
}

fn lower(word: &[u8]) -> String {
    String::from_utf8_lossy(&word.to_ascii_lowercase()).into_owned()
}
