//! What a client has sent ahead, on its way to the group.
//!
//! Requests of one connection are executed in the order in which they were sent, yet not one by one: those
//! that wait go to the group together, several commands in one datagram, which become one op (or, if all of
//! them read, none). So what depends on each other stays in order, whatever the network does.
//!
//! Writes whose results are short travel together, and so do reads. Reads may find more than a leader returns at
//! once; then they are asked again in halves, which is free, since they change nothing. What does not fit a
//! datagram travels alone.
//!
//! Two kinds of errors are our own: `-TRYAGAIN` promises that nothing was applied, `-UNKNOWN` says that the
//! request may have been.

use super::command::Shape;
use super::remote::Remote;
use super::wire::{Protocol, Reply, write_reply};
use crate::session::RequestError;
use crate::state_machine::{
    COMMAND_HEADER_BYTES, COMMANDS_MAX, Command, Failure, Outcome, SHORT_COMMANDS_MAX, Strings,
};
use electrode::abi;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes that a command takes among several, besides itself.
const LENGTH_BYTES: usize = 4;
// Whatever travels together in a datagram is few enough to be one command.
const _: () = assert!(abi::PAYLOAD_BYTES_MAX / (COMMAND_HEADER_BYTES + LENGTH_BYTES) <= COMMANDS_MAX);
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
    slots: VecDeque<Slot>,
    /// To the first of those that need the group.
    replies: VecDeque<Reply>,
    answers: Vec<u8>,
    commands: Vec<u8>,
    count: usize,
    kind: Kind,
    /// Reads that are asked for at once; learned from what fitted.
    reads_max: usize,
    /// Those that are asked for at once of what waits.
    portion: usize,
}

impl Pipeline {
    /// Nothing asked yet.
    pub fn new(remote: Remote) -> Self {
        Self {
            remote,
            slots: VecDeque::new(),
            replies: VecDeque::new(),
            answers: Vec::new(),
            commands: Vec::new(),
            count: 0,
            kind: Kind::Short,
            reads_max: usize::MAX,
            portion: usize::MAX,
        }
    }

    /// A request was answered without the group.
    pub fn answered(&mut self, reply: &Reply, protocol: Protocol) {
        let start = self.answers.len();
        write_reply(reply, protocol, &mut self.answers);
        self.slots.push_back(Slot::Here(start..self.answers.len()));
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
        let max = group.part_bytes_max();
        let bytes = COMMAND_HEADER_BYTES + self.commands.len() + (self.count + 1) * LENGTH_BYTES;
        let fits = bytes <= max
            && match kind {
                Kind::Reads => self.kind == Kind::Reads && self.count < self.reads_max,
                Kind::Short => self.kind == Kind::Short && self.count < SHORT_COMMANDS_MAX,
                Kind::Alone => false,
            };
        if self.count > 0 && !fits {
            self.commands.truncate(start);
            return Ok(false);
        }
        (self.kind, self.count) = (kind, self.count + 1);
        let command = start..self.commands.len();
        self.slots.push_back(Slot::There(Asked { command, name: name.to_owned(), shape }));
        Ok(true)
    }

    /// Whether so much waits that it should be sent and written before more is taken.
    pub fn is_full(&self) -> bool {
        self.answers.len() >= OUTPUT_BYTES
    }

    /// Has what waits executed, and appends all replies in order. True if there are more, and those appended
    /// should be written first.
    pub async fn run(&mut self, protocol: Protocol, output: &mut Vec<u8>) -> bool {
        loop {
            self.write_replies(protocol, output);
            if self.slots.is_empty() {
                break;
            }
            if output.len() >= OUTPUT_BYTES {
                return true;
            }
            self.execute().await;
        }
        self.answers.clear();
        self.answers.shrink_to(OUTPUT_BYTES);
        self.commands.clear();
        self.commands.shrink_to(OUTPUT_BYTES);
        self.count = 0;
        self.portion = usize::MAX;
        false
    }

    /// Whether a reply holds room that others may wait for, until [`Self::written`].
    pub fn holds_room(&self) -> bool {
        self.remote.holds_room()
    }

    /// All replies were written.
    pub fn written(&mut self) {
        self.remote.release();
    }

    /// Appends the replies that are there, as far as none is missing in between.
    fn write_replies(&mut self, protocol: Protocol, output: &mut Vec<u8>) {
        while let Some(slot) = self.slots.front() {
            match slot {
                Slot::Here(range) => output.extend_from_slice(&self.answers[range.clone()]),
                Slot::There(_) => {
                    let Some(reply) = self.replies.pop_front() else { return };
                    write_reply(&reply, protocol, output);
                }
            }
            self.slots.pop_front();
        }
    }

    /// Asks the group for what comes next: one reply to each, in order.
    async fn execute(&mut self) {
        let Self { remote, slots, replies, commands, kind, reads_max, portion, .. } = self;
        let there = slots.iter().filter_map(|slot| match slot {
            Slot::There(asked) => Some(asked),
            Slot::Here(_) => None,
        });
        let part: Vec<&Asked> = there.take(*portion).collect();
        let result = match remote.request(&encode(commands, &part)).await {
            Ok(result) => result,
            Err(error) => return replies.extend(part.iter().map(|_| Reply::Error(error_text(&error)))),
        };
        let outcome = Outcome::parse(&result);
        if *kind == Kind::Reads && part.len() > 1 && outcome.is_ok_and(|outcome| is_too_long(&outcome)) {
            *portion = part.len() / 2;
            *reads_max = *portion;
            return;
        }
        match (&part[..], outcome) {
            ([one], Ok(outcome)) => replies.push_back(one.shape.reply(&one.name, outcome)),
            (_, Ok(Outcome::Results(results))) if results.iter().count() == part.len() => {
                for (one, result) in part.iter().zip(results.iter()) {
                    // What cannot be read is none of the outcomes that a shape tells.
                    let outcome = result.and_then(|result| Outcome::parse(result).ok());
                    replies.push_back(one.shape.reply(&one.name, outcome.unwrap_or(Outcome::Invalid)));
                }
                if part.len() >= *reads_max {
                    *reads_max = reads_max.saturating_mul(2);
                }
            }
            _ => replies.extend(part.iter().map(|one| one.shape.reply(&one.name, Outcome::Invalid))),
        }
    }
}

/// Whether this, or any of several results, did not fit.
fn is_too_long(outcome: &Outcome<'_>) -> bool {
    match outcome {
        Outcome::Failure(failure) => *failure == Failure::ResultTooLong,
        Outcome::Results(results) => results
            .iter()
            .flatten()
            .any(|result| matches!(Outcome::parse(result), Ok(Outcome::Failure(Failure::ResultTooLong)))),
        _ => false,
    }
}

fn encode<'a>(commands: &'a [u8], part: &[&Asked]) -> Cow<'a, [u8]> {
    if let [one] = part {
        return Cow::Borrowed(&commands[one.command.clone()]);
    }
    let commands: Vec<&[u8]> = part.iter().map(|asked| &commands[asked.command.clone()]).collect();
    let mut bytes = Vec::new();
    let many = Command::Many { commands: Strings::new(&commands) };
    many.encode(&mut bytes).expect("they fit a datagram");
    Cow::Owned(bytes)
}

fn error_text(error: &RequestError) -> String {
    match error {
        RequestError::TryAgain { .. } => format!("TRYAGAIN {error}"),
        RequestError::Unknown { .. } | RequestError::SessionLost => format!("UNKNOWN {error}"),
        RequestError::Refused => format!("ERR {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClusterConfig;
    use crate::resp::remote::Room;
    use crate::session::Group;
    use std::sync::Arc;

    #[test]
    fn nothing_of_long_requests_and_answers_stays() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let group = Group::new(&ClusterConfig::new(1, vec![([127, 0, 0, 1], 1).into()]));
            let remote = Remote::open(Arc::new(group), 0, Room::default()).await.unwrap();
            let mut pipeline = Pipeline::new(remote);
            pipeline.answered(&Reply::Bulk(vec![0; 1 << 20]), Protocol::Resp2);
            let mut output = Vec::new();
            assert!(!pipeline.run(Protocol::Resp2, &mut output).await);
            assert!(output.len() > 1 << 20);
            let kept = pipeline.answers.capacity() + pipeline.commands.capacity();
            assert!(kept <= 2 * OUTPUT_BYTES, "{kept} bytes");
        });
    }
}
