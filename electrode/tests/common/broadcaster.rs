//! A leader that broadcasts and plain sockets that receive.

use std::net::UdpSocket;

use electrode::Endpoint;
use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Offloads};
use electrode::fabric::Fabric;
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::wire;

use super::actor::{receive, receive_all, socket};
use super::group::{PORT, open};
use super::hosts::{DEADLINE, wait_until};

/// A leader at host 0 that only broadcasts, with its gate open.
pub fn leader(fabric: &Fabric, n: usize) -> Endpoint {
    let mut leader = open(fabric, n, 0, &|c: &mut EndpointConfig| {
        c.backend = Backend::Ebpf;
        c.offloads = Offloads { broadcast: true, ..Offloads::NONE };
    });
    leader.gate().lead(View(0), OpNumber(0)).unwrap();
    leader
}

/// Plain sockets in the places of members 1 to n - 1.
pub fn receivers(fabric: &Fabric, n: usize) -> Vec<UdpSocket> {
    (1..n).map(|i| socket(fabric.host(i), PORT)).collect()
}

/// All members but the leader.
pub fn everybody_but_me(n: usize) -> ReplicaSet {
    ReplicaSet::all(n).without(ReplicaId(0))
}

/// Sends until a carrier would reach `peers`; the first sends are unicast and resolve them.
pub fn resolve(leader: &mut Endpoint, peers: ReplicaSet) {
    leader.broadcast_message(peers, b"hello").unwrap();
    leader.flush().unwrap();
    wait_until("neighbours are resolved", || leader.reached_by_carrier() == peers);
}

/// The payloads of all that arrived.
pub fn payloads(socket: &UdpSocket) -> Vec<Vec<u8>> {
    receive_all(socket).iter().map(|d| wire::parse(d).unwrap().1.to_vec()).collect()
}

/// Takes what [`resolve`] sent.
pub fn skip_greeting(receivers: &[UdpSocket]) {
    for receiver in receivers {
        assert_eq!(wire::parse(&receive(receiver, DEADLINE).unwrap().0).unwrap().1, b"hello");
    }
}

/// One counter of the programs.
pub fn count(leader: &Endpoint, verdict: Verdict) -> u64 {
    leader.stats().unwrap().kernel(verdict)
}
