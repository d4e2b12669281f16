//! Virtual hosts: they reach each other, can be powered off, and are configured as asked.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use common::hosts::{DEADLINE, fabric, interfaces, wait_until};
use common::privileged;
use common::raw::set_option;
use electrode::fabric::{Fabric, FabricConfig, FabricError, Family};
use socket2::{Domain, Protocol, Socket, Type};

const PORT: u16 = 7000;
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

#[test]
fn ipv6_addresses_can_be_used_at_once() {
    if !privileged("ipv6_addresses_can_be_used_at_once") {
        return;
    }
    let fabric = fabric(2, Family::V6);
    let table = || {
        let read = || std::fs::read_to_string("/proc/thread-self/net/if_inet6");
        fabric.host(1).netns().run(read).unwrap().unwrap()
    };
    check_not_tentative(&table());
    // After a power cycle as well.
    for up in [false, true] {
        fabric.set_host_link(1, up).unwrap();
    }
    check_not_tentative(&table());
}

fn check_not_tentative(table: &str) {
    const TENTATIVE: u32 = 0x40;
    // Address, interface number, prefix length, scope, flags, interface.
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let on_eth0: Vec<_> = rows.iter().filter(|row| row[5] == "eth0").collect();
    // Its own and the link-local one.
    assert_eq!(on_eth0.len(), 2, "{table}");
    assert!(on_eth0.iter().any(|row| row[0] == "fd760000000000000000000000000002"), "{table}");
    for row in on_eth0 {
        assert_eq!(u32::from_str_radix(row[4], 16).unwrap() & TENTATIVE, 0, "{table}");
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
    set_option(&a, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO);
    let mut buffer = vec![0; 9000];
    assert_eq!(a.send_to(&[7; 8972], (fabric.host(1).addr(), PORT)).unwrap(), 8972);
    assert_eq!(b.recv(&mut buffer).unwrap(), 8972);
    let too_large = a.send_to(&[7; 8973], (fabric.host(1).addr(), PORT)).unwrap_err();
    assert_eq!(too_large.raw_os_error(), Some(libc::EMSGSIZE));
}

/// Hears every frame on a port of the switch, and what the kernel says about its checksum.
fn checksum_is_filled_in(fabric: &Fabric, sender: &UdpSocket) -> bool {
    let open = || {
        Socket::new(
            Domain::PACKET,
            Type::DGRAM,
            Some(Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()))),
        )
    };
    let tap = fabric.switch().run(open).unwrap().unwrap();
    tap.set_read_timeout(Some(DEADLINE)).unwrap();
    set_option(&tap, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1);
    sender.send_to(b"checksum", (fabric.host(1).addr(), PORT)).unwrap();
    loop {
        let mut packet = [0; 128];
        let mut control = [0u64; 16];
        let mut part = libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() };
        // SAFETY: all zero is a valid `msghdr`.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        // SAFETY: the header's buffers are alive and as long as it says.
        let length = unsafe { libc::recvmsg(tap.as_raw_fd(), &raw mut header, 0) };
        assert!(length > 0, "no frame before the deadline");
        if !packet[..length as usize].ends_with(b"checksum") {
            continue;
        }
        // SAFETY: the kernel filled the header in, and PACKET_AUXDATA is the only message asked for.
        let auxdata = unsafe {
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            assert!(!message.is_null());
            libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned()
        };
        return auxdata.tp_status & libc::TP_STATUS_CSUMNOTREADY == 0;
    }
}

#[test]
fn checksum_offload_can_be_switched() {
    if !privileged("checksum_offload_can_be_switched") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let sender = socket(&fabric, 0);
    for on in [true, false, true] {
        fabric.set_tx_checksum_offload(0, on).unwrap();
        assert_eq!(checksum_is_filled_in(&fabric, &sender), !on);
    }
}

#[test]
fn interfaces_have_the_queues_that_were_asked_for() {
    if !privileged("interfaces_have_the_queues_that_were_asked_for") {
        return;
    }
    let fabric = Fabric::new(FabricConfig { hosts: 1, queues: Some(3), ..FabricConfig::default() }).unwrap();
    for (namespace, name) in [(fabric.host(0).netns(), "eth0"), (fabric.switch(), "port0")] {
        // A fresh sysfs shows the namespace in which it is mounted.
        let list = format!("mount -t sysfs none /sys && ls /sys/class/net/{name}/queues");
        let output = namespace.command("unshare").args(["--mount", "sh", "-c", &list]).output().unwrap();
        let queues = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            queues.split_whitespace().collect::<Vec<_>>(),
            ["rx-0", "rx-1", "rx-2", "tx-0", "tx-1", "tx-2"],
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
