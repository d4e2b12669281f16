//! A UDP socket that sends and receives in batches (sendmmsg, recvmmsg), or one by one as the paper's
//! baseline does.

mod control;
mod inbox;
mod joining;
mod outbox;

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

pub(crate) use self::inbox::{Received, Ring};
use self::outbox::Outbox;

/// Messages taken from the socket by one call: datagrams, or rows of them that came as one.
pub const BATCH: usize = 64;
/// Room for one datagram; larger ones are dropped and counted.
const DATAGRAM_BYTES_MAX: usize = 2048;
/// Asked of the kernel for each direction; it may grant less to the unprivileged.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// How datagrams cross into the kernel.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Calls {
    /// One system call for many datagrams.
    #[default]
    Batched,
    /// One system call for each: the paper's baseline.
    Single,
}

/// What the socket did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// System calls made.
    pub syscalls: u64,
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Datagrams that the kernel refused: counted as lost, a resend heals them.
    pub send_failed: u64,
    /// Rows of datagrams that were to leave as one and left one by one, for the kernel did not cut them.
    pub parted: u64,
    /// Datagrams received.
    pub received: u64,
    /// Datagrams too large to be ours.
    pub oversized: u64,
}

/// A network that is not the kernel's, for simulation.
pub trait Transport: Send {
    /// A datagram leaves.
    fn send(&mut self, to: SocketAddr, datagram: &[u8]);

    /// Writes the next datagram that has arrived into `buffer`; its length and where it came from.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)>;
}

/// What stands behind a [`BatchSocket`].
enum Io {
    Kernel(Socket),
    #[cfg_attr(not(feature = "simulation"), expect(dead_code, reason = "nobody makes one"))]
    Simulated(Box<dyn Transport>),
}

/// Non-blocking UDP socket with a queue of datagrams to send and a ring of datagrams received.
pub struct BatchSocket {
    io: Io,
    calls: Calls,
    outbox: Outbox,
    ring: Ring,
    stats: SocketStats,
}

impl BatchSocket {
    /// Binds `addr`.
    pub fn bind(addr: SocketAddr, calls: Calls) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&addr.into())?;
        grow_buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF);
        grow_buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF);
        Ok(Self::over(Io::Kernel(socket), calls))
    }

    /// A socket over a simulated network.
    #[cfg(feature = "simulation")]
    pub fn simulated(transport: Box<dyn Transport>) -> Self {
        Self::over(Io::Simulated(transport), Calls::Batched)
    }

    fn over(io: Io, calls: Calls) -> Self {
        Self { io, calls, outbox: Outbox::new(), ring: Ring::new(false), stats: SocketStats::default() }
    }

    /// The socket itself, for options.
    ///
    /// # Panics
    /// If there is none, because it is simulated.
    pub fn socket(&self) -> &Socket {
        match &self.io {
            Io::Kernel(socket) => socket,
            Io::Simulated(_) => panic!("a simulated network has no socket"),
        }
    }

    /// The bound address.
    #[cfg(test)]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket()
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an internet address"))
    }

    /// What happened so far.
    pub fn stats(&self) -> SocketStats {
        self.stats
    }

    /// Copies a datagram, in parts, into the arena; it leaves by [`BatchSocket::queue`].
    pub fn stage(&mut self, parts: &[&[u8]]) -> Range<usize> {
        self.outbox.stage(parts)
    }

    /// Queues a staged datagram for `to`. The same one may go to many.
    pub fn queue(&mut self, staged: &Range<usize>, to: SocketAddr) {
        self.outbox.queue(staged, to, false);
    }

    /// The same for a datagram that may leave together with others of its kind to the same address: the stack takes
    /// them as one and cuts them apart at the device (UDP_SEGMENT), or hands them over together on the same host.
    pub fn queue_joining(&mut self, staged: &Range<usize>, to: SocketAddr) {
        self.outbox.queue(staged, to, true);
    }

    /// A staged datagram, for a change before it leaves.
    pub(crate) fn staged_mut(&mut self, staged: &Range<usize>) -> &mut [u8] {
        self.outbox.staged_mut(staged)
    }

    /// Every staged datagram once, however many it goes to, for a change before it leaves.
    pub(crate) fn each_staged(&mut self, f: impl FnMut(&mut [u8])) {
        self.outbox.each_staged(f);
    }

    /// Whether anything waits to be sent.
    pub fn has_queued(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends what is queued. A datagram that the kernel refuses is counted and skipped: it is lost like any
    /// other on a network. Only a broken socket is an error.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut at = 0;
        let mut waited = false;
        if let Io::Simulated(transport) = &mut self.io {
            for (to, datagram) in self.outbox.iter() {
                transport.send(to, datagram);
                self.stats.sent += 1;
            }
            at = self.outbox.len();
        }
        while at < self.outbox.len() {
            let fd = self.socket().as_raw_fd();
            let result = match self.calls {
                Calls::Batched => self.outbox.send_batch(fd, at),
                Calls::Single => self.outbox.send_one(fd, at),
            };
            self.stats.syscalls += 1;
            match result {
                Ok(sent) => {
                    at += sent;
                    self.stats.sent += sent as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A full send buffer drains in microseconds: wait once, then count the rest as lost.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !waited => {
                    waited = true;
                    self.stats.syscalls += 1;
                    poll_writable(fd);
                }
                Err(e) if matches!(e.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK)) => return Err(e),
                Err(e) if self.calls == Calls::Batched && self.outbox.part(at, &e) => self.stats.parted += 1,
                // What was to leave as one goes to one address, and is lost as one.
                Err(_) => {
                    let lost = if self.calls == Calls::Batched { self.outbox.joined(at) } else { 1 };
                    at += lost;
                    self.stats.send_failed += lost as u64;
                }
            }
        }
        self.outbox.clear();
        Ok(())
    }

    /// Has what arrives together, because it left as one or a device joined it, handed over together (UDP_GRO): one
    /// message of many datagrams. A socket of single calls goes on as before.
    pub fn take_joined(&mut self) {
        if let (Io::Kernel(socket), Calls::Batched) = (&self.io, self.calls)
            && control::take_joined(socket.as_raw_fd())
        {
            self.ring = Ring::new(true);
        }
    }

    /// Takes up to [`BATCH`] messages that have arrived, without waiting, into the ring: datagrams, or several of them that
    /// came as one.
    pub(crate) fn receive(&mut self) -> io::Result<Received> {
        let got = self.receive_messages();
        self.stats.syscalls += 1;
        match got {
            Ok(received) => {
                self.stats.received += received.datagrams as u64;
                Ok(received)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Received::default())
            }
            // Errors of earlier sends that the kernel reports late say nothing about this socket.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN)
                ) =>
            {
                Ok(Received::default())
            }
            Err(e) => Err(e),
        }
    }

    fn receive_messages(&mut self) -> io::Result<Received> {
        let messages = match &mut self.io {
            Io::Simulated(transport) => {
                self.ring.take(&mut **transport, BATCH);
                self.ring.len()
            }
            Io::Kernel(socket) => {
                let fd = socket.as_raw_fd();
                let (messages, oversized) = match self.calls {
                    Calls::Batched => self.ring.receive::<BATCH>(fd)?,
                    Calls::Single => self.ring.receive::<1>(fd)?,
                };
                self.stats.oversized += oversized;
                messages
            }
        };
        Ok(Received { datagrams: self.ring.len(), more: messages == BATCH })
    }

    /// Datagram `i` of the last [`BatchSocket::receive`] and where it came from; empty if it was too large.
    #[cfg(test)]
    pub fn datagram(&self, i: usize) -> (&[u8], SocketAddr) {
        self.ring.datagram(i)
    }

    /// Takes what was received out; [`BatchSocket::put_ring`] brings it back before the next receive.
    pub(crate) fn take_ring(&mut self) -> Ring {
        mem::take(&mut self.ring)
    }

    pub(crate) fn put_ring(&mut self, ring: Ring) {
        self.ring = ring;
    }
}

impl AsFd for BatchSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

fn grow_buffer(socket: &Socket, force: libc::c_int, polite: libc::c_int) {
    let bytes = SOCKET_BUFFER_BYTES as libc::c_int;
    for option in [force, polite] {
        // SAFETY: an int option with an int's size. Failure leaves the default, which is a slower socket.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const bytes).cast(),
                mem::size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if set == 0 {
            return;
        }
    }
}

fn poll_writable(fd: RawFd) {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one initialised pollfd.
    unsafe { libc::poll(&raw mut poll, 1, 1) };
}

#[cfg(test)]
mod tests;
