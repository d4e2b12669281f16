//! Datagrams sent from memory that the sender can write to while they travel (MSG_ZEROCOPY): a virtual cable copies
//! nothing, so a TC program on the same machine looks at the sender's own pages.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use socket2::SockAddr;

use super::raw::set_option;

/// Words of a buffer, more than a datagram has.
const WORDS: usize = 256;

/// Memory that is sent from.
#[repr(align(4096))]
pub struct Buffer([AtomicU64; WORDS]);

impl Buffer {
    pub fn new() -> Box<Self> {
        Box::new(Self(std::array::from_fn(|_| AtomicU64::new(0))))
    }

    /// Puts a datagram into it, but for one word, which is somebody else's meanwhile.
    pub fn put(&self, datagram: &[u8], except: usize) {
        for (i, bytes) in datagram.chunks(8).enumerate().filter(|(i, _)| *i != except) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.0[i].store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    pub fn word(&self, index: usize) -> &AtomicU64 {
        &self.0[index]
    }

    /// Sends its first bytes, without a copy.
    pub fn send(&self, socket: &UdpSocket, to: SocketAddr, bytes: usize) {
        assert!(bytes <= size_of::<Self>());
        let to = SockAddr::from(to);
        // SAFETY: that many bytes of live memory, which the kernel reads, and an address of the size that is stated.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                self.0.as_ptr().cast(),
                bytes,
                libc::MSG_ZEROCOPY,
                to.as_ptr().cast(),
                to.len(),
            )
        };
        assert_eq!(sent, bytes as isize, "send: {}", io::Error::last_os_error());
    }
}

/// Lets a socket send so.
pub fn enable(socket: &UdpSocket) {
    set_option(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1);
}
