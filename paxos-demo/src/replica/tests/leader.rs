//! Requests become ops, ops become Prepares, quorums become replies.

use super::*;
use crate::batcher::Batching;
use crate::state_machine::COMMAND_HEADER_BYTES;

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
