//! One TCP connection: bytes in, requests in order, bytes out, all of it bounded.
//!
//! While a client's requests are executed, and while it does not read its replies, nothing more is read from
//! it: TCP makes it wait. What it may hold here is a small buffer for free, and a part of a common budget
//! while it sends a longer request.

use super::command;
use super::local::{Answer, Client};
use super::pipeline::Pipeline;
use super::wire::{self, Progress, Reply};
use bytes::{Buf, BufMut, BytesMut};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Input that every connection may hold.
const INPUT_BYTES: usize = 16 * 1024;
/// Time for a request to arrive as a whole, once it has begun.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// Time for a client to take what was written to it.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// Time for a client to take some of it, if others may wait for the room that it holds.
const PROGRESS_TIME: Duration = Duration::from_secs(2);
/// What the system holds of it at a time, besides what is on its way: so that what a slow client takes is seen.
pub const UNSENT_BYTES: u32 = 64 * 1024;
/// Unit of the budget.
const PERMIT_BYTES: usize = 1024;

/// What so many bytes take of a budget.
pub fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX)
}

/// The budget of all connections of a server.
pub fn budget(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes / PERMIT_BYTES))
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    client: Client,
    pipeline: Pipeline,
    budget: Arc<Semaphore>,
    input: BytesMut,
    /// How far it was looked over.
    progress: Progress,
    /// What `input` may hold.
    room: usize,
    /// For what is beyond [`INPUT_BYTES`] of it.
    permits: Option<OwnedSemaphorePermit>,
    output: Vec<u8>,
    /// When a request that has begun must be there.
    deadline: Option<Instant>,
}

/// What became of the input.
enum Taken {
    /// All whole requests are answered.
    All,
    /// The client said good-bye, or nonsense.
    Close,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream, client: Client, pipeline: Pipeline, budget: Arc<Semaphore>) -> Self {
        Self {
            stream,
            client,
            pipeline,
            budget,
            input: BytesMut::new(),
            progress: Progress::default(),
            room: INPUT_BYTES,
            permits: None,
            output: Vec::new(),
            deadline: None,
        }
    }

    /// Serves the client until one of both ends it.
    pub async fn serve(&mut self) -> io::Result<()> {
        loop {
            if let Taken::Close = self.take_requests().await? {
                return Ok(());
            }
            if !self.make_room() {
                return self.give_up("ERR too many bytes are buffered by this server, try again later").await;
            }
            self.deadline = match self.deadline {
                _ if self.input.is_empty() => None,
                None => Some(Instant::now() + REQUEST_TIME),
                old => old,
            };
            let room = self.room - self.input.len();
            // What was sent ahead should come in one piece.
            self.input.reserve(room.min(INPUT_BYTES));
            let mut input = (&mut self.input).limit(room);
            let read = self.stream.read_buf(&mut input);
            let read = match self.deadline {
                None => read.await?,
                Some(deadline) => match timeout_at(deadline, read).await {
                    Ok(read) => read?,
                    Err(_) => return self.give_up("ERR Protocol error: unfinished request").await,
                },
            };
            if read == 0 {
                return Ok(());
            }
        }
    }

    /// Executes the requests that are there as a whole, and writes their replies.
    async fn take_requests(&mut self) -> io::Result<Taken> {
        // The requests borrow from it.
        let input = std::mem::take(&mut self.input);
        let mut taken = 0;
        let end = loop {
            let mut text = Vec::new();
            match wire::next_request(&input[taken..], &mut self.progress, &mut text) {
                Ok(Some((arguments, length))) => {
                    taken += length;
                    self.deadline = None;
                    // An empty line or array asks for nothing.
                    if !arguments.is_empty() && !self.execute(&arguments).await? {
                        break Taken::Close;
                    }
                }
                Ok(None) => break Taken::All,
                Err(error) => {
                    let reply = Reply::Error(format!("ERR Protocol error: {error}"));
                    self.pipeline.answered(&reply, self.client.protocol);
                    break Taken::Close;
                }
            }
        };
        self.flush().await?;
        self.input = input;
        self.input.advance(taken);
        Ok(end)
    }

    /// Answers a request or queues it; false if it is the last one.
    async fn execute(&mut self, arguments: &[&[u8]]) -> io::Result<bool> {
        let name = String::from_utf8_lossy(&arguments[0].to_ascii_lowercase()).into_owned();
        let rest = &arguments[1..];
        // What is asked before is answered in the language of before.
        if matches!(name.as_str(), "hello" | "reset") {
            self.flush().await?;
        }
        let refused = match self.client.answer(&name, rest) {
            Ok(Answer::NotHere) => match command::translate(&name, rest) {
                Ok((command, shape)) => loop {
                    match self.pipeline.push(&name, &command, shape) {
                        Ok(true) => return Ok(true),
                        Ok(false) => self.flush().await?,
                        Err(text) => break Reply::Error(text),
                    }
                },
                Err(refusal) => Reply::Error(refusal.text(&name, arguments)),
            },
            Ok(Answer::Reply(reply)) => reply,
            Ok(Answer::Close(reply)) => {
                self.pipeline.answered(&reply, self.client.protocol);
                return Ok(false);
            }
            Err(refusal) => Reply::Error(refusal.text(&name, arguments)),
        };
        self.pipeline.answered(&refused, self.client.protocol);
        if self.pipeline.is_full() {
            self.flush().await?;
        }
        Ok(true)
    }

    async fn flush(&mut self) -> io::Result<()> {
        // What is there is written before more is asked for: replies are long, and do not pile up here.
        while self.pipeline.run(self.client.protocol, &mut self.output).await {
            self.write().await?;
        }
        self.write().await?;
        self.pipeline.written();
        Ok(())
    }

    async fn write(&mut self) -> io::Result<()> {
        let patience = if self.pipeline.holds_room() { PROGRESS_TIME } else { WRITE_TIME };
        let end = Instant::now() + WRITE_TIME;
        let mut rest = &self.output[..];
        while !rest.is_empty() {
            let until = end.min(Instant::now() + patience);
            let taken = timeout_at(until, self.stream.write(rest)).await??;
            rest = &rest[taken..];
        }
        self.output.clear();
        self.output.shrink_to(INPUT_BYTES);
        Ok(())
    }

    /// Makes room for the rest of a request that has begun; false if there is none to be had.
    fn make_room(&mut self) -> bool {
        if self.input.len() < INPUT_BYTES {
            if self.permits.take().is_some() {
                // The long request is gone, and so is its buffer.
                self.input = BytesMut::from(&self.input[..]);
                self.room = INPUT_BYTES;
            }
            return true;
        }
        if self.input.len() < self.room {
            return true;
        }
        // A request that cannot end within this was refused when it was looked at.
        let room = (2 * self.room).min(wire::REQUEST_BYTES_MAX + INPUT_BYTES);
        let Ok(more) =
            Arc::clone(&self.budget).try_acquire_many_owned(((room - self.room) / PERMIT_BYTES) as u32)
        else {
            return false;
        };
        match &mut self.permits {
            Some(permits) => permits.merge(more),
            None => self.permits = Some(more),
        }
        self.room = room;
        true
    }

    async fn give_up(&mut self, text: &str) -> io::Result<()> {
        wire::write_reply(&Reply::Error(text.to_owned()), self.client.protocol, &mut self.output);
        self.write().await
    }
}
