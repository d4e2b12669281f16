//! A synchronous client: one session over one socket, for the command line and for tests.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::message::Packet;
use crate::node::NodeStatus;
use crate::session::{CommandTooLong, Group, RequestError, Session, Step, random_id};
use crate::state_machine::{Command, CommandError, Outcome};

/// Pause between two status requests to a replica that does not answer.
const STATUS_RETRY: Duration = Duration::from_millis(20);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The group turned it down, or nobody answered.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It does not fit.
    #[error(transparent)]
    TooLong(#[from] CommandTooLong),
    /// It cannot be written as a command, or the result cannot be read.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// An answer of a kind that does not belong to the command.
    #[error("the group answered {0}, which is no answer to this request")]
    Unexpected(String),
    /// The socket failed.
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
}

/// A client with one session.
#[derive(Debug)]
pub struct Client {
    socket: UdpSocket,
    group: Group,
    session: Session,
    buffer: Box<[u8; 2048]>,
}

/// A socket of the members' family, from which all of them can be reached.
pub fn open_socket(group: &Group) -> io::Result<UdpSocket> {
    let any: SocketAddr = match group.members().first() {
        Some(address) if address.is_ipv6() => (Ipv6Addr::UNSPECIFIED, 0).into(),
        _ => (Ipv4Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any)
}

impl Client {
    /// A client on a socket of its own, in the network namespace of the calling thread.
    pub fn open(group: Group) -> io::Result<Self> {
        Ok(Self::over(open_socket(&group)?, group))
    }

    /// A client on a socket that reaches the group and is used by nobody else.
    pub fn over(socket: UdpSocket, group: Group) -> Self {
        Self { socket, group, session: Session::new(0), buffer: Box::new([0; 2048]) }
    }

    /// The value of a key.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        self.execute(&Command::Get { key }, |outcome| match outcome {
            Outcome::Value(value) => Some(Some(value.to_vec())),
            Outcome::Absent => Some(None),
            _ => None,
        })
    }

    /// Sets a key.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), ClientError> {
        self.execute(&Command::Set { key, value }, |outcome| (outcome == Outcome::Done).then_some(()))
    }

    /// Deletes a key; whether it was there.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, ClientError> {
        self.execute(&Command::Del { key }, |outcome| match outcome {
            Outcome::Done => Some(true),
            Outcome::Absent => Some(false),
            _ => None,
        })
    }

    fn execute<T>(
        &mut self,
        command: &Command<'_>,
        read: impl FnOnce(Outcome<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes)?;
        let result = self.request(&bytes)?;
        let outcome = Outcome::parse(&result)?;
        let text = format!("{outcome:?}");
        read(outcome).ok_or(ClientError::Unexpected(text))
    }

    /// Has a command executed once and returns its result.
    pub fn request(&mut self, command: &[u8]) -> Result<Vec<u8>, ClientError> {
        self.group.check(command)?;
        self.session.begin(&self.group, command, Instant::now());
        self.send_request()?;
        loop {
            let wait_until = match self.session.on_time(&self.group, Instant::now()) {
                Step::Send => {
                    self.send_request()?;
                    continue;
                }
                Step::Wait(until) => until,
                Step::Failed(error) => return Err(error.into()),
                Step::Done => unreachable!("only a reply completes a request"),
            };
            let Some(length) = self.receive(wait_until)? else { continue };
            let Some(packet) = self.group.parse(&self.buffer[..length]) else { continue };
            match self.session.on_packet(&self.group, &packet, Instant::now()) {
                Step::Done => return Ok(self.session.take_result(&packet)),
                Step::Failed(error) => return Err(error.into()),
                Step::Send => self.send_request()?,
                Step::Wait(_) => {}
            }
        }
    }

    fn send_request(&self) -> io::Result<()> {
        let target = self.group.members()[self.session.target()];
        self.session.packets().try_for_each(|packet| passing(self.socket.send_to(packet, target)))
    }

    /// A datagram, if one comes in time.
    fn receive(&mut self, until: Instant) -> io::Result<Option<usize>> {
        let wait = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(wait))?;
        match self.socket.recv(&mut self.buffer[..]) {
            Ok(length) => Ok(Some(length)),
            Err(error) => passing(Err::<(), _>(error)).map(|()| None),
        }
    }

    /// Asks every replica how it is; `None` for those that do not answer within `timeout`.
    pub fn statuses(&mut self, timeout: Duration) -> io::Result<Vec<Option<NodeStatus>>> {
        let members = self.group.members().to_vec();
        // The nonce tells the replies of this round, and who each is from: addresses can be rewritten on the way.
        let base = random_id() & !0xff;
        let mut found: Vec<Option<NodeStatus>> = vec![None; members.len()];
        let mut packet = Vec::new();
        let deadline = Instant::now() + timeout;
        let mut send_at = Instant::now();
        while found.iter().any(Option::is_none) {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            if now >= send_at {
                for (index, address) in members.iter().enumerate().filter(|(i, _)| found[*i].is_none()) {
                    self.group.encode_status_request(base | index as u64, &mut packet);
                    passing(self.socket.send_to(&packet, address))?;
                }
                send_at = now + STATUS_RETRY;
            }
            let Some(length) = self.receive(send_at.min(deadline))? else { continue };
            if let Some(Packet::StatusReply { nonce, json }) = self.group.parse(&self.buffer[..length])
                && nonce & !0xff == base
                && let Some(slot) = found.get_mut((nonce & 0xff) as usize)
            {
                let status = serde_json::from_slice(json).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("status reply: {error}"))
                })?;
                *slot = Some(status);
            }
        }
        Ok(found)
    }
}

/// Errors that say something about one packet or one moment and not about the socket: a peer that is down
/// answers with ICMP, a full buffer or an unresolved neighbour drops. The timers go on.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::WouldBlock
            | Kind::TimedOut
            | Kind::Interrupted
            | Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    ) || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Whatever passes is no failure.
pub(crate) fn passing<T>(result: io::Result<T>) -> io::Result<()> {
    match result {
        Err(error) if !is_passing(&error) => Err(error),
        _ => Ok(()),
    }
}
