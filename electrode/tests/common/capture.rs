//! Frames as they are on a virtual cable: capture and injection by AF_PACKET.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use electrode::fabric::NetNs;
use electrode::model::frame::{self, Datagram};

use super::actor::QUIET;
use super::hosts::DEADLINE;
use super::raw::{check, packet_socket, set_option};

/// Which frames a capture sees.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Tap {
    /// All, received ones before any program has seen them and sent ones after all programs have.
    Wire,
    /// Received ones of this ethertype that XDP and TC ingress have let through to the stack.
    Passed(u16),
}

/// A captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// As on the cable, but without the VLAN tag that the kernel takes out.
    pub bytes: Vec<u8>,
    /// That tag's VLAN.
    pub vlan: Option<u16>,
    /// The interface sends it rather than receives it.
    pub outgoing: bool,
    /// Its checksum is still to be filled in (CHECKSUM_PARTIAL).
    pub partial: bool,
}

impl Frame {
    /// The datagram in it, if it is one to `addr`.
    pub fn datagram(&self, addr: SocketAddr) -> Option<Datagram> {
        frame::parse(&self.bytes, addr).ok()
    }

    /// Destination hardware address.
    pub fn to_mac(&self) -> [u8; 6] {
        self.bytes[..6].try_into().unwrap()
    }

    /// Addressed to a group, on the link or above it.
    pub fn is_multicast(&self) -> bool {
        self.bytes[0] & 1 == 1
    }
}

/// A packet socket on one interface.
pub struct Capture {
    socket: OwnedFd,
}

impl Capture {
    pub fn new(namespace: &NetNs, interface: &str, tap: Tap) -> Self {
        let protocol = match tap {
            Tap::Wire => libc::ETH_P_ALL as u16,
            Tap::Passed(ethertype) => ethertype,
        };
        let socket = namespace
            .run(|| {
                let socket = packet_socket(interface, protocol);
                set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1);
                set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16 << 20);
                socket
            })
            .unwrap();
        Self { socket }
    }

    /// The next frame; `None` if none comes in time.
    pub fn next(&self, timeout: Duration) -> Option<Frame> {
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one initialised pollfd.
        let ready = check(unsafe { libc::poll(&raw mut poll, 1, timeout.as_millis().max(1) as i32) }, "poll");
        (ready > 0).then(|| self.receive())
    }

    fn receive(&self) -> Frame {
        let (mut bytes, mut control) = (vec![0u8; 65536], [0u64; 32]);
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: all-zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of_val(&from) as u32;
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: everything that the message points to lives until the call returns.
        let got = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        check(got as libc::c_int, "recvmsg");
        bytes.truncate(got as usize);

        // SAFETY: the kernel filled in the control message, which is checked to be the one asked for.
        let aux = unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const message);
            assert!(!first.is_null() && (*first).cmsg_type == libc::PACKET_AUXDATA, "no auxiliary data");
            libc::CMSG_DATA(first).cast::<libc::tpacket_auxdata>().read_unaligned()
        };
        let flag = |bit: u32| aux.tp_status & bit != 0;
        Frame {
            bytes,
            vlan: flag(libc::TP_STATUS_VLAN_VALID).then_some(aux.tp_vlan_tci & 0xfff),
            outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
            partial: flag(libc::TP_STATUS_CSUMNOTREADY),
        }
    }

    /// All frames, until nothing more comes for a moment.
    pub fn frames(&self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next(QUIET)).collect()
    }

    /// Waits until so many frames that match have come, and returns those.
    pub fn matching(&self, count: usize, matches: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let since = Instant::now();
        let mut found = vec![];
        while found.len() < count {
            assert!(since.elapsed() < DEADLINE, "{} of {count} frames: {found:?}", found.len());
            found.extend(self.next(QUIET).filter(&matches));
        }
        found
    }
}

/// Sends a frame as it is out of an interface.
pub fn inject(namespace: &NetNs, interface: &str, frames: &[Vec<u8>]) {
    namespace
        .run(|| {
            let socket = packet_socket(interface, 0);
            for frame in frames {
                // SAFETY: a live buffer and its length.
                let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
                check(sent as libc::c_int, "send");
            }
        })
        .unwrap();
}
