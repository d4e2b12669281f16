//! Virtual hosts: they reach each other, can be powered off, and leave nothing behind.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::privileged;
use electrode::fabric::{Fabric, FabricConfig, FabricError, Family, NetNs, netns};
use netlink_sys::protocols::NETLINK_ROUTE;
use socket2::{Domain, Protocol, Socket, Type};

const PORT: u16 = 7000;
/// Far beyond what any step takes: a test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(30);

fn fabric(hosts: usize, family: Family) -> Fabric {
    Fabric::new(FabricConfig { hosts, family, ..FabricConfig::default() }).expect("a fabric")
}

/// A UDP socket on a host.
fn socket(fabric: &Fabric, i: usize) -> UdpSocket {
    let host = fabric.host(i);
    let socket = host.netns().run(|| UdpSocket::bind((host.addr(), PORT))).unwrap().unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).expect("a packet before the deadline");
    (String::from_utf8(buffer[..length].to_vec()).unwrap(), from)
}

/// Names of the interfaces in a namespace and the bytes that each has sent.
fn interfaces(namespace: &NetNs) -> Vec<(String, u64)> {
    // Not /sys/class/net, which belongs to whoever mounted it.
    let table = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/dev")).unwrap().unwrap();
    let line = |line: &str| {
        let (name, counters) = line.split_once(':').unwrap();
        let sent = counters.split_whitespace().nth(8).unwrap().parse().unwrap();
        (name.trim().to_string(), sent)
    };
    table.lines().skip(2).map(line).collect()
}

fn has_interface(namespace: &NetNs, name: &str) -> bool {
    interfaces(namespace).iter().any(|(n, _)| n == name)
}

fn wait_until(what: &str, is_done: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_done() {
        assert!(since.elapsed() < DEADLINE, "{what}: not after {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn everybody_reaches_everybody(family: Family) {
    let fabric = fabric(4, family);
    let sockets: Vec<_> = (0..4).map(|i| socket(&fabric, i)).collect();
    for from in 0..4 {
        for to in 0..4 {
            let ping = format!("{from} to {to}");
            sockets[from].send_to(ping.as_bytes(), (fabric.host(to).addr(), PORT)).unwrap();
            let (text, source) = receive(&sockets[to]);
            assert_eq!((text, source.ip()), (ping, fabric.host(from).addr()));
            sockets[to].send_to(b"pong", source).unwrap();
            assert_eq!(receive(&sockets[from]).0, "pong");
        }
    }
}

#[test]
fn everybody_reaches_everybody_over_ipv4() {
    if privileged("everybody_reaches_everybody_over_ipv4") {
        everybody_reaches_everybody(Family::V4);
    }
}

#[test]
fn everybody_reaches_everybody_over_ipv6() {
    if privileged("everybody_reaches_everybody_over_ipv6") {
        everybody_reaches_everybody(Family::V6);
    }
}

/// A socket that joined `group` on a host, with its way out set and its loop off (as a carrier of L7).
fn multicast_socket(fabric: &Fabric, i: usize, group: IpAddr) -> UdpSocket {
    let host = fabric.host(i);
    let open = || -> std::io::Result<UdpSocket> {
        let socket =
            Socket::new(Domain::for_address((group, PORT).into()), Type::DGRAM, Some(Protocol::UDP))?;
        match (group, host.addr()) {
            (IpAddr::V4(group), IpAddr::V4(addr)) => {
                socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
                socket.set_multicast_if_v4(&addr)?;
                socket.set_multicast_loop_v4(false)?;
                socket.join_multicast_v4(&group, &addr)?;
            }
            (IpAddr::V6(group), _) => {
                let name = std::ffi::CString::new(host.interface()).unwrap();
                // SAFETY: a valid C string that outlives the call.
                let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
                socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
                socket.set_multicast_if_v6(index)?;
                socket.set_multicast_loop_v6(false)?;
                socket.join_multicast_v6(&group, index)?;
            }
            _ => unreachable!("one family a fabric"),
        }
        Ok(socket.into())
    };
    let socket = host.netns().run(open).unwrap().unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn multicast_arrives_and_leaves_without_a_peer(family: Family, group: IpAddr) {
    let fabric = fabric(3, family);
    let sockets: Vec<_> = (0..3).map(|i| multicast_socket(&fabric, i, group)).collect();
    sockets[0].send_to(b"to all", (group, PORT)).unwrap();
    for other in &sockets[1..] {
        let (text, _) = receive(other);
        assert_eq!(text, "to all");
    }
    // With every peer powered off it still leaves the host: nobody has to answer for it (L7).
    for i in 1..3 {
        fabric.set_host_link(i, false).unwrap();
    }
    let sent = || interfaces(fabric.host(0).netns()).iter().find(|(name, _)| name == "eth0").unwrap().1;
    let before = sent();
    sockets[0].send_to(&[b'x'; 1300], (group, PORT)).unwrap();
    wait_until("the multicast packet leaves", || sent() >= before + 1300);
}

#[test]
fn multicast_leaves_over_ipv4() {
    if privileged("multicast_leaves_over_ipv4") {
        multicast_arrives_and_leaves_without_a_peer(Family::V4, Ipv4Addr::new(239, 76, 0, 1).into());
    }
}

#[test]
fn multicast_leaves_over_ipv6() {
    if privileged("multicast_leaves_over_ipv6") {
        // Organization-local and link-local scope.
        for scope in [0xff18, 0xff12] {
            let group = Ipv6Addr::new(scope, 0, 0, 0, 0, 0, 0x76, 1);
            multicast_arrives_and_leaves_without_a_peer(Family::V6, group.into());
        }
    }
}

#[test]
fn a_host_that_is_powered_off_hears_nothing() {
    if !privileged("a_host_that_is_powered_off_hears_nothing") {
        return;
    }
    let fabric = fabric(3, Family::V4);
    let [a, b, c] = [0, 1, 2].map(|i| socket(&fabric, i));
    let say = |text: &str| {
        for peer in [1, 2] {
            a.send_to(text.as_bytes(), (fabric.host(peer).addr(), PORT)).unwrap();
        }
    };
    // Resolved from here on, so nothing is kept back for a neighbour that does not answer.
    fabric.pin_neighbours(0).unwrap();
    for round in 0..5 {
        say(&format!("both {round}"));
        assert_eq!(receive(&b).0, format!("both {round}"));
        assert_eq!(receive(&c).0, format!("both {round}"));
        fabric.set_host_link(2, false).unwrap();
        say(&format!("one {round}"));
        assert_eq!(receive(&b).0, format!("one {round}"));
        fabric.set_host_link(2, true).unwrap();
        // What host 2 hears next is the next round, not what was said while it was off.
    }
    say("end");
    assert_eq!(receive(&c).0, "end");
    assert!(matches!(fabric.set_host_link(3, true), Err(FabricError::Config(_))));
}

#[test]
fn neighbours_can_be_pinned_and_flushed() {
    if !privileged("neighbours_can_be_pinned_and_flushed") {
        return;
    }
    let fabric = fabric(3, Family::V4);
    let [a, b] = [0, 1].map(|i| socket(&fabric, i));
    // Address, flags (0 unresolved, 2 known, 6 permanent) and hardware address.
    let known = |i: usize| -> Vec<(String, String)> {
        let read = || std::fs::read_to_string("/proc/thread-self/net/arp");
        let table = fabric.host(i).netns().run(read).unwrap().unwrap();
        let fields = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        let rows = table.lines().skip(1).map(fields).filter(|row| row[2] != "0x0");
        rows.map(|row| (row[0].clone(), row[2].clone())).collect()
    };
    fabric.pin_neighbours(1).unwrap();
    a.send_to(b"ping", (fabric.host(1).addr(), PORT)).unwrap();
    assert_eq!(receive(&b).0, "ping");
    assert_eq!(known(0), [("10.76.0.2".to_string(), "0x2".to_string())]);
    let mut pinned = known(1);
    pinned.sort();
    assert_eq!(
        pinned.iter().map(|(a, f)| (a.as_str(), f.as_str())).collect::<Vec<_>>(),
        [("10.76.0.1", "0x6"), ("10.76.0.3", "0x6")]
    );
    for i in 0..2 {
        fabric.flush_neighbours(i).unwrap();
    }
    assert_eq!(known(0), []);
    assert_eq!(known(1).len(), 2);
}

#[test]
fn the_mtu_holds_on_every_link() {
    if !privileged("the_mtu_holds_on_every_link") {
        return;
    }
    let config = FabricConfig { hosts: 2, mtu: Some(9000), ..FabricConfig::default() };
    let fabric = Fabric::new(config).unwrap();
    let [a, b] = [0, 1].map(|i| socket(&fabric, i));
    let value = libc::IP_PMTUDISC_DO;
    // SAFETY: the option takes an int, and the pointer and length are those of one.
    let set = unsafe {
        let size = size_of_val(&value) as libc::socklen_t;
        libc::setsockopt(
            a.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const value).cast(),
            size,
        )
    };
    assert_eq!(set, 0);
    let mut buffer = vec![0; 9000];
    assert_eq!(a.send_to(&[7; 8972], (fabric.host(1).addr(), PORT)).unwrap(), 8972);
    assert_eq!(b.recv(&mut buffer).unwrap(), 8972);
    let too_large = a.send_to(&[7; 8973], (fabric.host(1).addr(), PORT)).unwrap_err();
    assert_eq!(too_large.raw_os_error(), Some(libc::EMSGSIZE));
}

#[test]
fn threads_and_commands_run_inside() {
    if !privileged("threads_and_commands_run_inside") {
        return;
    }
    let outside = NetNs::current().unwrap().inode().unwrap();
    let namespace = NetNs::new().unwrap();
    let inside = namespace.inode().unwrap();
    assert_ne!(inside, outside);
    assert_eq!(namespace.run(|| NetNs::current().unwrap().inode().unwrap()).unwrap(), inside);
    // By path, as a child would; on a thread of its own, for there is no way back.
    let path = namespace.path();
    let by_path = std::thread::spawn(move || {
        netns::enter_path(&path).unwrap();
        NetNs::current().unwrap().inode().unwrap()
    });
    assert_eq!(by_path.join().unwrap(), inside);
    assert_eq!(NetNs::current().unwrap().inode().unwrap(), outside);

    let output = namespace.command("readlink").arg("/proc/self/ns/net").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), format!("net:[{inside}]"));
    // What is no network namespace is refused.
    assert!(netns::enter_path("/proc/self/ns/mnt".as_ref()).is_err());
}

#[test]
fn a_panic_inside_goes_on_outside() {
    if !privileged("a_panic_inside_goes_on_outside") {
        return;
    }
    let namespace = NetNs::new().unwrap();
    let caught = std::panic::catch_unwind(|| namespace.run(|| panic!("inside")));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "inside");
}

#[test]
fn a_command_dies_with_the_thread_that_started_it() {
    if !privileged("a_command_dies_with_the_thread_that_started_it") {
        return;
    }
    let namespace = NetNs::new().unwrap();
    let start = || namespace.command("sleep").arg("1000").spawn().unwrap();
    let mut child = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

/// Hears of every change of a link in a namespace.
struct LinkWatch(netlink_sys::Socket);

impl LinkWatch {
    fn new(namespace: &NetNs) -> Self {
        const RTMGRP_LINK: u32 = 1;
        let socket = namespace.run(|| netlink_sys::Socket::new(NETLINK_ROUTE)).unwrap().unwrap();
        let mut socket = socket;
        socket.bind(&netlink_sys::SocketAddr::new(0, RTMGRP_LINK)).unwrap();
        socket.set_non_blocking(true).unwrap();
        Self(socket)
    }

    /// Whether a link of this name was heard of since the last call.
    fn heard_of(&self, name: &str) -> bool {
        let mut heard = false;
        let name = [name.as_bytes(), b"\0"].concat();
        while let Ok((message, _)) = self.0.recv_from_full() {
            heard |= message.windows(name.len()).any(|window| window == name);
        }
        heard
    }
}

#[test]
fn nothing_is_made_in_the_namespace_of_the_caller() {
    if !privileged("nothing_is_made_in_the_namespace_of_the_caller") {
        return;
    }
    let own = NetNs::new().unwrap();
    let watch = LinkWatch::new(&own);
    own.run(|| {
        let fabric = fabric(2, Family::V6);
        let names = |namespace| interfaces(namespace).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        for name in ["switch0", "port0", "port1"] {
            assert!(names(fabric.switch()).iter().any(|n| n == name), "no {name} in the switch");
        }
        for name in ["switch0", "port0", "port1", "eth0"] {
            assert!(!names(&own).iter().any(|n| n == name), "{name} in the namespace of the caller");
            assert!(!watch.heard_of(name), "{name} was in the namespace of the caller for a moment");
        }
        // The watch would have seen it.
        let watch = LinkWatch::new(fabric.switch());
        fabric.set_host_link(1, false).unwrap();
        assert!(watch.heard_of(&fabric.port_name(1)));
    })
    .unwrap();
}

const PLUG: &str = "plug";

/// Puts a cable between the switch and another namespace, which thereby sees when the switch is gone.
fn plug_into(fabric: &Fabric, witness: &NetNs) {
    let plug = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            let cable = rtnetlink::LinkVeth::new(PLUG, "socket").setns_by_fd(witness.as_fd().as_raw_fd());
            handle.link().add(cable.build()).execute().await.unwrap();
        });
    };
    fabric.switch().run(plug).unwrap();
    assert!(has_interface(witness, PLUG));
}

#[test]
fn after_drop_the_kernel_removes_it() {
    if !privileged("after_drop_the_kernel_removes_it") {
        return;
    }
    let witness = NetNs::new().unwrap();
    let fabric = fabric(3, Family::V4);
    plug_into(&fabric, &witness);
    drop(fabric);
    wait_until("the switch goes", || !has_interface(&witness, PLUG));
}

#[test]
fn a_straggler_is_cut_off() {
    if !privileged("a_straggler_is_cut_off") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    // Keeps its namespace alive, as a process in it would.
    let straggler = NetNs::open(&fabric.host(0).netns().path()).unwrap();
    assert!(has_interface(&straggler, "eth0"));
    drop(fabric);
    wait_until("the cable goes", || !has_interface(&straggler, "eth0"));
}

const WITNESS: &str = "ELECTRODE_TEST_WITNESS";
const READY: &str = "READY ";

/// Not a test: the process that `sigkill_leaves_nothing` kills.
#[test]
#[ignore = "started by sigkill_leaves_nothing"]
fn process_with_a_fabric() {
    let Some(witness) = std::env::var_os(WITNESS) else { return };
    let fabric = fabric(3, Family::V4);
    plug_into(&fabric, &NetNs::open(witness.as_ref()).unwrap());
    let mut inmate = fabric.host(0).netns().command("sleep").arg("1000").spawn().unwrap();
    println!("{READY}{}", inmate.id());
    std::io::stdout().flush().unwrap();
    // Ends, too, when the test that started it dies.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    inmate.kill().unwrap();
    inmate.wait().unwrap();
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Fails only if it is dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_running(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the name, which is in parentheses. A zombie has let go of everything.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    !rest.starts_with(['Z', 'X'])
}

#[test]
fn sigkill_leaves_nothing() {
    if !privileged("sigkill_leaves_nothing") {
        return;
    }
    let witness = NetNs::new().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process_with_a_fabric", "--ignored", "--nocapture"])
        .env(WITNESS, witness.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = KillOnDrop(child);
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let inmate = lines
        .map(|line| line.unwrap())
        .find_map(|line| line.split_once(READY).map(|(_, pid)| pid.trim().parse::<u32>().unwrap()))
        .expect("the child has its fabric");
    assert!(has_interface(&witness, PLUG));
    assert!(is_running(inmate));

    child.0.kill().unwrap();
    assert_eq!(child.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    wait_until("the process in host 0 dies", || !is_running(inmate));
    wait_until("the switch goes", || !has_interface(&witness, PLUG));
}
