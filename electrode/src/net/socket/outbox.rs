//! Datagrams that wait to be sent, in one piece of memory, and how they cross into the kernel.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::RawFd;

use super::BATCH;
use super::control::{Control, cut_into};
use super::joining::Joining;
use crate::net::raw_addr::RawAddr;

/// Bytes that leave as one at most: the stack counts them as one datagram before it cuts it apart.
const JOINED_BYTES_MAX: usize = 60_000;
/// Datagrams that leave as one at most (UDP_MAX_SEGMENTS of older kernels).
const JOINED_MAX: usize = 64;

/// One queued datagram: a range of the arena and where it goes.
struct Queued {
    bytes: Range<usize>,
    to: RawAddr,
    joins: bool,
}

pub(super) struct Outbox {
    arena: Vec<u8>,
    /// Where each datagram in the arena ends.
    ends: Vec<usize>,
    queue: Vec<Queued>,
    joining: Joining,
    /// Datagrams below this number leave one by one: a group that the kernel did not cut.
    apart: usize,
}

impl Outbox {
    pub fn new() -> Self {
        Self {
            arena: Vec::with_capacity(BATCH * 256),
            ends: Vec::with_capacity(BATCH),
            queue: Vec::with_capacity(BATCH * 4),
            joining: Joining::default(),
            apart: 0,
        }
    }

    pub fn stage(&mut self, parts: &[&[u8]]) -> Range<usize> {
        let start = self.arena.len();
        for part in parts {
            self.arena.extend_from_slice(part);
        }
        self.ends.push(self.arena.len());
        start..self.arena.len()
    }

    pub fn queue(&mut self, staged: &Range<usize>, to: SocketAddr, joins: bool) {
        self.queue.push(Queued { bytes: staged.clone(), to: RawAddr::new(to), joins });
    }

    pub fn staged_mut(&mut self, staged: &Range<usize>) -> &mut [u8] {
        &mut self.arena[staged.clone()]
    }

    pub fn each_staged(&mut self, mut f: impl FnMut(&mut [u8])) {
        let mut from = 0;
        for end in &self.ends {
            f(&mut self.arena[from..*end]);
            from = *end;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Datagrams queued.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.queue.iter().map(|queued| (queued.to.get(), &self.arena[queued.bytes.clone()]))
    }

    pub fn clear(&mut self) {
        self.queue.clear();
        self.arena.clear();
        self.ends.clear();
        self.apart = 0;
        self.joining.flushed();
    }

    /// How many datagrams, from number `at` on, leave as one: neighbours in the arena, to the same address and of the
    /// same length; the last may be shorter.
    pub fn joined(&self, at: usize) -> usize {
        let first = &self.queue[at];
        let segment = first.bytes.len();
        if at < self.apart || !first.joins || segment == 0 || !self.joining.is_on_for(&first.to) {
            return 1;
        }
        let mut n = 1;
        while n < JOINED_MAX
            && let Some(next) = self.queue.get(at + n)
            && next.joins
            && next.bytes.start == self.queue[at + n - 1].bytes.end
            && (1..=segment).contains(&next.bytes.len())
            && next.bytes.end - first.bytes.start <= JOINED_BYTES_MAX
            && next.to == first.to
        {
            n += 1;
            if next.bytes.len() < segment {
                break;
            }
        }
        n
    }

    /// The kernel refused what begins with datagram `at`, with `error`: whether it may be for not being able to cut it (a
    /// device of the way without checksums, a path with a smaller MTU, an old kernel). Those leave one by one then.
    pub fn part(&mut self, at: usize, error: &io::Error) -> bool {
        let n = self.joined(at);
        let uncut = matches!(
            error.raw_os_error(),
            Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP)
        );
        if n == 1 || !uncut {
            return false;
        }
        self.apart = at + n;
        self.joining.suspect(at, self.queue[at].to);
        true
    }

    /// Sends as many as one call takes, from number `from` on. Returns how many datagrams have left.
    pub fn send_batch(&mut self, fd: RawFd, from: usize) -> io::Result<usize> {
        // SAFETY: all-zero iovecs and mmsghdrs are valid.
        let mut iov: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let mut controls = [Control::default(); BATCH];
        let (mut at, mut used, mut datagrams) = (from, 0, [0; BATCH]);
        while at < self.queue.len() && used < BATCH {
            let n = self.joined(at);
            let queued = &self.queue[at];
            let bytes = &self.arena[queued.bytes.start..self.queue[at + n - 1].bytes.end];
            iov[used].iov_base = bytes.as_ptr().cast_mut().cast();
            iov[used].iov_len = bytes.len();
            let header = &mut messages[used].msg_hdr;
            header.msg_name = (&raw const queued.to.storage).cast_mut().cast();
            header.msg_namelen = queued.to.bytes;
            header.msg_iov = &raw mut iov[used];
            header.msg_iovlen = 1;
            if n > 1 {
                cut_into(header, &mut controls[used], queued.bytes.len() as u16);
            }
            datagrams[used] = n;
            (at, used) = (at + n, used + 1);
        }
        // SAFETY: the first `used` messages point to addresses, iovecs and control messages that live until the call
        // returns; the kernel only reads what they point to.
        let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), used as libc::c_uint, 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let datagrams = &datagrams[..sent as usize];
        let left = datagrams.iter().sum();
        self.joining.left(from, from + left);
        Ok(left)
    }

    /// Sends datagram number `at`.
    pub fn send_one(&self, fd: RawFd, at: usize) -> io::Result<usize> {
        let queued = &self.queue[at];
        let bytes = &self.arena[queued.bytes.clone()];
        // SAFETY: pointers and lengths describe live buffers.
        let sent = unsafe {
            libc::sendto(
                fd,
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
                (&raw const queued.to.storage).cast(),
                queued.to.bytes,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(1) }
    }
}
