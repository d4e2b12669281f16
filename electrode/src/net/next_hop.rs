//! Hardware addresses that the programs need, taken from the kernel's tables and kept up to date.
//!
//! The broadcast program addresses copies itself and therefore needs each peer's next hop; the ingress programs answer
//! only what was sent to the interface's own address. A thread listens to the kernel's announcements; the endpoint's
//! own thread never asks.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use netlink_packet_route::RouteNetlinkMessage;

use super::Netlink;
use super::tables::{Neighbour, neighbour_of};
use crate::error::{Error, Result};
use crate::words::mac_word;

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_ROUTE: u32 = 11;

/// Where the words ([`mac_word`]) go: the control map.
pub(crate) trait NextHops: Send + Sync + 'static {
    /// Stores a peer's word.
    fn set(&self, peer: usize, word: u64);
    /// Stores the interface's own.
    fn set_own(&self, word: u64);
}

/// Follows the tables until it is dropped.
pub(crate) struct Watcher {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

struct Table {
    netlink: Netlink,
    ifindex: u32,
    peers: Vec<(usize, IpAddr)>,
    /// Next hop of each peer on our interface; `None` if it is reached otherwise or not at all.
    via: Vec<Option<IpAddr>>,
    sink: Arc<dyn NextHops>,
}

impl Table {
    fn refresh(&mut self) -> io::Result<()> {
        // What cannot be had of one kind is no reason to go on with what is old of the other.
        let own = self.netlink.hardware_address(self.ifindex).map(|mac| self.sink.set_own(mac_word(mac)));
        let hops = self.refresh_hops();
        own.and(hops)
    }

    fn refresh_hops(&mut self) -> io::Result<()> {
        if self.peers.is_empty() {
            return Ok(());
        }
        self.via = self
            .peers
            .iter()
            .map(|&(_, addr)| match self.netlink.route(addr) {
                Ok(route) if !route.local && route.ifindex == self.ifindex => Some(route.next_hop),
                _ => None,
            })
            .collect();
        let neighbours = self.netlink.neighbours()?;
        for (i, &(peer, _)) in self.peers.iter().enumerate() {
            let mac = self.via[i].and_then(|via| {
                neighbours.iter().find(|n| n.ifindex == self.ifindex && n.addr == via).and_then(|n| n.mac)
            });
            self.sink.set(peer, mac_word(mac));
        }
        Ok(())
    }

    fn learn(&self, n: Neighbour) {
        if n.ifindex != self.ifindex {
            return;
        }
        for (i, &(peer, _)) in self.peers.iter().enumerate() {
            if self.via[i] == Some(n.addr) {
                self.sink.set(peer, mac_word(n.mac));
            }
        }
    }
}

impl Watcher {
    /// Fills the words once and goes on from a thread. `peers` are (member index, address) of those whose next hops
    /// are asked for.
    pub(crate) fn start(ifindex: u32, peers: Vec<(usize, IpAddr)>, sink: Arc<dyn NextHops>) -> Result<Self> {
        let groups = [RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE];
        let groups = if peers.is_empty() { &groups[..1] } else { &groups };
        // Subscribe before the first look, so that no change falls between.
        let events = Netlink::subscribe(groups).map_err(Error::io("netlink subscription"))?;
        let netlink = Netlink::open().map_err(Error::io("netlink socket"))?;
        let mut table = Table { netlink, ifindex, peers, via: Vec::new(), sink };
        table.refresh().map_err(Error::io("reading the tables of links, routes and neighbours"))?;

        // SAFETY: eventfd has no preconditions; the result is checked.
        let stop = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if stop < 0 {
            return Err(Error::io("eventfd")(io::Error::last_os_error()));
        }
        // SAFETY: a descriptor that was just made and that nobody else owns.
        let stop: OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(stop) };
        let stopped = stop.try_clone().map_err(Error::io("dup"))?;
        let thread = std::thread::Builder::new()
            .name("electrode-hops".into())
            .spawn(move || follow(table, events, &stopped))
            .map_err(Error::io("starting the next-hop thread"))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// Pause before tables that could not be read are read again.
const RETRY_MS: libc::c_int = 100;

fn follow(mut table: Table, mut events: Netlink, stop: &OwnedFd) {
    let mut failed = false;
    loop {
        let mut fds = [events.as_raw_fd(), stop.as_raw_fd()].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: two initialised pollfds.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, if failed { RETRY_MS } else { -1 }) };
        if fds[1].revents != 0 {
            return;
        }
        if ready < 0 {
            continue;
        }
        let changed = ready > 0
            && match events.changes() {
                Ok(Some(changes)) => {
                    changes.iter().filter_map(neighbour_of).for_each(|n| table.learn(n));
                    changes.iter().any(|m| {
                        use RouteNetlinkMessage::{DelNeighbour, NewNeighbour};
                        !matches!(m, NewNeighbour(_) | DelNeighbour(_))
                    })
                }
                Ok(None) | Err(_) => true,
            };
        if changed || failed {
            // Words that could not be read stay as they are, until it is tried again.
            failed = table.refresh().is_err();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes to our own eventfd.
        unsafe { libc::write(self.stop.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
