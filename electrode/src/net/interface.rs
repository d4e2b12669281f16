//! Which interface carries an endpoint, and what kind of device it is.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use serde::{Deserialize, Serialize};

use super::Netlink;
use crate::error::{Error, Result};

/// Where on an interface an XDP program sits.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// Behind it, in the stack.
    Generic,
    /// On the card.
    Offloaded,
}

/// An XDP program that is on an interface, anybody's.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XdpProgram {
    /// Where it sits.
    pub mode: XdpMode,
    /// Its id, as `bpftool prog` lists it.
    pub id: u32,
}

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
    /// It is switched on.
    pub up: bool,
    /// XDP programs that are on it: one, or one a mode.
    pub xdp: Vec<XdpProgram>,
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
            up: link.header.flags.contains(LinkFlags::Up),
            xdp: Vec::new(),
        };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name = name,
                LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                LinkAttribute::LinkInfo(infos) => {
                    interface.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                LinkAttribute::Xdp(parts) => interface.xdp = xdp_programs(&parts),
                _ => {}
            }
        }
        interface
    }

    /// Why TC is the hook for an interface by its nature, if it is: virtual devices rebuild every packet for
    /// XDP, so that TC is the faster hook where there is no hardware.
    pub(crate) fn prefers_tc(&self) -> Option<String> {
        self.kind.as_deref().map(|kind| format!("{} is a virtual device ({kind})", self.name))
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

/// The programs of an IFLA_XDP attribute. The kernel names the mode of a single one beside the id, and gives
/// one id a mode where there are several.
fn xdp_programs(parts: &[LinkXdp]) -> Vec<XdpProgram> {
    let mut programs: Vec<_> = parts
        .iter()
        .filter_map(|part| match *part {
            LinkXdp::DrvProgId(id) => Some(XdpProgram { mode: XdpMode::Native, id }),
            LinkXdp::SkbProgId(id) => Some(XdpProgram { mode: XdpMode::Generic, id }),
            LinkXdp::HwProgId(id) => Some(XdpProgram { mode: XdpMode::Offloaded, id }),
            _ => None,
        })
        .collect();
    if programs.is_empty() {
        let mode = parts.iter().find_map(|part| match part {
            LinkXdp::Attached(XdpAttached::Driver) => Some(XdpMode::Native),
            LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
            LinkXdp::Attached(XdpAttached::Hardware) => Some(XdpMode::Offloaded),
            _ => None,
        });
        let id = parts.iter().find_map(|part| match part {
            LinkXdp::ProgId(id) if *id != 0 => Some(*id),
            _ => None,
        });
        programs.extend(mode.zip(id).map(|(mode, id)| XdpProgram { mode, id }));
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there_and_told_from_ethernet() {
        let all = Interface::all().unwrap();
        let lo = all.iter().find(|i| i.name == "lo").expect("every namespace has lo");
        assert!(lo.loopback && !lo.ethernet);
        assert_eq!(lo.prefers_tc(), None);
    }

    #[test]
    fn xdp_programs_are_found_in_either_form() {
        let one = [LinkXdp::Attached(XdpAttached::Driver), LinkXdp::ProgId(7)];
        assert_eq!(xdp_programs(&one), [XdpProgram { mode: XdpMode::Native, id: 7 }]);
        let both = [LinkXdp::Attached(XdpAttached::Multiple), LinkXdp::SkbProgId(8), LinkXdp::DrvProgId(9)];
        assert_eq!(
            xdp_programs(&both),
            [XdpProgram { mode: XdpMode::Generic, id: 8 }, XdpProgram { mode: XdpMode::Native, id: 9 }]
        );
        assert_eq!(xdp_programs(&[LinkXdp::Attached(XdpAttached::None)]), []);
    }
}
