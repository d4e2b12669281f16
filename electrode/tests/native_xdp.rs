//! Native XDP on virtual hosts, which needs an XDP program at the other end of the cable as well.

mod common;

use std::net::SocketAddr;

use common::actor::{Actor, Prepare};
use common::capture::{Capture, Tap};
use common::group::{PORT, Seen, all_until, group, open, round};
use common::hosts::{fabric, pass_stubs, wait_until};
use common::privileged;
use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Hook};
use electrode::fabric::{Fabric, FabricConfig, Family};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::{Endpoint, attach_pass_stub};

const N: usize = 5;

fn native(config: &mut EndpointConfig) {
    (config.backend, config.hook) = (Backend::Ebpf, Hook::Xdp);
}

/// Ten rounds that every follower acknowledges from the kernel, and a commit that it absorbs.
fn ten_rounds(fabric: &Fabric, setting: &str) -> Vec<Endpoint> {
    let mut endpoints = group(fabric, N, native);
    assert!(endpoints.iter().all(|e| e.choice().hook == "xdp"));
    let peers = ReplicaSet::all(N).without(ReplicaId(0));
    endpoints[0].send_commit(OpNumber(0), peers).unwrap();
    endpoints[0].flush().unwrap();
    wait_until("neighbours are resolved", || endpoints[0].reached_by_carrier() == peers);

    let sizes = [0, 1, 63, 511, endpoints[0].payload_bytes_max()];
    let payload = |op: u64| vec![op as u8; sizes[op as usize % sizes.len()]];
    let mut seen: Vec<_> = (0..N).map(|_| Seen::default()).collect();
    for op in 1..=10 {
        // So that no lease runs out.
        all_until(&mut endpoints, &mut seen, setting, |_| true);
        endpoints[0].elec_broadcast(&round(N, op, op - 1, N as u32 - 1), &payload(op)).unwrap();
        all_until(&mut endpoints, &mut seen, setting, |s| s.quorums.last() == Some(&op));
    }
    endpoints[0].send_commit(OpNumber(10), peers).unwrap();
    endpoints[0].flush().unwrap();
    for (follower, seen) in endpoints[1..].iter_mut().zip(&mut seen[1..]) {
        seen.until(follower, setting, |s| s.commit == 10);
        assert_eq!(seen.log.len(), 10);
        for (entry, op) in seen.log.iter().zip(1..) {
            assert_eq!((entry.first, entry.last, &entry.payload), (op, op, &payload(op)));
        }
        let stats = follower.stats().unwrap();
        // What a lease that ran out all the same did not let through is the socket's.
        let leased = stats.kernel(Verdict::PassLease);
        let taken = stats.kernel(Verdict::TxAck) + stats.kernel(Verdict::DropCommit);
        assert_eq!(taken + leased, 12, "{setting}: {stats:?}");
        assert_eq!(stats.socket.received, leased, "{setting}: {stats:?}");
    }
    for endpoint in &endpoints {
        let stats = endpoint.stats().unwrap();
        for wrong in [Verdict::DropChecksum, Verdict::PassFraming, Verdict::PassMalformed] {
            assert_eq!(stats.kernel(wrong), 0, "{setting}: {stats:?}");
        }
    }
    endpoints
}

fn with_and_without_offload(family: Family) {
    for (host_offload, port_offload) in [(true, true), (true, false), (false, false)] {
        let setting = format!("{family:?}, host offload {host_offload}, port offload {port_offload}");
        let fabric = fabric(N, family);
        for i in 0..N {
            fabric.set_tx_checksum_offload(i, host_offload).unwrap();
            fabric.set_port_tx_checksum_offload(i, port_offload).unwrap();
        }
        let _stubs = pass_stubs(&fabric);
        let wire = Capture::new(fabric.switch(), "port1", Tap::Wire);
        let endpoints = ten_rounds(&fabric, &setting);
        // Acks are whole as they leave the driver: nobody after it knows that something is missing.
        let leader = endpoints[0].local_addr();
        let frames = wire.frames().into_iter().filter(|f| !f.outgoing);
        let acks: Vec<_> = frames.filter_map(|f| Some((f.datagram(leader)?, f))).collect();
        assert_eq!(acks.len(), 10, "{setting}");
        for (datagram, ack) in acks {
            assert!(datagram.checksum_is_right(&ack.bytes), "{setting}: {ack:?}");
            assert!(!ack.partial && !datagram.checksum_is_partial(&ack.bytes), "{setting}: {ack:?}");
        }
    }
}

#[test]
fn ten_rounds_over_ipv4() {
    if privileged("ten_rounds_over_ipv4") {
        with_and_without_offload(Family::V4);
    }
}

#[test]
fn ten_rounds_over_ipv6() {
    if privileged("ten_rounds_over_ipv6") {
        with_and_without_offload(Family::V6);
    }
}

#[test]
fn ten_rounds_with_several_queues() {
    if !privileged("ten_rounds_with_several_queues") {
        return;
    }
    let config = FabricConfig { hosts: N, queues: Some(2), ..FabricConfig::default() };
    let fabric = Fabric::new(config).unwrap();
    let _stubs = pass_stubs(&fabric);
    ten_rounds(&fabric, "two queues");
}

/// The stub comes off with its guard, and there is one XDP program an interface.
#[test]
fn the_stub_is_a_guard() {
    if !privileged("the_stub_is_a_guard") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let port = fabric.port_name(1);
    let attach = |name: &str| fabric.switch().run(|| attach_pass_stub(name)).unwrap();
    let stub = attach(&port).unwrap();
    let error = attach(&port).err().expect("taken").to_string();
    assert!(error.contains("another XDP program"), "{error}");
    let error = attach("port9").err().expect("not there").to_string();
    assert!(error.contains("no interface port9") && error.contains("port0"), "{error}");

    let leader = Actor::new(&fabric, 0);
    let to = SocketAddr::new(fabric.host(1).addr(), PORT);
    let mut follower = open(&fabric, 2, 1, &|c: &mut EndpointConfig| native(c));
    follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    leader.prepare_ops(to, [1]);
    assert_eq!(leader.acks_up_to(1), [1]);
    drop(stub);
    let _again = attach(&port).expect("the first one is off");
    leader.prepare(to, &Prepare::op(2));
    assert_eq!(leader.acks_up_to(2), [2]);
}
