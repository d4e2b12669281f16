//! Coming back without a log, and with one.

use super::*;
use crate::peer::ViewStart;

const LIFE: u32 = 900;

fn memory(view: u64) -> Memory {
    Memory::View { view: View(view), last_normal_view: View(view) }
}

/// Replica 2 of so many, back from a life in view `view`, and known to the others.
fn recovering(members: usize, view: u64) -> Replica {
    let config = ReplicaConfig { incarnation: LIFE, ..config(2, members) };
    let mut replica = Replica::start(0, config, memory(view)).unwrap();
    for peer in (0..members as u8).filter(|peer| *peer != 2) {
        introduce(&mut replica, 0, peer);
    }
    replica.on_tick(0);
    drain(&mut replica);
    replica
}

fn nonce(attempt: u64) -> u64 {
    u64::from(LIFE) << 32 | attempt
}

fn start(last_op: u64, commit: u64) -> Option<ViewStart> {
    let (last_op, commit) = (op(last_op), op(commit));
    Some(ViewStart { origin: View(0), length: op(0), last_op, commit })
}

fn answer(replica: &mut Replica, from: u8, nonce: u64, view: u64, start: Option<ViewStart>) -> Vec<Action> {
    let message = PeerMessage::RecoveryResponse { nonce, view: View(view), start };
    replica.on_peer_message(0, id(from), life(from), message);
    drain(replica)
}

fn asks(actions: &[Action]) -> bool {
    actions.iter().any(|a| matches!(a, Action::Send { message: PeerMessage::GetState { .. }, .. }))
}

/// B3, U5: it has nothing to vote with, to answer with or to acknowledge.
#[test]
fn a_recovering_replica_keeps_out_of_everything() {
    let mut replica = recovering(3, 4);
    for message in [
        PeerMessage::StartViewChange { view: View(9) },
        PeerMessage::Suspect { view: View(4) },
        PeerMessage::GetState { view: View(4), after: op(0), upto: op(9) },
        PeerMessage::GetSnapshot { op: op(0), offset: 0 },
        PeerMessage::StartView { view: View(7), start: start(3, 3).unwrap() },
    ] {
        replica.on_peer_message(0, id(1), life(1), message);
    }
    assert_eq!(drain(&mut replica), []);
    assert_eq!((replica.status().role, replica.view()), (RoleName::Recovering, View(4)));
    replica.on_peer_message(0, id(1), life(1), PeerMessage::Recovery { nonce: 5, view: View(0) });
    let also = PeerMessage::NotNormal { nonce: 5, recovering: true };
    assert_eq!(drain(&mut replica), [Action::Send { to: id(1), message: also }]);
}

/// D4: on some kernels programs outlive their process for a while.
#[test]
fn nothing_is_asked_while_the_earlier_life_may_still_acknowledge() {
    let config = ReplicaConfig { incarnation: LIFE, recover_at_ns: 500 * MS, ..config(2, 3) };
    let mut replica = Replica::start(0, config, memory(0)).unwrap();
    let asks = |replica: &mut Replica, now: u64| {
        replica.on_tick(now * MS);
        let asked = |a: &Action| matches!(a, Action::Send { message: PeerMessage::Recovery { .. }, .. });
        drain(replica).iter().any(asked)
    };
    assert!(!asks(&mut replica, 499));
    assert!(asks(&mut replica, 500));
}

#[test]
fn f_plus_one_answers_and_the_leader_of_the_highest_view_among_them() {
    // Views 0 and 3 are led by replica 0, view 4 by replica 1.
    let mut replica = recovering(3, 3);
    assert!(!asks(&answer(&mut replica, 0, nonce(1), 3, start(5, 4))), "one answer");
    assert!(!asks(&answer(&mut replica, 1, nonce(1), 4, None)), "its leader's answer is missing");
    assert!(asks(&answer(&mut replica, 1, nonce(1), 4, start(5, 5))));

    let mut replica = recovering(3, 3);
    answer(&mut replica, 0, nonce(1), 0, start(5, 4));
    assert!(!asks(&answer(&mut replica, 1, nonce(1), 0, None)), "D4: behind what was promised");

    let mut replica = recovering(3, 3);
    answer(&mut replica, 0, nonce(7), 3, start(5, 4));
    assert!(!asks(&answer(&mut replica, 1, nonce(7), 3, None)), "answers to another attempt");
}

#[test]
fn it_is_back_once_it_holds_all_that_the_leader_held() {
    let mut replica = recovering(3, 0);
    answer(&mut replica, 1, nonce(1), 0, None);
    answer(&mut replica, 0, nonce(1), 0, start(2, 1));
    for at in [2, 1] {
        assert_eq!(replica.status().role, RoleName::Recovering);
        let payload = payload(&[(at, 1, &set("v"))]);
        let (view, ordered_in) = (View(0), View(0));
        let batch = PeerMessage::NewState { view, ordered_in, first: op(at), last: op(at), payload };
        replica.on_peer_message(0, id(0), life(0), batch);
    }
    let actions = drain(&mut replica);
    assert!(matches!(actions[0], Action::InstallLog { .. }), "{actions:?}");
    assert!(matches!(actions[1], Action::SaveState { .. }), "D3: {actions:?}");
    assert!(matches!(actions[2], Action::OpenGate { role: GateRole::Follow, last_op: OpNumber(2), .. }));
    assert_eq!((replica.status().commit, replica.status().applied), (op(1), op(1)));
}

/// The leader may be gone, or have left the view, before all is fetched.
#[test]
fn an_attempt_that_stalls_is_begun_anew_with_another_nonce() {
    let mut replica = recovering(3, 0);
    answer(&mut replica, 1, nonce(1), 0, None);
    answer(&mut replica, 0, nonce(1), 0, start(2, 1));
    let give_up = replica.config().view_change_timeout_ns;
    replica.on_tick(give_up);
    let asked = PeerMessage::Recovery { nonce: nonce(2), view: View(0) };
    assert!(drain(&mut replica).contains(&Action::Send { to: id(1), message: asked }));
}

#[test]
fn when_too_many_have_lost_their_memory_that_is_said() {
    let mut replica = recovering(3, 0);
    let also = PeerMessage::NotNormal { nonce: nonce(1), recovering: true };
    let mut fatal = None;
    for now in (0..5_000).step_by(20) {
        replica.on_peer_message(now * MS, id(1), life(1), also.clone());
        replica.on_tick(now * MS);
        fatal = drain(&mut replica).into_iter().find(|action| matches!(action, Action::Fatal(_)));
        if fatal.is_some() {
            break;
        }
    }
    assert_eq!(fatal, Some(Action::Fatal(Fatal::StateLost { lost: 2, members: 3 })));
    // One of five is no reason.
    let mut replica = recovering(5, 0);
    for now in (0..5_000).step_by(20) {
        replica.on_peer_message(now * MS, id(1), life(1), also.clone());
        replica.on_tick(now * MS);
        assert!(!drain(&mut replica).iter().any(|action| matches!(action, Action::Fatal(_))));
    }
}

/// Half of an even group: what is left is no quorum, but if its view still runs, its leader can help.
#[test]
fn half_of_an_even_group_is_too_many_once_no_view_runs() {
    let recovering_with = |helper: Option<bool>| {
        let mut replica = recovering(4, 0);
        for now in (0..5_000).step_by(20) {
            for (from, recovering) in [(0, Some(true)), (1, Some(false)), (3, helper)] {
                let Some(recovering) = recovering else { continue };
                let message = PeerMessage::NotNormal { nonce: nonce(1), recovering };
                replica.on_peer_message(now * MS, id(from), life(from), message);
            }
            replica.on_tick(now * MS);
            if let Some(fatal) = drain(&mut replica).into_iter().find(|a| matches!(a, Action::Fatal(_))) {
                return Some(fatal);
            }
        }
        None
    };
    assert_eq!(recovering_with(None), None, "silence says nothing");
    let fatal = Fatal::StateLost { lost: 2, members: 4 };
    assert_eq!(recovering_with(Some(false)), Some(Action::Fatal(fatal)));
}

/// The others: they answer, fence, and make way where nobody else could answer.
#[test]
fn normal_replicas_help_and_count_the_new_life_only() {
    let mut leader = leading(3);
    welcomed_by(&mut leader, 0, 2, LIFE);
    let fence = Action::ExpectIncarnation { peer: id(2), incarnation: LIFE };
    assert!(drain(&mut leader).contains(&fence), "D4");
    leader.on_peer_message(0, id(2), LIFE, PeerMessage::Recovery { nonce: 5, view: View(0) });
    let [Action::Send { message: PeerMessage::RecoveryResponse { nonce: 5, start: Some(_), .. }, .. }] =
        &drain(&mut leader)[..]
    else {
        panic!()
    };
    // It promised something in view 2, which it would lead itself: view 3 it is.
    leader.on_peer_message(0, id(2), LIFE, PeerMessage::Recovery { nonce: 5, view: View(2) });
    assert_eq!(drain(&mut leader), [Action::Freeze]);
    leader.on_frozen(0, 0);
    assert_eq!(leader.view(), View(3));

    // L11: whoever led this view lost it with its memory.
    let mut follower = following(3);
    welcomed_by(&mut follower, 0, 0, LIFE);
    assert!(drain(&mut follower).contains(&Action::Freeze));
}

/// Mode `disk`: as if it had been away.
#[test]
fn a_log_on_disk_makes_recovery_unnecessary() {
    let entry = |at, value| LogEntry {
        view: View(1),
        first: op(at),
        last: op(at),
        payload: payload(&[(at, 1, &set(value))]),
    };
    let back = |me: u8, view: u64, last_normal_view: u64| {
        let config = ReplicaConfig { incarnation: LIFE, durable: true, ..config(me, 3) };
        let log = vec![entry(1, "a"), entry(2, "b")];
        let (view, last_normal_view) = (View(view), View(last_normal_view));
        let memory = Memory::Log { view, last_normal_view, snapshot: None, log };
        let mut replica = Replica::start(0, config, memory).unwrap();
        for peer in (0..3).filter(|peer| *peer != me) {
            introduce(&mut replica, 0, peer);
        }
        let at_start = drain(&mut replica);
        (replica, at_start)
    };

    // L11: a leader does not go on where it was.
    let (leader, actions) = back(1, 1, 1);
    assert_eq!(leader.view(), View(2));
    assert!(actions.contains(&Action::SaveState { view: View(2), last_normal_view: View(1) }));

    // A follower asks the view's leader, and an old copy of its answer does not cut what was acknowledged.
    let (mut follower, _) = back(2, 1, 1);
    let start = ViewStart { origin: View(0), length: op(0), last_op: op(1), commit: op(1) };
    follower.on_peer_message(0, id(1), life(1), PeerMessage::StartView { view: View(1), start });
    assert_eq!(follower.status().role, RoleName::Follower);
    assert_eq!(follower.status().last_op, op(2));
    assert!(drain(&mut follower).contains(&Action::Acknowledge { op: op(2) }));

    // One that had voted votes again.
    let (mut voter, _) = back(2, 4, 1);
    voter.on_tick(20 * MS);
    let voted = |action: &Action| {
        matches!(action, Action::Send { to: ReplicaId(1), message: PeerMessage::DoViewChange { .. } })
    };
    assert!(drain(&mut voter).iter().any(voted));
}

/// Otherwise a replica that is started often would never store a snapshot, and keep all of its log.
#[test]
fn what_was_stored_in_an_earlier_life_counts_towards_a_snapshot() {
    let payload = payload(&[(1, 1, &set("a"))]);
    let entry = |at| LogEntry { view: View(1), first: op(at), last: op(at), payload: payload.clone() };
    let snapshot_bytes = 3 * payload.len() as u64;
    let config = ReplicaConfig { incarnation: LIFE, durable: true, snapshot_bytes, ..config(2, 3) };
    let (view, log) = (View(1), vec![entry(1), entry(2)]);
    let memory = Memory::Log { view, last_normal_view: view, snapshot: None, log };
    let mut replica = Replica::start(0, config, memory).unwrap();
    introduce(&mut replica, 0, 1);
    let start = ViewStart { origin: View(0), length: op(0), last_op: op(2), commit: op(2) };
    replica.on_peer_message(0, id(1), life(1), PeerMessage::StartView { view, start });
    drain(&mut replica);
    replica.on_logged(0, view, op(3), op(3), op(2), &payload);
    assert!(drain(&mut replica).iter().any(|action| matches!(action, Action::EncodeSnapshot(_))));
}
