//! Routes and neighbours, as the kernel's own tables have them.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Netlink;

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

    /// Hardware address of an interface; `None` if it has none of Ethernet's kind, or is gone. Nothing is asked of
    /// other interfaces, so none of them can be in the way.
    pub(crate) fn hardware_address(&mut self, ifindex: u32) -> io::Result<Option<[u8; 6]>> {
        let mut question = LinkMessage::default();
        question.header.index = ifindex;
        let answers = match self.request(RouteNetlinkMessage::GetLink(question), 0) {
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            answers => answers?,
        };
        let attributes = answers.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link.attributes),
            _ => None,
        });
        Ok(attributes.unwrap_or_default().iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        }))
    }

    /// The whole neighbour table.
    pub(crate) fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        let answers =
            self.request(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), NLM_F_DUMP)?;
        Ok(answers.iter().filter_map(neighbour_of).collect())
    }
}

fn via_address(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(ip) => Some((*ip).into()),
        RouteVia::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
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

/// Whether packets to `addr` stay on this host: they go over `lo` and meet no hook elsewhere.
pub(crate) fn is_local(addr: IpAddr) -> bool {
    addr.is_loopback() || Netlink::open().and_then(|mut n| n.route(addr)).is_ok_and(|r| r.local)
}
