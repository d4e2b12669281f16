//! Redis clients: [`wire::next_request`] as a connection calls it, on bytes that arrive in any pieces, and
//! [`command::translate`] on what comes out.
//!
//! The first two bytes say how the rest is cut: a seed, and the longest piece.

use fastrand::Rng;
use paxos_demo::resp::command;
use paxos_demo::resp::wire::{self, Progress, Protocol, ProtocolError, Reply};
use paxos_demo::state_machine::Command;

use super::Target;
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "resp",
    run,
    seeds,
    words: &[
        b"*1\r\n$4\r\nPING\r\n",
        b"*-1\r\n",
        b"$-1\r\n",
        b"\r\n",
        b"$1048576\r\n",
        b"$1048577\r\n",
        b"*65536\r\n",
        b"*65537\r\n",
        b"9223372036854775807",
        b"-9223372036854775808",
        b"\"\\x41\\n\"",
        b"'",
        b"set",
        b"PXAT",
        b"KEEPTTL",
        b"GET",
        b"NX",
    ],
    bytes_max: 512,
    thousands: 1000,
};

type Requests = Vec<Vec<Vec<u8>>>;

fn seeds() -> Vec<Vec<u8>> {
    let lines = [
        "PING\r\n",
        "set k v\r\nget k\r\n",
        "set k \"a b\\x00\\n\" ex 5 nx\r\n",
        "'quoted' \"\" k\n\r\n\n",
        "\"open\r\n",
        "*0\r\n*-5\r\n*1\r\n$4\r\nPING\r\n",
        "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$-1\r\n",
        "*1\r\n+PING\r\n",
        "*1\r\n$2\r\nPING\r\n",
        "*99999\r\n",
    ];
    let commands = [
        "SET k v PXAT 99999999999999 GET KEEPTTL",
        "SETEX k 10 v",
        "PSETEX k 10 v",
        "SETNX k v",
        "GETSET k v",
        "MSET a 1 b 2",
        "MGET a b",
        "DEL a b",
        "UNLINK a",
        "EXISTS a a",
        "INCR n",
        "DECRBY n -9223372036854775808",
        "INCRBY n 5",
        "APPEND k v",
        "STRLEN k",
        "EXPIRE k 5 GT",
        "PEXPIREAT k 99 XX",
        "PERSIST k",
        "TTL k",
        "DBSIZE",
        "NOSUCH a b",
    ];
    let arrays = commands.map(|line| array(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()));
    let pipeline = arrays.concat();
    let inputs = lines.iter().map(|line| line.as_bytes().to_vec()).chain(arrays).chain([pipeline]);
    inputs.map(|bytes| [&[7, 5], &bytes[..]].concat()).collect()
}

/// A request as programs send it.
fn array(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// What a connection makes of bytes that arrive in these pieces, and the error that ends it.
fn requests<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Requests, Option<ProtocolError>) {
    let (mut input, mut progress, mut found) = (Vec::new(), Progress::default(), Requests::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut taken = 0;
        loop {
            let (rest, mut text) = (&input[taken..], Vec::new());
            // The list of arguments and the decoder's own, two or three words for each six bytes.
            let next = bounded(32 * rest.len() + 4096, || wire::next_request(rest, &mut progress, &mut text));
            match next {
                Ok(Some((arguments, length))) => {
                    assert!((1..=rest.len()).contains(&length), "a request of {length} bytes");
                    taken += length;
                    found.push(arguments.iter().map(|argument| argument.to_vec()).collect());
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        input.drain(..taken);
    }
    (found, None)
}

fn run(input: &[u8]) {
    let [seed, longest, bytes @ ..] = input else { return };
    let whole = requests([bytes].into_iter());
    let mut rng = Rng::with_seed(u64::from(*seed));
    let mut rest = bytes;
    let pieces = std::iter::from_fn(|| {
        let (piece, tail) = rest.split_at(rest.len().min(1 + rng.usize(..=usize::from(*longest))));
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(requests(pieces), whole, "requests do not depend on how they are cut");
    if bytes.len() <= 64 {
        assert_eq!(requests(bytes.chunks(1)), whole, "nor on whether they are typed");
    }

    for request in &whole.0 {
        let arguments: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        let (again, error) = requests([&array(&arguments)[..]].into_iter());
        assert_eq!((again.as_slice(), error), (&[request.clone()][..], None), "as programs would send it");
        if let [name, rest @ ..] = &arguments[..] {
            translate(name, rest, &arguments);
        }
    }
    if let Some(error) = whole.1 {
        one_line(&Reply::Error(format!("ERR Protocol error: {error}")));
    }
}

fn translate(name: &[u8], rest: &[&[u8]], arguments: &[&[u8]]) {
    let name = String::from_utf8_lossy(&name.to_ascii_lowercase()).into_owned();
    match command::translate(&name, rest) {
        Ok((command, _)) => {
            let mut bytes = Vec::new();
            command.encode(&mut bytes).expect("arguments are bounded");
            assert_eq!(Command::parse(&bytes), Ok(command), "the group understands what was asked");
        }
        Err(refusal) => one_line(&Reply::Error(refusal.text(&name, arguments))),
    }
}

/// An error ends with its line, so nobody's bytes may end it earlier.
fn one_line(reply: &Reply) {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut output = Vec::new();
        wire::write_reply(reply, protocol, &mut output);
        let line = output.strip_suffix(b"\r\n").expect("a line");
        let ends = line.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
        assert_eq!((line[0], ends), (b'-', 0), "{}", output.escape_ascii());
        assert!(line.len() < 4096, "an error of {} bytes", line.len());
    }
}
