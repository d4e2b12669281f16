//! Commands and results in parts.

use super::*;
use crate::message::ClientReply;
use crate::message::{Have, Part, window};
use crate::session::READ;
use crate::state_machine::{Outcome, SetOptions};

const LENGTH: usize = 9000;

fn command() -> Vec<u8> {
    set(&"v".repeat(LENGTH))
}

/// A client sends one window of its command.
fn send(replica: &mut Replica, client: u64, request: u64, command: &[u8], from: usize) -> Vec<Action> {
    for part in window(client, request, 1, command, from, 400) {
        replica.on_part(0, address(client as u16), part);
    }
    drain(replica)
}

/// What the leader has, by its only answer.
fn have(actions: &[Action]) -> usize {
    let [Action::Reply { bytes, .. }] = actions else { panic!("{actions:?}") };
    let Ok(Packet::Have(have)) = Packet::parse(bytes) else { panic!("{bytes:?}") };
    have.have as usize
}

/// A client sends all of its command; what came of the last window.
fn upload(replica: &mut Replica, client: u64, request: u64, command: &[u8]) -> Vec<Action> {
    let mut from = 0;
    loop {
        let actions = send(replica, client, request, command, from);
        if !matches!(&actions[..], [Action::Reply { bytes, .. }] if matches!(Packet::parse(bytes), Ok(Packet::Have(_))))
        {
            return actions;
        }
        assert!(have(&actions) > from);
        from = have(&actions);
    }
}

fn ops(command: &[u8]) -> u64 {
    command.len().div_ceil(config(0, 3).part_bytes_max()) as u64
}

#[test]
fn a_command_in_parts_is_consecutive_ops_and_one_reply() {
    let mut replica = leading(3);
    let command = command();
    let actions = upload(&mut replica, 7, 1, &command);
    let last = ops(&command);
    assert!(last > 20);
    // All of them leave at once, one op and one packet each.
    assert_eq!(prepares(&actions), (1..=last).map(|op| (op, op)).collect::<Vec<_>>());
    // A copy of it, or of its end, is not put together again.
    assert_eq!(send(&mut replica, 7, 1, &command, 5000), []);
    replica.on_quorum(0, op(last - 1));
    assert_eq!(replies(&drain(&mut replica)), []);
    assert_eq!(replica.status().keys, 0, "nothing of it happened");
    replica.on_quorum(0, op(last));
    assert_eq!(replies(&drain(&mut replica)), [(7, ReplyStatus::Ok, vec![1])]);
    // Its reply was lost: the table has it.
    assert_eq!(replies(&send(&mut replica, 7, 1, &command, 5000)), [(7, ReplyStatus::Ok, vec![1])]);
    // It cannot be read back in one datagram: it is pulled.
    ask(&mut replica, 0, 7, READ | 1, &get());
    drain(&mut replica);
    replica.on_quorum(0, op(last + 1));
    let announced = replies(&drain(&mut replica));
    let (mut result, pull) = (Vec::new(), |have| Have { client: 7, request: READ | 1, have });
    while result.len() < 1 + LENGTH {
        replica.on_have(0, address(7), pull(result.len() as u32));
        for action in drain(&mut replica) {
            let Action::Reply { bytes, .. } = action else { panic!() };
            assert!(bytes.len() <= 400);
            let Ok(Packet::Part(part)) = Packet::parse(&bytes) else { panic!() };
            assert_eq!(part.offset as usize, result.len());
            result.extend_from_slice(part.bytes);
        }
    }
    assert_eq!(announced, [(7, ReplyStatus::Large, ClientReply::describe_large(&result).to_vec())]);
    assert_eq!(result, [b"\x02", "v".repeat(LENGTH).as_bytes()].concat());
    // It goes nowhere but to whoever read.
    replica.on_have(0, address(8), pull(0));
    assert_eq!(replies(&drain(&mut replica)), [(8, ReplyStatus::TryAgain, vec![])]);
    // A result that is not there, or not any more.
    replica.on_have(0, address(7), Have { request: READ | 2, ..pull(0) });
    assert_eq!(replies(&drain(&mut replica)), [(7, ReplyStatus::TryAgain, vec![])]);
    replica.on_tick(60_000 * MS);
    drain(&mut replica);
    replica.on_have(60_000 * MS, address(7), pull(0));
    assert_eq!(replies(&drain(&mut replica)), [(7, ReplyStatus::TryAgain, vec![])]);
}

#[test]
fn one_that_finds_no_room_is_tried_again_without_sending_all_of_it() {
    let command = command();
    let room = 2 * ops(&command) + 1;
    let mut replica = leading_with(ReplicaConfig { window_ops: room, ..config(0, 3) });
    assert!(replies(&upload(&mut replica, 1, 1, &command)).is_empty());
    assert!(replies(&upload(&mut replica, 2, 1, &command)).is_empty());
    let turned_down = upload(&mut replica, 3, 1, &command);
    assert_eq!(replies(&turned_down), [(3, ReplyStatus::TryAgain, vec![])]);
    ask(&mut replica, 0, 4, 1, &set("small"));
    assert_eq!(replies(&drain(&mut replica)), [], "there is room for one more op");
    replica.on_quorum(0, op(ops(&command)));
    drain(&mut replica);
    let actions = send(&mut replica, 3, 1, &command, command.len() - 100);
    assert_eq!(replies(&actions), []);
    assert_eq!(replica.status().counters.requests_accepted, 4);
}

#[test]
fn parts_that_cannot_be_are_turned_away() {
    let mut replica = leading(3);
    let part = |total_bytes, offset, bytes: &'static [u8], asks| Part {
        client: 1,
        request: 1,
        attempt: 1,
        total_bytes,
        offset,
        asks,
        bytes,
    };
    let mut answers = |part| {
        replica.on_part(0, address(1), part);
        drain(&mut replica)
    };
    assert_eq!(answers(part(u32::MAX, 0, b"x", false)), []);
    assert_eq!(replies(&answers(part(u32::MAX, 0, b"x", true))), [(1, ReplyStatus::BadRequest, vec![])]);
    assert_eq!(answers(part(10, 0, b"x", false)), []);
    assert_eq!(have(&answers(part(10, 5, b"x", true))), 1);
    // Nonsense is refused when it is whole.
    assert_eq!(replies(&answers(part(10, 1, b"nonsense!", true))), [(1, ReplyStatus::BadRequest, vec![])]);
    // An unknown session is told before it has sent everything.
    assert_eq!(
        replies(&answers(Part { request: 2, ..part(10, 0, b"x", true) })),
        [(1, ReplyStatus::SessionUnknown, vec![])]
    );
    let mut follower = following(3);
    for (asks, expected) in [(false, 0), (true, 1)] {
        follower.on_part(0, address(1), part(10, 0, b"x", asks));
        let said = replies(&drain(&mut follower));
        assert_eq!(said, vec![(1, ReplyStatus::NotLeader, vec![]); expected]);
    }
}

/// The network delivers a part of what is long done, while the session's next command is on its way.
#[test]
fn a_late_copy_does_not_disturb_what_came_after_it() {
    let mut replica = leading(3);
    let command = set(&"v".repeat(3 * LENGTH));
    assert!(!prepares(&upload(&mut replica, 7, 1, &command)).is_empty());
    while replica.status().keys == 0 {
        let last = replica.status().last_op;
        replica.on_quorum(0, last);
        drain(&mut replica);
    }
    let known = have(&send(&mut replica, 7, 2, &command, 0));
    for from in [0, 5000] {
        // It is answered, since its result is known, and nothing else happens.
        send(&mut replica, 7, 1, &command, from);
        let mut parts: Vec<Part<'_>> = window(7, 1, 1, &command, from, 400).collect();
        parts.truncate(3);
        parts.into_iter().for_each(|part| replica.on_part(0, address(7), part));
        drain(&mut replica);
    }
    assert!(have(&send(&mut replica, 7, 2, &command, known)) > known);
}

/// However long the old value is: a write that was applied says what it returned.
#[test]
fn the_result_of_what_was_applied_is_told() {
    for length in (900..1500).step_by(37) {
        let payload_bytes_max = crate::config::PAYLOAD_BYTES_MIN as usize;
        let mut replica = leading_with(ReplicaConfig { payload_bytes_max, ..config(0, 3) });
        let value = "v".repeat(length);
        upload(&mut replica, 1, 1, &set(&value));
        let mut getset = Vec::new();
        let options = SetOptions { return_old: true, ..SetOptions::default() };
        Command::SetWith { key: b"k", value: b"new", options }.encode(&mut getset).unwrap();
        ask(&mut replica, 0, 2, 1, &getset);
        ask(&mut replica, 0, 3, READ | 1, &strlen());
        drain(&mut replica);
        let last = replica.status().last_op;
        replica.on_quorum(0, last);
        let said = replies(&drain(&mut replica));
        let [.., (2, ReplyStatus::Ok, told), (3, ReplyStatus::Ok, found)] = &said[..] else {
            panic!("{said:?}")
        };
        let applied = Outcome::parse(found) == Ok(Outcome::Integer(3));
        let told = Outcome::parse(told).unwrap();
        assert_eq!(told == Outcome::Value(value.as_bytes()), applied, "{length}: {told:?}");
    }
}

fn strlen() -> Vec<u8> {
    let mut bytes = Vec::new();
    Command::Strlen { key: b"k" }.encode(&mut bytes).unwrap();
    bytes
}
