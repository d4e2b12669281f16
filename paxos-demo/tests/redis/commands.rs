//! Every command, through redis-cli and over the wire.

use super::{Redis, clients, cluster, common};
use std::process::Command;

#[test]
fn redis_cli_knows_every_command() {
    let cluster = cluster();
    let port = cluster.resp_address(2).unwrap().port().to_string();
    let cli = |line: &str| {
        let output = Command::new("redis-cli").args(["-p", &port]).args(line.split(' ')).output();
        let output = output.expect("redis-cli runs: scripts/setup installs redis-tools");
        String::from_utf8_lossy(&output.stdout).trim().replace("\r\n", "\n")
    };
    for (line, said) in [
        ("PING", "PONG"),
        ("PING hello", "hello"),
        ("ECHO hello", "hello"),
        ("SET city Zagreb", "OK"),
        ("GET city", "Zagreb"),
        ("SET city Split NX", ""),
        ("SET other Split XX", ""),
        ("SET city Split XX GET", "Zagreb"),
        ("GET city", "Split"),
        ("APPEND city !", "6"),
        ("STRLEN city", "6"),
        ("EXISTS city city none", "2"),
        ("INCR n", "1"),
        ("INCRBY n 41", "42"),
        ("DECR n", "41"),
        ("DECRBY n 50", "-9"),
        ("INCR city", "ERR value is not an integer or out of range"),
        ("INCRBY n 1.5", "ERR value is not an integer or out of range"),
        ("SET n 9223372036854775807", "OK"),
        ("INCR n", "ERR increment or decrement would overflow"),
        ("MSET a 1 b 2 c 3", "OK"),
        ("MSET a", "ERR wrong number of arguments for 'mset' command"),
        ("MGET a b none c", "1\n2\n\n3"),
        ("DBSIZE", "5"),
        ("TTL a", "-1"),
        ("TTL none", "-2"),
        ("EXPIRE a 100", "1"),
        ("EXPIRE none 100", "0"),
        ("TTL a", "100"),
        ("EXPIRE a 50 GT", "0"),
        ("PERSIST a", "1"),
        ("PERSIST a", "0"),
        ("PTTL a", "-1"),
        ("SET a 1 EX 100", "OK"),
        ("SET a 2 KEEPTTL", "OK"),
        ("TTL a", "100"),
        ("SET a 1 EX 0", "ERR invalid expire time in 'set' command"),
        ("SET a 1 EX x", "ERR value is not an integer or out of range"),
        ("SET a 1 EX 1 PX 1", "ERR syntax error"),
        ("PEXPIREAT a 1", "1"),
        ("EXISTS a", "0"),
        ("SETNX a 1", "1"),
        ("SETNX a 2", "0"),
        ("SETEX a 10 3", "OK"),
        ("GETSET a 4", "3"),
        ("DEL a b none", "2"),
        ("DEL c", "1"),
        ("SELECT 0", "OK"),
        ("SELECT 1", "ERR DB index is out of range"),
        ("CONFIG GET save", "save"),
        ("CONFIG GET appendonly", "appendonly\nno"),
        ("CLIENT SETNAME me", "OK"),
        ("CLIENT GETNAME", ""),
        ("COMMAND COUNT", "0"),
        ("NOSUCH a b", "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b'"),
        ("GET", "ERR wrong number of arguments for 'get' command"),
    ] {
        assert_eq!(cli(line), said, "{line}");
    }
    assert!(cli("INFO").contains("role:master"));
    // The newer protocol, with its own nil and maps.
    let resp3 = Command::new("redis-cli").args(["-3", "-p", &port, "GET", "none"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&resp3.stdout).trim(), "");
}

#[test]
fn a_connection_has_a_name_and_a_protocol() {
    let cluster = cluster();
    let [_, mut client, _] = clients(&cluster);
    assert_eq!(client.call(&["CLIENT", "GETNAME"]), "(nil)");
    assert_eq!(client.call(&["CLIENT", "SETNAME", "a b"]).split(' ').next(), Some("-ERR"));
    assert_eq!(client.call(&["CLIENT", "SETNAME", "me"]), "+OK");
    assert_eq!(client.call(&["CLIENT", "GETNAME"]), "me");
    // What was asked before HELLO is answered in the language of before.
    client.send(b"GET none\r\nHELLO 3\r\nGET none\r\nRESET\r\nGET none\r\nCLIENT GETNAME\r\n");
    assert_eq!(client.reply(), "(nil)");
    assert_eq!(client.reply(), "%7");
    let greeting: Vec<String> = (0..14).map(|_| client.reply()).collect();
    assert_eq!(greeting[..6], ["server", "redis", "version", "7.0.0", "proto", ":3"]);
    assert_eq!(client.reply(), "_");
    assert_eq!(client.reply(), "+RESET");
    assert_eq!(client.reply(), "(nil)");
    assert_eq!(client.reply(), "(nil)");
}

/// The deadline is the group's: it comes at every replica, without a write in between.
#[test]
fn keys_expire_for_everybody() {
    let cluster = cluster();
    let [mut a, mut b, mut c] = clients(&cluster);
    assert_eq!(a.call(&["SET", "soon", "v", "PX", "50"]), "+OK");
    assert_eq!(a.call(&["SET", "late", "v", "EX", "1000"]), "+OK");
    for client in [&mut a, &mut b, &mut c] {
        common::wait_for("the key to expire", || (client.call(&["GET", "soon"]) == "(nil)").then_some(()));
        assert_eq!(client.call(&["PTTL", "soon"]), ":-2");
        assert_eq!(client.call(&["DBSIZE"]), ":1");
        assert_eq!(client.call(&["GET", "late"]), "v");
    }
}

/// Requests of one connection depend on each other: whatever travels together, order is kept.
#[test]
fn what_is_sent_ahead_stays_in_order() {
    let cluster = cluster();
    let [_, mut client, _] = clients(&cluster);
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    let mut value = String::new();
    let call = |words: &[&str]| super::request(&words.iter().map(|w| w.as_bytes()).collect::<Vec<_>>());
    for n in 0..3000 {
        match rng.u8(0..6) {
            0 => {
                // Now and then so long that few fit a datagram.
                value = n.to_string().repeat(rng.usize(1..150));
                bytes.extend(call(&["SET", "k", &value]));
                expected.push("+OK".to_owned());
            }
            1 => {
                value.push('x');
                bytes.extend(call(&["APPEND", "k", "x"]));
                expected.push(format!(":{}", value.len()));
            }
            2 => {
                bytes.extend(call(&["GETSET", "k", "y"]));
                let old = if value.is_empty() { "(nil)".to_owned() } else { value };
                expected.push(old);
                value = "y".to_owned();
            }
            3 => {
                bytes.extend(call(&["PING"]));
                expected.push("+PONG".to_owned());
            }
            // In runs, and more than one datagram brings back.
            _ => {
                for run in 0..rng.usize(1..9) {
                    bytes.extend(call(&["GET", "k"]));
                    expected.push(if value.is_empty() { "(nil)".to_owned() } else { value.clone() });
                    bytes.extend(call(&["STRLEN", "k"]));
                    expected.push(format!(":{}", value.len()));
                    let many = vec!["k"; run + 1];
                    bytes.extend(call(&[&["EXISTS"][..], &many].concat()));
                    expected.push(format!(":{}", if value.is_empty() { 0 } else { run + 1 }));
                }
            }
        }
    }
    client.send(&bytes);
    for (n, expected) in expected.iter().enumerate() {
        assert_eq!(&client.reply(), expected, "reply {n}");
    }
}

#[test]
fn a_result_that_is_too_long_says_so() {
    let cluster = cluster();
    let mut client = Redis::connect(cluster.resp_address(1).unwrap());
    let value = "v".repeat(1 << 20);
    for key in ["a", "b", "c"] {
        assert_eq!(client.call(&["SET", key, &value]), "+OK");
    }
    let said = "-ERR the result is longer than this group returns at once; ask for less at a time";
    assert_eq!(client.call(&["MGET", "a", "b", "c"]), said);
    assert_eq!(client.call(&["GETSET", "a", "w"]), said, "a write returns less, and was not executed");
    assert_eq!(client.call(&["STRLEN", "a"]), format!(":{}", value.len()));
    assert_eq!(client.call(&["MGET", "a", "none", "b"]), "*3");
    for expected in [&value, "(nil)", &value] {
        assert!(client.reply() == expected);
    }
    // Sent ahead they are asked for in portions.
    client.send(&super::request(&[b"GET", b"c"]).repeat(9));
    for _ in 0..9 {
        assert!(client.reply() == value);
    }
}

#[test]
fn what_is_sent_ahead_travels_together() {
    let cluster = cluster();
    let [mut client, ..] = clients(&cluster);
    let ops = || {
        let statuses = cluster.statuses(common::PATIENCE).unwrap();
        statuses[0].as_ref().unwrap().replica.last_op.0
    };
    let before = ops();
    client.send(&super::request(&[b"INCR", b"n"]).repeat(1000));
    for n in 1..=1000 {
        assert_eq!(client.reply(), format!(":{n}"));
    }
    let taken = ops() - before;
    assert!(taken <= 1000 / 5, "{taken} ops for 1000 requests that were sent at once");
}

#[test]
fn a_command_may_have_thousands_of_keys() {
    let cluster = cluster();
    let [_, mut client, _] = clients(&cluster);
    let keys: Vec<String> = (0..2000).map(|n| format!("key:{n}")).collect();
    let with_values: Vec<&str> = keys.iter().flat_map(|key| [key.as_str(), &key[4..]]).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(client.call(&[&["MSET"], &with_values[..]].concat()), "+OK");
    assert_eq!(client.call(&["DBSIZE"]), ":2000");
    assert_eq!(client.call(&[&["MGET"], &keys[..]].concat()), "*2000");
    for n in 0..2000 {
        assert_eq!(client.reply(), n.to_string());
    }
    assert_eq!(client.call(&[&["EXISTS"], &keys[..]].concat()), ":2000");
    assert_eq!(client.call(&[&["DEL"], &keys[..]].concat()), ":2000");
    assert_eq!(client.call(&["DBSIZE"]), ":0");
    // As many as there may be.
    let most = vec!["k"; 65_535];
    assert_eq!(client.call(&[&["EXISTS"], &most[..]].concat()), ":0");
    assert_eq!(client.call(&[&["MGET"], &most[..]].concat()), "*65535");
    for _ in 0..65_535 {
        assert_eq!(client.reply(), "(nil)");
    }
    assert_eq!(client.call(&[&["MSET"], &most[1..]].concat()), "+OK");
    assert_eq!(client.call(&[&["DEL"], &most[..]].concat()), ":1");
}

/// What people type, and what Redis makes of it.
#[test]
fn lines_are_quoted_and_options_repeated_as_in_redis() {
    let cluster = cluster();
    let [_, mut client, _] = clients(&cluster);
    client.send(b"SET \"a \\x41\\n\" 'it\\'s'\r\nGET \"a A\\n\"\r\nECHO \"\"\r\n");
    assert_eq!([client.reply(), client.reply(), client.reply()], ["+OK", "it's", ""]);
    client.send(b"*-7\r\n*0\r\nSET k v NX NX\r\nSET k v EX 10 EX 100\r\nTTL k\r\n");
    assert_eq!([client.reply(), client.reply(), client.reply()], ["+OK", "+OK", ":100"]);
    client.send(b"PING\r\nSET \"k\r\n");
    assert_eq!(client.reply(), "+PONG");
    assert_eq!(client.reply(), "-ERR Protocol error: unbalanced quotes in request");
    assert!(client.is_closed());
}
