//! Where the endpoints of a benchmark live: on virtual hosts, or on loopback where those cannot be had.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use electrode::Endpoint;
use electrode::config::{Backend, EndpointConfig, UdpSend};
use electrode::fabric::{Fabric, FabricConfig, FabricError};
use electrode::types::ReplicaId;

const PORT: u16 = 7000;
/// Set where a figure that is left out must fail the run.
const REQUIRE: &str = "ELECTRODE_REQUIRE_EBPF";

/// Hosts for one group.
pub struct Site {
    hosts: usize,
    fabric: Option<Fabric>,
    ebpf: bool,
}

impl Site {
    /// Exactly as many hosts as members: a switch floods multicast to all of them.
    pub fn new(hosts: usize) -> Self {
        let mut site = Self { hosts, fabric: None, ebpf: false };
        match quiet_fabric(hosts) {
            Ok(fabric) => site.fabric = Some(fabric),
            Err(e) => {
                skipped(&format!("eBPF and multicast, no virtual hosts ({e}); sockets run on loopback"));
                return site;
            }
        }
        let mut config = EndpointConfig::new(site.members(), ReplicaId(0));
        config.backend = Backend::Ebpf;
        match site.open(config) {
            Ok(_) => site.ebpf = true,
            Err(e) => skipped(&format!("eBPF, {e}")),
        }
        site
    }

    /// What can be measured here, the paper's baseline first and the kernel programs last.
    pub fn backends(&self) -> Vec<Backend> {
        let mut backends = vec![Backend::Udp(UdpSend::Sendto), Backend::Udp(UdpSend::Mmsg)];
        if self.fabric.is_some() {
            backends.push(Backend::Udp(UdpSend::Multicast));
        }
        if self.ebpf {
            backends.push(Backend::Ebpf);
        }
        backends
    }

    /// The same for what is sent to one peer only, where multicast means nothing.
    pub fn unicast_backends(&self) -> Vec<Backend> {
        let mut backends = self.backends();
        backends.retain(|backend| *backend != Backend::Udp(UdpSend::Multicast));
        backends
    }

    /// Whether the kernel programs run here.
    pub fn has_ebpf(&self) -> bool {
        self.ebpf
    }

    /// The virtual hosts.
    pub fn fabric(&self) -> Option<&Fabric> {
        self.fabric.as_ref()
    }

    /// An address for each host.
    pub fn members(&self) -> Vec<SocketAddr> {
        match &self.fabric {
            Some(fabric) => fabric.hosts().iter().map(|host| (host.addr(), PORT).into()).collect(),
            None => free_ports(self.hosts),
        }
    }

    /// Opens an endpoint on its member's host.
    pub fn open(&self, config: EndpointConfig) -> Result<Endpoint, Box<dyn std::error::Error>> {
        match &self.fabric {
            Some(fabric) => {
                let host = fabric.host(config.me.index());
                Ok(host.netns().run(|| Endpoint::open(config))??)
            }
            None => Ok(Endpoint::open(config)?),
        }
    }
}

/// No neighbour is ever resolved while something is measured.
fn quiet_fabric(hosts: usize) -> Result<Fabric, FabricError> {
    let fabric = Fabric::new(FabricConfig { hosts, ..FabricConfig::default() })?;
    (0..hosts).try_for_each(|host| fabric.pin_neighbours(host))?;
    Ok(fabric)
}

/// Ports that nobody has at this moment; all are held until the last is found, so that they differ.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    let bind = |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    let held: Vec<_> = (0..count).map(bind).collect();
    held.iter().map(|socket| socket.local_addr().expect("a bound socket has an address")).collect()
}

/// Says what is not measured and why.
///
/// # Panics
/// Under `ELECTRODE_REQUIRE_EBPF=1`.
pub fn skipped(what: &str) {
    assert!(
        std::env::var_os(REQUIRE).is_none_or(|value| value != "1"),
        "{REQUIRE}=1, but this cannot be measured: {what}"
    );
    writeln!(std::io::stderr(), "SKIPPED benchmarks: {what}").expect("standard error is open");
}
