//! Frames onto a cable, each CPU into a queue of its own.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use electrode::fabric::{Fabric, FabricConfig};
use electrode::model::frame::{self, Checksum};

use super::CPUS;
use super::common::group::PORT;

/// A fabric with two queues an interface.
pub fn fabric(hosts: usize) -> Fabric {
    let config = FabricConfig { hosts, queues: Some(CPUS as u32), ..FabricConfig::default() };
    Fabric::new(config).expect("a fabric")
}

/// Sends from the switch's port to host `to`. A frame leaves by the queue of the CPU that sends it, so that the host
/// receives in two queues although the frames are one flow.
pub struct Port<'f> {
    fabric: &'f Fabric,
    to: usize,
    socket: OwnedFd,
    sent: &'f AtomicU64,
}

fn check(result: libc::c_int, what: &str) -> libc::c_int {
    assert!(result >= 0, "{what}: {}", std::io::Error::last_os_error());
    result
}

impl<'f> Port<'f> {
    /// Counts in `sent` what it has sent.
    pub fn new(fabric: &'f Fabric, to: usize, sent: &'f AtomicU64) -> Self {
        let name = std::ffi::CString::new(fabric.port_name(to)).unwrap();
        let open = || {
            // SAFETY: no pointers; nobody else owns what comes.
            let socket = unsafe {
                let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
                OwnedFd::from_raw_fd(check(libc::socket(libc::AF_PACKET, kind, 0), "socket"))
            };
            // SAFETY: all-zero is a valid sockaddr_ll.
            let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            addr.sll_family = libc::AF_PACKET as u16;
            // SAFETY: a terminated string.
            addr.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) } as libc::c_int;
            // SAFETY: an address of the size that is stated.
            let bound = unsafe {
                libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), size_of_val(&addr) as u32)
            };
            check(bound, "bind");
            // Past the queueing discipline; by the queue whose number is the CPU's.
            let one: libc::c_int = 1;
            // SAFETY: an int option with an int's size.
            let set = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_PACKET,
                    libc::PACKET_QDISC_BYPASS,
                    (&raw const one).cast(),
                    size_of_val(&one) as u32,
                )
            };
            check(set, "PACKET_QDISC_BYPASS");
            socket
        };
        Self { fabric, to, socket: fabric.switch().run(open).unwrap(), sent }
    }

    /// The frame of a datagram of member `from`'s.
    pub fn frame(&self, from: usize, datagram: &[u8]) -> Vec<u8> {
        let macs = [self.fabric.host(from).mac(), self.fabric.host(self.to).mac()];
        let [from, to] = [from, self.to].map(|i| SocketAddr::new(self.fabric.host(i).addr(), PORT));
        frame::build(macs, from, to, datagram, Checksum::Full)
    }

    /// Returns whether the cable took it: it does not while the queue is full.
    pub fn send(&self, frame: &[u8]) -> bool {
        // SAFETY: a live buffer and its length.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        let taken = sent == frame.len() as isize;
        self.sent.fetch_add(taken.into(), Ordering::SeqCst);
        taken
    }
}
