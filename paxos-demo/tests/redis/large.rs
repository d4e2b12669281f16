//! Values of up to 1 MiB, on both backends, while the leader dies.

use super::{Redis, common};
use common::{free_ports, loopback, privileged, start, wait_for};
use paxos_demo::cluster::{Cluster, Spec};
use paxos_demo::resp::wire::ARGUMENT_BYTES_MAX;
use std::net::TcpStream;

const MIB: usize = 1 << 20;

fn value(seed: u8, length: usize) -> String {
    (0..length).map(|i| char::from(b'a' + ((i / 7 + i / 1300 + usize::from(seed)) % 26) as u8)).collect()
}

/// Asks until the group has a leader: an error says whether the request may have been applied, and these may be
/// applied twice.
fn insist(client: &mut Redis, arguments: &[&str]) -> String {
    wait_for("an answer", || {
        let reply = client.call(arguments);
        let retry = reply.starts_with("-TRYAGAIN ") || reply.starts_with("-UNKNOWN ");
        (!retry).then_some(reply)
    })
}

fn store_and_read_back(mut spec: Spec) {
    spec.resp_port = Some(free_ports(3));
    let mut cluster: Cluster = start(spec);
    let connect = |cluster: &Cluster, id| Redis::connect(cluster.resp_address(id).unwrap());
    let [mut leader, mut b, mut c] = [0, 1, 2].map(|id| connect(&cluster, id));
    let (big, other) = (value(1, MIB), value(2, MIB));
    // Through the leader and through a follower, read by the others.
    assert_eq!(leader.call(&["SET", "big", &big]), "+OK");
    assert_eq!(b.call(&["SET", "other", &other]), "+OK");
    for client in [&mut leader, &mut b, &mut c] {
        assert!(client.call(&["GET", "big"]) == big);
        assert!(client.call(&["GET", "other"]) == other);
        assert_eq!(client.call(&["STRLEN", "big"]), format!(":{MIB}"));
    }
    assert_eq!(c.call(&["MSET", "m", &big, "small", "s"]), "+OK");
    assert_eq!(c.call(&["APPEND", "small", &other[1..]]), format!(":{MIB}"));
    assert!(leader.call(&["GET", "small"]) == format!("s{}", &other[1..]));
    assert_eq!(c.call(&["APPEND", "big", "x"]), "-ERR string exceeds maximum allowed size");
    let mut hostile = connect(&cluster, 2);
    hostile.send(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", ARGUMENT_BYTES_MAX + 1).as_bytes());
    assert_eq!(hostile.reply(), "-ERR Protocol error: invalid bulk length");
    // The leader dies while a third is on its way.
    let third = value(3, MIB);
    c.send(&super::request(&[b"SET", b"third", third.as_bytes()]));
    cluster.kill(0).unwrap();
    let reply = c.reply();
    let honest = reply == "+OK" || reply.starts_with("-TRYAGAIN ") || reply.starts_with("-UNKNOWN ");
    assert!(honest, "{reply}");
    assert!(insist(&mut b, &["GET", "big"]) == big);
    assert!(insist(&mut b, &["GET", "other"]) == other);
    let found = insist(&mut b, &["GET", "third"]);
    assert!(found == third || (found == "(nil)" && reply != "+OK"), "all of it or nothing");
    assert_eq!(insist(&mut c, &["SET", "third", &third]), "+OK");
    assert!(insist(&mut b, &["GET", "third"]) == third);
    // Whoever comes back gets all of it.
    cluster.restart(0).unwrap();
    wait_for("the old leader's port", || TcpStream::connect(cluster.resp_address(0).unwrap()).ok());
    let mut leader = connect(&cluster, 0);
    assert!(insist(&mut leader, &["GET", "third"]) == third);
    assert!(insist(&mut leader, &["GET", "big"]) == big);
}

#[test]
fn a_mebibyte_over_udp() {
    store_and_read_back(loopback(3));
}

#[test]
fn a_mebibyte_over_ebpf() {
    if !privileged("a_mebibyte_over_ebpf") {
        return;
    }
    let mut spec = loopback(3);
    spec.loopback = false;
    spec.backend = clap::ValueEnum::from_str("auto", false).unwrap();
    store_and_read_back(spec);
}
