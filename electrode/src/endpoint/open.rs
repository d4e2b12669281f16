//! Opening an endpoint: the backend is chosen, and the reason kept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Carriers, Endpoint, Follower, Hearing, LastBatch, Leader, Plants};
use crate::backend::FastPath;
#[cfg(feature = "ebpf")]
use crate::backend::ebpf::earlier_filters_end_ns;
use crate::backend::udp::{Udp, multicast_group};
use crate::clock::Clock;
use crate::config::{Backend, EndpointConfig, UdpSend};
use crate::error::{Error, Result};
use crate::net::socket::{BatchSocket, Calls};
use crate::net::{Interface, joins_received};
use crate::stats::Stats;
use crate::types::{Epoch, OpNumber, ReplicaId, View};
use crate::wire::Origin;
use crate::words::GateState;

/// Which backend runs and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// `ebpf`, `udp`, `udp-sendto` or `udp-multicast`.
    pub backend: &'static str,
    /// `tc`, `xdp`, `xdp-generic`, or `none`.
    pub hook: &'static str,
    /// Why this backend or hook, where it was not asked for.
    pub reason: Option<String>,
}

impl Endpoint {
    /// Opens the endpoint with its gate frozen. [`Backend::Auto`] takes the kernel's fast path if it can be
    /// had and sockets otherwise; [`Endpoint::choice`] tells.
    ///
    /// Only this needs capabilities ([`crate::privileges::NEEDED`], and with sockets none): once the endpoint is
    /// open, all may be dropped ([`crate::privileges::drop_all`]), and it works and closes as before.
    pub fn open(config: EndpointConfig) -> Result<Self> {
        config.validate()?;
        let addr = config.addr();
        let calls = match config.backend {
            Backend::Udp(UdpSend::Sendto) => Calls::Single,
            _ => Calls::Batched,
        };
        let mut socket = BatchSocket::bind(addr, calls).map_err(|source| Error::Bind { addr, source })?;
        let interface = Interface::find(addr.ip(), config.interface.as_deref())?;
        let room = config.payload_room(interface.mtu as usize);
        let payload_bytes_max = config.payload_bytes_max.unwrap_or(room);
        if payload_bytes_max > room {
            return Err(Error::Config(format!(
                "payload_bytes_max {payload_bytes_max} exceeds the {room} bytes that the MTU of {} ({}) holds",
                interface.name, interface.mtu
            )));
        }

        // Before there are any of our own.
        let earlier_filters_end_ns = earlier_filters_end_ns();
        let (path, choice): (Box<dyn FastPath>, Choice) = match config.backend {
            Backend::Udp(send) => udp(&config, send, None)?,
            Backend::Ebpf => ebpf(&config, &interface, &socket, payload_bytes_max)?,
            Backend::Auto => match ebpf(&config, &interface, &socket, payload_bytes_max) {
                Ok(opened) => opened,
                Err(e) => udp(&config, UdpSend::Mmsg, Some(e.to_string()))?,
            },
        };
        let mut group_socket = match config.backend {
            Backend::Udp(UdpSend::Multicast) => Some(join_group(&config, &interface, &socket)?),
            _ => None,
        };
        if may_take_joined(choice.hook, joins_received(&interface.name)) {
            socket.take_joined();
            group_socket.iter_mut().for_each(BatchSocket::take_joined);
        }
        let wait = readiness(
            [Some(socket.as_fd()), group_socket.as_ref().map(AsFd::as_fd), path.bell()].into_iter().flatten(),
        )
        .map_err(Error::io("epoll"))?;

        let mut endpoint = Self::closed(config, payload_bytes_max, socket, path, choice);
        endpoint.group_socket = group_socket;
        endpoint.wait = Some(wait);
        endpoint.earlier_filters_end_ns = earlier_filters_end_ns;
        Ok(endpoint)
    }

    /// An endpoint with its gate frozen.
    pub(super) fn closed(
        config: EndpointConfig,
        payload_bytes_max: usize,
        socket: BatchSocket,
        path: Box<dyn FastPath>,
        choice: Choice,
    ) -> Self {
        let origin = Origin {
            group: config.group,
            config_hash: config.wire_hash(),
            sender: Some(config.me),
            incarnation: config.incarnation,
        };
        let incarnations = [config.peer_incarnation; crate::abi::MEMBERS_MAX];
        let follower = Follower::new(config.acks);
        Self {
            config,
            payload_bytes_max,
            origin,
            socket,
            group_socket: None,
            path,
            choice,
            wait: None,
            clock: Clock::Monotonic,
            plants: Plants::default(),
            carriers: Carriers::default(),
            burst: None,
            state: GateState::Frozen,
            view: View(0),
            leader_id: ReplicaId(0),
            epoch: Epoch(0),
            follower,
            leader: Leader::default(),
            last_batch: LastBatch::default(),
            incarnations,
            commit_told: OpNumber(0),
            sent: 0,
            hearing: Hearing::default(),
            events_since_wait: 0,
            last_leader_ns: 0,
            earlier_filters_end_ns: 0,
            stats: Stats::default(),
        }
    }
}

/// Whether the socket may take joined what arrives together (UDP_GRO), for then the kernel joins what goes to it. It must not
/// join Prepares and acks on their way to a program, which takes them one by one: native XDP comes before the place where a
/// device that joins does so, TC and generic XDP come behind.
fn may_take_joined(hook: &str, device_joins: bool) -> bool {
    matches!(hook, "none" | "xdp") || !device_joins
}

/// A build without the kernel fast path cannot look for them.
#[cfg(not(feature = "ebpf"))]
fn earlier_filters_end_ns() -> u64 {
    0
}

fn udp(
    config: &EndpointConfig,
    send: UdpSend,
    reason: Option<String>,
) -> Result<(Box<dyn FastPath>, Choice)> {
    let addr = config.addr();
    let multicast = (send == UdpSend::Multicast).then(|| (multicast_group(addr.ip()), addr.port()).into());
    let choice = Choice { backend: Backend::Udp(send).name(), hook: "none", reason };
    Ok((Box::new(Udp { multicast }), choice))
}

#[cfg(feature = "ebpf")]
fn ebpf(
    config: &EndpointConfig,
    interface: &Interface,
    socket: &BatchSocket,
    payload_bytes_max: usize,
) -> Result<(Box<dyn FastPath>, Choice)> {
    use crate::backend::ebpf::{Ebpf, carrier_address};
    use crate::net::is_local;

    let unavailable = |reason: String, hint: &str| Error::Unavailable { reason, hint: hint.into() };
    // First what no privilege changes.
    if let Some(local) = config.peers().iter().map(|p| config.members[p.index()]).find(|m| is_local(m.ip())) {
        return Err(unavailable(
            format!("member {local} is on this host, whose own traffic meets no hook"),
            "put members in network namespaces (paxos-demo cluster does), or use backend udp",
        ));
    }
    if !interface.ethernet {
        let reason = format!("{} carries no Ethernet frames", interface.name);
        return Err(unavailable(reason, "use an Ethernet-like interface, or backend udp"));
    }
    if let Some(missing) = crate::probe::missing() {
        return Err(missing);
    }
    let cookie = socket.socket().cookie().map_err(Error::io("SO_COOKIE"))?;
    multicast_options(socket, config.addr().ip(), interface)?;
    debug_assert!(carrier_address(config.addr()).ip().is_multicast());
    let ebpf = Ebpf::open(config, interface, cookie, payload_bytes_max)?;
    let (hook, note) = ebpf.hook();
    let choice = Choice { backend: "ebpf", hook: hook.name(), reason: note.map(str::to_owned) };
    Ok((Box::new(ebpf), choice))
}

#[cfg(not(feature = "ebpf"))]
fn ebpf(_: &EndpointConfig, _: &Interface, _: &BatchSocket, _: usize) -> Result<(Box<dyn FastPath>, Choice)> {
    Err(crate::probe::missing().expect("a build without kernel programs misses them"))
}

/// Multicast leaves by the endpoint's interface, far enough, and does not come back.
fn multicast_options(socket: &BatchSocket, addr: IpAddr, interface: &Interface) -> Result<()> {
    let socket = socket.socket();
    let set = || -> io::Result<()> {
        match addr {
            IpAddr::V4(v4) => {
                socket.set_multicast_if_v4(&v4)?;
                socket.set_multicast_loop_v4(false)?;
                socket.set_multicast_ttl_v4(64)
            }
            IpAddr::V6(_) => {
                socket.set_multicast_if_v6(interface.index)?;
                socket.set_multicast_loop_v6(false)?;
                socket.set_multicast_hops_v6(64)
            }
        }
    };
    set().map_err(Error::io("multicast options of the socket"))
}

/// A socket that hears the group; the unicast socket, bound to one address, does not.
fn join_group(config: &EndpointConfig, interface: &Interface, unicast: &BatchSocket) -> Result<BatchSocket> {
    let own = config.addr();
    if interface.loopback {
        return Err(Error::Config("udp-multicast needs members on hosts of their own".into()));
    }
    multicast_options(unicast, own.ip(), interface)?;
    let mut addr: SocketAddr = (multicast_group(own.ip()), own.port()).into();
    if let SocketAddr::V6(v6) = &mut addr {
        // The group has link-local scope: it means nothing without the link.
        v6.set_scope_id(interface.index);
    }
    let group = BatchSocket::bind(addr, Calls::Batched).map_err(|source| Error::Bind { addr, source })?;
    let joined = match (addr.ip(), own.ip()) {
        (IpAddr::V4(group_ip), IpAddr::V4(own)) => group.socket().join_multicast_v4(&group_ip, &own),
        (IpAddr::V6(group_ip), _) => group.socket().join_multicast_v6(&group_ip, interface.index),
        _ => group.socket().join_multicast_v4(&Ipv4Addr::UNSPECIFIED, &Ipv4Addr::UNSPECIFIED),
    };
    joined.map_err(Error::io("joining the multicast group"))?;
    Ok(group)
}

/// One descriptor for all that can become readable.
fn readiness<'a>(sources: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<OwnedFd> {
    // SAFETY: no preconditions; the result is checked.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and that nobody else owns.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    for source in sources {
        watch(&epoll, source)?;
    }
    Ok(epoll)
}

/// Adds a descriptor to those that wake.
pub(super) fn watch(epoll: &OwnedFd, source: BorrowedFd<'_>) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: two open descriptors and an initialised event.
    let added = unsafe {
        libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, source.as_raw_fd(), &raw mut event)
    };
    if added < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Hook;

    #[test]
    fn nothing_is_joined_in_front_of_a_program() {
        for hook in [Hook::Tc, Hook::XdpGeneric] {
            assert!(!may_take_joined(hook.name(), true), "{hook:?}");
            assert!(may_take_joined(hook.name(), false), "{hook:?}");
        }
        for hook in [Hook::Xdp.name(), "none"] {
            assert!(may_take_joined(hook, true) && may_take_joined(hook, false), "{hook}");
        }
    }
}
