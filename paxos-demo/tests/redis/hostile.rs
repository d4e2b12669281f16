//! Clients that mean no good: the replica goes on, and its memory stays within bounds.

use super::{Redis, cluster, common, request};
use paxos_demo::cluster::Cluster;
use paxos_demo::resp::wire::{ARGUMENT_BYTES_MAX, LINE_BYTES_MAX};
use paxos_demo::resp::{CONNECTIONS_MAX, INPUT_BYTES_MAX};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn connect(cluster: &Cluster) -> Redis {
    Redis::connect(cluster.resp_address(0).unwrap())
}

fn memory_kib(cluster: &Cluster) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(0).unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn nonsense_ends_the_connection_in_redis_words() {
    let cluster = cluster();
    let line = [b"*1\r\n$", &vec![b'1'; LINE_BYTES_MAX][..]].concat();
    for (bytes, said) in [
        (&b"*1\r\n$-5\r\n"[..], "-ERR Protocol error: invalid bulk length"),
        (
            format!("*2\r\n$3\r\nGET\r\n${}\r\n", ARGUMENT_BYTES_MAX + 1).as_bytes(),
            "-ERR Protocol error: invalid bulk length",
        ),
        (b"*1000000000\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n+PING\r\n", "-ERR Protocol error: expected '$', got '+'"),
        (&line, "-ERR Protocol error: too big bulk count string"),
    ] {
        let mut client = connect(&cluster);
        // What came before is answered all the same.
        client.send(&[&request(&[b"PING"]), bytes].concat());
        assert_eq!(client.reply(), "+PONG");
        assert_eq!(client.reply(), said);
        assert!(client.is_closed());
    }
    let mut client = connect(&cluster);
    client.send(&vec![b'x'; LINE_BYTES_MAX + 1]);
    assert_eq!(client.reply(), "-ERR Protocol error: too big inline request");
    assert_eq!(connect(&cluster).call(&["PING"]), "+PONG");
}

#[test]
fn half_of_a_request_harms_nobody() {
    let cluster = cluster();
    let whole = request(&[b"SET", b"half", &[b'v'; 500]]);
    let mut clients: Vec<Redis> = (0..20).map(|_| connect(&cluster)).collect();
    for (client, cut) in clients.iter_mut().zip((0..).step_by(27)) {
        client.send(&whole[..cut]);
    }
    let mut other = connect(&cluster);
    assert_eq!(other.call(&["SET", "whole", "v"]), "+OK");
    assert_eq!(other.call(&["EXISTS", "half", "whole"]), ":1", "half a request does nothing");
    for (n, (client, cut)) in clients.iter_mut().zip((0..).step_by(27)).enumerate() {
        if n % 2 == 0 {
            client.send(&whole[cut..]);
            assert_eq!(client.reply(), "+OK");
        }
    }
    drop(clients);
    assert_eq!(other.call(&["EXISTS", "half", "whole"]), ":2");
}

/// All connections announce a long request and send most of it.
#[test]
fn unfinished_requests_share_a_budget() {
    let cluster = cluster();
    let mut sent = format!("*2\r\n$4\r\nECHO\r\n${ARGUMENT_BYTES_MAX}\r\n").into_bytes();
    sent.resize(ARGUMENT_BYTES_MAX - 1000, b'x');
    let before = memory_kib(&cluster);
    let mut streams = Vec::new();
    let mut refused = 0;
    for _ in 0..CONNECTIONS_MAX / 2 {
        let mut stream = TcpStream::connect(cluster.resp_address(0).unwrap()).unwrap();
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        // Fails if the server has closed it.
        if stream.write_all(&sent).is_err() {
            refused += 1;
        } else {
            streams.push(stream);
        }
    }
    // Small requests need no budget.
    let mut client = connect(&cluster);
    assert_eq!(client.call(&["SET", "k", "v"]), "+OK");
    let grown = memory_kib(&cluster).saturating_sub(before);
    let bound = (INPUT_BYTES_MAX >> 10) as u64 * 3;
    assert!(grown < bound, "{grown} KiB more, {bound} allowed; {refused} refused at once");
    // Some were refused, in words; the others can still be finished.
    let (mut finished, mut turned_away) = (0, refused);
    sent.clear();
    sent.resize(1000 + 100, b'x');
    for mut stream in streams {
        let rest = [&sent[..], b"\r\n"].concat();
        let _ = stream.write_all(&rest);
        let mut first = [0; 16];
        match stream.read(&mut first) {
            Ok(n) if first[..n].starts_with(b"$") => finished += 1,
            Ok(n) if first[..n].starts_with(b"-ERR too many") => turned_away += 1,
            _ => turned_away += 1,
        }
    }
    assert!(turned_away > 0, "{finished} were served, more than the budget");
    assert_eq!(client.call(&["GET", "k"]), "v");
    common::wait_for("the budget to be free again", || {
        let mut client = connect(&cluster);
        client.send(&request(&[b"ECHO", &vec![b'y'; ARGUMENT_BYTES_MAX]]));
        (client.reply().len() == ARGUMENT_BYTES_MAX).then_some(())
    });
}

/// Clients ask for megabytes and read none of them.
#[test]
fn replies_that_nobody_reads_do_not_pile_up() {
    let cluster = cluster();
    let echo = request(&[b"ECHO", &[b'z'; 10_000]]).repeat(10);
    let before = memory_kib(&cluster);
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(cluster.resp_address(0).unwrap()).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        // Until nothing more is taken: all buffers on the way are full.
        let mut sent = 0;
        while sent < 50 << 20
            && let Ok(n) = stream.write(&echo)
        {
            sent += n;
        }
        streams.push(stream);
    }
    let mut client = connect(&cluster);
    for n in 1..=100 {
        assert_eq!(client.call(&["INCR", "n"]), format!(":{n}"));
    }
    let grown = memory_kib(&cluster).saturating_sub(before);
    assert!(grown < 30_000, "{grown} KiB more");
}

/// Clients ask for as much as there is room for and take none of it: others are served all the same.
#[test]
fn results_that_nobody_takes_hold_nobody_up() {
    let cluster = cluster();
    let mut client = connect(&cluster);
    let (long, short) = ("v".repeat(1 << 20), "v".repeat(10_000));
    for (key, value) in [("a", &long), ("b", &long), ("short", &short)] {
        assert_eq!(client.call(&["SET", key, value]), "+OK");
    }
    let mget = request(&[b"MGET", b"a", b"b"]).repeat(8);
    let idle: Vec<TcpStream> = (0..9)
        .map(|_| {
            let mut stream = TcpStream::connect(cluster.resp_address(0).unwrap()).unwrap();
            SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
            stream.write_all(&mget).unwrap();
            stream
        })
        .collect();
    // Until they have what there is.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(client.call(&["GET", "short"]) == short);
    // Whoever takes nothing goes before others lose patience.
    assert!(client.call(&["GET", "a"]) == long);
    common::wait_for("the idle clients to be gone", || {
        let info = client.call(&["INFO"]);
        info.contains("connected_clients:1\r\n").then_some(())
    });
    drop(idle);
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let cluster = cluster();
    let ask = request(&[b"INCR", b"n"]).repeat(50);
    for _ in 0..3 * CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(cluster.resp_address(0).unwrap()).unwrap();
        let _ = stream.write_all(&ask);
    }
    common::wait_for("all connections to be gone", || {
        let mut client = connect(&cluster);
        let info = client.call(&["INFO"]);
        info.contains("connected_clients:1\r\n").then_some(())
    });
    assert_eq!(connect(&cluster).call(&["PING"]), "+PONG");
}
