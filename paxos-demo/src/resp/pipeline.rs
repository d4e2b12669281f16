//! What a client has sent ahead, on its way to the group.
//!
//! Requests of one connection are executed in the order in which they were sent, yet not one by one: those
//! that wait go to the group together, several commands in one datagram, which become one op (or, if all of
//! them read, none). So what depends on each other stays in order, whatever the network does.
//!
//! Writes whose results are short travel together, and so do reads. Reads may find more than one datagram can
//! carry; then they are asked again in halves, which is free, since they change nothing.
//!
//! Two kinds of errors are our own: `-TRYAGAIN` promises that nothing was applied, `-UNKNOWN` says that the
//! request may have been.

use super::command::Shape;
use super::remote::Remote;
use super::wire::{Protocol, Reply, write_reply};
use crate::session::RequestError;
use crate::state_machine::{COMMAND_HEADER_BYTES, Command, Failure, Outcome, SHORT_RESULT_BYTES, Strings};
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes that a command and a result take among several, besides themselves.
const LENGTH_BYTES: usize = 4;
/// Replies gathered before they are written.
const OUTPUT_BYTES: usize = 16 * 1024;

/// Which commands travel together.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// All of them read.
    Reads,
    /// Nothing is known but that their results are short.
    Short,
    /// Only by itself.
    Alone,
}

/// One request, in order.
#[derive(Debug)]
enum Slot {
    /// Answered already, in so many bytes of `answers`.
    Here(Range<usize>),
    /// For the group.
    There(Asked),
}

#[derive(Clone, Debug)]
struct Asked {
    /// Where its command is.
    command: Range<usize>,
    name: String,
    shape: Shape,
}

/// The requests of one connection that are not answered yet.
#[derive(Debug)]
pub struct Pipeline {
    remote: Remote,
    slots: Vec<Slot>,
    answers: Vec<u8>,
    commands: Vec<u8>,
    count: usize,
    kind: Kind,
    /// Reads that are asked for at once; learned from what fitted.
    reads_max: usize,
}

impl Pipeline {
    /// Nothing asked yet.
    pub fn new(remote: Remote) -> Self {
        Self {
            remote,
            slots: Vec::new(),
            answers: Vec::new(),
            commands: Vec::new(),
            count: 0,
            kind: Kind::Short,
            reads_max: usize::MAX,
        }
    }

    /// A request was answered without the group.
    pub fn answered(&mut self, reply: &Reply, protocol: Protocol) {
        let start = self.answers.len();
        write_reply(reply, protocol, &mut self.answers);
        self.slots.push(Slot::Here(start..self.answers.len()));
    }

    /// Adds a command, if it can go along with those that wait: false if they have to go first.
    pub fn push(&mut self, name: &str, command: &Command<'_>, shape: Shape) -> Result<bool, String> {
        let start = self.commands.len();
        command.encode(&mut self.commands).map_err(|error| format!("ERR {error}"))?;
        let group = self.remote.group();
        if let Err(error) = group.check(&self.commands[start..]) {
            self.commands.truncate(start);
            return Err(format!("ERR {error}"));
        }
        let kind = match command {
            _ if command.is_read() => Kind::Reads,
            _ if command.has_short_result() => Kind::Short,
            _ => Kind::Alone,
        };
        let max = group.command_bytes_max();
        let bytes = COMMAND_HEADER_BYTES + self.commands.len() + (self.count + 1) * LENGTH_BYTES;
        let results = 1 + (self.count + 1) * (LENGTH_BYTES + SHORT_RESULT_BYTES);
        let fits = bytes <= max
            && match kind {
                Kind::Reads => self.kind == Kind::Reads && self.count < self.reads_max,
                Kind::Short => self.kind == Kind::Short && results <= max,
                Kind::Alone => false,
            };
        if self.count > 0 && !fits {
            self.commands.truncate(start);
            return Ok(false);
        }
        (self.kind, self.count) = (kind, self.count + 1);
        let command = start..self.commands.len();
        self.slots.push(Slot::There(Asked { command, name: name.to_owned(), shape }));
        Ok(true)
    }

    /// Whether so much waits that it should be sent and written before more is taken.
    pub fn is_full(&self) -> bool {
        self.answers.len() >= OUTPUT_BYTES
    }

    /// Has what waits executed, and appends all replies in order.
    pub async fn run(&mut self, protocol: Protocol, output: &mut Vec<u8>) {
        let slots = std::mem::take(&mut self.slots);
        let asked: Vec<&Asked> = slots
            .iter()
            .filter_map(|slot| match slot {
                Slot::There(asked) => Some(asked),
                Slot::Here(_) => None,
            })
            .collect();
        let mut replies = self.execute(&asked).await.into_iter();
        for slot in &slots {
            match slot {
                Slot::Here(range) => output.extend_from_slice(&self.answers[range.clone()]),
                Slot::There(_) => {
                    let reply = replies.next().expect("one reply to each");
                    write_reply(&reply, protocol, output);
                }
            }
        }
        self.answers.clear();
        self.commands.clear();
        self.count = 0;
    }

    /// One reply to each command, in order.
    async fn execute(&mut self, asked: &[&Asked]) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(asked.len());
        let mut parts = VecDeque::new();
        if !asked.is_empty() {
            parts.push_back(asked);
        }
        while let Some(part) = parts.pop_front() {
            let result = self.remote.request(&self.encode(part)).await;
            let result = match result {
                Ok(result) => result,
                Err(error) => {
                    replies.extend(part.iter().map(|_| Reply::Error(error_text(&error))));
                    continue;
                }
            };
            match (part, Outcome::parse(&result)) {
                (_, Ok(Outcome::Failure(Failure::ResultTooLong)))
                    if self.kind == Kind::Reads && part.len() > 1 =>
                {
                    let (first, second) = part.split_at(part.len() / 2);
                    self.reads_max = first.len();
                    parts.push_front(second);
                    parts.push_front(first);
                }
                ([one], Ok(outcome)) => replies.push(one.shape.reply(&one.name, outcome)),
                (_, Ok(Outcome::Results(results))) if results.iter().count() == part.len() => {
                    for (one, result) in part.iter().zip(results.iter()) {
                        // What cannot be read is none of the outcomes that a shape tells.
                        let outcome = result.and_then(|result| Outcome::parse(result).ok());
                        replies.push(one.shape.reply(&one.name, outcome.unwrap_or(Outcome::Invalid)));
                    }
                    if part.len() >= self.reads_max {
                        self.reads_max = self.reads_max.saturating_mul(2);
                    }
                }
                _ => replies.extend(part.iter().map(|one| one.shape.reply(&one.name, Outcome::Invalid))),
            }
        }
        replies
    }

    fn encode(&self, part: &[&Asked]) -> Vec<u8> {
        let commands: Vec<&[u8]> = part.iter().map(|asked| &self.commands[asked.command.clone()]).collect();
        match commands[..] {
            [one] => one.to_vec(),
            _ => {
                let mut bytes = Vec::new();
                let many = Command::Many { commands: Strings::new(&commands) };
                many.encode(&mut bytes).expect("they fit a datagram");
                bytes
            }
        }
    }
}

fn error_text(error: &RequestError) -> String {
    match error {
        RequestError::TryAgain { .. } => format!("TRYAGAIN {error}"),
        RequestError::Unknown { .. } | RequestError::SessionLost => format!("UNKNOWN {error}"),
        RequestError::Refused => format!("ERR {error}"),
    }
}
