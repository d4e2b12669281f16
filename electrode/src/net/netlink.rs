//! Synchronous questions to the kernel over netlink.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A netlink socket in the namespace of the thread that opened it.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// How the kernel would send to an address.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The address is one of this host's own.
    pub local: bool,
    /// Interface that it leaves by.
    pub ifindex: u32,
    /// Whose link-layer address is needed.
    pub next_hop: IpAddr,
}

/// A neighbour table entry that can be used, or its removal (`mac: None`).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub ifindex: u32,
    pub addr: IpAddr,
    pub mac: Option<[u8; 6]>,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Opens a socket that also hears of changes in multicast groups (RTNLGRP_*).
    #[cfg(feature = "ebpf")]
    pub(crate) fn subscribe(groups: &[u32]) -> io::Result<Self> {
        let mut netlink = Self::open()?;
        for &group in groups {
            netlink.socket.add_membership(group)?;
        }
        // The answers of the kernel come from port 0 as before; connect would not change that.
        netlink.sequence = 1;
        Ok(netlink)
    }

    /// Descriptor for poll.
    #[cfg(feature = "ebpf")]
    pub(crate) fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.socket)
    }

    /// Sends one request and collects its answers.
    pub(crate) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in split(&datagram)? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                    NetlinkPayload::Error(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(inner) => {
                        answers.push(inner);
                        if flags & NLM_F_DUMP != NLM_F_DUMP {
                            return Ok(answers);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Changes that arrived, for a subscribed socket. `None`: some were lost, look at everything again.
    #[cfg(feature = "ebpf")]
    pub(crate) fn changes(&mut self) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        match self.socket.recv_from_full() {
            Ok((datagram, _)) => Ok(Some(
                split(&datagram)?
                    .into_iter()
                    .filter_map(|m| match m.payload {
                        NetlinkPayload::InnerMessage(inner) => Some(inner),
                        _ => None,
                    })
                    .collect(),
            )),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The kernel's own route lookup.
    pub(crate) fn route(&mut self, to: IpAddr) -> io::Result<Route> {
        let mut message = RouteMessage::default();
        let (family, bits) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = bits;
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(to)));
        let answers = self.request(RouteNetlinkMessage::GetRoute(message), 0)?;
        let route = answers
            .into_iter()
            .find_map(|m| match m {
                RouteNetlinkMessage::NewRoute(route) => Some(route),
                _ => None,
            })
            .ok_or_else(|| io::Error::new(io::ErrorKind::NetworkUnreachable, "no route"))?;
        let local = route.header.kind == RouteType::Local;
        let (mut ifindex, mut next_hop) = (0, to);
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => ifindex = index,
                RouteAttribute::Gateway(RouteAddress::Inet(ip)) => next_hop = ip.into(),
                RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => next_hop = ip.into(),
                RouteAttribute::Via(via) => {
                    if let Some(ip) = via_address(&via) {
                        next_hop = ip;
                    }
                }
                _ => {}
            }
        }
        Ok(Route { local, ifindex, next_hop })
    }

    /// The whole neighbour table.
    pub(crate) fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        let answers =
            self.request(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), NLM_F_DUMP)?;
        Ok(answers.iter().filter_map(neighbour_of).collect())
    }
}

fn via_address(via: &netlink_packet_route::route::RouteVia) -> Option<IpAddr> {
    match via {
        netlink_packet_route::route::RouteVia::Inet(ip) => Some((*ip).into()),
        netlink_packet_route::route::RouteVia::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn split(datagram: &[u8]) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("netlink: {e}")))?;
        let bytes = (message.header.length as usize).next_multiple_of(4).min(rest.len());
        if bytes == 0 {
            break;
        }
        rest = &rest[bytes..];
        messages.push(message);
    }
    Ok(messages)
}

/// What a neighbour message says about a usable link-layer address.
pub(crate) fn neighbour_of(message: &RouteNetlinkMessage) -> Option<Neighbour> {
    let (entry, gone) = match message {
        RouteNetlinkMessage::NewNeighbour(entry) => (entry, false),
        RouteNetlinkMessage::DelNeighbour(entry) => (entry, true),
        _ => return None,
    };
    // A stale entry is usable: the kernel itself sends with it while it probes.
    let usable = matches!(
        entry.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let (mut addr, mut mac) = (None, None);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => addr = Some((*ip).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => addr = Some((*ip).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let mac = mac.filter(|_| usable && !gone);
    addr.map(|addr| Neighbour { ifindex: entry.header.ifindex, addr, mac })
}
