//! The session of one connection with the group, asynchronously.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::connection::{budget, permits};
use crate::client::{open_socket, passing};
use crate::session::{Group, RequestError, Session, Step};

/// Longest datagram that is read: more than an MTU of 1500 carries.
const DATAGRAM_BYTES: usize = 2048;

/// Longest result that takes no room of the long ones.
const SHORT_BYTES: usize = 64 * 1024;
/// What all connections together may hold of short results that come in parts. A few copies of each are made.
const SHORT_BYTES_MAX: usize = 4 << 20;
/// What all connections together may hold of long ones.
const LONG_BYTES_MAX: usize = 16 << 20;

/// Room for results that come in parts, shared by all connections of a server. The long ones have theirs apart: a few
/// of them are all that there is room for, and the many short ones do not wait behind them.
#[derive(Clone, Debug)]
pub struct Room {
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self { short: budget(SHORT_BYTES_MAX), long: budget(LONG_BYTES_MAX) }
    }
}

impl Room {
    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, AcquireError> {
        let budget = if bytes <= SHORT_BYTES { &self.short } else { &self.long };
        Arc::clone(budget).acquire_many_owned(permits(bytes)).await
    }
}

/// A session and its socket.
#[derive(Debug)]
pub struct Remote {
    group: Arc<Group>,
    session: Session,
    socket: UdpSocket,
    buffer: Box<[u8; DATAGRAM_BYTES]>,
    room: Room,
    /// For the last result.
    permit: Option<OwnedSemaphorePermit>,
}

impl Remote {
    /// Opens a socket in the namespace of the calling thread.
    pub async fn open(group: Arc<Group>, target: usize, room: Room) -> io::Result<Self> {
        let socket = open_socket(&group)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            group,
            session: Session::new(target),
            socket: UdpSocket::from_std(socket)?,
            buffer: Box::new([0; DATAGRAM_BYTES]),
            room,
            permit: None,
        })
    }

    /// The group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Whether the last result takes room that others may wait for.
    pub fn holds_room(&self) -> bool {
        self.permit.is_some()
    }

    /// The last result was handed on: others may have its memory.
    pub fn release(&mut self) {
        self.permit = None;
    }

    /// Has a checked command executed once and returns its result.
    pub async fn request(&mut self, command: &[u8]) -> Result<Vec<u8>, RequestError> {
        self.release();
        let Self { group, session, socket, buffer, room, permit } = self;
        session.begin(group, command, Instant::now());
        let mut step = Step::Send;
        loop {
            let until = match step {
                // A long result is not asked for before there is room for it.
                Step::Send if permit.is_none() && session.pull_bytes().is_some() => {
                    let bytes = session.pull_bytes().unwrap_or_default();
                    let taken = tokio::time::timeout_at(session.deadline(group).into(), room.take(bytes));
                    match taken.await {
                        Ok(Ok(taken)) => *permit = Some(taken),
                        Ok(Err(_)) | Err(_) => step = session.on_time(group, Instant::now()),
                    }
                    continue;
                }
                Step::Send => {
                    // Lost like any datagram; the timer sends again.
                    let target = group.members()[session.target()];
                    for packet in session.packets() {
                        let _ = socket.send_to(packet, target).await;
                    }
                    session.resend_at()
                }
                Step::Wait(until) => until,
                Step::Failed(error) => return Err(error),
                Step::Done => unreachable!("returned where the reply is"),
            };
            let received = tokio::time::timeout_at(until.into(), socket.recv(&mut buffer[..])).await;
            let now = Instant::now();
            step = match received {
                Ok(Ok(length)) => match group.parse(&buffer[..length]) {
                    Some(packet) => match session.on_packet(group, &packet, now) {
                        Step::Done => return Ok(session.take_result(&packet)),
                        step => step,
                    },
                    None => session.on_time(group, now),
                },
                Ok(Err(error)) => {
                    if passing(Err::<(), _>(error)).is_err() {
                        tokio::time::sleep_until(until.into()).await;
                    }
                    session.on_time(group, Instant::now())
                }
                Err(_) => session.on_time(group, now),
            };
        }
    }
}
