//! Virtual hosts on one machine: network namespaces on a bridge, for examples, tests and demos.
//!
//! ```text
//!   host 0: eth0 10.76.0.1     host 1: eth0 10.76.0.2     ...    (a namespace each)
//!            |                          |
//!   switch: port0 ------- bridge ----- port1 ----- ...           (a namespace as well)
//! ```
//!
//! Everything is in namespaces of its own: no interface, route or address is made in the namespace of the
//! caller, not even for a moment. The namespaces are anonymous (see [`netns`]), so whatever way the process
//! dies, SIGKILL included, the kernel removes them; children of [`NetNs::command`] die with it.
//!
//! Needs root, or CAP_SYS_ADMIN and CAP_NET_ADMIN: ask [`available`].
//!
//! ```no_run
//! use electrode::fabric::{Fabric, FabricConfig};
//! use std::net::UdpSocket;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fabric = Fabric::new(FabricConfig { hosts: 2, ..FabricConfig::default() })?;
//! // A socket stays in the namespace in which it was opened.
//! let [a, b] = [0, 1].map(|i| {
//!     let host = fabric.host(i);
//!     host.netns().run(|| UdpSocket::bind((host.addr(), 7000)))
//! });
//! a??.send_to(b"hello", (fabric.host(1).addr(), 7000))?;
//! b??.recv_from(&mut [0; 16])?;
//! # Ok(())
//! # }
//! ```

mod build;
mod error;
#[cfg(feature = "ebpf")]
mod faults;
mod netlink;
pub mod netns;
mod offload;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use rtnetlink::packet_route::AddressFamily;

pub use self::error::FabricError;
#[cfg(feature = "ebpf")]
pub use self::faults::{FAULT_HOSTS_MAX, FaultCounts, Faults, LinkFaults};
pub use self::netns::NetNs;

use self::netlink::{Mac, Netlink};

/// Name of every host's interface, in its own namespace.
const INTERFACE: &str = "eth0";
/// Name of the bridge, in the namespace of the switch.
const BRIDGE: &str = "switch0";

/// How long a link may take to come up: it is a matter of a millisecond on an idle machine.
const LINK_UP_TIMEOUT: Duration = Duration::from_secs(10);
const LINK_UP_POLL: Duration = Duration::from_micros(200);

/// Which addresses the hosts have.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// `10.76.0.(1+i)/24`.
    #[default]
    V4,
    /// `fd76::(1+i)/64`.
    V6,
}

/// What a fabric should look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricConfig {
    /// How many hosts, 1 to [`FabricConfig::HOSTS_MAX`].
    pub hosts: usize,
    /// Their addresses.
    pub family: Family,
    /// Largest packet on every link; the kernel's default, 1500, if not given.
    pub mtu: Option<u32>,
    /// Receive and transmit queues of every interface; the kernel's default, one in use, if not given.
    pub queues: Option<u32>,
}

impl FabricConfig {
    /// Most hosts: a bridge has 1023 ports, 10.76.0.0/24 has 254 addresses.
    pub const HOSTS_MAX: usize = 254;
}

impl Default for FabricConfig {
    fn default() -> Self {
        Self { hosts: 3, family: Family::V4, mtu: None, queues: None }
    }
}

/// A switch and its hosts.
///
/// Dropping it lets go of their namespaces; the kernel then removes the links by itself, shortly after the
/// call returns, unless a process or socket still lives in a namespace. The cables go with the switch, so a
/// straggler is cut off in any case.
#[derive(Debug)]
pub struct Fabric {
    config: FabricConfig,
    hosts: Vec<Host>,
    switch: NetNs,
}

/// One virtual host.
#[derive(Debug)]
pub struct Host {
    addr: IpAddr,
    mac: Mac,
    netns: NetNs,
}

impl Host {
    /// Its address.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Its hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Name of the interface that has the address.
    pub fn interface(&self) -> &'static str {
        INTERFACE
    }

    /// Its namespace.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }
}

impl Fabric {
    /// Makes the switch and the hosts; on return every host can reach every other.
    pub fn new(config: FabricConfig) -> Result<Self, FabricError> {
        build::check(&config)?;
        netns::on_thread("fabric", move || build::build(config))
    }

    /// How it was configured.
    pub fn config(&self) -> &FabricConfig {
        &self.config
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Host `i`, from 0.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn host(&self, i: usize) -> &Host {
        &self.hosts[i]
    }

    /// The namespace with the bridge in it.
    pub fn switch(&self) -> &NetNs {
        &self.switch
    }

    /// Name of the bridge in the namespace of the switch.
    pub fn bridge_name(&self) -> &'static str {
        BRIDGE
    }

    /// Name of the bridge's port to host `i`, in the namespace of the switch.
    pub fn port_name(&self, i: usize) -> String {
        port_name(i)
    }

    /// Powers a host off or on as far as others can see: takes the bridge's port down or up.
    ///
    /// Down: the host hears nothing and nobody hears it, and its interface loses the carrier. Returns when
    /// the change is in force.
    pub fn set_host_link(&self, i: usize, up: bool) -> Result<(), FabricError> {
        self.check_host(i)?;
        self.switch.run(|| {
            let runtime = netlink::runtime()?;
            let netlink = Netlink::open(&runtime)?;
            netlink.set_link(netlink.index_of(&port_name(i))?, up)?;
            if up { await_link(i, || netlink.port_forwards(&port_name(i))) } else { Ok(()) }
        })??;
        // Its own end follows a moment later, and drops what is sent before.
        self.with_host(i, |netlink| {
            await_link(i, || if up { host_is_ready(netlink) } else { Ok(!netlink.is_up(INTERFACE)?) })
        })
    }

    /// Makes host `i` forget the hardware addresses that it learned, as after a boot. Those set by
    /// [`Fabric::pin_neighbours`] stay.
    pub fn flush_neighbours(&self, i: usize) -> Result<(), FabricError> {
        let family = match self.config.family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        self.with_host(i, |netlink| netlink.flush_neighbours(netlink.index_of(INTERFACE)?, family))
    }

    /// Tells host `i` the hardware addresses of all others for good, so that no packet ever waits for
    /// neighbour resolution.
    pub fn pin_neighbours(&self, i: usize) -> Result<(), FabricError> {
        self.with_host(i, |netlink| {
            let index = netlink.index_of(INTERFACE)?;
            let mut others = self.hosts.iter().enumerate().filter(|(j, _)| *j != i);
            others.try_for_each(|(_, other)| netlink.add_neighbour(index, other.addr, other.mac))
        })
    }

    /// Switches checksum offload of host `i`'s interface (as `ethtool -K eth0 tx on|off`): with it, which is
    /// how it starts, packets travel between hosts with their checksum still to be filled in.
    pub fn set_tx_checksum_offload(&self, i: usize, on: bool) -> Result<(), FabricError> {
        self.check_host(i)?;
        set_checksum_offload(&self.hosts[i].netns, INTERFACE, on)
    }

    /// Does the same to the switch's port to host `i`. Without it the switch fills in what is missing, as a
    /// network card would have, and host `i` sees checksums that are to be verified.
    pub fn set_port_tx_checksum_offload(&self, i: usize, on: bool) -> Result<(), FabricError> {
        self.check_host(i)?;
        set_checksum_offload(&self.switch, &port_name(i), on)
    }

    /// Has what leaves host `i` as one (UDP_SEGMENT) cut apart before it leaves, as in front of a network card: each
    /// datagram then meets a hook of its own. Virtual cables carry it whole otherwise.
    pub fn cut_apart(&self, i: usize) -> Result<(), FabricError> {
        self.with_host(i, |netlink| netlink.set_joined_max(netlink.index_of(INTERFACE)?, 1))
    }

    /// Runs `work` with a connection to host `i`.
    fn with_host(
        &self,
        i: usize,
        work: impl FnOnce(&Netlink<'_>) -> Result<(), FabricError> + Send,
    ) -> Result<(), FabricError> {
        self.check_host(i)?;
        self.hosts[i].netns.run(|| work(&Netlink::open(&netlink::runtime()?)?))?
    }

    fn check_host(&self, i: usize) -> Result<(), FabricError> {
        if i < self.hosts.len() {
            return Ok(());
        }
        Err(FabricError::Config(format!("there is no host {i}: they are 0 to {}", self.hosts.len() - 1)))
    }
}

/// Whether virtual hosts can be made here, and if not, why: makes the smallest fabric and drops it.
pub fn available() -> Result<(), FabricError> {
    Fabric::new(FabricConfig { hosts: 1, ..FabricConfig::default() }).map(drop)
}

fn set_checksum_offload(netns: &NetNs, interface: &str, on: bool) -> Result<(), FabricError> {
    netns.run(|| {
        offload::set_tx_checksum(interface, on)
            .and_then(|()| offload::tx_checksum(interface))
            .and_then(|is| if is == on { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) })
            .map_err(|e| FabricError::kernel(format!("set checksum offload of {interface} to {on}"), e))
    })?
}

fn port_name(i: usize) -> String {
    format!("port{i}")
}

fn host_addr(family: Family, i: usize) -> (IpAddr, u8) {
    let number = i as u16 + 1;
    match family {
        // `build::check` keeps it within the last byte.
        Family::V4 => (Ipv4Addr::new(10, 76, 0, number as u8).into(), 24),
        Family::V6 => (Ipv6Addr::new(0xfd76, 0, 0, 0, 0, 0, 0, number).into(), 64),
    }
}

/// Whether a host's interface takes packets and its addresses can be used.
fn host_is_ready(netlink: &Netlink<'_>) -> Result<bool, FabricError> {
    Ok(netlink.is_up(INTERFACE)? && netlink.addresses_are_ready(INTERFACE)?)
}

/// Waits for a change of a link that the kernel makes in a work queue of its own.
fn await_link(host: usize, is_done: impl Fn() -> Result<bool, FabricError>) -> Result<(), FabricError> {
    let since = Instant::now();
    while !is_done()? {
        if since.elapsed() > LINK_UP_TIMEOUT {
            return Err(FabricError::LinkNotUp { host, waited_ms: since.elapsed().as_millis() as u64 });
        }
        std::thread::sleep(LINK_UP_POLL);
    }
    Ok(())
}
