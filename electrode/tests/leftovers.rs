//! Nothing is left behind: not by a drop, not by a failed open, not by SIGKILL (F2 where a filter must stay).

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::actor::{Actor, Prepare, receive, socket};
use common::foreign::{clsact_drop, command};
use common::group::{PORT, members};
use common::hosts::{DEADLINE, fabric, wait_until};
use common::traces::{Held, shown};
use common::victim::{Attachment, Victim, config};
use common::{has_tcx, privileged, tcx};
use electrode::abi::Verdict;
use electrode::config::{Backend, TcMechanism, UdpSend};
use electrode::fabric::{Fabric, Family};
use electrode::types::{OpNumber, ReplicaId, View};
use electrode::{Endpoint, Error};

/// Those that need nothing at the other end of the cable.
const WAYS: [Attachment; 3] = [Attachment::Tcx, Attachment::Clsact, Attachment::XdpGeneric];

/// Opens member 1's endpoint on host 1 and its gate.
fn open(fabric: &Fabric, attachment: Attachment) -> Endpoint {
    let config = config(members(fabric, 2), 1, attachment);
    let mut endpoint = fabric.host(1).netns().run(|| Endpoint::open(config)).unwrap().unwrap();
    endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    endpoint
}

#[test]
fn dropping_endpoints_leaves_nothing() {
    if !privileged("dropping_endpoints_leaves_nothing") || !has_tcx("dropping_endpoints_leaves_nothing") {
        return;
    }
    for attachment in WAYS {
        // On an interface without any qdisc, with an empty one, and with one that somebody uses.
        for foreign in ["", "clsact", "clsact and a filter"] {
            let fabric = fabric(2, Family::V4);
            let netns = fabric.host(1).netns();
            if !foreign.is_empty() {
                command(netns, "tc qdisc add dev eth0 clsact");
            }
            if foreign.contains("filter") {
                clsact_drop(netns, "ingress", "10.9.9.9:9".parse().unwrap());
            }
            let before = shown(netns);
            for _ in 0..3 {
                let endpoint = open(&fabric, attachment);
                let held = Held::in_namespace(netns);
                held.assert_whole(attachment);
                assert!(!held.is_gone());
                assert_ne!(shown(netns), before);
                // Another one beside it, another group, which is dropped later than the first.
                let mut config = config(members(&fabric, 2), 1, Attachment::Tcx);
                config.members.iter_mut().for_each(|m| m.set_port(PORT + 1));
                config.tc =
                    if attachment == Attachment::Clsact { TcMechanism::Clsact } else { TcMechanism::Tcx };
                let second = netns.run(|| Endpoint::open(config)).unwrap().unwrap();
                drop(endpoint);
                wait_until("the kernel lets go", || held.is_gone());
                Held::in_namespace(netns).assert_whole(match attachment {
                    Attachment::Clsact => Attachment::Clsact,
                    _ => Attachment::Tcx,
                });
                drop(second);
                assert_eq!(shown(netns), before, "{attachment:?} with {foreign:?}");
            }
        }
    }
}

#[test]
fn a_failed_open_leaves_nothing() {
    if !privileged("a_failed_open_leaves_nothing") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let netns = fabric.host(1).netns();
    let first = open(&fabric, Attachment::XdpGeneric);
    let held = shown(netns);
    // Fails last of all: programs and maps are loaded by then.
    let mut second = config(members(&fabric, 2), 1, Attachment::XdpGeneric);
    second.members.iter_mut().for_each(|m| m.set_port(PORT + 1));
    let again = second.clone();
    netns.run(|| Endpoint::open(second)).unwrap().err().expect("there is one XDP program an interface");
    assert_eq!(shown(netns), held);
    // Its port is free.
    drop(socket_at(&fabric, PORT + 1));
    drop(first);
    netns.run(|| Endpoint::open(again)).unwrap().unwrap();
}

fn socket_at(fabric: &Fabric, port: u16) -> UdpSocket {
    socket(fabric.host(1), port)
}

/// Not a test: the process that is killed.
#[test]
#[ignore = "started by others"]
fn process_with_an_endpoint() {
    common::victim::run();
}

/// A17: acks stop with the owner.
#[test]
fn sigkill_takes_links_programs_and_acks_along() {
    if !privileged("sigkill_takes_links_programs_and_acks_along")
        || !has_tcx("sigkill_takes_links_programs_and_acks_along")
    {
        return;
    }
    for attachment in [Attachment::Tcx, Attachment::XdpGeneric] {
        let fabric = fabric(2, Family::V4);
        let netns = fabric.host(1).netns();
        let before = shown(netns);
        let leader = Actor::new(&fabric, 0);
        let child = Victim::start(&fabric, 2, 1, attachment);
        let held = Held::in_namespace(netns);
        held.assert_whole(attachment);
        leader.prepare_ops(members(&fabric, 2)[1], [1]);
        assert_eq!(leader.acks_up_to(1), [1]);
        child.kill();
        wait_until("the kernel lets go", || held.is_gone());
        assert_eq!(shown(netns), before, "{attachment:?}");
        // Whoever binds the port next hears what the programs would have taken.
        let next = socket_at(&fabric, PORT);
        leader.prepare_ops(members(&fabric, 2)[1], [2]);
        assert!(receive(&next, DEADLINE).is_some());
        assert_eq!(leader.acks_so_far(), [0u64; 0]);
    }
}

/// F2: a clsact filter outlives its process, if the guard is killed as well. Its lease runs out, it passes everything, and a new endpoint works
/// behind it.
#[test]
fn sigkill_leaves_a_clsact_filter_that_does_nothing() {
    if !privileged("sigkill_leaves_a_clsact_filter_that_does_nothing") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let netns = fabric.host(1).netns();
    let to = members(&fabric, 2)[1];
    let leader = Actor::new(&fabric, 0);
    let child = Victim::start(&fabric, 2, 1, Attachment::Clsact);
    Held::in_namespace(netns).assert_whole(Attachment::Clsact);
    leader.prepare_ops(to, [1]);
    assert_eq!(leader.acks_up_to(1), [1]);
    child.kill_guards();
    child.kill();
    Held::in_namespace(netns).assert_whole(Attachment::Clsact);

    // Duplicates: a kernel that still acknowledges answers each of them.
    let since = Instant::now();
    while {
        leader.prepare_ops(to, [1]);
        leader.next_ack(Duration::from_millis(50)).is_some()
    } {
        assert!(since.elapsed() < DEADLINE, "acks go on after the process died");
    }
    let next = socket_at(&fabric, PORT);
    leader.prepare_ops(to, [1, 2]);
    for op in [1, 2] {
        assert_eq!(receive(&next, DEADLINE).expect("the packet passes").0, leader.datagram(&Prepare::op(op)));
    }
    assert_eq!(leader.acks_so_far(), [0u64; 0]);
    drop(next);

    let before = shown(netns);
    let mut successor = open(&fabric, Attachment::Clsact);
    let (mut logged, mut acks, since) = (0, vec![], Instant::now());
    while acks.last() != Some(&2) {
        assert!(since.elapsed() < DEADLINE, "acknowledged: {acks:?}");
        // This process may be kept waiting until its own lease is over, too: the next look renews it.
        successor.elec_poll_message(64, &mut |_| logged += 1).unwrap();
        leader.prepare(to, &Prepare::op(acks.last().map_or(1, |op| op + 1)));
        acks.extend(leader.next_ack(Duration::from_millis(100)).map(|ack| ack.last().0));
        acks.dedup();
    }
    successor.elec_poll_message(64, &mut |_| logged += 1).unwrap();
    assert_eq!((logged, acks), (2, vec![1, 2]));
    assert!(successor.stats().unwrap().kernel(Verdict::TxAck) > 0);
    drop(successor);
    assert_eq!(shown(netns), before, "the successor removes its own and no other");
}

/// D4: what an earlier life left counts, however this one works.
#[test]
fn filters_of_an_earlier_life_are_waited_for() {
    if !privileged("filters_of_an_earlier_life_are_waited_for") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let open = |backend, tc| {
        let mut config = config(members(&fabric, 2), 1, Attachment::Clsact);
        (config.backend, config.tc) = (backend, tc);
        let since = Instant::now();
        loop {
            match fabric.host(1).netns().run(|| Endpoint::open(config.clone())).unwrap() {
                // A child that another test has just forked holds the socket of the one before until it executes.
                Err(Error::Bind { source, .. })
                    if source.kind() == std::io::ErrorKind::AddrInUse && since.elapsed() < DEADLINE =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                opened => return opened.unwrap(),
            }
        }
    };
    let mut ways = vec![(Backend::Udp(UdpSend::Mmsg), TcMechanism::Auto)];
    if tcx() {
        ways.push((Backend::Ebpf, TcMechanism::Tcx));
    }
    for (backend, tc) in &ways {
        let endpoint = open(*backend, *tc);
        assert!(endpoint.earlier_life_ends_ns() <= endpoint.now_ns(), "{backend:?}: there was none");
    }
    let child = Victim::start(&fabric, 2, 1, Attachment::Clsact);
    child.kill_guards();
    child.kill();
    for (backend, tc) in ways {
        let before_ns = open(Backend::Udp(UdpSend::Mmsg), TcMechanism::Auto).now_ns();
        // The lease is half a second, and began before that.
        assert!(open(backend, tc).earlier_life_ends_ns() >= before_ns + 500_000_000, "{backend:?}");
    }
}
