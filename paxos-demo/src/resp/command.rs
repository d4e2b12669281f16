//! What a request means. Errors are worded as Redis words them, since clients match on them.
//!
//! Two kinds of errors are our own: `-TRYAGAIN` promises that nothing was applied, `-UNKNOWN` says that the
//! request may have been.

use super::remote::Remote;
use super::wire::Reply;
use crate::session::RequestError;
use crate::state_machine::{Command, Outcome};

/// What to do after a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Reply.
    Reply(Reply),
    /// Say good-bye and close.
    Quit,
}

impl Answer {
    /// What is written.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Reply(reply) => reply.clone(),
            Self::Quit => Reply::Simple("OK"),
        }
    }
}

/// One client's connection.
#[derive(Debug)]
pub struct Connection {
    remote: Remote,
    number: u64,
}

impl Connection {
    /// A connection with its own session.
    pub fn new(remote: Remote, number: u64) -> Self {
        Self { remote, number }
    }

    /// Executes one request; `arguments` begins with the command's name.
    pub async fn execute(&mut self, arguments: &[&[u8]]) -> Answer {
        let name = arguments[0].to_ascii_lowercase();
        let rest = &arguments[1..];
        Answer::Reply(match (name.as_slice(), rest) {
            (b"ping", []) => Reply::Simple("PONG"),
            (b"ping", [text]) | (b"echo", [text]) => Reply::Bulk(text.to_vec()),
            (b"get", [key]) => self.get(key).await,
            (b"set", [key, value]) => self.set(key, value).await,
            // Expiry and conditions: not in this version.
            (b"set", [_, _, ..]) => error("ERR syntax error"),
            (b"del", [_, ..]) => self.delete(rest).await,
            (b"command", _) => command(rest),
            (b"client", [_, ..]) => self.client(rest),
            (b"hello", _) => self.hello(rest),
            (b"select", [b"0"]) => Reply::Simple("OK"),
            (b"select", [_]) => error("ERR DB index is out of range"),
            (b"quit", _) => return Answer::Quit,
            (b"ping" | b"echo" | b"get" | b"set" | b"del" | b"client" | b"select", _) => wrong_arity(&name),
            _ => unknown_command(arguments),
        })
    }

    async fn get(&mut self, key: &[u8]) -> Reply {
        self.apply(&Command::Get { key }, |outcome| match outcome {
            Outcome::Value(value) => Some(Reply::Bulk(value.to_vec())),
            Outcome::Absent => Some(Reply::Null),
            _ => None,
        })
        .await
        .unwrap_or_else(Failure::into_reply)
    }

    async fn set(&mut self, key: &[u8], value: &[u8]) -> Reply {
        self.apply(&Command::Set { key, value }, |outcome| {
            (outcome == Outcome::Done).then_some(Reply::Simple("OK"))
        })
        .await
        .unwrap_or_else(Failure::into_reply)
    }

    /// Several keys are several commands: another client can come between them.
    async fn delete(&mut self, keys: &[&[u8]]) -> Reply {
        let mut deleted = 0;
        for (done, key) in keys.iter().enumerate() {
            let result = self
                .apply(&Command::Del { key }, |outcome| match outcome {
                    Outcome::Done => Some(1),
                    Outcome::Absent => Some(0),
                    _ => None,
                })
                .await;
            match result {
                Ok(count) => deleted += count,
                // Some keys are gone, so the promise of TRYAGAIN would be wrong.
                Err(Failure::Request(error)) if done > 0 => {
                    return Reply::Error(format!(
                        "UNKNOWN {done} of {} keys were handled: {error}",
                        keys.len()
                    ));
                }
                Err(failure) => return failure.into_reply(),
            }
        }
        Reply::Integer(deleted)
    }

    async fn apply<T>(
        &mut self,
        command: &Command<'_>,
        read: impl FnOnce(Outcome<'_>) -> Option<T>,
    ) -> Result<T, Failure> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes).map_err(|error| Failure::Other(error.to_string()))?;
        self.remote.group().check(&bytes).map_err(|error| Failure::Other(error.to_string()))?;
        let result = self.remote.request(&bytes).await.map_err(Failure::Request)?;
        Outcome::parse(&result)
            .ok()
            .and_then(read)
            .ok_or_else(|| Failure::Other("the group's answer does not belong to this command".to_owned()))
    }

    fn client(&self, rest: &[&[u8]]) -> Reply {
        match (rest[0].to_ascii_lowercase().as_slice(), &rest[1..]) {
            (b"setinfo", [_, _]) | (b"setname", [_]) => Reply::Simple("OK"),
            (b"getname", []) => Reply::Null,
            (b"id", []) => Reply::Integer(self.number as i64),
            (name, _) => Reply::Error(format!(
                "ERR unknown subcommand or wrong number of arguments for '{}'",
                printable(name)
            )),
        }
    }

    fn hello(&self, rest: &[&[u8]]) -> Reply {
        match rest {
            [] | [b"2"] => {
                let text = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
                Reply::Array(vec![
                    text("server"),
                    text("paxos-demo"),
                    text("version"),
                    text(env!("CARGO_PKG_VERSION")),
                    text("proto"),
                    Reply::Integer(2),
                    text("id"),
                    Reply::Integer(self.number as i64),
                    text("mode"),
                    text("standalone"),
                    text("role"),
                    text("master"),
                ])
            }
            [_] => error("NOPROTO unsupported protocol version"),
            _ => error("ERR syntax error in HELLO"),
        }
    }
}

/// Why a command has no result.
enum Failure {
    Request(RequestError),
    Other(String),
}

impl Failure {
    fn into_reply(self) -> Reply {
        Reply::Error(match self {
            Self::Request(error @ RequestError::TryAgain { .. }) => format!("TRYAGAIN {error}"),
            Self::Request(error @ (RequestError::Unknown { .. } | RequestError::SessionLost)) => {
                format!("UNKNOWN {error}")
            }
            Self::Request(error @ RequestError::Refused) => format!("ERR {error}"),
            Self::Other(text) => format!("ERR {text}"),
        })
    }
}

/// redis-cli asks for documentation when it starts; there is none.
fn command(rest: &[&[u8]]) -> Reply {
    match rest.first().map(|word| word.to_ascii_lowercase()) {
        Some(word) if word == b"count" => Reply::Integer(10),
        _ => Reply::Array(Vec::new()),
    }
}

fn error(text: &str) -> Reply {
    Reply::Error(text.to_owned())
}

fn wrong_arity(name: &[u8]) -> Reply {
    Reply::Error(format!("ERR wrong number of arguments for '{}' command", printable(name)))
}

/// In the words of Redis 7, arguments cut to a readable length as there.
fn unknown_command(arguments: &[&[u8]]) -> Reply {
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", printable(arguments[0]));
    for argument in &arguments[1..] {
        if text.len() > 256 {
            break;
        }
        text.push_str(&format!("'{}' ", printable(argument)));
    }
    Reply::Error(text)
}

/// At most 128 bytes, on one line: an error ends with its line.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(128)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
