//! Making a fabric: namespaces first, then the cables between them, then addresses.
//!
//! One short-lived thread does it all. It moves from one new namespace to the next and leaves a netlink
//! connection in each; a socket stays in the namespace in which it was opened, so from then on the
//! thread can talk to all of them without moving again.

use std::io;
use std::path::Path;

use tokio::runtime::Runtime;

use super::netlink::{Cable, LOOPBACK_INDEX, Mac, Netlink};
use super::{
    BRIDGE, Fabric, FabricConfig, FabricError, Family, Host, INTERFACE, NetNs, await_link, host_addr,
    host_is_ready, netlink, port_name,
};

/// Bridged packets would otherwise run through iptables, where that is loaded: slower, and some are dropped.
const BRIDGE_NETFILTER: [&str; 3] = [
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-arptables",
];

/// Refuses what cannot be before anything is made.
pub(super) fn check(config: &FabricConfig) -> Result<(), FabricError> {
    let wrong = |text: String| Err(FabricError::Config(text));
    if !(1..=FabricConfig::HOSTS_MAX).contains(&config.hosts) {
        return wrong(format!("{} hosts: give 1 to {}", config.hosts, FabricConfig::HOSTS_MAX));
    }
    // IPv6 is switched off by the kernel on links below its minimum.
    let mtu_min = match config.family {
        Family::V4 => 68,
        Family::V6 => 1280,
    };
    match config.mtu {
        Some(mtu) if !(mtu_min..=65535).contains(&mtu) => {
            return wrong(format!("an mtu of {mtu}: give {mtu_min} to 65535"));
        }
        _ => {}
    }
    match config.queues {
        Some(queues) if !(1..=256).contains(&queues) => wrong(format!("{queues} queues: give 1 to 256")),
        _ => Ok(()),
    }
}

/// Makes a fabric. The calling thread ends up in another namespace: give it one of its own.
pub(super) fn build(config: FabricConfig) -> Result<Fabric, FabricError> {
    let runtime = netlink::runtime()?;
    let mut sites = Vec::with_capacity(config.hosts);
    for _ in 0..config.hosts {
        sites.push(host_site(&runtime, config.family)?);
    }
    let (switch, switch_netlink) = switch_site(&runtime)?;
    let bridge = switch_netlink.add_bridge(BRIDGE, mac(MacOf::Bridge, 0))?;

    let mut hosts = Vec::with_capacity(config.hosts);
    let mut host_netlinks = Vec::with_capacity(config.hosts);
    for (i, (netns, host_netlink)) in sites.into_iter().enumerate() {
        let host_mac = mac(MacOf::Host, i);
        switch_netlink.add_cable(&Cable {
            bridge,
            port: &port_name(i),
            host: &netns,
            interface: INTERFACE,
            host_mac,
            port_mac: mac(MacOf::Port, i),
            mtu: config.mtu,
            queues: config.queues,
        })?;
        let (addr, prefix_len) = host_addr(config.family, i);
        host_netlink.set_link(LOOPBACK_INDEX, true)?;
        let interface = host_netlink.index_of(INTERFACE)?;
        host_netlink.set_link(interface, true)?;
        host_netlink.add_address(interface, addr, prefix_len)?;
        hosts.push(Host { addr, mac: host_mac, netns });
        host_netlinks.push(host_netlink);
    }
    // Carriers come up in a work queue of the kernel; a packet that is sent before is lost.
    for (i, host_netlink) in host_netlinks.iter().enumerate() {
        await_link(i, || Ok(switch_netlink.port_forwards(&port_name(i))? && host_is_ready(host_netlink)?))?;
    }
    Ok(Fabric { config, hosts, switch })
}

/// Moves the thread into a new namespace for a host.
fn host_site(runtime: &Runtime, family: Family) -> Result<(NetNs, Netlink<'_>), FabricError> {
    let netns = NetNs::unshare_current_thread()?;
    match family {
        // Quiet: no router solicitations and multicast reports of a family that nobody uses. The
        // loopback interface exists already and keeps ::1.
        Family::V4 => set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?,
        Family::V6 => {
            // The link-local address, too, can be used at once.
            set_sysctl("net/ipv6/conf/default/accept_dad", "0")?;
            set_sysctl("net/ipv6/conf/default/accept_ra", "0")?;
        }
    }
    Ok((netns, Netlink::open(runtime)?))
}

/// Moves the thread into a new namespace for the switch.
fn switch_site(runtime: &Runtime) -> Result<(NetNs, Netlink<'_>), FabricError> {
    let netns = NetNs::unshare_current_thread()?;
    // The switch is no host: its ports have no addresses and send nothing of their own.
    set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    for name in BRIDGE_NETFILTER {
        set_sysctl(name, "0")?;
    }
    Ok((netns, Netlink::open(runtime)?))
}

/// Sets a switch of the kernel in the namespace of the thread, if there is such a switch:
/// those of IPv6 and of bridge netfilter come with modules.
fn set_sysctl(name: &str, value: &str) -> Result<(), FabricError> {
    let path = Path::new("/proc/sys").join(name);
    match std::fs::write(&path, value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| FabricError::kernel(format!("set {} to {value}", path.display()), e)),
    }
}

/// Whose hardware address it is.
#[derive(Copy, Clone)]
enum MacOf {
    Bridge = 0,
    Port = 1,
    Host = 2,
}

/// Locally administered hardware addresses: the same in every run, so that captures can be compared.
fn mac(of: MacOf, i: usize) -> Mac {
    let [high, low] = (i as u16 + 1).to_be_bytes();
    [0x02, 0x76, 0x00, of as u8, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hosts: usize, family: Family, mtu: Option<u32>, queues: Option<u32>) -> FabricConfig {
        FabricConfig { hosts, family, mtu, queues }
    }

    #[test]
    fn a_sensible_configuration_is_taken() {
        for good in [
            config(1, Family::V4, None, None),
            config(FabricConfig::HOSTS_MAX, Family::V6, Some(1280), Some(1)),
            config(8, Family::V4, Some(68), Some(256)),
        ] {
            assert!(check(&good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_value() {
        for (bad, word) in [
            (config(0, Family::V4, None, None), "0 hosts"),
            (config(255, Family::V4, None, None), "255 hosts"),
            (config(3, Family::V4, Some(67), None), "67"),
            (config(3, Family::V6, Some(1279), None), "1279"),
            (config(3, Family::V4, Some(65536), None), "65536"),
            (config(3, Family::V4, None, Some(0)), "0 queues"),
        ] {
            let text = check(&bad).unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn addresses_are_distinct_and_hardware_addresses_are_unicast_and_local() {
        let mut seen = std::collections::HashSet::new();
        for i in 0..FabricConfig::HOSTS_MAX {
            assert!(seen.insert(mac(MacOf::Host, i)) && seen.insert(mac(MacOf::Port, i)));
        }
        assert!(seen.insert(mac(MacOf::Bridge, 0)));
        assert!(seen.iter().all(|mac| mac[0] & 0b11 == 0b10));
        assert_eq!(host_addr(Family::V4, 0).0.to_string(), "10.76.0.1");
        assert_eq!(host_addr(Family::V4, FabricConfig::HOSTS_MAX - 1).0.to_string(), "10.76.0.254");
        assert_eq!(host_addr(Family::V6, 1).0.to_string(), "fd76::2");
    }
}
