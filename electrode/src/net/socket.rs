//! A UDP socket that sends and receives in batches (sendmmsg, recvmmsg), or one by one as the paper's
//! baseline does.

mod joining;
mod outbox;

use std::io;
use std::mem;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use self::outbox::Outbox;
use super::raw_addr::RawAddr;

/// Datagrams taken from the socket by one call.
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

/// Datagrams of one receive. It can be taken out of the socket, so that what arrived may be read while the
/// socket queues answers.
#[derive(Default)]
pub(crate) struct Ring {
    buffers: Vec<[u8; DATAGRAM_BYTES_MAX]>,
    names: Vec<RawAddr>,
    lengths: Vec<usize>,
}

impl Ring {
    fn new() -> Self {
        Self {
            buffers: vec![[0; DATAGRAM_BYTES_MAX]; BATCH],
            names: vec![RawAddr::new((Ipv6Addr::UNSPECIFIED, 0).into()); BATCH],
            lengths: vec![0; BATCH],
        }
    }

    /// Datagram `i` and where it came from; empty if it was too large.
    pub(crate) fn datagram(&self, i: usize) -> (&[u8], SocketAddr) {
        (&self.buffers[i][..self.lengths[i]], self.names[i].get())
    }
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
        Self { io, calls, outbox: Outbox::new(), ring: Ring::new(), stats: SocketStats::default() }
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
    /// them as one and cuts them apart at the device (UDP_SEGMENT). They arrive as any others.
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

    /// Takes up to [`BATCH`] datagrams that have arrived, without waiting, into the ring.
    pub fn receive(&mut self) -> io::Result<usize> {
        let got = match self.calls {
            Calls::Batched => self.receive_batch(BATCH),
            Calls::Single => self.receive_batch(1),
        };
        self.stats.syscalls += 1;
        match got {
            Ok(n) => {
                self.stats.received += n as u64;
                Ok(n)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            // Errors of earlier sends that the kernel reports late say nothing about this socket.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN)
                ) =>
            {
                Ok(0)
            }
            Err(e) => Err(e),
        }
    }

    fn receive_batch(&mut self, max: usize) -> io::Result<usize> {
        if let Io::Simulated(transport) = &mut self.io {
            let mut got = 0;
            while got < max
                && let Some((bytes, from)) = transport.receive(&mut self.ring.buffers[got])
            {
                self.ring.lengths[got] = bytes;
                self.ring.names[got] = RawAddr::new(from);
                got += 1;
            }
            return Ok(got);
        }
        // SAFETY: all-zero iovecs and mmsghdrs are valid.
        let mut iov: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for i in 0..max {
            iov[i].iov_base = self.ring.buffers[i].as_mut_ptr().cast();
            iov[i].iov_len = DATAGRAM_BYTES_MAX;
            let header = &mut messages[i].msg_hdr;
            header.msg_name = (&raw mut self.ring.names[i].storage).cast();
            header.msg_namelen = mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_iov = &raw mut iov[i];
            header.msg_iovlen = 1;
        }
        // SAFETY: `max` messages point to buffers and names of our own that live until the call returns.
        let got = unsafe {
            libc::recvmmsg(
                self.socket().as_raw_fd(),
                messages.as_mut_ptr(),
                max as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        for (i, message) in messages[..got as usize].iter().enumerate() {
            let cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            self.stats.oversized += u64::from(cut);
            self.ring.lengths[i] = if cut { 0 } else { message.msg_len as usize };
            self.ring.names[i].bytes = message.msg_hdr.msg_namelen;
        }
        Ok(got as usize)
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
