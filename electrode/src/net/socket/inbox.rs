//! Datagrams that one receive brought, and how they cross from the kernel.

use std::io;
use std::mem;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

use super::control::{self, Control};
use super::{BATCH, DATAGRAM_BYTES_MAX, Transport};
use crate::net::raw_addr::RawAddr;

/// Room for what arrives together: the stack counts it as one datagram.
const JOINED_BYTES_MAX: usize = 65_536;
/// Between the beginnings of two buffers, beyond their room: were they a power of two apart, all beginnings would want the
/// same few places of a CPU's caches.
const APART_BYTES: usize = 192;

/// One datagram: the message that brought it, and where in its buffer it lies.
#[derive(Copy, Clone)]
struct Part {
    message: usize,
    at: usize,
    bytes: usize,
}

/// Datagrams of one receive. It can be taken out of the socket, so that what arrived may be read while the
/// socket queues answers.
#[derive(Default)]
pub(crate) struct Ring {
    buffers: Vec<u8>,
    /// Of one message.
    room: usize,
    names: Vec<RawAddr>,
    parts: Vec<Part>,
}

/// What a receive brought.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Datagrams.
    pub datagrams: usize,
    /// More may wait.
    pub more: bool,
}

impl Ring {
    /// With `joined` there is room for datagrams that are handed over together (UDP_GRO).
    pub fn new(joined: bool) -> Self {
        let room = if joined { JOINED_BYTES_MAX } else { DATAGRAM_BYTES_MAX };
        Self {
            // Zeroed by the kernel, page by page when first used: what no datagram is long enough for takes no memory.
            buffers: vec![0; BATCH * (room + APART_BYTES)],
            room,
            names: vec![RawAddr::new((Ipv6Addr::UNSPECIFIED, 0).into()); BATCH],
            parts: Vec::with_capacity(BATCH),
        }
    }

    /// Datagram `i` and where it came from; empty if it was too large.
    pub(crate) fn datagram(&self, i: usize) -> (&[u8], SocketAddr) {
        let Part { message, at, bytes } = self.parts[i];
        let start = message * (self.room + APART_BYTES) + at;
        (&self.buffers[start..start + bytes], self.names[message].get())
    }

    /// Datagrams in it.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    fn buffer(&mut self, message: usize) -> &mut [u8] {
        let start = message * (self.room + APART_BYTES);
        &mut self.buffers[start..start + self.room]
    }

    /// Takes up to `max` from a simulated network.
    pub fn take(&mut self, transport: &mut dyn Transport, max: usize) {
        self.parts.clear();
        while self.parts.len() < max
            && let message = self.parts.len()
            && let Some((bytes, from)) = transport.receive(self.buffer(message))
        {
            self.names[message] = RawAddr::new(from);
            self.parts.push(Part { message, at: 0, bytes });
        }
    }

    /// Takes up to `MAX` messages that have arrived, without waiting. Returns how many messages there were, and how many
    /// datagrams in them were too large to be ours.
    pub fn receive<const MAX: usize>(&mut self, fd: RawFd) -> io::Result<(usize, u64)> {
        self.parts.clear();
        let joined = self.room > DATAGRAM_BYTES_MAX;
        // SAFETY: all-zero iovecs and mmsghdrs are valid.
        let mut iov: [libc::iovec; MAX] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; MAX] = unsafe { mem::zeroed() };
        let mut controls = [Control::default(); MAX];
        for i in 0..MAX {
            let room = self.buffer(i);
            iov[i].iov_base = room.as_mut_ptr().cast();
            iov[i].iov_len = room.len();
            let header = &mut messages[i].msg_hdr;
            header.msg_name = (&raw mut self.names[i].storage).cast();
            header.msg_namelen = mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_iov = &raw mut iov[i];
            header.msg_iovlen = 1;
            if joined {
                control::make_room(header, &mut controls[i]);
            }
        }
        // SAFETY: `MAX` messages point to buffers, names and control messages of our own that live until the call returns.
        let got = unsafe {
            libc::recvmmsg(
                fd,
                messages.as_mut_ptr(),
                MAX as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut oversized = 0;
        for (i, message) in messages[..got as usize].iter().enumerate() {
            let bytes = message.msg_len as usize;
            let cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let segment = if joined { control::segment_of(&message.msg_hdr) } else { None };
            self.names[i].bytes = message.msg_hdr.msg_namelen;
            oversized += self.part(i, bytes, segment.unwrap_or(bytes), cut);
        }
        Ok((got as usize, oversized))
    }

    /// Parts a message of `bytes` into datagrams of `segment`, the last of which may be shorter. Returns how many were
    /// too large; they stay, empty.
    fn part(&mut self, message: usize, bytes: usize, segment: usize, cut: bool) -> u64 {
        let count = bytes.div_ceil(segment.max(1)).max(1);
        let mut oversized = 0;
        for n in 0..count {
            let at = n * segment;
            let bytes = segment.min(bytes - at);
            let too_large = cut || bytes > DATAGRAM_BYTES_MAX;
            oversized += u64::from(too_large);
            self.parts.push(Part { message, at, bytes: if too_large { 0 } else { bytes } });
        }
        oversized
    }
}
