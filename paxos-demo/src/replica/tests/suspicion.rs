//! When a leader counts as gone, and when it finds itself alone.

use super::*;

#[test]
fn one_voice_does_not_end_a_view() {
    let mut replica = follower(1, 5);
    let timeout = replica.config().leader_timeout_ns;
    replica.on_tick(timeout);
    let suspects = PeerMessage::Suspect { view: View(0) };
    assert!(sent(&drain(&mut replica), 3).contains(&&suspects));
    assert_eq!(from(&mut replica, timeout, 2, suspects.clone()), []);
    assert_eq!(from(&mut replica, timeout, 2, suspects.clone()), [], "the same one again");
    assert_eq!(from(&mut replica, timeout, 3, suspects.clone()), [Action::Freeze], "three of five");

    // Whoever hears the leader does not join.
    let mut replica = follower(1, 5);
    replica.on_leader_heard(timeout - 1);
    for peer in 2..5 {
        assert_eq!(from(&mut replica, timeout, peer, suspects.clone()), []);
    }
}

/// U9: what the kernel heard while the gate closed counts.
#[test]
fn a_leader_that_speaks_at_the_last_moment_keeps_its_view() {
    let mut replica = follower(1, 3);
    let timeout = replica.config().leader_timeout_ns;
    replica.on_tick(timeout);
    drain(&mut replica);
    from(&mut replica, timeout, 2, PeerMessage::Suspect { view: View(0) });
    replica.on_frozen(timeout, timeout - 1);
    let actions = drain(&mut replica);
    position(&actions, |action| {
        matches!(action, Action::OpenGate { role: GateRole::Follow, view: View(0), .. })
    });
    assert_eq!(replica.status().role, RoleName::Follower);
}

/// Heard by one follower all the time, so only that no quorum comes can tell it.
#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut replica = leading(3);
    ask(&mut replica, 0, 1, 1, &set("v"));
    for now in (0..600).step_by(100) {
        from(&mut replica, now * MS, 1, PeerMessage::Suspect { view: View(0) });
        replica.on_tick(now * MS);
    }
    assert!(replica.is_leading());
    replica.on_tick(600 * MS);
    assert_eq!(drain(&mut replica).last(), Some(&Action::Freeze));
}

/// Its heartbeats may arrive everywhere while it hears nothing, not even a client.
#[test]
fn an_idle_leader_that_hears_nobody_steps_down() {
    let asks = |replica: &mut Replica, now: u64| {
        replica.on_tick(now * MS);
        let actions = drain(replica);
        let hello =
            actions.iter().any(|a| matches!(a, Action::Send { message: PeerMessage::Hello { .. }, .. }));
        (hello, actions.contains(&Action::Freeze))
    };
    let mut replica = leading(3);
    assert_eq!(asks(&mut replica, 299), (false, false));
    assert_eq!(asks(&mut replica, 300), (true, false));
    // An answer of one of two is enough for a while.
    let welcome = PeerMessage::Welcome { config_hash: HASH, incarnation: life(0), born: life(2) };
    from(&mut replica, 301 * MS, 2, welcome);
    assert_eq!(asks(&mut replica, 600), (false, false));
    assert_eq!(asks(&mut replica, 700), (true, false));
    assert_eq!(asks(&mut replica, 800), (true, false), "a datagram may be lost");
    assert_eq!(asks(&mut replica, 900), (true, false));
    assert_eq!(asks(&mut replica, 1000), (true, true));
}

/// U9: what somebody kept and sends again is no sign of life, neither an answer nor a cry for help.
#[test]
fn old_messages_make_no_leader_believe_that_it_is_heard() {
    let mut replica = leading(3);
    ask(&mut replica, 0, 1, 1, &set("v"));
    let answer = PeerMessage::Welcome { config_hash: HASH, incarnation: life(0), born: life(1) };
    let question = PeerMessage::NeedPrepares { view: View(0), have: op(0), upto: op(1) };
    for now in (0..1500).step_by(50) {
        replica.on_peer_message(now * MS, id(1), life(1), answer.clone());
        replica.on_peer_message(now * MS, id(1), life(1), question.clone());
        replica.on_tick(now * MS);
    }
    assert!(drain(&mut replica).contains(&Action::Freeze));
}

/// Nobody could begin the next view, and the other may need what this one holds.
#[test]
fn one_of_two_does_not_step_down() {
    let mut replica = leading(2);
    ask(&mut replica, 0, 1, 1, &set("v"));
    for now in (0..5000).step_by(100) {
        replica.on_tick(now * MS);
    }
    assert!(replica.is_leading());
}

/// A quorum may depend on one that was away for long, and what it misses takes its time.
#[test]
fn a_leader_does_not_step_down_while_it_helps() {
    for question in [
        PeerMessage::NeedPrepares { view: View(0), have: op(0), upto: op(1) },
        PeerMessage::GetState { view: View(0), after: op(0), upto: op(1) },
        PeerMessage::GetSnapshot { op: op(0), offset: 0 },
    ] {
        let mut replica = leading(3);
        ask(&mut replica, 0, 1, 1, &set("v"));
        for now in (0..3000).step_by(500) {
            from(&mut replica, now * MS, 1, question.clone());
            replica.on_tick(now * MS);
        }
        assert!(replica.is_leading(), "{question:?}");
        replica.on_tick(3100 * MS);
        assert_eq!(drain(&mut replica).last(), Some(&Action::Freeze), "{question:?}");
    }
}

/// Some have entered the view and some still wait for it when its leader dies: together they are a quorum.
#[test]
fn those_who_wait_for_a_view_count_as_finding_its_leader_silent() {
    let mut entered = follower(1, 3);
    let silent = entered.config().leader_timeout_ns + 1;
    assert_eq!(from(&mut entered, 0, 2, left(0)), [], "the leader is heard");
    entered.on_tick(silent);
    assert!(!drain(&mut entered).contains(&Action::Freeze), "that voice was long ago");
    assert_eq!(from(&mut entered, silent, 2, left(0)), [Action::Freeze]);
}

/// A leader that was away while the others left its view, and came back when their leader was gone.
#[test]
fn a_suspicion_in_a_later_view_is_joined() {
    let mut replica = leading(3);
    let suspects = PeerMessage::Suspect { view: View(1) };
    assert_eq!(from(&mut replica, 0, 2, suspects), [Action::Freeze]);
    replica.on_frozen(0, 0);
    assert!(sent(&drain(&mut replica), 2).contains(&&left(1)));
}
