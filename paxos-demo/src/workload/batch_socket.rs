//! A connected UDP socket that takes and sends many datagrams with one system call.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::client::is_passing;

/// Datagrams of one system call at most, and of one piece that the stack cuts apart.
const BATCH_MAX: usize = 64;
/// Bytes of such a piece at most.
const JOINED_BYTES_MAX: usize = 60_000;
/// Room for a control message with the length of a segment: two bytes in sending, four in receiving.
const CONTROL_BYTES: usize = 24;
/// Room for one datagram: more than an MTU of 1500 carries. A longer one is cut, and no longer parses.
const DATAGRAM_BYTES: usize = 1536;
/// Room for what the stack hands over as one, where it does.
const RECEIVED_BYTES: usize = 1 << 16;

/// A control message that holds one number, aligned as the kernel wants it.
#[repr(C, align(8))]
#[derive(Copy, Clone)]
struct Control([u8; CONTROL_BYTES]);

/// The socket and its buffers.
pub struct BatchSocket {
    socket: UdpSocket,
    /// Rooms for what is received, of `room` bytes each.
    buffer: Vec<u8>,
    room: usize,
    /// The datagrams last received, as ranges of the buffer.
    datagrams: Vec<Range<usize>>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    controls: Vec<Control>,
    /// Whether neighbours of one length leave as one: until the kernel refuses it.
    joining: bool,
}

impl BatchSocket {
    /// For up to `batch` datagrams at once. The socket is connected, blocking, with a read timeout.
    pub fn new(socket: UdpSocket, batch: usize) -> Self {
        let batch = batch.clamp(1, BATCH_MAX);
        // What left as one is received as one (UDP_GRO, Linux 5.0).
        let room = if takes_joined(&socket) { RECEIVED_BYTES } else { DATAGRAM_BYTES };
        Self {
            socket,
            buffer: vec![0; room * batch],
            room,
            datagrams: Vec::with_capacity(batch),
            headers: Vec::with_capacity(BATCH_MAX),
            vectors: Vec::with_capacity(BATCH_MAX),
            controls: vec![Control([0; CONTROL_BYTES]); BATCH_MAX],
            joining: true,
        }
    }

    /// Talks to another peer from now on.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        self.socket.connect(peer)
    }

    /// Whether a datagram, or an error of an earlier send, is there within `time`.
    pub fn is_readable_within(&self, time: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let time = libc::timespec {
            tv_sec: time.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(time.subsec_nanos()),
        };
        // SAFETY: one initialised pollfd and a timespec; no signal mask.
        match unsafe { libc::ppoll(&raw mut poll, 1, &raw const time, std::ptr::null()) } {
            0 => Ok(false),
            1.. => Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if is_passing(&error) { Ok(false) } else { Err(error) }
            }
        }
    }

    /// Waits for at least one datagram and takes those that are there; 0 if none came within the read
    /// timeout or the peer's port is closed.
    pub fn receive(&mut self) -> io::Result<usize> {
        self.vectors.clear();
        self.vectors.extend(
            self.buffer
                .chunks_mut(self.room)
                .map(|room| libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() }),
        );
        self.headers.clear();
        self.headers.extend(self.vectors.chunks_mut(1).map(header_of));
        for (header, control) in self.headers.iter_mut().zip(&mut self.controls) {
            header.msg_hdr.msg_control = (&raw mut control.0).cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES;
        }
        self.datagrams.clear();
        // SAFETY: every header points to one iovec and one control buffer, and the iovec to a part of the buffer of its
        // own; all of them live in `self`, which is borrowed mutably for the call, and none is resized in it.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        if received < 0 {
            let error = io::Error::last_os_error();
            return if is_passing(&error) { Ok(0) } else { Err(error) };
        }
        for (i, header) in self.headers[..received as usize].iter().enumerate() {
            let (from, to) = (i * self.room, i * self.room + header.msg_len as usize);
            let segment = segment_of(&header.msg_hdr).unwrap_or(self.room).max(1);
            self.datagrams
                .extend((from..to.max(from + 1)).step_by(segment).map(|at| at..to.min(at + segment)));
        }
        Ok(self.datagrams.len())
    }

    /// Datagram `i` of those last received.
    pub fn datagram(&self, i: usize) -> &[u8] {
        &self.buffer[self.datagrams[i].clone()]
    }

    /// Sends all packets, neighbours of one length as one that the stack cuts apart (UDP_SEGMENT). What the kernel
    /// does not take is lost like any datagram: the sender's timer heals it.
    pub fn send<'p>(&mut self, packets: impl Iterator<Item = &'p [u8]>) -> io::Result<()> {
        let mut packets = packets.peekable();
        while packets.peek().is_some() {
            self.vectors.clear();
            self.vectors.extend(packets.by_ref().take(BATCH_MAX).map(|packet| libc::iovec {
                iov_base: packet.as_ptr().cast_mut().cast(),
                iov_len: packet.len(),
            }));
            let mut done = 0;
            while done < self.vectors.len() {
                done += self.send_from(done)?;
            }
        }
        Ok(())
    }

    /// Sends what the vectors from number `from` on point to. Returns how many are done with.
    fn send_from(&mut self, from: usize) -> io::Result<usize> {
        self.headers.clear();
        let mut at = from;
        while at < self.vectors.len() {
            let n = if self.joining { joined(&self.vectors[at..]) } else { 1 };
            let segment = self.vectors[at].iov_len as u16;
            let mut header = header_of(&mut self.vectors[at..at + n]);
            if n > 1 {
                cut_into(&mut header.msg_hdr, &mut self.controls[self.headers.len()], segment);
            }
            self.headers.push(header);
            at += n;
        }
        // SAFETY: every header points to iovecs and a control message that live in `self`, of which none is resized in
        // the call; the kernel only reads what the iovecs point to, and the packets outlive the caller's loop.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                0,
            )
        };
        let packets = |header: &libc::mmsghdr| header.msg_hdr.msg_iovlen;
        if sent >= 0 {
            return Ok(self.headers[..(sent as usize).max(1)].iter().map(packets).sum());
        }
        let error = io::Error::last_os_error();
        let first = packets(&self.headers[0]);
        if first > 1 && !is_passing(&error) {
            self.joining = false;
            return Ok(0);
        }
        if is_passing(&error) { Ok(first) } else { Err(error) }
    }
}

/// Asks for what came together to be handed over together; whether the kernel does.
fn takes_joined(socket: &UdpSocket) -> bool {
    let one: libc::c_int = 1;
    // SAFETY: a pointer to an int and its size.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    set == 0
}

/// Length of the datagrams that were handed over as one, the last of which may be shorter; `None`: it is one.
fn segment_of(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel has written whole control messages into the buffer that the header names, and its length.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        let ours = !message.is_null()
            && (*message).cmsg_level == libc::SOL_UDP
            && (*message).cmsg_type == libc::UDP_GRO;
        ours.then(|| libc::CMSG_DATA(message).cast::<libc::c_int>().read_unaligned() as usize)
    }
}

/// How many of these leave as one: those of the length of the first, and one that is shorter.
fn joined(vectors: &[libc::iovec]) -> usize {
    let segment = vectors[0].iov_len;
    let (mut n, mut bytes) = (1, segment);
    while segment > 0 && n < vectors.len() && (1..=segment).contains(&vectors[n].iov_len) {
        bytes += vectors[n].iov_len;
        if bytes > JOINED_BYTES_MAX {
            break;
        }
        n += 1;
        if vectors[n - 1].iov_len < segment {
            break;
        }
    }
    n
}

/// Has the stack cut a message into datagrams of `segment` bytes.
fn cut_into(header: &mut libc::msghdr, control: &mut Control, segment: u16) {
    header.msg_control = (&raw mut control.0).cast();
    header.msg_controllen = CONTROL_BYTES;
    // SAFETY: the control buffer is aligned for a cmsghdr and holds one with two bytes of data, as the header says.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as usize;
        libc::CMSG_DATA(message).cast::<u16>().write_unaligned(segment);
    }
}

/// One datagram of all these.
fn header_of(vectors: &mut [libc::iovec]) -> libc::mmsghdr {
    // SAFETY: all zero is a valid mmsghdr: null pointers with zero lengths.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = vectors.as_mut_ptr();
    header.msg_hdr.msg_iovlen = vectors.len();
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(batch: usize) -> (BatchSocket, UdpSocket) {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        a.connect(b.local_addr().unwrap()).unwrap();
        b.connect(a.local_addr().unwrap()).unwrap();
        for socket in [&a, &b] {
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        }
        (BatchSocket::new(a, batch), b)
    }

    #[test]
    fn more_packets_than_a_batch_arrive_whole_and_in_order() {
        let (mut socket, peer) = pair(16);
        let packets: Vec<Vec<u8>> = (0..150u8).map(|n| vec![n; usize::from(n) * 2]).collect();
        socket.send(packets.iter().map(Vec::as_slice)).unwrap();
        let mut buffer = [0; 2000];
        for packet in &packets {
            let length = peer.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], packet);
            peer.send(&buffer[..length]).unwrap();
        }
        let mut returned = Vec::new();
        while returned.len() < packets.len() {
            let count = socket.receive().unwrap();
            assert!((1..=16).contains(&count));
            returned.extend((0..count).map(|i| socket.datagram(i).to_vec()));
        }
        assert_eq!(returned, packets);
    }

    #[test]
    fn what_left_as_one_is_taken_apart() {
        let (mut socket, peer) = pair(2);
        let mut peer = BatchSocket::new(peer, 2);
        let lengths = [70, 70, 70, 20, 20, 70, 0, 5, 1400, 1400];
        let packets: Vec<Vec<u8>> = (0u8..).zip(lengths).map(|(n, bytes)| vec![n; bytes]).collect();
        socket.send(packets.iter().map(Vec::as_slice)).unwrap();
        let (mut returned, mut calls) = (Vec::new(), 0);
        while returned.len() < packets.len() {
            let count = peer.receive().unwrap();
            returned.extend((0..count).map(|i| peer.datagram(i).to_vec()));
            calls += 1;
        }
        assert_eq!(returned, packets);
        // Rows of 4, 1, 1, 1, 1 and 2, two of which a call takes: it was joined indeed.
        assert!(calls <= 3, "{calls}");
    }

    #[test]
    fn silence_and_a_closed_port_are_no_errors() {
        let (mut socket, peer) = pair(4);
        assert_eq!(socket.receive().unwrap(), 0);
        drop(peer);
        for _ in 0..4 {
            socket.send([&b"x"[..], b"y"].into_iter()).unwrap();
            assert_eq!(socket.receive().unwrap(), 0);
        }
    }
}
