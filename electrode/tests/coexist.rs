//! Sharing an interface: traffic that is not ours, programs that are not ours, endpoints of other groups.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use common::actor::{Actor, Prepare, receive, receive_all, socket};
use common::capture::{Capture, Frame, Tap, inject};
use common::foreign::{Foreign, Place, clsact_drop, command, tcx_programs};
use common::group::{PORT, Seen, members, open, round};
use common::hosts::{DEADLINE, fabric, pass_stubs};
use common::strangers::{A_VLAN_TAG, Stranger, strangers};
use common::{has_tcx, mechanisms, privileged};
use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Hook, TcMechanism};
use electrode::fabric::{Fabric, Family, NetNs};
use electrode::types::{OpNumber, ReplicaId, View};
use electrode::{Endpoint, Error};

/// An open follower, member 1 of 2, with everything attached.
fn follower(fabric: &Fabric, adjust: &dyn Fn(&mut EndpointConfig)) -> Endpoint {
    let mut follower = open(fabric, 2, 1, &|c: &mut EndpointConfig| {
        c.backend = Backend::Ebpf;
        adjust(c);
    });
    follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    follower
}

/// The ways in which ingress can be attached.
fn hooks() -> Vec<(Hook, TcMechanism)> {
    let tc = mechanisms().into_iter().map(|tc| (Hook::Tc, tc));
    tc.chain([(Hook::XdpGeneric, TcMechanism::Auto), (Hook::Xdp, TcMechanism::Auto)]).collect()
}

/// C7: whatever is not a plain datagram of ours reaches the stack as it was sent, and nobody answers it.
fn strangers_pass(family: Family) {
    for (hook, tc) in hooks() {
        let fabric = fabric(3, family);
        let _stubs = (hook == Hook::Xdp).then(|| pass_stubs(&fabric));
        let leader = Actor::new(&fabric, 0);
        let mut follower = follower(&fabric, &|c| (c.hook, c.tc) = (hook, tc));
        let to = follower.local_addr();
        let macs = [fabric.host(2).mac(), fabric.host(1).mac()];
        let mut strangers = strangers(&leader, macs, leader_addr(&fabric), to);
        // XDP is not told of a tag that the kernel, or hardware, has taken out before: to it, this one is ours.
        strangers.retain(|s| hook == Hook::Tc || s.name != A_VLAN_TAG);
        let here = fabric.host(1).netns();

        // In: past XDP and TC ingress, where the stack hands packets to protocols.
        let ethertypes = [0x0800, 0x86dd, 0x8100, 0x88b5];
        let taps = ethertypes.map(|ethertype| Capture::new(here, "eth0", Tap::Passed(ethertype)));
        let wire = Capture::new(fabric.switch(), "port1", Tap::Wire);
        inject(fabric.host(2).netns(), "eth0", &frames(&strangers));
        let passed: Vec<Frame> = taps.iter().flat_map(Capture::frames).collect();
        for stranger in &strangers {
            let count = passed.iter().filter(|frame| stranger.is(frame)).count();
            assert_eq!(count, 1, "{hook:?} {tc:?}: {} after ingress", stranger.name);
        }
        let answers =
            wire.frames().into_iter().filter(|f| !f.outgoing && f.datagram(leader_addr(&fabric)).is_some());
        assert_eq!(answers.count(), 0, "{hook:?} {tc:?}: somebody answered");

        // Out: past TC egress.
        let wire = Capture::new(fabric.switch(), "port1", Tap::Wire);
        inject(here, "eth0", &frames(&strangers));
        let left = wire.frames();
        for stranger in &strangers {
            let count = left.iter().filter(|frame| !frame.outgoing && stranger.is(frame)).count();
            assert_eq!(count, 1, "{hook:?} {tc:?}: {} after egress", stranger.name);
        }

        // The gate is open: the next plain Prepare is logged and acknowledged by the kernel. (Some strangers
        // are whole datagrams for those who put them together: user space may have logged one by now.)
        let mut seen = Seen::default();
        seen.poll(&mut follower);
        let next = follower.held().0 + 1;
        leader.acks_so_far();
        leader.prepare_ops(to, [next]);
        assert_eq!(leader.acks_up_to(next), [next]);
        let stats = follower.stats().unwrap();
        assert_eq!(stats.kernel(Verdict::TxAck), 1, "{stats:?}");
        assert_eq!(stats.kernel(Verdict::Carrier), 0, "{stats:?}");
    }
}

fn leader_addr(fabric: &Fabric) -> SocketAddr {
    SocketAddr::new(fabric.host(0).addr(), PORT)
}

fn frames(strangers: &[Stranger]) -> Vec<Vec<u8>> {
    strangers.iter().map(|s| s.frame.clone()).collect()
}

#[test]
fn strangers_pass_untouched_over_ipv4() {
    if privileged("strangers_pass_untouched_over_ipv4") {
        strangers_pass(Family::V4);
    }
}

#[test]
fn strangers_pass_untouched_over_ipv6() {
    if privileged("strangers_pass_untouched_over_ipv6") {
        strangers_pass(Family::V6);
    }
}

/// Other programs' sockets on a replica's host: datagrams of any size, fragments among them, and streams.
#[test]
fn other_sockets_work_as_ever() {
    if !privileged("other_sockets_work_as_ever") {
        return;
    }
    for (family, (hook, tc)) in
        [Family::V4, Family::V6].into_iter().flat_map(|f| hooks().into_iter().map(move |h| (f, h)))
    {
        let fabric = fabric(3, family);
        let _stubs = (hook == Hook::Xdp).then(|| pass_stubs(&fabric));
        let _follower = follower(&fabric, &|c| (c.hook, c.tc) = (hook, tc));
        let [echo, asker] = [1, 2].map(|i| socket(fabric.host(i), 9));
        for size in (0..64).chain([1451, 1452, 1453, 1471, 1472, 1473, 2999, 9001, 60000]) {
            let sent: Vec<u8> = (0..size).map(|i| (i * 7 + size) as u8).collect();
            asker.send_to(&sent, (fabric.host(1).addr(), 9)).unwrap();
            let (heard, from) = receive_large(&echo);
            assert_eq!(heard, sent);
            echo.send_to(&heard, from).unwrap();
            assert_eq!(receive_large(&asker).0, sent, "{hook:?} {family:?}");
        }

        let addr = SocketAddr::new(fabric.host(1).addr(), 80);
        let listener = fabric.host(1).netns().run(|| TcpListener::bind(addr)).unwrap().unwrap();
        let mut client = fabric.host(2).netns().run(|| TcpStream::connect(addr)).unwrap().unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let stream: Vec<u8> = (0..3_000_001u32).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect();
        let heard = std::thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(&stream).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut heard = vec![];
            server.read_to_end(&mut heard).unwrap();
            heard
        });
        assert!(heard == stream, "{hook:?} {family:?}: the stream came out differently");
    }
}

fn receive_large(socket: &std::net::UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65536];
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let (bytes, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..bytes].to_vec(), from)
}

/// Two groups on the same three hosts, led from different ones: six endpoints, two behind each interface.
#[test]
fn two_groups_share_interfaces() {
    if !privileged("two_groups_share_interfaces") {
        return;
    }
    const N: usize = 3;
    for tc in mechanisms() {
        let fabric = fabric(N, Family::V4);
        let mut groups: Vec<Vec<Endpoint>> = [0usize, 1]
            .iter()
            .map(|&number| {
                // Member 0 of the second group is at host 1, and so on.
                let home = |i: usize| (i + number) % N;
                let mut list = members(&fabric, N);
                list.rotate_left(number);
                list.iter_mut().for_each(|m| m.set_port(PORT + number as u16));
                (0..N)
                    .map(|i| {
                        let mut endpoint = open_at(&fabric, home(i), i, |c| {
                            (c.backend, c.tc) = (Backend::Ebpf, tc);
                            c.group = 1 + number as u32;
                            c.members = list.clone();
                        });
                        match i {
                            0 => endpoint.gate().lead(View(0), OpNumber(0)).unwrap(),
                            _ => endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap(),
                        };
                        endpoint
                    })
                    .collect()
            })
            .collect();
        let mut seen = [Seen::default(), Seen::default()];
        let mut logged: Vec<Vec<Seen>> =
            groups.iter().map(|group| group[1..].iter().map(|_| Seen::default()).collect()).collect();
        // With clsact a follower that does not look for half a second has no lease (F2).
        let look = |groups: &mut [Vec<Endpoint>], logged: &mut [Vec<Seen>]| {
            for (group, logged) in groups.iter_mut().zip(logged) {
                for (follower, seen) in group[1..].iter_mut().zip(logged) {
                    seen.poll(follower);
                }
            }
        };
        look(&mut groups, &mut logged);
        for op in 1..=10u64 {
            for (number, group) in groups.iter_mut().enumerate() {
                group[0].elec_broadcast(&round(N, op, 0, 2), &[number as u8; 100]).unwrap();
                group[0].flush().unwrap();
            }
            let since = Instant::now();
            while seen.iter().any(|seen| seen.quorums.last() != Some(&op)) {
                assert!(since.elapsed() < DEADLINE, "{tc:?}: no quorum for {op}: {seen:?}");
                for (group, seen) in groups.iter_mut().zip(&mut seen) {
                    seen.poll(&mut group[0]);
                }
                look(&mut groups, &mut logged);
            }
        }
        look(&mut groups, &mut logged);
        for (number, group) in groups.iter().enumerate() {
            assert_eq!(seen[number].quorums, (1..=10).collect::<Vec<_>>());
            for (follower, seen) in group[1..].iter().zip(&logged[number]) {
                assert_eq!(seen.log.len(), 10);
                assert!(seen.log.iter().all(|e| e.payload == [number as u8; 100]));
                assert_eq!(seen.misconfigured, 0);
                let stats = follower.stats().unwrap();
                // What the lease of a process that was kept waiting does not let through is the socket's.
                let leased = stats.kernel(Verdict::PassLease);
                assert_eq!(stats.kernel(Verdict::TxAck) + leased, 10, "{stats:?}");
                assert_eq!(stats.kernel(Verdict::PassConfig), 0, "{stats:?}");
                assert_eq!(stats.socket.received, leased, "{stats:?}");
            }
        }
    }
}

/// Opens member `i` at a host that is not number `i`.
fn open_at(fabric: &Fabric, host: usize, i: usize, adjust: impl Fn(&mut EndpointConfig)) -> Endpoint {
    let mut config = EndpointConfig::new(members(fabric, 3), ReplicaId(i as u8));
    (config.log_slots, config.quorum_window) = (64, 64);
    adjust(&mut config);
    let netns = fabric.host(host).netns();
    netns.run(|| Endpoint::open(config)).unwrap().unwrap_or_else(|e| panic!("member {i}: {e}"))
}

/// Whether a datagram from `from` arrives at a port of `to`.
fn arrives(fabric: &Fabric, from: usize, to: usize, port: u16) -> bool {
    let [sender, receiver] = [socket(fabric.host(from), 5000), socket(fabric.host(to), port)];
    // The first may be lost to neighbour resolution of a busy machine: ask with a second one that always passes.
    let control = socket(fabric.host(to), 4999);
    sender.send_to(b"?", (fabric.host(to).addr(), port)).unwrap();
    sender.send_to(b"!", (fabric.host(to).addr(), 4999)).unwrap();
    receive(&control, DEADLINE).expect("the control datagram");
    !receive_all(&receiver).is_empty()
}

/// Programs and filters of others run before, beside and after ours, and are the same when ours have gone.
#[test]
fn programs_of_others_stay_and_run() {
    if !privileged("programs_of_others_stay_and_run") || !has_tcx("programs_of_others_stay_and_run") {
        return;
    }
    for tc in mechanisms() {
        let fabric = fabric(3, Family::V4);
        let netns = fabric.host(1).netns();
        let here = |port| SocketAddr::new(fabric.host(1).addr(), port);
        let _early = Foreign::dropping(netns, Place::TcxIngress, here(11));
        let _out = Foreign::dropping(netns, Place::TcxEgress, SocketAddr::new(fabric.host(2).addr(), 12));
        command(netns, "tc qdisc add dev eth0 clsact");
        clsact_drop(netns, "egress", SocketAddr::new(fabric.host(2).addr(), 13));
        let blocked = || {
            assert!(!arrives(&fabric, 2, 1, 11), "the early ingress program does not run");
            assert!(!arrives(&fabric, 1, 2, 12), "the egress program does not run");
            assert!(!arrives(&fabric, 1, 2, 13), "the egress filter does not run");
            assert!(arrives(&fabric, 2, 1, 14) && arrives(&fabric, 1, 2, 14), "too much is dropped");
        };
        let state = || {
            let tcx = [Place::TcxIngress, Place::TcxEgress].map(|place| tcx_programs(netns, place));
            let shown =
                ["qdisc show dev eth0", "filter show dev eth0 ingress", "filter show dev eth0 egress"];
            (tcx, shown.map(|what| command(netns, &format!("tc {what}"))))
        };
        blocked();
        let before = state();
        let follower = follower(&fabric, &|c| c.tc = tc);
        blocked();
        assert_ne!(state(), before, "ours are nowhere");
        // One that comes after ours gets its turn as well.
        let late = Foreign::dropping(netns, Place::TcxIngress, here(15));
        assert!(!arrives(&fabric, 2, 1, 15), "the late ingress program does not run");
        drop(late);
        drop(follower);
        blocked();
        assert_eq!(state(), before, "{tc:?}");
    }
}

fn open_with_hook(fabric: &Fabric, hook: Hook) -> Result<Endpoint, Error> {
    let mut config = EndpointConfig::new(members(fabric, 2), ReplicaId(1));
    (config.backend, config.hook, config.log_slots) = (Backend::Ebpf, hook, 64);
    fabric.host(1).netns().run(|| Endpoint::open(config)).unwrap()
}

#[test]
fn an_xdp_program_of_somebody_else_is_left_alone() {
    if !privileged("an_xdp_program_of_somebody_else_is_left_alone") {
        return;
    }
    for place in [Place::Xdp, Place::XdpGeneric] {
        let fabric = fabric(2, Family::V4);
        let netns: &NetNs = fabric.host(1).netns();
        let foreign = Foreign::passing(netns, place);
        let attached = || command(netns, "ip -details link show dev eth0");
        let id = format!("prog/xdp id {}", foreign.id);
        assert!(attached().contains(&id));
        for hook in [Hook::Xdp, Hook::XdpGeneric] {
            let error = open_with_hook(&fabric, hook).err().expect("the hook is taken").to_string();
            assert!(error.contains("another XDP program") && error.contains("--hook tc"), "{error}");
            assert!(attached().contains(&id), "{place:?} was taken off");
        }
        // The failed attempts hold nothing back: neither the port nor a hook.
        let leader = Actor::new(&fabric, 0);
        for hook in [Hook::Tc, Hook::Auto] {
            let mut endpoint = open_with_hook(&fabric, hook).unwrap();
            assert_eq!(endpoint.choice().hook, "tc");
            endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
            leader.prepare(endpoint.local_addr(), &Prepare::op(1));
            assert_eq!(leader.acks_up_to(1), [1]);
        }
        assert!(attached().contains(&id));
        drop(foreign);
        assert_eq!(open_with_hook(&fabric, Hook::XdpGeneric).unwrap().choice().hook, "xdp-generic");
    }
}
