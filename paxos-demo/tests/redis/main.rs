//! Redis clients of a real cluster: any replica serves, in order, with Redis's own words.

mod benchmark;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod large;

use common::{Redis, free_ports, loopback, request, start};
use paxos_demo::cluster::Cluster;
use paxos_demo::message;
use paxos_demo::state_machine::COMMAND_HEADER_BYTES;

fn cluster() -> Cluster {
    let mut spec = loopback(3);
    spec.resp_port = Some(free_ports(3));
    start(spec)
}

fn clients(cluster: &Cluster) -> [Redis; 3] {
    [0, 1, 2].map(|id| Redis::connect(cluster.resp_address(id).unwrap()))
}

#[test]
fn any_replica_serves_the_same_data() {
    let cluster = cluster();
    let [mut a, mut b, mut c] = clients(&cluster);
    for (i, client) in [&mut a, &mut b, &mut c].into_iter().enumerate() {
        assert_eq!(client.call(&["PING"]), "+PONG");
        assert_eq!(client.call(&["SET", &format!("key{i}"), "va\r\nlue"]), "+OK");
    }
    for client in [&mut a, &mut b, &mut c] {
        for i in 0..3 {
            assert_eq!(client.call(&["get", &format!("key{i}")]), "va\r\nlue");
        }
    }
    assert_eq!(b.call(&["DEL", "key0", "key1", "none"]), ":2");
    assert_eq!(c.call(&["GET", "key0"]), "(nil)");
    assert_eq!(a.call(&["DEL", "key0"]), ":0");
    assert_eq!(a.call(&["SET", "empty", ""]), "+OK");
    assert_eq!(b.call(&["GET", "empty"]), "");
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let cluster = cluster();
    let [_, mut client, _] = clients(&cluster);
    let mut bytes = Vec::new();
    for n in 0..200 {
        bytes.extend(request(&[b"SET", b"k", n.to_string().as_bytes()]));
        bytes.extend(request(&[b"GET", b"k"]));
        bytes.extend(request(&[b"ECHO", n.to_string().as_bytes()]));
    }
    client.send(&bytes);
    for n in 0..200 {
        assert_eq!(client.reply(), "+OK");
        assert_eq!(client.reply(), n.to_string());
        assert_eq!(client.reply(), n.to_string());
    }
    client.send(b"PING\r\nQUIT\r\nPING\r\n");
    assert_eq!(client.reply(), "+PONG");
    assert_eq!(client.reply(), "+OK");
    assert!(client.is_closed());
}

#[test]
fn errors_are_redis_own_and_the_connection_goes_on() {
    let cluster = cluster();
    let [mut client, ..] = clients(&cluster);
    assert_eq!(
        client.call(&["FOO", "a", "b"]),
        "-ERR unknown command 'FOO', with args beginning with: 'a' 'b' "
    );
    assert_eq!(client.call(&["GET"]), "-ERR wrong number of arguments for 'get' command");
    assert_eq!(client.call(&["set", "k"]), "-ERR wrong number of arguments for 'set' command");
    assert_eq!(client.call(&["SET", "k", "v", "EX"]), "-ERR syntax error");
    assert_eq!(client.call(&["HELLO", "4"]), "-NOPROTO unsupported protocol version");
    // Around what fits one datagram nothing changes for a client.
    let room = message::part_bytes_max(cluster.config().payload_bytes_max as usize);
    let fits = room - COMMAND_HEADER_BYTES - "k".len();
    for length in fits - 1..=fits + 1 {
        let value = "y".repeat(length);
        assert_eq!(client.call(&["SET", "k", &value]), "+OK");
        assert_eq!(client.call(&["GET", "k"]), value);
    }
    client.send(b"*1\r\n*1\r\n");
    assert_eq!(client.reply(), "-ERR Protocol error: expected '$', got '*'");
    assert!(client.is_closed());
}

#[test]
fn a_request_that_no_leader_answers_is_unknown() {
    let mut cluster = cluster();
    let [_, mut client, _] = clients(&cluster);
    assert_eq!(client.call(&["SET", "k", "v"]), "+OK");
    // One that is left can neither lead nor find a leader.
    cluster.kill(0).unwrap();
    cluster.kill(2).unwrap();
    let reply = client.call(&["SET", "k", "w"]);
    assert!(reply.starts_with("-UNKNOWN ") && reply.contains("may have been applied"), "{reply}");
    // The connection is of use as soon as the group is.
    assert_eq!(client.call(&["PING"]), "+PONG");
}

#[test]
fn more_connections_than_are_served_are_turned_away() {
    let cluster = cluster();
    let address = cluster.resp_address(0).unwrap();
    let max = paxos_demo::resp::CONNECTIONS_MAX;
    let mut clients: Vec<Redis> = (0..max).map(|_| Redis::connect(address)).collect();
    for client in &mut clients {
        assert_eq!(client.call(&["PING"]), "+PONG");
    }
    let mut extra = Redis::connect(address);
    assert_eq!(extra.reply(), "-ERR max number of clients reached");
    assert!(extra.is_closed());
    clients.truncate(max / 2);
    common::wait_for("a free connection", || {
        let mut client = Redis::connect(address);
        client.send(&request(&[b"PING"]));
        (client.reply() == "+PONG").then_some(())
    });
}
