//! What a broadcast looks like on the cable: right checksums on every kind of device, and no carrier (L7).

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};

use common::actor::{Actor, Prepare, receive, receive_all, socket};
use common::capture::{Capture, Frame, Tap};
use common::group::{PORT, Seen, group, open, round};
use common::hosts::{DEADLINE, fabric, wait_until};
use common::privileged;
use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Hook, Offloads};
use electrode::fabric::{Fabric, Family};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::{Endpoint, wire};
use socket2::SockRef;

const N: usize = 4;

fn peers() -> ReplicaSet {
    ReplicaSet::all(N).without(ReplicaId(0))
}

fn resolve(leader: &mut Endpoint) {
    leader.send_commit(OpNumber(0), peers()).unwrap();
    leader.flush().unwrap();
    wait_until("neighbours are resolved", || leader.reached_by_carrier() == peers());
}

fn broadcaster(fabric: &Fabric) -> Endpoint {
    let mut leader = open(fabric, N, 0, &|c: &mut EndpointConfig| {
        c.backend = Backend::Ebpf;
        c.offloads = Offloads { broadcast: true, ..Offloads::NONE };
    });
    leader.gate().lead(View(0), OpNumber(0)).unwrap();
    leader
}

/// Every way of who leaves checksums to whom: sender, switch, and over which addresses.
fn offload_settings() -> impl Iterator<Item = (Family, bool, bool)> {
    let settings = [(true, true), (true, false), (false, false)];
    [Family::V4, Family::V6].into_iter().flat_map(move |f| settings.map(|(host, port)| (f, host, port)))
}

/// Plain sockets receive the copies; the kernel drops what has a wrong checksum.
#[test]
fn copies_have_right_checksums() {
    if !privileged("copies_have_right_checksums") {
        return;
    }
    for (family, host_offload, port_offload) in offload_settings() {
        let setting = format!("{family:?}, host offload {host_offload}, port offload {port_offload}");
        let fabric = fabric(N, family);
        for i in 0..N {
            fabric.set_tx_checksum_offload(i, host_offload).unwrap();
            fabric.set_port_tx_checksum_offload(i, port_offload).unwrap();
        }
        let mut leader = broadcaster(&fabric);
        let receivers: Vec<_> = (1..N).map(|i| socket(fabric.host(i), PORT)).collect();
        resolve(&mut leader);
        receivers.iter().for_each(|r| drop(receive(r, DEADLINE).unwrap()));

        let wire = Capture::new(fabric.switch(), "port0", Tap::Wire);
        let sizes = [0, 1, 2, 3, 63, 64, 511, 512, 1023, 1371, leader.payload_bytes_max()];
        let payloads: Vec<Vec<u8>> =
            sizes.iter().map(|n| (0..*n).map(|i| i as u8 ^ 0xa5).collect()).collect();
        for payload in &payloads {
            leader.broadcast_message(peers(), payload).unwrap();
        }
        leader.flush().unwrap();
        assert_eq!(leader.stats().unwrap().kernel(Verdict::CloneSent), 3 * sizes.len() as u64);
        for receiver in &receivers {
            let got: Vec<_> =
                receive_all(receiver).iter().map(|d| wire::parse(d).unwrap().1.to_vec()).collect();
            assert_eq!(got, payloads, "{setting}");
        }
        // On the cable itself: whole where nobody is left to finish them, the pseudo-header's otherwise.
        let frames = wire.frames();
        for i in 1..N {
            let to = SocketAddr::new(fabric.host(i).addr(), PORT);
            let copies: Vec<_> = frames.iter().filter_map(|f| Some((f, f.datagram(to)?))).collect();
            assert_eq!(copies.len(), sizes.len(), "{setting}");
            for (frame, datagram) in copies {
                assert_eq!(frame.to_mac(), fabric.host(i).mac());
                assert_eq!(frame.partial, host_offload, "{setting}");
                assert_eq!(datagram.checksum_is_partial(&frame.bytes), host_offload, "{setting}");
                assert!(datagram.checksum_is_right(&frame.bytes), "{setting}: {frame:?}");
                assert!(family == Family::V6 || ipv4_header_is_right(&frame.bytes), "{setting}");
            }
        }
    }
}

fn ipv4_header_is_right(frame: &[u8]) -> bool {
    let mut sealed = frame[14..34].to_vec();
    electrode::model::frame::seal_ipv4(&mut sealed);
    sealed == frame[14..34]
}

/// The kernel's acks, too: at both hooks that a veth has without help, ten rounds count in the kernel.
#[test]
fn acks_have_right_checksums() {
    if !privileged("acks_have_right_checksums") {
        return;
    }
    for (family, host_offload, port_offload) in offload_settings() {
        for hook in [Hook::Tc, Hook::XdpGeneric] {
            let setting = format!("{hook:?} {family:?}, host {host_offload}, port {port_offload}");
            let fabric = fabric(N, family);
            for i in 0..N {
                fabric.set_tx_checksum_offload(i, host_offload).unwrap();
                fabric.set_port_tx_checksum_offload(i, port_offload).unwrap();
            }
            let mut endpoints = group(&fabric, N, |c| {
                c.backend = Backend::Ebpf;
                c.hook = hook;
            });
            resolve(&mut endpoints[0]);
            let [sent, arriving] =
                ["port1", "port0"].map(|port| Capture::new(fabric.switch(), port, Tap::Wire));
            let sizes = [0, 1, 63, 511, endpoints[0].payload_bytes_max()];
            let mut seen = Seen::default();
            for op in 1..=10 {
                let payload = vec![op as u8; sizes[op as usize % 5]];
                endpoints[0].elec_broadcast(&round(N, op, 0, 3), &payload).unwrap();
                seen.until(&mut endpoints[0], &setting, |s| s.quorums.last() == Some(&op));
            }
            for endpoint in &endpoints {
                let stats = endpoint.stats().unwrap();
                for wrong in [Verdict::DropChecksum, Verdict::PassFraming, Verdict::PassMalformed] {
                    assert_eq!(stats.kernel(wrong), 0, "{setting}: {stats:?}");
                }
                assert_eq!(stats.socket.received, stats.kernel(Verdict::PassQuorum), "{setting}: {stats:?}");
            }
            // Acks as host 1 sends them, and as they reach host 0, finished by the switch or not.
            let to = endpoints[0].local_addr();
            for (wire, outgoing, finished) in
                [(&sent, false, !host_offload), (&arriving, true, !port_offload)]
            {
                let frames = wire.frames().into_iter().filter(|f| f.outgoing == outgoing);
                let acks: Vec<_> = frames.filter_map(|f| Some((f.datagram(to)?, f))).collect();
                assert!(acks.len() >= 10, "{setting}: {} acks", acks.len());
                for (datagram, ack) in acks {
                    let partial = datagram.checksum_is_partial(&ack.bytes);
                    assert!(datagram.checksum_is_right(&ack.bytes), "{setting}: {ack:?}");
                    assert_eq!(partial, ack.partial, "{setting}: field and kernel disagree: {ack:?}");
                    assert!(!(finished && partial), "{setting}: {ack:?}");
                }
            }
        }
    }
}

/// Where carriers go inside the host, and a socket at host `i` that would hear one outside.
fn carrier_group(family: Family) -> SocketAddr {
    match family {
        Family::V4 => "239.192.69.67:7000".parse().unwrap(),
        Family::V6 => "[ff12::454c:4342]:7000".parse().unwrap(),
    }
}

fn join(fabric: &Fabric, i: usize, group: SocketAddr) -> UdpSocket {
    let own = fabric.host(i).addr();
    let joined = || {
        let socket = match group {
            SocketAddr::V4(_) => UdpSocket::bind(group).unwrap(),
            // The group has link-local scope: the bound address needs the link.
            SocketAddr::V6(_) => UdpSocket::bind(("::", group.port())).unwrap(),
        };
        let index = eth0_index();
        match (group.ip(), own) {
            (IpAddr::V4(group), IpAddr::V4(own)) => socket.join_multicast_v4(&group, &own).unwrap(),
            (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, index).unwrap(),
            _ => unreachable!("one family"),
        }
        socket
    };
    fabric.host(i).netns().run(joined).unwrap()
}

fn is_ip_multicast(frame: &Frame, group: SocketAddr) -> bool {
    match group.ip() {
        IpAddr::V4(ip) => frame.bytes[12..14] == [8, 0] && frame.bytes[30..34] == ip.octets(),
        IpAddr::V6(ip) => frame.bytes[12..14] == [0x86, 0xdd] && frame.bytes[38..54] == ip.octets(),
    }
}

#[test]
fn no_carrier_is_ever_on_the_wire() {
    if !privileged("no_carrier_is_ever_on_the_wire") {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let fabric = fabric(N + 1, family);
        let mut leader = broadcaster(&fabric);
        let wires = ["port0", "port4"].map(|port| Capture::new(fabric.switch(), port, Tap::Wire));
        let group = carrier_group(family);
        let listener = join(&fabric, 4, group);
        resolve(&mut leader);
        for mask in 0..1 << N {
            leader.broadcast_message(ReplicaSet::from_mask(mask), b"x").unwrap();
        }
        leader.elec_broadcast(&round(N, 1, 0, 1), b"x").unwrap();
        leader.flush().unwrap();
        // And those that find nobody to go to.
        leader.elec_broadcast(&round(N, 2, 0, 1), b"x").unwrap();
        fabric.flush_neighbours(0).unwrap();
        wait_until("the words follow", || leader.reached_by_carrier().is_empty());
        leader.flush().unwrap();
        assert_eq!(leader.take_missed(OpNumber(2)), peers());

        assert!(leader.stats().unwrap().kernel(Verdict::Carrier) > 2);
        for wire in &wires {
            let frames = wire.frames();
            assert!(!frames.iter().any(|f| is_ip_multicast(f, group)), "{frames:?}");
        }
        assert_eq!(receive_all(&listener), Vec::<Vec<u8>>::new());

        // The listener would have heard one: another socket's packet to the same address is no carrier, leaves
        // as what it is, and nobody gets a copy.
        let before = leader.stats().unwrap();
        let other = Actor::at(socket(fabric.host(0), PORT + 1), 0);
        let raw = SockRef::from(&other.socket);
        match fabric.host(0).addr() {
            IpAddr::V4(own) => raw.set_multicast_if_v4(&own).unwrap(),
            IpAddr::V6(_) => {
                raw.set_multicast_if_v6(fabric.host(0).netns().run(eth0_index).unwrap()).unwrap()
            }
        }
        let receivers: Vec<_> = (1..N).map(|i| socket(fabric.host(i), PORT)).collect();
        resolve(&mut leader);
        receivers.iter().for_each(|r| drop(receive(r, DEADLINE).unwrap()));
        let mut datagram = other.datagram(&Prepare::op(3));
        // Targets: everybody.
        datagram[12..16].copy_from_slice(&[0xff; 4]);
        other.socket.send_to(&datagram, group).unwrap();
        assert_eq!(receive(&listener, DEADLINE).unwrap().0, datagram);
        let after = leader.stats().unwrap();
        for verdict in [Verdict::Carrier, Verdict::CloneSent, Verdict::CarrierMalformed] {
            assert_eq!(after.kernel(verdict), before.kernel(verdict), "{family:?} {}", verdict.name());
        }
        receivers.iter().for_each(|r| assert_eq!(receive_all(r), Vec::<Vec<u8>>::new()));
    }
}

fn eth0_index() -> u32 {
    electrode::Interface::all().unwrap().into_iter().find(|i| i.name == "eth0").unwrap().index
}
