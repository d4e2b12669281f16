//! Apply what is committed, ask for what is missing.

use super::*;

/// The leader's batch of one op arrives; the key is the op.
fn log(replica: &mut Replica, now: u64, at: u64, commit: u64) {
    let payload = payload(&[(at, 1, &set(&at.to_string()))]);
    replica.on_logged(now, View(0), op(at), op(at), op(commit), &payload);
}

/// The questions among some actions.
fn questions(actions: &[Action]) -> Vec<(u64, u64)> {
    let question = |action: &Action| match action {
        Action::Send { to, message: PeerMessage::NeedPrepares { view: View(0), have, upto } } => {
            assert_eq!(*to, id(0), "only the leader is asked");
            Some((have.0, upto.0))
        }
        _ => None,
    };
    actions.iter().filter_map(question).collect()
}

#[test]
fn only_what_is_committed_and_held_is_applied() {
    let mut replica = following(3);
    log(&mut replica, 0, 1, 0);
    log(&mut replica, 0, 2, 0);
    assert_eq!(replica.status().applied, op(0));
    log(&mut replica, 0, 3, 1);
    assert_eq!(replica.status().applied, op(1));
    replica.on_commit(View(0), op(5));
    assert_eq!((replica.status().applied, replica.status().commit), (op(3), op(3)));
    log(&mut replica, 0, 4, 0);
    assert_eq!(replica.status().applied, op(4), "the commit number was heard before the op came");
    assert!(replies(&drain(&mut replica)).is_empty(), "followers do not answer clients");
}

#[test]
fn leader_and_follower_reach_the_same_state() {
    let (mut leader, mut follower) = (leading(3), following(3));
    for client in 1..=5 {
        ask(&mut leader, 0, client, 1, &set(&client.to_string()));
    }
    let [Action::Prepare { first, last, payload, .. }] = &drain(&mut leader)[..] else { panic!() };
    follower.on_logged(0, View(0), *first, *last, op(0), payload);
    leader.on_quorum(0, *last);
    follower.on_commit(View(0), *last);
    assert_eq!(leader.status().digest, follower.status().digest);
    assert_ne!(leader.status().digest, following(3).status().digest);
}

#[test]
fn another_view_is_another_matter() {
    let mut replica = following(3);
    replica.on_logged(0, View(1), op(1), op(1), op(1), &payload(&[(1, 1, &get())]));
    replica.on_commit(View(1), op(1));
    assert_eq!(replica.status().last_op, op(0));
    log(&mut replica, 0, 1, 0);
    assert_eq!(replica.status().applied, op(0));
}

#[test]
fn a_gap_is_asked_for_at_once_and_part_by_part() {
    let mut replica = following_with(ReplicaConfig { repair_ops: 2, ..config(1, 3) });
    log(&mut replica, 0, 1, 0);
    replica.on_gap(0, op(1), op(6));
    assert_eq!(questions(&drain(&mut replica)), [(1, 3)]);
    replica.on_gap(0, op(1), op(7));
    assert_eq!(questions(&drain(&mut replica)), [], "one question at a time");
    log(&mut replica, 0, 2, 0);
    assert_eq!(questions(&drain(&mut replica)), []);
    log(&mut replica, 0, 3, 0);
    assert_eq!(questions(&drain(&mut replica)), [(3, 5)], "an answer leads to the next question");
    for at in 4..=7 {
        log(&mut replica, 0, at, 0);
    }
    assert_eq!(questions(&drain(&mut replica)), [(5, 7)]);
    assert!(replica.next_deadline().unwrap() > MS * 5, "nothing is missing, nothing is due");
}

#[test]
fn a_lost_question_is_repeated_with_patience() {
    let mut replica = following(3);
    replica.on_gap(0, op(0), op(1));
    drain(&mut replica);
    let mut at = 0;
    for wait in [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
        replica.on_tick(at + wait * MS - 1);
        assert_eq!(questions(&drain(&mut replica)), []);
        at += wait * MS;
        replica.on_tick(at);
        assert_eq!(questions(&drain(&mut replica)), [(0, 1)], "after {wait} ms");
    }
}

#[test]
fn a_commit_number_beyond_the_log_reveals_a_loss() {
    let mut replica = following(3);
    replica.on_commit(View(0), op(2));
    assert_eq!(questions(&drain(&mut replica)), [], "it may just have overtaken the Prepare");
    replica.on_tick(5 * MS);
    assert_eq!(questions(&drain(&mut replica)), [(0, 2)]);

    let mut replica = following(3);
    replica.on_commit(View(0), op(1));
    log(&mut replica, MS, 1, 0);
    replica.on_tick(5 * MS);
    assert_eq!(questions(&drain(&mut replica)), []);
}

/// A long kernel log is handed over in parts, and its commit number with the first of them.
#[test]
fn what_is_still_being_handed_over_is_not_asked_for() {
    let mut replica = following(3);
    replica.on_commit(View(0), op(10));
    for at in 1..=10 {
        let now = at * 4 * MS;
        log(&mut replica, now, at, 0);
        replica.on_tick(now + 4 * MS - 1);
        assert_eq!(questions(&drain(&mut replica)), []);
    }
    replica.on_tick(49 * MS);
    assert_eq!(questions(&drain(&mut replica)), [], "nothing is missing");

    log(&mut replica, 50 * MS, 11, 12);
    replica.on_commit(View(0), op(12));
    replica.on_tick(56 * MS);
    assert_eq!(questions(&drain(&mut replica)), [(11, 12)], "until it stops");
}

#[test]
fn a_malformed_batch_stops_the_replica() {
    let good = payload(&[(1, 1, &get()), (2, 1, &get())]);
    let flaws = [
        (good.slice(..good.len() - 1), 2, "malformed"),
        (good.clone(), 3, "number of entries"),
        (good.clone(), 1, "number of entries"),
        (payload(&[]), 1, "number of entries"),
        (Bytes::new(), 1, "needs 8 bytes"),
    ];
    for (payload, last, text) in flaws {
        let mut replica = following(3);
        replica.on_logged(0, View(0), op(1), op(last), op(0), &payload);
        assert_eq!(drain(&mut replica), [], "what is not committed is not looked at");
        replica.on_commit(View(0), op(last));
        let [Action::Fatal(fatal)] = &drain(&mut replica)[..] else { panic!("{payload:?} {last}") };
        assert!(fatal.to_string().contains(text), "{fatal}");
    }
}

#[test]
fn what_everybody_holds_is_forgotten_once_applied() {
    let mut replica = following(3);
    let stable = |at| PeerMessage::Stable { view: View(0), op: op(at) };
    for at in 1..=3 {
        log(&mut replica, 0, at, 0);
    }
    replica.on_commit(View(0), op(1));
    replica.on_peer_message(0, id(0), life(0), stable(2));
    assert_eq!(replica.status().log_first_op, op(2));
    replica.on_commit(View(0), op(3));
    assert_eq!(replica.status().log_first_op, op(3));
    introduce(&mut replica, 0, 2);
    replica.on_peer_message(0, id(2), life(2), stable(3));
    assert_eq!(replica.status().log_first_op, op(3), "only the leader can say so");
}

/// The snapshot of a leader with three ops.
fn snapshot_of_three() -> (Replica, Bytes) {
    let mut donor = leading(3);
    for client in 1..=3 {
        ask(&mut donor, 0, client, 1, &set("v"));
        drain(&mut donor);
    }
    donor.on_quorum(0, op(3));
    let bytes = donor.service.snapshot(op(3)).encode();
    (donor, bytes)
}

fn chunk(bytes: &Bytes, from: usize, to: usize) -> PeerMessage {
    let (total_bytes, offset, bytes) = (bytes.len() as u64, from as u64, bytes.slice(from..to));
    PeerMessage::SnapshotChunk { view: View(0), op: op(3), total_bytes, offset, bytes }
}

/// What bent it may have been the way, so it is fetched again; three in a row are the donor's.
#[test]
fn a_snapshot_that_cannot_be_used_is_fetched_again() {
    let (_, good) = snapshot_of_three();
    let bad: Bytes = good.iter().map(|byte| byte ^ 0x55).collect::<Vec<u8>>().into();
    let mut replica = following(3);
    let mut fetch = |bytes: &Bytes| {
        replica.on_gap(0, replica.status().last_op, op(5));
        let gone = PeerMessage::StateGone { view: View(0), oldest: op(3) };
        replica.on_peer_message(0, id(0), life(0), gone);
        replica.on_peer_message(0, id(2), life(2), chunk(bytes, 0, bytes.len()));
        assert!(!drain(&mut replica).contains(&Action::Freeze), "only the leader was asked");
        replica.on_peer_message(0, id(0), life(0), chunk(bytes, 0, bytes.len()));
        assert_eq!(drain(&mut replica), [Action::Freeze]);
        replica.on_frozen(0, 0);
        let fatal = drain(&mut replica).iter().any(|action| matches!(action, Action::Fatal(_)));
        (replica.status().role, replica.status().last_op, fatal)
    };
    for _ in 0..2 {
        assert_eq!(fetch(&bad), (RoleName::Follower, op(0), false));
    }
    assert_eq!(fetch(&good), (RoleName::Follower, op(3), false));

    let mut replica = following(3);
    for tries in 1..=3 {
        let refused = replica.restore(op(3), &bad).unwrap_err();
        assert_eq!(refused == crate::replica::install::Refused::Stopped, tries == 3);
    }
    assert!(matches!(drain(&mut replica)[..], [Action::Fatal(Fatal::Snapshot { .. })]));
}

#[test]
fn too_far_behind_a_follower_takes_a_snapshot() {
    let gone = PeerMessage::StateGone { view: View(0), oldest: op(3) };
    let mut replica = following(3);
    replica.on_gap(0, op(0), op(5));
    drain(&mut replica);
    replica.on_peer_message(0, id(2), life(2), gone.clone());
    assert_eq!(drain(&mut replica), [], "only the leader can say so");
    replica.on_peer_message(0, id(0), life(0), gone);
    let asked = Action::Send { to: id(0), message: PeerMessage::GetSnapshot { op: op(0), offset: 0 } };
    assert_eq!(drain(&mut replica), [asked]);

    let (donor, bytes) = snapshot_of_three();
    replica.on_peer_message(0, id(0), life(0), chunk(&bytes, 0, 50));
    replica.on_peer_message(0, id(0), life(0), chunk(&bytes, 50, bytes.len()));
    assert_eq!(drain(&mut replica), [Action::Freeze]);
    replica.on_frozen(0, 0);
    let actions = drain(&mut replica);
    let open = actions.iter().find(|action| matches!(action, Action::OpenGate { .. }));
    let expected = Action::OpenGate {
        role: GateRole::Follow,
        view: View(0),
        leader: id(0),
        last_op: op(3),
        commit: op(3),
    };
    assert_eq!(open, Some(&expected));
    assert_eq!(replica.status().digest, donor.status().digest);
}
