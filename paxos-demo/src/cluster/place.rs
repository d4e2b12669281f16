//! Where the replicas live: virtual hosts, or ports of the loopback address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use electrode::fabric::{Fabric, FabricConfig};

use super::{ClusterError, Spec};
use crate::cli::BackendChoice;

/// A place beside other groups, on virtual hosts that all of them share.
#[derive(Clone, Debug)]
pub struct Site {
    /// One host a replica, and one more for the clients.
    pub fabric: Arc<Fabric>,
    /// Number of the group, from 0: it has an id and a port of its own.
    pub number: u16,
    /// Replica i lives in host i plus this, in turns.
    pub turn: usize,
}

/// Where the replicas live.
#[derive(Debug)]
pub(super) enum Place {
    /// A virtual host each, and one more for the clients.
    Fabric(Arc<Fabric>),
    /// Ports of 127.0.0.1, and why.
    Loopback { reason: String },
}

/// Virtual hosts where this machine and this user can, else the loopback address if the backend allows it.
pub(super) fn place(spec: &Spec) -> Result<Place, ClusterError> {
    if spec.loopback {
        return Ok(Place::Loopback { reason: "it was asked for".to_owned() });
    }
    if let Some(site) = &spec.site {
        return Ok(Place::Fabric(Arc::clone(&site.fabric)));
    }
    let config = FabricConfig { hosts: spec.replicas + 1, family: spec.family, ..FabricConfig::default() };
    match Fabric::new(config) {
        Ok(fabric) => Ok(Place::Fabric(Arc::new(fabric))),
        Err(source) => match spec.backend {
            BackendChoice::Ebpf | BackendChoice::UdpMulticast => {
                Err(ClusterError::Fabric { backend: spec.backend, source })
            }
            _ => Ok(Place::Loopback { reason: source.to_string() }),
        },
    }
}

/// Free UDP ports. Somebody may take one before the replica does: then the replica says so.
pub(super) fn loopback_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let sockets = (0..count).map(|_| UdpSocket::bind(any)).collect::<io::Result<Vec<_>>>()?;
    sockets.iter().map(UdpSocket::local_addr).collect()
}

/// Better an error before anything is made than five children that each fail.
pub(super) fn check_ports(first: u16, count: usize) -> Result<(), ClusterError> {
    for id in 0..count as u16 {
        let taken = |source| ClusterError::PortTaken { port: first.saturating_add(id), source };
        let port = first
            .checked_add(id)
            .ok_or_else(|| taken(io::Error::new(io::ErrorKind::InvalidInput, "there is no such port")))?;
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(taken)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClusterConfig;

    #[test]
    fn loopback_ports_are_distinct() {
        let mut addresses = loopback_addresses(16).unwrap();
        addresses.dedup();
        assert_eq!(addresses.len(), 16);
        assert!(ClusterConfig::parse(&ClusterConfig::new(1, addresses).to_toml()).is_ok());
    }

    #[test]
    fn a_taken_port_is_named_before_anything_starts() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check_ports(port, 1).unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--resp-port"), "{error}");
        assert!(check_ports(u16::MAX, 2).is_err());
    }
}
