//! Which interface carries an endpoint, and what kind of device it is.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};

use super::Netlink;
use crate::error::{Error, Result};

/// A network interface of this namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Frames carry an Ethernet header.
    pub ethernet: bool,
    /// The loopback device.
    pub loopback: bool,
    /// Kind of a software device (`veth`, `bridge`, ...); `None` for hardware.
    pub kind: Option<String>,
}

impl Interface {
    /// All interfaces of this thread's network namespace.
    pub fn all() -> Result<Vec<Self>> {
        let mut netlink = Netlink::open().map_err(Error::io("netlink socket"))?;
        let answers = netlink
            .request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)
            .map_err(Error::io("listing interfaces"))?;
        Ok(answers
            .into_iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewLink(link) => Some(Self::from_link(link)),
                _ => None,
            })
            .collect())
    }

    fn from_link(link: LinkMessage) -> Self {
        let mut interface = Self {
            index: link.header.index,
            name: String::new(),
            mtu: 0,
            ethernet: link.header.link_layer_type == LinkLayerType::Ether,
            loopback: link.header.link_layer_type == LinkLayerType::Loopback,
            kind: None,
        };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name = name,
                LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                LinkAttribute::LinkInfo(infos) => {
                    interface.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(InfoKind::Veth) => Some("veth".into()),
                        LinkInfo::Kind(kind) => Some(format!("{kind:?}").to_lowercase()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        interface
    }

    /// The interface that carries `addr`, or the one that is named, which must carry it too.
    pub fn find(addr: IpAddr, name: Option<&str>) -> Result<Self> {
        let fail = |reason: String| Error::Interface { addr, name: name.map(str::to_owned), reason };
        let all = Self::all()?;
        let mut holders = holders(addr)?;
        if addr.is_loopback() {
            // All of 127.0.0.0/8, of which the kernel lists one address.
            holders.extend(all.iter().filter(|i| i.loopback).map(|i| i.index));
        }
        let index = match name {
            Some(name) => {
                let Some(named) = all.iter().find(|i| i.name == name) else {
                    let names: Vec<_> = all.iter().map(|i| i.name.as_str()).collect();
                    return Err(fail(format!("it does not exist; there are {}", names.join(", "))));
                };
                if !holders.contains(&named.index) {
                    let others: Vec<_> =
                        all.iter().filter(|i| holders.contains(&i.index)).map(|i| i.name.as_str()).collect();
                    let others = if others.is_empty() { "none".into() } else { others.join(", ") };
                    return Err(fail(format!("it does not have this address; {others} does")));
                }
                named.index
            }
            None => holders.first().copied().ok_or_else(|| fail("no interface has this address".into()))?,
        };
        all.into_iter().find(|i| i.index == index).ok_or_else(|| fail("it has just disappeared".into()))
    }
}

/// Indices of the interfaces that hold an address.
fn holders(addr: IpAddr) -> Result<Vec<u32>> {
    let mut netlink = Netlink::open().map_err(Error::io("netlink socket"))?;
    let answers = netlink
        .request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)
        .map_err(Error::io("listing addresses"))?;
    Ok(answers
        .into_iter()
        .filter_map(|m| match m {
            RouteNetlinkMessage::NewAddress(entry) => {
                let is = |want: &dyn Fn(&AddressAttribute) -> bool| entry.attributes.iter().any(want);
                (is(&|a| matches!(a, AddressAttribute::Local(ip) if *ip == addr))
                    || is(&|a| matches!(a, AddressAttribute::Address(ip) if *ip == addr)))
                .then_some(entry.header.index)
            }
            _ => None,
        })
        .collect())
}

/// Whether packets to `addr` stay on this host: they go over `lo` and meet no hook elsewhere.
pub(crate) fn is_local(addr: IpAddr) -> bool {
    addr.is_loopback() || Netlink::open().and_then(|mut n| n.route(addr)).is_ok_and(|r| r.local)
}
