//! Requests become ops, ops become Prepares, quorums become replies.

use super::*;
use crate::batcher::Batching;
use crate::state_machine::COMMAND_HEADER_BYTES;

/// Reads number themselves apart from writes.
const READ: u64 = 1 << 63;

#[test]
fn a_request_is_prepared_at_once_and_answered_on_its_quorum() {
    let mut replica = leading(3);
    let command = set("v");
    ask(&mut replica, 0, 7, 1, &command);
    let expected =
        Action::Prepare { first: op(1), last: op(1), commit: op(0), payload: payload(&[(7, 1, &command)]) };
    assert_eq!(drain(&mut replica), [expected]);
    assert_eq!(replica.status().applied, op(0), "nothing is applied before its quorum");

    replica.on_quorum(0, op(1));
    assert_eq!(replies(&drain(&mut replica)), [(7, ReplyStatus::Ok, vec![1])]);
}

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

#[test]
fn a_group_of_one_works() {
    let mut replica = leading(1);
    ask(&mut replica, 0, 1, 1, &set("v"));
    assert_eq!(prepares(&drain(&mut replica)), [(1, 1)]);
    replica.on_quorum(0, op(1));
    assert_eq!(replies(&drain(&mut replica)).len(), 1);
    replica.on_tick(50 * MS);
    assert_eq!(replica.status().log_bytes, 0);
}

#[test]
fn every_kind_of_repetition_has_its_answer() {
    let mut replica = leading(3);
    ask(&mut replica, 0, 1, 1, &set("a"));
    assert_eq!(prepares(&drain(&mut replica)), [(1, 1)]);

    // In flight: nothing happens, but the reply goes to where the client is now.
    let again = ClientRequest { client: 1, request: 1, attempt: 2, command: &set("a") };
    replica.on_request(0, address(99), again);
    assert_eq!(drain(&mut replica), []);
    replica.on_quorum(0, op(1));
    assert_eq!(replies(&drain(&mut replica)), [(99, ReplyStatus::Ok, vec![1])]);

    // Committed: the cached reply, and no second op.
    ask(&mut replica, 0, 1, 1, &set("a"));
    assert_eq!(replies(&drain(&mut replica)), [(1, ReplyStatus::Ok, vec![1])]);
    assert_eq!(replica.status().last_op, op(1));

    // Older than that: the client has moved on.
    ask(&mut replica, 0, 1, 2, &set("b"));
    drain(&mut replica);
    ask(&mut replica, 0, 1, 1, &set("a"));
    assert_eq!(drain(&mut replica), []);
    replica.on_quorum(0, op(2));
    drain(&mut replica);
    ask(&mut replica, 0, 1, 1, &set("a"));
    assert_eq!(drain(&mut replica), []);
    assert_eq!(replica.status().last_op, op(2));
}

#[test]
fn what_the_table_forgot_is_not_executed_again() {
    let mut replica = leading_with(ReplicaConfig { client_sessions_max: 1, ..config(0, 3) });
    for (at, client) in [(1, 10), (2, 11)] {
        ask(&mut replica, 0, client, 1, &set("v"));
        drain(&mut replica);
        replica.on_quorum(0, op(at));
    }
    drain(&mut replica);
    ask(&mut replica, 0, 10, 2, &set("v"));
    assert_eq!(replies(&drain(&mut replica)), [(10, ReplyStatus::SessionUnknown, vec![])]);
}

#[test]
fn nonsense_is_refused_before_it_gets_an_op() {
    let mut replica = leading(3);
    let too_long = set(&"x".repeat(config(0, 3).command_bytes_max()));
    for (request, command) in [(1, &b"nonsense"[..]), (1, &too_long), (0, &set("v"))] {
        ask(&mut replica, 0, 1, request, command);
        assert_eq!(replies(&drain(&mut replica)), [(1, ReplyStatus::BadRequest, vec![])]);
    }
    // The longest that takes one op can be read back in one datagram.
    let room = config(0, 3).part_bytes_max() - COMMAND_HEADER_BYTES - "k".len();
    let longest = "x".repeat(room);
    ask(&mut replica, 0, 1, 1, &set(&longest));
    replica.next_action();
    replica.on_quorum(0, op(1));
    ask(&mut replica, 0, 1, READ | 1, &get());
    drain(&mut replica);
    replica.on_quorum(0, op(2));
    let actions = drain(&mut replica);
    assert_eq!(replies(&actions)[0].2.len(), longest.len() + 1);
    assert!(matches!(&actions[0], Action::Reply { bytes, .. } if bytes.len() <= 400));
}

#[test]
fn others_are_told_who_leads() {
    let mut replica = following(3);
    replica.on_request(
        0,
        address(5),
        ClientRequest { client: 5, request: 1, attempt: 1, command: &set("v") },
    );
    let [Action::Reply { bytes, .. }] = &drain(&mut replica)[..] else { panic!() };
    let Ok(Packet::Reply(reply)) = Packet::parse(bytes) else { panic!() };
    assert_eq!((reply.status, reply.leader, reply.request), (ReplyStatus::NotLeader, id(0), 1));
}

#[test]
fn auto_batches_what_waits_while_the_pipeline_is_full() {
    let mut replica = leading_with(ReplicaConfig { pipeline_batches: 2, ..config(0, 3) });
    for client in 1..=2 {
        ask(&mut replica, 0, client, 1, &set("v"));
        assert_eq!(prepares(&drain(&mut replica)), [(client, client)], "no delay while there is room");
    }
    for client in 3..=6 {
        ask(&mut replica, 0, client, 1, &set("v"));
        assert_eq!(drain(&mut replica), []);
    }
    replica.on_quorum(0, op(1));
    assert_eq!(prepares(&drain(&mut replica)), [(3, 6)]);
    // Many at once, and then the question what to do: one batch, as far as a payload holds them.
    replica.on_quorum(0, op(6));
    for client in 10..30 {
        ask(&mut replica, 0, client, 1, &set("v"));
    }
    assert_eq!(prepares(&drain(&mut replica)), [(7, 16), (17, 26)]);
}

#[test]
fn one_request_a_prepare_pipelines_up_to_the_window() {
    let batching = Batching::One;
    let mut replica = leading_with(ReplicaConfig { batching, window_ops: 3, ..config(0, 3) });
    for client in 1..=5 {
        ask(&mut replica, 0, client, 1, &set("v"));
    }
    let actions = drain(&mut replica);
    assert_eq!(prepares(&actions), [(1, 1), (2, 2), (3, 3)]);
    let refused = [(4, ReplyStatus::TryAgain, vec![]), (5, ReplyStatus::TryAgain, vec![])];
    assert_eq!(replies(&actions), refused);
    replica.on_quorum(0, op(1));
    drain(&mut replica);
    ask(&mut replica, 0, 4, 1, &set("v"));
    assert_eq!(prepares(&drain(&mut replica)), [(4, 4)], "told to try again means that nothing was done");
}

#[test]
fn an_abandoned_request_commits_unanswered_and_its_successor_is_answered() {
    let mut replica = leading(3);
    ask(&mut replica, 0, 1, 1, &set("a"));
    drain(&mut replica);
    ask(&mut replica, 0, 1, 2, &set("v"));
    drain(&mut replica);
    replica.on_quorum(0, op(2));
    assert_eq!(replies(&drain(&mut replica)), [(1, ReplyStatus::Ok, vec![1])]);
}

#[test]
fn a_quorum_within_a_batch_commits_that_much() {
    let mut replica = leading_with(ReplicaConfig { pipeline_batches: 1, ..config(0, 3) });
    for client in 1..=3 {
        ask(&mut replica, 0, client, 1, &set("v"));
    }
    assert_eq!(prepares(&drain(&mut replica)), [(1, 3)]);
    replica.on_quorum(0, op(2));
    assert_eq!(replies(&drain(&mut replica)).len(), 2);
    replica.on_quorum(0, op(1));
    assert_eq!(drain(&mut replica), [], "an old count changes nothing");
    replica.on_quorum(0, op(3));
    assert_eq!(replies(&drain(&mut replica)), [(3, ReplyStatus::Ok, vec![1])]);
}

#[test]
fn commits_ride_on_prepares_and_are_announced_when_there_are_none() {
    let mut replica = leading(3);
    ask(&mut replica, 0, 1, 1, &set("v"));
    drain(&mut replica);
    replica.on_quorum(10, op(1));
    ask(&mut replica, 20, 2, 1, &set("v"));
    let actions = drain(&mut replica);
    assert!(matches!(actions[..], [Action::Reply { .. }, Action::Prepare { commit: OpNumber(1), .. }]));

    replica.on_acked(id(1), op(2));
    replica.on_acked(id(2), op(2));
    replica.on_quorum(30, op(2));
    drain(&mut replica);
    assert_eq!(replica.next_deadline(), Some(30 + MS));
    replica.on_tick(30 + MS);
    assert_eq!(drain(&mut replica), [Action::CommitNotice { commit: op(2) }]);

    // From then on a heartbeat, and nothing else once the log is empty.
    for beat in 1..=3 {
        let at = 30 + MS + beat * 50 * MS;
        while let Some(deadline) = replica.next_deadline().filter(|deadline| *deadline < at) {
            replica.on_tick(deadline);
            let notice = |action: &Action| matches!(action, Action::CommitNotice { .. });
            assert!(!drain(&mut replica).iter().any(notice), "at {deadline}");
        }
        assert_eq!(replica.next_deadline(), Some(at));
        replica.on_tick(at);
        assert_eq!(drain(&mut replica), [Action::CommitNotice { commit: op(2) }]);
    }
}

#[test]
fn the_log_forgets_what_everybody_holds_and_says_so() {
    let mut replica = leading(3);
    for client in 1..=2 {
        ask(&mut replica, 0, client, 1, &set("v"));
        drain(&mut replica);
    }
    replica.on_quorum(0, op(2));
    replica.on_acked(id(1), op(2));
    replica.on_acked(id(2), op(1));
    drain(&mut replica);
    replica.on_tick(50 * MS);
    let stable = PeerMessage::Stable { view: View(0), op: op(1) };
    let actions = drain(&mut replica);
    for to in [id(1), id(2)] {
        assert!(actions.contains(&Action::Send { to, message: stable.clone() }));
    }
    assert_eq!(replica.status().log_first_op, op(2));
}

#[test]
fn a_dead_member_does_not_make_the_log_grow_for_ever() {
    let mut replica = leading_with(ReplicaConfig { log_bytes_max: 100, ..config(0, 3) });
    for at in 1..=20 {
        ask(&mut replica, 0, at, 1, &set("v"));
        drain(&mut replica);
        replica.on_quorum(0, op(at));
    }
    replica.on_acked(id(1), op(20));
    drain(&mut replica);
    replica.on_tick(50 * MS);
    assert!(replica.status().log_bytes <= 100);
    let oldest = replica.status().log_first_op;
    drain(&mut replica);

    // It comes back and is told.
    let question = PeerMessage::NeedPrepares { view: View(0), have: op(3), upto: op(20) };
    replica.on_peer_message(60 * MS, id(2), life(2), question);
    let gone = PeerMessage::StateGone { view: View(0), oldest };
    assert_eq!(drain(&mut replica), [Action::Send { to: id(2), message: gone }]);
}

/// Who asks for a snapshot hears at once that it will come, and asks on.
#[test]
fn a_snapshot_that_is_being_encoded_is_announced() {
    let mut replica = leading(3);
    let question = PeerMessage::GetSnapshot { op: op(0), offset: 0 };
    replica.on_peer_message(0, id(1), life(1), question.clone());
    assert_eq!(drain(&mut replica), [], "there is no state yet");
    ask(&mut replica, 0, 1, 1, &set("v"));
    drain(&mut replica);
    replica.on_quorum(0, op(1));
    drain(&mut replica);
    replica.on_peer_message(0, id(1), life(1), question);
    let (view, total_bytes, offset) = (View(0), 0, 0);
    let chunk = PeerMessage::SnapshotChunk { view, op: op(1), total_bytes, offset, bytes: Bytes::new() };
    let actions = drain(&mut replica);
    assert!(matches!(actions[0], Action::EncodeSnapshot(_)), "{actions:?}");
    assert_eq!(actions[1..], [Action::Send { to: id(1), message: chunk }]);
}

/// A clock that is put back must not stop the time of the group.
#[test]
fn the_replicated_time_goes_on_whatever_the_clock_does() {
    let mut replica = leading(3);
    let mut stamp = |client: u64, now_ms: u64, wall_ms: u64| {
        replica.set_wall_clock(wall_ms);
        ask(&mut replica, now_ms * MS, client, 1, &set("v"));
        replica.on_acked(id(1), replica.status().last_op);
        let actions = drain(&mut replica);
        let Action::Prepare { payload, last, .. } = &actions[0] else { panic!("{actions:?}") };
        let (time_ms, _) = batch::open(payload).unwrap();
        let last = *last;
        replica.on_quorum(now_ms * MS, last);
        drain(&mut replica);
        time_ms
    };
    assert_eq!(stamp(1, 10, 5_000), 5_000);
    assert_eq!(stamp(2, 20, 5_007), 5_010, "ours is faster");
    assert_eq!(stamp(3, 30, 9_000), 9_000);
    assert_eq!(stamp(4, 40, 100), 9_010, "put back");
    assert_eq!(stamp(5, 240, 300), 9_210);
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

/// Storage has snapshots made now and then; one that somebody fetches stays until it is there.
#[test]
fn a_snapshot_that_is_being_fetched_is_not_replaced() {
    let mut replica = leading(3);
    let offered = |replica: &mut Replica| {
        replica.on_peer_message(MS, id(1), life(1), PeerMessage::GetSnapshot { op: op(0), offset: 0 });
        let chunk = |action| match action {
            Action::Send { message: PeerMessage::SnapshotChunk { op, total_bytes, .. }, .. } => {
                Some((op.0, total_bytes))
            }
            _ => None,
        };
        drain(replica).into_iter().find_map(chunk)
    };
    ask(&mut replica, 0, 1, 1, &set("v"));
    drain(&mut replica);
    replica.on_quorum(0, op(1));
    assert_eq!(offered(&mut replica), Some((1, 0)), "it is being encoded");
    replica.on_snapshot(MS, op(1), Bytes::from_static(b"first"));
    assert_eq!(offered(&mut replica), Some((1, 5)));
    ask(&mut replica, 0, 2, 1, &set("v"));
    drain(&mut replica);
    replica.on_quorum(0, op(2));
    replica.on_snapshot(MS, op(2), Bytes::from_static(b"second"));
    assert_eq!(offered(&mut replica), Some((1, 5)));
    // Not for ever: after ten seconds in which nobody asked, the next one is taken.
    replica.on_tick(11_000 * MS);
    drain(&mut replica);
    assert_eq!(offered(&mut replica).map(|(op, _)| op), Some(2));
}
