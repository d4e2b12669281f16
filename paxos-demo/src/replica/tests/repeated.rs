//! Messages that somebody kept and sends again, as often as they like (U9): nothing is kept alive by them, nothing
//! ended, and nothing answered.

use super::*;
use crate::peer::{ViewStart, Vote};

/// A member's message, for the first time.
fn new(replica: &mut Replica, now: u64, peer: u8, message: &PeerMessage) -> Vec<Action> {
    replica.on_member_heard(now, id(peer), life(peer));
    replica.on_peer_message(now, id(peer), life(peer), message.clone());
    drain(replica)
}

/// The same once more, from whoever kept it.
fn again(replica: &mut Replica, now: u64, peer: u8, message: &PeerMessage) -> Vec<Action> {
    replica.on_old_message(now, id(peer), life(peer), message.clone());
    drain(replica)
}

fn start(last_op: u64) -> ViewStart {
    ViewStart { origin: View(0), length: op(last_op), last_op: op(last_op), commit: op(0) }
}

fn batch_of(view: u64, at: u64) -> PeerMessage {
    let payload = payload(&[(at, 1, &set("v"))]);
    PeerMessage::NewState { view: View(view), ordered_in: View(0), first: op(at), last: op(at), payload }
}

/// Replica 2 of three, between view 0 and view 1; replica 1, which is to lead, has left as well.
fn between() -> Replica {
    let mut replica = follower(2, 3);
    new(&mut replica, 0, 1, &left(1));
    replica.on_frozen(0, 0);
    new(&mut replica, 0, 1, &left(1));
    replica
}

/// An answer takes much more than the question, and nobody asked.
#[test]
fn questions_are_answered_once() {
    for question in [
        PeerMessage::NeedPrepares { view: View(0), have: op(0), upto: op(1) },
        PeerMessage::GetState { view: View(0), after: op(0), upto: op(1) },
        PeerMessage::GetSnapshot { op: op(0), offset: 0 },
        PeerMessage::AskStartView { view: View(0) },
        PeerMessage::Recovery { nonce: 7, view: View(0) },
    ] {
        let mut replica = leading(3);
        ask(&mut replica, 0, 1, 1, &set("v"));
        drain(&mut replica);
        replica.on_quorum(0, op(1));
        drain(&mut replica);
        assert_eq!(again(&mut replica, 1000 * MS, 1, &question), [], "{question:?}");
        assert_ne!(new(&mut replica, 1000 * MS, 1, &question), [], "{question:?}");
    }
}

/// Whoever is to lead may be gone, and only its words be there, again and again.
#[test]
fn words_that_ask_for_patience_count_once() {
    for word in [
        PeerMessage::Fetching { view: View(1) },
        // A view that has begun, with a log that its leader alone has.
        PeerMessage::StartView { view: View(1), start: start(9) },
    ] {
        let mut replica = between();
        new(&mut replica, 0, 1, &word);
        for now in (0..5000).step_by(20) {
            again(&mut replica, now * MS, 1, &word);
            replica.on_tick(now * MS);
            drain(&mut replica);
        }
        assert!(replica.view() > View(1), "{word:?} keeps a view alive whose leader is gone");
    }
}

/// A batch that is there already does not bring a transfer on.
#[test]
fn what_was_fetched_does_not_hold_up_the_next_attempt() {
    let mut replica = between();
    new(&mut replica, 0, 1, &PeerMessage::StartView { view: View(1), start: start(9) });
    new(&mut replica, 0, 1, &batch_of(1, 1));
    for now in (0..5000).step_by(20) {
        again(&mut replica, now * MS, 1, &batch_of(1, 1));
        replica.on_tick(now * MS);
        drain(&mut replica);
    }
    assert!(replica.view() > View(1));
    // But what has only been overtaken is taken.
    let mut replica = between();
    new(&mut replica, 0, 1, &PeerMessage::StartView { view: View(1), start: start(2) });
    new(&mut replica, 0, 1, &batch_of(1, 2));
    again(&mut replica, 0, 1, &batch_of(1, 1));
    assert_eq!((replica.status().role, replica.status().last_op), (RoleName::Follower, op(2)));
}

/// A recovery waits for its donor as long as something comes.
#[test]
fn what_was_fetched_does_not_hold_up_the_next_recovery() {
    const LIFE: u32 = 900;
    let memory = Memory::View { view: View(0), last_normal_view: View(0) };
    let mut replica = Replica::start(0, ReplicaConfig { incarnation: LIFE, ..config(2, 3) }, memory).unwrap();
    introduce(&mut replica, 0, 0);
    introduce(&mut replica, 0, 1);
    replica.on_tick(0);
    let nonce = u64::from(LIFE) << 32 | 1;
    for (from, start) in [(0, Some(start(9))), (1, None)] {
        let view = View(0);
        new(&mut replica, 0, from, &PeerMessage::RecoveryResponse { nonce, view, start });
    }
    new(&mut replica, 0, 0, &batch_of(0, 1));
    let mut asked_anew = false;
    for now in (0..2000).step_by(20) {
        again(&mut replica, now * MS, 0, &batch_of(0, 1));
        replica.on_tick(now * MS);
        let anew = PeerMessage::Recovery { nonce: nonce + 1, view: View(0) };
        asked_anew |= drain(&mut replica).contains(&Action::Send { to: id(1), message: anew });
    }
    assert!(asked_anew);
}

/// Members that had lost their memory, too, and found it since.
#[test]
fn a_group_does_not_count_as_lost_by_what_was_said_long_ago() {
    let memory = Memory::View { view: View(0), last_normal_view: View(0) };
    let mut replica = Replica::start(0, config(2, 3), memory).unwrap();
    introduce(&mut replica, 0, 0);
    introduce(&mut replica, 0, 1);
    let also = PeerMessage::NotNormal { nonce: u64::from(life(2)) << 32 | 1, recovering: true };
    new(&mut replica, 0, 1, &also);
    for now in (0..20_000).step_by(20) {
        again(&mut replica, now * MS, 1, &also);
        replica.on_tick(now * MS);
        assert!(!drain(&mut replica).iter().any(|action| matches!(action, Action::Fatal(_))));
    }
}

/// A leader that once had lost its memory, and a follower that has not heard it for a moment.
#[test]
fn a_recovery_that_is_over_ends_no_view() {
    let recovery = PeerMessage::Recovery { nonce: 7, view: View(0) };
    let mut replica = following(3);
    let silent = replica.config().leader_timeout_ns + 1;
    assert_eq!(again(&mut replica, silent, 0, &recovery), []);
    assert_eq!(new(&mut replica, silent, 0, &recovery), [Action::Freeze], "it has just lost its memory");
}

/// One follower that hears nothing, and the kept voices of others who hear their leader well.
#[test]
fn voices_that_were_heard_before_end_no_view() {
    for voice in [PeerMessage::Suspect { view: View(0) }, left(0)] {
        let mut replica = following(5);
        (2..5).for_each(|peer| introduce(&mut replica, 0, peer));
        drain(&mut replica);
        let silent = replica.config().leader_timeout_ns + 1;
        replica.on_tick(silent);
        drain(&mut replica);
        for peer in 2..5 {
            assert_eq!(again(&mut replica, silent, peer, &voice), [], "{voice:?}");
        }
        new(&mut replica, silent, 2, &voice);
        assert_eq!(new(&mut replica, silent, 3, &voice), [Action::Freeze], "{voice:?}");
    }
}

/// "It is being encoded" postpones the next question.
#[test]
fn a_snapshot_that_is_being_made_is_asked_for_again() {
    let mut replica = following(3);
    new(&mut replica, 0, 0, &PeerMessage::StateGone { view: View(0), oldest: op(9) });
    let wait = PeerMessage::SnapshotChunk {
        view: View(0),
        op: op(8),
        total_bytes: 0,
        offset: 0,
        bytes: Bytes::new(),
    };
    new(&mut replica, 0, 0, &wait);
    let mut asked = 0;
    for now in 0..1000 {
        again(&mut replica, now * MS, 0, &wait);
        replica.on_leader_heard(now * MS);
        replica.on_tick(now * MS);
        let asks = |a: &&Action| matches!(a, Action::Send { message: PeerMessage::GetSnapshot { .. }, .. });
        asked += drain(&mut replica).iter().filter(asks).count();
    }
    assert!(asked > 0);
}

/// What is true for ever may come late: it is true, and says nothing new.
#[test]
fn what_stays_true_is_taken_late() {
    let mut replica = leading(3);
    let hello = PeerMessage::Hello { config_hash: HASH, born: life(1) };
    let welcome = PeerMessage::Welcome { config_hash: HASH, incarnation: life(1), born: life(0) };
    for _ in 0..3 {
        assert_eq!(again(&mut replica, 0, 1, &hello), [Action::Send { to: id(1), message: welcome.clone() }]);
    }
    let vote = Vote { last_normal_view: View(0), last_op: op(0), commit: op(0) };
    let before = replica.status();
    for message in [
        PeerMessage::Stable { view: View(0), op: op(3) },
        PeerMessage::DoViewChange { view: View(0), vote },
        PeerMessage::RecoveryResponse { nonce: 1, view: View(0), start: None },
        batch_of(0, 1),
        PeerMessage::StateGone { view: View(0), oldest: op(2) },
    ] {
        again(&mut replica, 0, 1, &message);
        let now = replica.status();
        assert_eq!(
            (now.view, now.role, now.last_op),
            (before.view, before.role, before.last_op),
            "{message:?}"
        );
    }
}

/// A member that was started again with the right configuration takes its word back by that.
#[test]
fn a_refusal_of_a_life_that_is_over_is_not_believed() {
    let refusal = |mine| PeerMessage::Refused {
        incarnation: mine,
        reason: Refusal::ConfigMismatch { theirs: 1, yours: HASH },
    };
    let mut replica = Replica::new(0, config(1, 3)).unwrap();
    let anew = life(0) + 1;
    welcomed_by(&mut replica, 0, 2, life(2));
    welcomed_by(&mut replica, 0, 2, life(2) + 1);
    drain(&mut replica);
    again(&mut replica, 0, 2, &refusal(life(1)));
    assert_eq!(drain(&mut replica), [], "that life of it is over");
    replica.on_old_message(0, id(0), anew, refusal(life(1) - 1));
    assert_eq!(drain(&mut replica), [], "an earlier life of ours");
    replica.on_old_message(0, id(0), anew, refusal(life(1)));
    assert!(matches!(drain(&mut replica)[..], [Action::Fatal(_)]), "without its leader it cannot work");
}
