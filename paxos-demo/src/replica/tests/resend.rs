//! Who gets what again, and when (L6).

use super::*;

/// A leader that has prepared `ops` batches of one op at time 0.
fn with_prepared(members: usize, ops: u64, change: impl FnOnce(&mut ReplicaConfig)) -> Replica {
    let mut config = ReplicaConfig { pipeline_batches: 1000, ..config(0, members) };
    change(&mut config);
    let mut replica = leading_with(config);
    for client in 1..=ops {
        ask(&mut replica, 0, client, 1, &get());
        assert_eq!(drain(&mut replica).len(), 1);
    }
    replica
}

fn tick(replica: &mut Replica, at: u64) -> Vec<(u64, u32)> {
    replica.on_tick(at);
    resends(&drain(replica))
}

#[test]
fn a_resend_is_identical_to_the_first_send_and_goes_to_whoever_misses_it() {
    let mut replica = leading_with(ReplicaConfig { pipeline_batches: 1, ..config(0, 5) });
    for client in 1..=4 {
        ask(&mut replica, 0, client, 1, &get());
    }
    let [Action::Prepare { first, last, payload, .. }] = &drain(&mut replica)[..] else { panic!() };
    replica.on_acked(id(2), op(4));
    replica.on_tick(20 * MS);
    let resend = Action::Resend {
        first: *first,
        last: *last,
        commit: op(0),
        payload: payload.clone(),
        targets: ReplicaSet::from_mask(0b11010),
    };
    assert_eq!(drain(&mut replica)[0], resend);
}

#[test]
fn each_batch_leaves_once_for_all_who_miss_it() {
    let mut replica = with_prepared(4, 6, |config| config.resend_batches = 4);
    replica.on_acked(id(1), op(4));
    replica.on_acked(id(2), op(1));
    assert_eq!(tick(&mut replica, 20 * MS), [(1, 0b1000), (2, 0b1000), (3, 0b1000), (4, 0b1000)], "progress");
    assert_eq!(
        tick(&mut replica, 40 * MS),
        [(2, 0b0100), (3, 0b0100), (4, 0b0100), (5, 0b0110), (6, 0b0010)],
        "the fourth member is silent and not due; the others get four batches each at most"
    );
}

#[test]
fn a_silent_member_is_probed_ever_more_rarely() {
    let mut replica = with_prepared(3, 10, |_| ());
    replica.on_acked(id(1), op(10));
    replica.on_quorum(0, op(10));
    assert_eq!(tick(&mut replica, 20 * MS).len(), 10, "first everything");
    let mut at = 20 * MS;
    for wait in [40, 80, 160, 320, 640, 1000, 1000] {
        // The other one is there: with nobody it would not lead for long.
        introduce(&mut replica, at + (wait - 1) * MS, 1);
        assert_eq!(tick(&mut replica, at + (wait - 1) * MS), []);
        at += wait * MS;
        assert_eq!(tick(&mut replica, at), [(1, 0b100), (2, 0b100)], "then a probe, after {wait} ms");
    }
    // It answers: all the rest, after one base interval without progress.
    replica.on_acked(id(2), op(2));
    let due = at + 1000 * MS;
    introduce(&mut replica, due, 1);
    assert_eq!(tick(&mut replica, due), []);
    assert_eq!(tick(&mut replica, due + 20 * MS).len(), 8);
}

#[test]
fn progress_is_no_reason_to_resend() {
    let mut replica = with_prepared(3, 10, |_| ());
    for round in 1..=9 {
        replica.on_acked(id(1), op(round));
        replica.on_acked(id(2), op(round));
        assert_eq!(tick(&mut replica, round * 20 * MS), []);
    }
    replica.on_acked(id(1), op(10));
    replica.on_acked(id(2), op(10));
    assert_eq!(tick(&mut replica, 1000 * MS), []);
}

#[test]
fn who_asks_is_answered_at_once_but_not_twice_in_a_moment() {
    let mut replica = with_prepared(3, 10, |config| (config.resend_batches, config.repair_ops) = (1, 3));
    let mut need = |now: u64, have: u64, upto: u64, view: u64| {
        let question = PeerMessage::NeedPrepares { view: View(view), have: op(have), upto: op(upto) };
        replica.on_peer_message(now, id(2), life(2), question);
        let sent = resends(&drain(&mut replica));
        sent.iter().map(|resend| resend.0).collect::<Vec<u64>>()
    };
    assert_eq!(need(1, 2, 4, 0), [3, 4], "what was asked for");
    assert_eq!(need(2, 2, 6, 0), [5, 6], "what is on its way is not sent again");
    assert_eq!(need(3, 2, 6, 0), [0u64; 0]);
    assert_eq!(need(2 * MS, 2, 10, 0), [3, 4, 5], "a chunk at most");
    assert_eq!(need(4 * MS, 10, u64::MAX, 0), [0u64; 0], "there is no more");
    assert_eq!(need(4 * MS, 2, 4, 1), [0u64; 0], "another view");
}

#[test]
fn a_member_that_joins_late_gets_everything() {
    let mut replica = Replica::new(0, config(0, 3)).unwrap();
    let welcome = PeerMessage::Welcome { config_hash: HASH, incarnation: life(0), born: life(1) };
    replica.on_peer_message(0, id(1), life(1), welcome);
    replica.on_tick(200 * MS);
    drain(&mut replica);
    ask(&mut replica, 200 * MS, 1, 1, &get());
    drain(&mut replica);
    replica.on_acked(id(1), op(1));
    assert_eq!(tick(&mut replica, 300 * MS), [], "nobody resends to a member that was never there");
    introduce(&mut replica, 300 * MS, 2);
    assert_eq!(tick(&mut replica, 320 * MS), [(1, 0b100)]);
}

/// A replica that was away under load catches up only if it does not wait for a timer between two portions.
#[test]
fn catching_up_waits_for_no_timer() {
    const OPS: u64 = 1000;
    let mut leader = with_prepared(3, OPS, |_| ());
    let mut replica = following(3);
    replica.on_gap(0, op(0), op(OPS));
    let mut portions = 0;
    loop {
        let question = drain(&mut replica).into_iter().find_map(|action| match action {
            Action::Send { to: ReplicaId(0), message: message @ PeerMessage::NeedPrepares { .. } } => {
                Some(message)
            }
            _ => None,
        });
        let Some(question) = question else { break };
        portions += 1;
        leader.on_peer_message(0, id(1), life(1), question);
        for action in drain(&mut leader) {
            if let Action::Resend { first, last, commit, payload, .. } = action {
                replica.on_logged(0, View(0), first, last, commit, &payload);
            }
        }
    }
    assert_eq!((replica.status().last_op, portions), (op(OPS), 4));
}
