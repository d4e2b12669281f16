//! A connected UDP socket that takes and sends many datagrams with one system call.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use crate::client::is_passing;

/// Datagrams of one system call at most.
const BATCH_MAX: usize = 64;
/// Room for one datagram: more than an MTU of 1500 carries. A longer one is cut, and no longer parses.
const DATAGRAM_BYTES: usize = 1536;

/// The socket and its buffers.
pub struct BatchSocket {
    socket: UdpSocket,
    buffers: Vec<[u8; DATAGRAM_BYTES]>,
    lengths: Vec<usize>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
}

impl BatchSocket {
    /// For up to `batch` datagrams at once. The socket is connected, blocking, with a read timeout.
    pub fn new(socket: UdpSocket, batch: usize) -> Self {
        let batch = batch.clamp(1, BATCH_MAX);
        Self {
            socket,
            buffers: vec![[0; DATAGRAM_BYTES]; batch],
            lengths: vec![0; batch],
            headers: Vec::with_capacity(BATCH_MAX),
            vectors: Vec::with_capacity(BATCH_MAX),
        }
    }

    /// Talks to another peer from now on.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        self.socket.connect(peer)
    }

    /// Waits for at least one datagram and takes those that are there; 0 if none came within the read
    /// timeout or the peer's port is closed.
    pub fn receive(&mut self) -> io::Result<usize> {
        self.vectors.clear();
        self.vectors.extend(
            self.buffers
                .iter_mut()
                .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }),
        );
        fill_headers(&mut self.headers, &mut self.vectors);
        // SAFETY: every header points to one iovec, and that to a buffer of its own; all of them live in
        // `self`, which is borrowed mutably for the call, and none is resized in it.
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
        let received = received as usize;
        for (length, header) in self.lengths.iter_mut().zip(&self.headers[..received]) {
            *length = header.msg_len as usize;
        }
        Ok(received)
    }

    /// Datagram `i` of those last received.
    pub fn datagram(&self, i: usize) -> &[u8] {
        &self.buffers[i][..self.lengths[i]]
    }

    /// Sends all packets. What the kernel does not take is lost like any datagram: the sender's timer heals it.
    pub fn send<'p>(&mut self, packets: impl Iterator<Item = &'p [u8]>) -> io::Result<()> {
        let mut packets = packets.peekable();
        while packets.peek().is_some() {
            self.vectors.clear();
            self.vectors.extend(packets.by_ref().take(BATCH_MAX).map(|packet| libc::iovec {
                iov_base: packet.as_ptr().cast_mut().cast(),
                iov_len: packet.len(),
            }));
            fill_headers(&mut self.headers, &mut self.vectors);
            let mut sent = 0;
            while sent < self.headers.len() {
                let rest = &mut self.headers[sent..];
                // SAFETY: as in `receive`; the kernel only reads what the iovecs point to, and the packets are
                // borrowed for 'p, which outlives this call.
                let result = unsafe {
                    libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, 0)
                };
                match result {
                    0.. => sent += (result as usize).max(1),
                    _ => {
                        let error = io::Error::last_os_error();
                        if !is_passing(&error) {
                            return Err(error);
                        }
                        sent += 1;
                    }
                }
            }
        }
        Ok(())
    }
}

/// One header for each vector.
fn fill_headers(headers: &mut Vec<libc::mmsghdr>, vectors: &mut [libc::iovec]) {
    headers.clear();
    headers.extend(vectors.iter_mut().map(|vector| {
        // SAFETY: all zero is a valid mmsghdr: null pointers with zero lengths.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
