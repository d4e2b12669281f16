//! Nothing is left behind: not by a drop, not by a failed open, not by SIGKILL (F2 where a filter must stay).

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::actor::{Actor, Prepare, receive, socket};
use common::foreign::{Place, clsact_drop, command, tcx_programs};
use common::group::{PORT, members};
use common::hosts::{DEADLINE, fabric, wait_until};
use common::privileged;
use electrode::Endpoint;
use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Hook, TcMechanism};
use electrode::fabric::{Fabric, Family, NetNs, netns};
use electrode::types::{OpNumber, ReplicaId, View};
use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter, ProgInfoQueryOptions};

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Attachment {
    Tcx,
    Clsact,
    XdpGeneric,
}

const ATTACHMENTS: [Attachment; 3] = [Attachment::Tcx, Attachment::Clsact, Attachment::XdpGeneric];

fn config(fabric_members: Vec<std::net::SocketAddr>, attachment: Attachment) -> EndpointConfig {
    let mut config = EndpointConfig::new(fabric_members, ReplicaId(1));
    config.backend = Backend::Ebpf;
    (config.log_slots, config.quorum_window) = (64, 64);
    match attachment {
        Attachment::Tcx => config.tc = TcMechanism::Tcx,
        Attachment::Clsact => config.tc = TcMechanism::Clsact,
        Attachment::XdpGeneric => config.hook = Hook::XdpGeneric,
    }
    config
}

/// Opens member 1's endpoint on host 1 and its gate.
fn open(fabric: &Fabric, attachment: Attachment) -> Endpoint {
    let config = config(members(fabric, 2), attachment);
    let mut endpoint = fabric.host(1).netns().run(|| Endpoint::open(config)).unwrap().unwrap();
    endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    endpoint
}

/// Ids of what the kernel holds for the programs of ours that are attached in a namespace.
#[derive(Debug, Default)]
struct Held {
    programs: Vec<u32>,
    maps: Vec<u32>,
    links: Vec<u32>,
}

impl Held {
    fn in_namespace(netns: &NetNs) -> Self {
        let mut attached: Vec<u32> =
            [Place::TcxIngress, Place::TcxEgress].into_iter().flat_map(|p| tcx_programs(netns, p)).collect();
        for (shown, mark) in [
            ("ip -details link show dev eth0", "prog/xdp id "),
            ("tc filter show dev eth0 ingress", " id "),
            ("tc filter show dev eth0 egress", " id "),
        ] {
            let text = command(netns, shown);
            attached.extend(
                text.split(mark).skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok()),
            );
        }
        let mut held = Self::default();
        let options = ProgInfoQueryOptions::default().include_map_ids(true);
        for program in ProgInfoIter::with_query_opts(options) {
            if attached.contains(&program.id) && program.name.to_string_lossy().starts_with("elec_") {
                held.programs.push(program.id);
                held.maps.extend(program.map_ids);
            }
        }
        held.maps.sort_unstable();
        held.maps.dedup();
        let links = LinkInfoIter::default().filter(|link| held.programs.contains(&link.prog_id));
        held.links = links.map(|link| link.id).collect();
        held
    }

    /// Whether the kernel has let go of all of it.
    fn is_gone(&self) -> bool {
        !ProgInfoIter::default().any(|p| self.programs.contains(&p.id))
            && !MapInfoIter::default().any(|m| self.maps.contains(&m.id))
            && !LinkInfoIter::default().any(|l| self.links.contains(&l.id))
    }

    /// What an endpoint with all offloads has.
    fn assert_whole(&self, attachment: Attachment) {
        assert_eq!(self.programs.len(), 2, "{attachment:?}: {self:?}");
        assert!(self.maps.len() >= 7, "{attachment:?}: {self:?}");
        let links = if attachment == Attachment::Clsact { 0 } else { 2 };
        assert_eq!(self.links.len(), links, "{attachment:?}: {self:?}");
    }
}

/// What anybody can see on the interface.
fn shown(netns: &NetNs) -> Vec<String> {
    let mut lines = ["tc qdisc show", "tc filter show dev eth0 ingress", "tc filter show dev eth0 egress"]
        .map(|line| command(netns, line))
        .to_vec();
    let link = command(netns, "ip -details link show dev eth0");
    lines.push(link.lines().filter(|line| line.contains("xdp")).collect());
    lines
        .push(format!("{:?}", [Place::TcxIngress, Place::TcxEgress].map(|place| tcx_programs(netns, place))));
    lines
}

#[test]
fn dropping_endpoints_leaves_nothing() {
    if !privileged("dropping_endpoints_leaves_nothing") {
        return;
    }
    for attachment in ATTACHMENTS {
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
                let mut config = config(members(&fabric, 2), Attachment::Tcx);
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
    let mut second = config(members(&fabric, 2), Attachment::XdpGeneric);
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

const NETNS: &str = "ELECTRODE_TEST_NETNS";
const ATTACHMENT: &str = "ELECTRODE_TEST_ATTACHMENT";
const MEMBERS: &str = "ELECTRODE_TEST_MEMBERS";
const READY: &str = "READY";

/// Not a test: the process that is killed.
#[test]
#[ignore = "started by others"]
fn process_with_an_endpoint() {
    let Some(path) = std::env::var_os(NETNS) else { return };
    let wanted = std::env::var(ATTACHMENT).unwrap();
    let attachment = ATTACHMENTS.into_iter().find(|a| format!("{a:?}") == wanted).unwrap();
    let list = std::env::var(MEMBERS).unwrap().split(',').map(|m| m.parse().unwrap()).collect();
    netns::enter_path(path.as_ref()).unwrap();
    let mut endpoint = Endpoint::open(config(list, attachment)).unwrap();
    endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    println!("{READY}");
    std::io::stdout().flush().unwrap();
    // Until it is killed, or the test that started it is gone.
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        std::process::exit(0);
    });
    loop {
        endpoint.elec_poll_message(64, &mut |_| ()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct KillOnDrop(Child);

impl KillOnDrop {
    fn start(fabric: &Fabric, attachment: Attachment) -> Self {
        let list: Vec<_> = members(fabric, 2).iter().map(ToString::to_string).collect();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process_with_an_endpoint", "--ignored", "--nocapture"])
            .env(NETNS, fabric.host(1).netns().path())
            .env(ATTACHMENT, format!("{attachment:?}"))
            .env(MEMBERS, list.join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Self(child);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(READY)), "the child has no endpoint");
        child
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        assert_eq!(self.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Fails only if it is dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A17: acks stop with the owner.
#[test]
fn sigkill_takes_links_programs_and_acks_along() {
    if !privileged("sigkill_takes_links_programs_and_acks_along") {
        return;
    }
    for attachment in [Attachment::Tcx, Attachment::XdpGeneric] {
        let fabric = fabric(2, Family::V4);
        let netns = fabric.host(1).netns();
        let before = shown(netns);
        let leader = Actor::new(&fabric, 0);
        let child = KillOnDrop::start(&fabric, attachment);
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

/// F2: a clsact filter outlives its process. Its lease runs out, it passes everything, and a new endpoint works
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
    let child = KillOnDrop::start(&fabric, Attachment::Clsact);
    Held::in_namespace(netns).assert_whole(Attachment::Clsact);
    leader.prepare_ops(to, [1]);
    assert_eq!(leader.acks_up_to(1), [1]);
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
    leader.prepare_ops(to, [1, 2]);
    assert_eq!(leader.acks_up_to(2), [1, 2]);
    let mut logged = 0;
    successor.elec_poll_message(64, &mut |_| logged += 1).unwrap();
    assert_eq!((logged, successor.stats().unwrap().kernel(Verdict::TxAck)), (2, 2));
    drop(successor);
    assert_eq!(shown(netns), before, "the successor removes its own and no other");
}
