//! Datagrams of clients, and what they carry: [`Packet::parse`], [`Command::parse`], [`Outcome::parse`].

use electrode::types::{ReplicaId, View};
use paxos_demo::message::{
    self, ClientReply, ClientRequest, Have, Packet, Part, ReplyStatus, encode_status_reply,
    encode_status_request,
};
use paxos_demo::state_machine::{Command, Expiry, Outcome, SetCondition, SetOptions, Strings};

use super::Target;
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "client_message",
    run,
    seeds,
    words: &[
        b"\x02\x08\x01\x00\x00\x00",
        b"\x0f\x00\x02\x00\x00\x00",
        b"\x05\xff\xff\xff\xff",
        b"\x08\x00\x01\x00\x00\x00k",
        b"\xff\xff\xff\xff",
    ],
    bytes_max: 1400,
    thousands: 1000,
};

/// One of each command.
pub(super) fn commands() -> Vec<Vec<u8>> {
    let (key, value) = (&b"key"[..], &b"value"[..]);
    let keys: [&[u8]; 2] = [b"a", b"key"];
    let strings = Strings::new(&keys);
    let options = [
        SetOptions { condition: Some(SetCondition::Absent), expiry: Expiry::In(5), return_old: true },
        SetOptions { condition: Some(SetCondition::Present), expiry: Expiry::Keep, return_old: false },
        SetOptions { condition: None, expiry: Expiry::At(-1), return_old: true },
    ];
    let mut commands = vec![
        Command::Get { key },
        Command::Set { key, value },
        Command::Del { key },
        Command::DelMany { keys: strings },
        Command::Exists { keys: strings },
        Command::MGet { keys: strings },
        Command::MSet { pairs: strings },
        Command::IncrBy { key, delta: i64::MIN },
        Command::Append { key, value },
        Command::Strlen { key },
        Command::Expire { key, ms: 7, absolute: true, condition: None },
        Command::Persist { key },
        Command::Ttl { key },
        Command::DbSize,
    ];
    commands.extend(options.map(|options| Command::SetWith { key, value, options }));
    let encode = |command: &Command<'_>| {
        let mut bytes = Vec::new();
        command.encode(&mut bytes).expect("short");
        bytes
    };
    let mut encoded: Vec<_> = commands.iter().map(encode).collect();
    let several: Vec<&[u8]> = encoded[..3].iter().map(Vec::as_slice).collect();
    let many = encode(&Command::Many { commands: Strings::new(&several) });
    encoded.push(many);
    encoded
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        seeds.push(bytes);
    };
    for command in &commands() {
        let request = ClientRequest { client: 4, request: 1, attempt: 1, command };
        add(&|out| request.encode(out).expect("short"));
    }
    let reply = ClientReply {
        status: ReplyStatus::Ok,
        leader: ReplicaId(2),
        view: View(3),
        client: 4,
        request: 1,
        attempt: 1,
        result: b"\x02value",
    };
    let large = ClientReply::describe_large(b"a long result");
    let values = b"\x05\x01\x00\x00\x00a\xff\xff\xff\xff";
    add(&|out| reply.encode(out));
    add(&|out| ClientReply { result: b"\x04\x01\x00\x00\x00\x00\x00\x00\x00", ..reply }.encode(out));
    add(&|out| ClientReply { result: values, ..reply }.encode(out));
    add(&|out| ClientReply { result: b"\x06\x03", ..reply }.encode(out));
    add(&|out| ClientReply { status: ReplyStatus::NotLeader, result: b"", ..reply }.encode(out));
    add(&|out| ClientReply { status: ReplyStatus::Large, result: &large, ..reply }.encode(out));
    let part =
        Part { client: 4, request: 1, attempt: 2, total_bytes: 10, offset: 7, asks: true, bytes: b"abc" };
    add(&|out| part.encode(out));
    add(&|out| Have { client: 4, request: 1, have: 3 }.encode(out));
    add(&|out| encode_status_request(9, 0, out));
    add(&|out| encode_status_request(9, 40, out));
    add(&|out| encode_status_reply(9, b"{}", out));
    seeds
}

fn run(input: &[u8]) {
    let Ok(packet) = bounded(0, || Packet::parse(input)) else { return };
    let mut written = Vec::new();
    match packet {
        Packet::Request(request) => {
            request.encode(&mut written).expect("it fitted before");
            command(request.command);
            let mut copy = input.to_vec();
            ClientRequest::set_attempt(&mut copy, 77);
            assert_eq!(Packet::parse(&copy), Ok(Packet::Request(ClientRequest { attempt: 77, ..request })));
        }
        Packet::Reply(reply) => {
            reply.encode(&mut written);
            assert_eq!(reply.encoded_bytes(), written.len());
            outcome(reply.result);
            if let Some((bytes, checksum)) = reply.large() {
                let again = [&(bytes as u32).to_le_bytes()[..], &checksum.to_le_bytes()].concat();
                assert_eq!(reply.result, again, "all of a description is read");
            }
        }
        Packet::Part(part) => {
            part.encode(&mut written);
            assert!(part.offset as usize + part.bytes.len() <= part.total_bytes as usize);
        }
        Packet::Have(have) => have.encode(&mut written),
        Packet::StatusRequest { nonce, bytes } => {
            assert_eq!(bytes, input.len(), "a reply may not be longer");
            encode_status_request(nonce, bytes, &mut written);
        }
        Packet::StatusReply { nonce, json } => encode_status_reply(nonce, json, &mut written),
        Packet::Peer(body) => written = [&[message::TAG_PEER], body].concat(),
    }
    assert_eq!(written, input, "there is one way to write a datagram");
}

/// Bytes that are a command are written again in one way, and so is what is in it.
pub(super) fn command(bytes: &[u8]) {
    let Ok(command) = bounded(0, || Command::parse(bytes)) else { return };
    let mut written = Vec::new();
    command.encode(&mut written).expect("it fitted before");
    assert_eq!(written, bytes, "there is one way to write a command");
    if let Command::Many { commands } = command {
        assert!(
            commands.iter().all(|inner| !matches!(Command::parse(inner), Err(_) | Ok(Command::Many { .. })))
        );
        assert_eq!(commands.iter().count(), commands.len());
    }
    if command.has_short_result() && command.is_read() {
        assert!(!matches!(command, Command::Get { .. } | Command::MGet { .. }));
    }
}

/// Likewise for a result.
pub(super) fn outcome(bytes: &[u8]) {
    let Ok(outcome) = bounded(0, || Outcome::parse(bytes)) else { return };
    let mut written = Vec::new();
    outcome.encode(&mut written);
    assert_eq!(written, bytes, "there is one way to write a result");
    if let Outcome::Values(values) | Outcome::Results(values) = outcome {
        let taken: usize = values.iter().map(|value| 4 + value.map_or(0, <[u8]>::len)).sum();
        assert_eq!(taken + 1, bytes.len(), "every value is read");
    }
}
