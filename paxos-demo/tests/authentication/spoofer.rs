//! A host on the members' network that hears all of their frames and sends in any name.

use std::io::{self, Read};
use std::net::SocketAddr;

use electrode::abi::{HEADER_BYTES, Header};
use electrode::fabric::NetNs;
use electrode::model::frame::{self, Checksum};
use electrode::wire;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// In front of the IP packet.
const ETHERNET_BYTES: usize = 14;

/// A member's datagram, as it was on a cable.
#[derive(Clone, PartialEq, Eq)]
pub struct Captured {
    pub from: usize,
    pub to: usize,
    /// Header and payload.
    pub bytes: Vec<u8>,
}

impl Captured {
    pub fn header(&self) -> &Header {
        wire::parse(&self.bytes).unwrap().0
    }
}

/// Hears everything that passes the switch.
pub struct Ear {
    socket: Socket,
    members: Vec<SocketAddr>,
}

impl Ear {
    /// In the switch's namespace: every port, and so every frame at least once.
    pub fn new(switch: &NetNs, members: &[SocketAddr]) -> Self {
        let every = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let open = || Socket::new(Domain::PACKET, Type::RAW, Some(every));
        let socket = switch.run(open).unwrap().unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_recv_buffer_size(4 << 20).unwrap();
        Self { socket, members: members.to_vec() }
    }

    /// The next datagram from member to member, if one is there.
    pub fn hear(&mut self) -> Option<Captured> {
        let mut buffer = [0; 2048];
        loop {
            let n = match self.socket.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => panic!("{error}"),
            };
            let captured = self.members.iter().enumerate().find_map(|(to, address)| {
                let datagram = frame::parse(&buffer[..n], *address).ok()?;
                let from = self.members.iter().position(|member| *member == datagram.from)?;
                let bytes = datagram.payload(&buffer[..n]).to_vec();
                wire::parse(&bytes).is_ok().then_some(Captured { from, to, bytes })
            });
            if captured.is_some() {
                return captured;
            }
        }
    }
}

/// Sends datagrams in the name of any address.
pub struct Spoofer {
    socket: Socket,
    pub sent: u64,
}

impl Spoofer {
    pub fn new(host: &NetNs) -> Self {
        let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)));
        Self { socket: host.run(open).unwrap().unwrap(), sent: 0 }
    }

    /// A full queue loses it, as on any network.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        debug_assert!(bytes.len() >= HEADER_BYTES);
        let frame = frame::build([[0; 6]; 2], from, to, bytes, Checksum::Full);
        if self.socket.send_to(&frame[ETHERNET_BYTES..], &SockAddr::from(to)).is_ok() {
            self.sent += 1;
        }
    }
}
