//! Reads get their proof, and their answers in portions.

use super::*;

#[test]
fn a_read_takes_no_op_but_waits_for_one_that_was_sent_after_it() {
    let mut replica = leading(3);
    ask(&mut replica, 0, 7, 1, &set("v"));
    drain(&mut replica);
    // Two reads, one barrier.
    ask(&mut replica, 0, 8, READ | 1, &get());
    ask(&mut replica, 0, 9, READ | 1, &get());
    let actions = drain(&mut replica);
    assert_eq!(prepares(&actions), [(2, 2)]);
    replica.on_quorum(0, op(1));
    assert_eq!(replies(&drain(&mut replica)), [(7, ReplyStatus::Ok, vec![1])], "the write proves nothing");
    replica.on_quorum(0, op(2));
    let value = || (ReplyStatus::Ok, b"\x02v".to_vec());
    let expected = [8, 9].map(|client| (client, value().0, value().1));
    assert_eq!(replies(&drain(&mut replica)), expected);

    // A write that comes along is proof enough.
    ask(&mut replica, 0, 8, READ | 2, &get());
    ask(&mut replica, 0, 7, 2, &set("w"));
    let actions = drain(&mut replica);
    let [Action::Prepare { payload, .. }, ..] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(crate::batch::open(payload).unwrap().1.count(), 1);
    replica.on_quorum(0, op(3));
    let written = [(7, ReplyStatus::Ok, vec![1]), (8, ReplyStatus::Ok, b"\x02w".to_vec())];
    assert_eq!(replies(&drain(&mut replica)), written);
}

/// A read that is proved by nothing newer than itself would be served by a leader that was deposed.
#[test]
fn reads_die_with_the_leadership() {
    let mut replica = leading(3);
    ask(&mut replica, 0, 8, READ | 1, &get());
    drain(&mut replica);
    let left = PeerMessage::StartViewChange { view: View(1) };
    replica.on_peer_message(0, id(1), life(1), left);
    assert_eq!(drain(&mut replica), [Action::Freeze]);
    replica.on_quorum(0, op(1));
    replica.on_frozen(0, 0);
    assert_eq!(replies(&drain(&mut replica)), []);
    assert_eq!(replica.status().commit, op(0));
}

/// Many long results are no reason to be silent.
#[test]
fn reads_are_answered_in_portions() {
    let mut replica = leading_with(ReplicaConfig { payload_bytes_max: 1300, ..config(0, 3) });
    let value = "v".repeat(1 << 20);
    let mut set = Vec::new();
    Command::Set { key: b"k", value: value.as_bytes() }.encode(&mut set).unwrap();
    replica.service.apply(op(0), 0, BatchEntry::whole(0, 0, &set));
    for client in 1..=20 {
        ask(&mut replica, 0, client, READ | 1, &get());
    }
    assert_eq!(prepares(&drain(&mut replica)), [(1, 1)]);
    replica.on_quorum(0, op(1));
    let mut portions = vec![replies(&drain(&mut replica)).len()];
    while replica.next_deadline() == Some(0) {
        replica.on_tick(0);
        portions.push(replies(&drain(&mut replica)).len());
    }
    assert_eq!(portions, [4, 4, 4, 4, 4]);
}

#[test]
fn long_reads_that_wait_are_bounded_in_bytes() {
    let mut replica = leading_with(ReplicaConfig { payload_bytes_max: 1300, ..config(0, 3) });
    let key = vec![b'k'; 1 << 20];
    let mut get = Vec::new();
    Command::Get { key: &key }.encode(&mut get).unwrap();
    for client in 1..=70 {
        replica.on_request(
            0,
            address(client as u16),
            ClientRequest { client, request: READ | 1, attempt: 1, command: &get },
        );
    }
    let refused = replies(&drain(&mut replica));
    assert_eq!(refused.len(), 7, "63 of them are just below 64 MiB");
    assert!(refused.iter().all(|(_, status, _)| *status == ReplyStatus::TryAgain));
    replica.on_quorum(0, op(1));
    assert_eq!(replies(&drain(&mut replica)).len(), 63);
    for client in 1..=63 {
        replica.on_request(
            0,
            address(client as u16),
            ClientRequest { client, request: READ | 2, attempt: 1, command: &get },
        );
    }
    assert_eq!(replies(&drain(&mut replica)), [], "room again");
}
