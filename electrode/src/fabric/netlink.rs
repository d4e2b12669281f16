//! The few requests to the kernel's routing socket that a fabric needs, one connection a namespace.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    BridgePortState, BridgeStpState, InfoBridgePort, InfoData, InfoPortData, InfoVeth, LinkAttribute,
    LinkInfo, LinkMessage, State,
};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};
use tokio::runtime::{Builder, Runtime};

use super::{FabricError, NetNs};

/// The loopback interface is the first of every namespace.
pub(super) const LOOPBACK_INDEX: u32 = 1;

/// A hardware address.
pub(super) type Mac = [u8; 6];

/// What drives the connections: one thread, no timers.
pub(super) fn runtime() -> Result<Runtime, FabricError> {
    Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|e| FabricError::kernel("start a runtime for netlink", e))
}

/// A veth pair of which one end is a port of the switch and the other a host's interface.
pub(super) struct Cable<'a> {
    pub bridge: u32,
    pub port: &'a str,
    pub host: &'a NetNs,
    pub interface: &'a str,
    pub host_mac: Mac,
    pub port_mac: Mac,
    pub mtu: Option<u32>,
    pub queues: Option<u32>,
}

/// A connection to one namespace. It stays there whichever namespace its user moves to.
pub(super) struct Netlink<'r> {
    runtime: &'r Runtime,
    handle: Handle,
}

impl<'r> Netlink<'r> {
    /// Connects to the namespace in which the calling thread is.
    pub fn open(runtime: &'r Runtime) -> Result<Self, FabricError> {
        let _context = runtime.enter();
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| FabricError::kernel("open a netlink socket", e))?;
        runtime.spawn(connection);
        Ok(Self { runtime, handle })
    }

    /// Adds a bridge that forwards at once, floods multicast and takes part in no protocol.
    pub fn add_bridge(&self, name: &str, mac: Mac) -> Result<u32, FabricError> {
        let bridge = LinkBridge::new(name)
            .stp_state(BridgeStpState::Disabled)
            .forward_delay(0)
            .mcast_snooping(false)
            // Given, or it would follow the smallest address among the ports as they come and go.
            .address(mac.to_vec())
            .up()
            .build();
        let added = self.runtime.block_on(self.handle.link().add(bridge).execute());
        added.map_err(|e| FabricError::link(format!("add bridge {name}"), "bridge", io_error(e)))?;
        self.index_of(name)
    }

    /// Adds a cable in one request, so that no end of it is ever in a third namespace. The end in the switch
    /// is up, the host's is not: the kernel opens no end before both exist.
    pub fn add_cable(&self, cable: &Cable<'_>) -> Result<(), FabricError> {
        let mut far = LinkMessageBuilder::<LinkUnspec>::new()
            .name(cable.interface)
            .address(cable.host_mac.to_vec())
            .setns_by_fd(cable.host.as_fd().as_raw_fd());
        let mut near = LinkVeth::new(cable.port, cable.interface)
            .address(cable.port_mac.to_vec())
            .controller(cable.bridge)
            .up();
        if let Some(mtu) = cable.mtu {
            (far, near) = (far.mtu(mtu), near.mtu(mtu));
        }
        if let Some(queues) = cable.queues {
            let [tx, rx] = [LinkAttribute::NumTxQueues(queues), LinkAttribute::NumRxQueues(queues)];
            far = far.append_extra_attribute(tx.clone()).append_extra_attribute(rx.clone());
            near = near.append_extra_attribute(tx).append_extra_attribute(rx);
        }
        let near = near.set_info_data(InfoData::Veth(InfoVeth::Peer(far.build()))).build();
        let added = self.runtime.block_on(self.handle.link().add(near).execute());
        added.map_err(|e| FabricError::link(format!("add veth {}", cable.port), "veth", io_error(e)))
    }

    /// Adds a cable with both ends in this namespace, both up.
    #[cfg(feature = "ebpf")]
    pub fn add_pair(&self, names: [&str; 2], mtu: Option<u32>) -> Result<(), FabricError> {
        let mut far = LinkMessageBuilder::<LinkUnspec>::new().name(names[1]);
        let mut near = LinkVeth::new(names[0], names[1]);
        if let Some(mtu) = mtu {
            (far, near) = (far.mtu(mtu), near.mtu(mtu));
        }
        let near = near.set_info_data(InfoData::Veth(InfoVeth::Peer(far.build()))).build();
        let added = self.runtime.block_on(self.handle.link().add(near).execute());
        added.map_err(|e| FabricError::link(format!("add veth {}", names[0]), "veth", io_error(e)))?;
        names.into_iter().try_for_each(|name| self.set_link(self.index_of(name)?, true))
    }

    /// Sets a link administratively up or down.
    pub fn set_link(&self, index: u32, up: bool) -> Result<(), FabricError> {
        let change = LinkUnspec::new_with_index(index);
        let change = if up { change.up() } else { change.down() }.build();
        let changed = self.runtime.block_on(self.handle.link().change(change).execute());
        let word = if up { "up" } else { "down" };
        changed.map_err(|e| FabricError::kernel(format!("set link {index} {word}"), io_error(e)))
    }

    /// Has the stack cut apart, before the interface, what would leave it as so many datagrams in one at most.
    pub fn set_joined_max(&self, index: u32, datagrams: u32) -> Result<(), FabricError> {
        let change = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::GsoMaxSegs(datagrams))
            .build();
        let changed = self.runtime.block_on(self.handle.link().change(change).execute());
        changed.map_err(|e| {
            FabricError::kernel(format!("have link {index} take {datagrams} datagrams as one"), io_error(e))
        })
    }

    /// Gives an interface an address that can be used at once.
    pub fn add_address(&self, index: u32, address: IpAddr, prefix_len: u8) -> Result<(), FabricError> {
        let mut request = self.handle.address().add(index, address, prefix_len);
        if address.is_ipv6() {
            // Otherwise it stays tentative for a second of duplicate address detection.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let added = self.runtime.block_on(request.execute());
        added.map_err(|e| FabricError::kernel(format!("add address {address}/{prefix_len}"), io_error(e)))
    }

    /// The number of the interface with this name.
    pub fn index_of(&self, name: &str) -> Result<u32, FabricError> {
        Ok(self.link(name)?.header.index)
    }

    /// Whether an interface has come up with a carrier, so that its queues take packets.
    pub fn is_up(&self, name: &str) -> Result<bool, FabricError> {
        let link = self.link(name)?;
        Ok(link.attributes.iter().any(|a| matches!(a, LinkAttribute::OperState(State::Up))))
    }

    /// Whether an interface has addresses and all of them can be used: even without duplicate address
    /// detection an IPv6 address is tentative until the kernel's work queue has looked at it.
    pub fn addresses_are_ready(&self, name: &str) -> Result<bool, FabricError> {
        let index = self.index_of(name)?;
        let request = self.handle.address().get().set_link_index_filter(index).execute();
        let found: Result<Vec<_>, _> = self.runtime.block_on(request.try_collect());
        let found =
            found.map_err(|e| FabricError::kernel(format!("list addresses of {name}"), io_error(e)))?;
        // The kernel may leave the filter to us.
        let own: Vec<_> = found.iter().filter(|address| address.header.index == index).collect();
        let is_tentative = |a: &&AddressMessage| a.header.flags.contains(AddressHeaderFlags::Tentative);
        Ok(!own.is_empty() && !own.iter().any(is_tentative))
    }

    /// Whether a port of a bridge is up and forwards.
    pub fn port_forwards(&self, name: &str) -> Result<bool, FabricError> {
        let link = self.link(name)?;
        let infos = link.attributes.iter().filter_map(|a| match a {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
        Ok(infos.flatten().any(|info| match info {
            LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                port.contains(&InfoBridgePort::State(BridgePortState::Forwarding))
            }
            _ => false,
        }))
    }

    /// Forgets what an interface learned about its neighbours; permanent entries stay.
    pub fn flush_neighbours(&self, index: u32, family: AddressFamily) -> Result<(), FabricError> {
        let flushed = self.runtime.block_on(async {
            let request = self.handle.neighbours().get().set_address_family(family);
            let known: Vec<_> = request.execute().try_collect().await?;
            for neighbour in known {
                let header = &neighbour.header;
                if header.ifindex != index
                    || matches!(header.state, NeighbourState::Permanent | NeighbourState::Noarp)
                {
                    continue;
                }
                match self.handle.neighbours().del(neighbour).execute().await {
                    // It went by itself meanwhile.
                    Err(e) if io_errno(&e) == Some(libc::ENOENT) => {}
                    other => other?,
                }
            }
            Ok(())
        });
        flushed.map_err(|e| FabricError::kernel(format!("flush neighbours of link {index}"), io_error(e)))
    }

    /// Tells an interface the hardware address of a neighbour for good.
    pub fn add_neighbour(&self, index: u32, address: IpAddr, mac: Mac) -> Result<(), FabricError> {
        let request = self.handle.neighbours().add(index, address).link_layer_address(&mac).replace();
        let added = self.runtime.block_on(request.execute());
        added.map_err(|e| FabricError::kernel(format!("add neighbour {address}"), io_error(e)))
    }

    fn link(&self, name: &str) -> Result<LinkMessage, FabricError> {
        let request = self.handle.link().get().match_name(name.to_string()).execute();
        let found = self.runtime.block_on(async { std::pin::pin!(request).try_next().await });
        let describe = |cause| FabricError::kernel(format!("find link {name}"), cause);
        found
            .map_err(|e| describe(io_error(e)))?
            .ok_or_else(|| describe(io::Error::from_raw_os_error(libc::ENODEV)))
    }
}

fn io_errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().raw_os_error(),
        _ => None,
    }
}

fn io_error(error: rtnetlink::Error) -> io::Error {
    match io_errno(&error) {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error),
    }
}
