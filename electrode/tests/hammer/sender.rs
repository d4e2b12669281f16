//! Frames onto a cable, each CPU into a queue of its own.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use electrode::fabric::{Fabric, FabricConfig};
use electrode::model::frame::{self, Checksum};

use super::CPUS;
use super::common::group::PORT;
use super::common::raw::{packet_socket, set_option};

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

impl<'f> Port<'f> {
    /// Counts in `sent` what it has sent.
    pub fn new(fabric: &'f Fabric, to: usize, sent: &'f AtomicU64) -> Self {
        let open = || {
            let socket = packet_socket(&fabric.port_name(to), 0);
            // Past the queueing discipline; by the queue whose number is the CPU's.
            set_option(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1);
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
