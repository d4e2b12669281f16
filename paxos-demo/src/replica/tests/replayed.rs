//! What somebody kept of other lives, of this group or of one before it, and sends again: it makes nobody known, stops
//! nobody, and costs little.

use super::*;
use crate::peer::ViewStart;

/// A life of this replica after the one that [`config`] gives it.
const LIFE: u32 = 900;

fn hello_of(replica: &mut Replica, now: u64, from: u8, incarnation: u32, born: u32) -> Vec<Action> {
    let hello = PeerMessage::Hello { config_hash: HASH, born };
    replica.on_old_message(now, id(from), incarnation, hello);
    drain(replica)
}

/// How often each kind of message is among some actions: Hello, Welcome, Refused, others.
fn kinds(actions: &[Action]) -> [usize; 4] {
    let mut kinds = [0; 4];
    for action in actions {
        let Action::Send { message, .. } = action else { continue };
        let kind = match message {
            PeerMessage::Hello { .. } => 0,
            PeerMessage::Welcome { .. } => 1,
            PeerMessage::Refused { .. } => 2,
            _ => 3,
        };
        kinds[kind] += 1;
    }
    kinds
}

fn believes(actions: &[Action]) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, Action::ExpectIncarnation { .. } | Action::SaveMember { .. }))
}

/// Replica 2 of three in mode `disk`, back in a view that had begun and that replica 1 led.
fn back(met: Vec<u32>) -> Replica {
    let config = ReplicaConfig { incarnation: LIFE, born: life(2), met, durable: true, ..config(2, 3) };
    let memory = Memory::Log { view: View(1), last_normal_view: View(1), snapshot: None, log: Vec::new() };
    let mut replica = Replica::start(0, config, memory).unwrap();
    drain(&mut replica);
    replica
}

/// The leader died while this replica was away, and all that is left of it is what somebody kept.
#[test]
fn a_dead_leader_is_not_brought_back_by_what_it_once_said() {
    let mut replica = back(vec![life(0), life(1), 0]);
    let start = ViewStart { origin: View(0), length: op(0), last_op: op(0), commit: op(0) };
    let begun = PeerMessage::StartView { view: View(1), start };
    let earlier = PeerMessage::Welcome { config_hash: HASH, incarnation: LIFE - 1, born: life(1) };
    for now in (0..2000).step_by(10) {
        let actions = hello_of(&mut replica, now * MS, 1, life(1), life(1));
        assert!(!believes(&actions), "{actions:?}");
        for message in [&earlier, &begun] {
            // Also where nobody remembers that it was heard before.
            replica.on_member_heard(now * MS, id(1), life(1));
            replica.on_peer_message(now * MS, id(1), life(1), message.clone());
        }
        replica.on_tick(now * MS);
        let actions = drain(&mut replica);
        assert!(!believes(&actions), "{actions:?}");
        assert_eq!(replica.status().role, RoleName::ViewChange);
    }
    // Once replica 0 is back the next view is theirs.
    introduce(&mut replica, 2000 * MS, 0);
    replica.on_peer_message(2000 * MS, id(0), life(0), PeerMessage::StartViewChange { view: View(1) });
    (2000..3000).step_by(10).for_each(|now| replica.on_tick(now * MS));
    assert!(replica.view() > View(1));
}

/// The group was founded again with the key that it had: nobody's memory is what it was.
#[test]
fn a_hello_of_an_earlier_founding_stops_nobody() {
    // Whether clocks went on in between or were put back.
    for old in [life(0) - 50, life(0) + 50] {
        let mut replica = Replica::new(0, config(1, 3)).unwrap();
        drain(&mut replica);
        let actions = hello_of(&mut replica, 0, 0, old, old);
        assert!(!believes(&actions), "{actions:?}");
        assert_eq!(replica.status().role, RoleName::Forming, "it opens for no leader of another founding");
        hello(&mut replica, 0, 0);
        assert_eq!(kinds(&drain(&mut replica))[1..3], [1, 0], "the present leader is welcome");
        welcomed_by(&mut replica, 0, 0, life(0));
        assert!(believes(&drain(&mut replica)));
        assert_eq!(replica.status().role, RoleName::Follower);
        // The old one is turned away now, in its own life's name: the present one is not meant.
        for action in hello_of(&mut replica, 0, 0, old, old) {
            let Action::Send { message: PeerMessage::Refused { incarnation, reason }, .. } = action else {
                assert!(matches!(action, Action::Warn(_)), "{action:?}");
                continue;
            };
            let mut leader = leading(3);
            leader.on_peer_message(0, id(1), life(1), PeerMessage::Refused { incarnation, reason });
            assert_eq!(drain(&mut leader), []);
        }
    }
}

/// One question for each life that is heard of, whatever is sent how often; the rest is the timer's.
#[test]
fn a_hello_again_and_again_is_only_answered() {
    let mut replica = following(3);
    let anew = life(2) + 1;
    assert_eq!(kinds(&hello_of(&mut replica, 0, 2, anew, life(2))), [1, 1, 0, 0]);
    for now in 0..100 {
        // An earlier one in between does not make it news again.
        for incarnation in [anew - 1, anew] {
            assert_eq!(kinds(&hello_of(&mut replica, now, 2, incarnation, life(2))), [0, 1, 0, 0]);
        }
    }
    replica.on_tick(replica.config().hello_ns);
    assert_eq!(kinds(&drain(&mut replica))[0], 1, "its first may have been lost");
}

/// Word of a leader's new life ends nothing; its answer does (L11), and is asked for at once.
#[test]
fn a_leader_that_came_back_ends_its_view_when_it_answers() {
    let mut replica = following(3);
    let anew = life(0) + 1;
    let actions = hello_of(&mut replica, 0, 0, anew, life(0));
    assert_eq!(kinds(&actions), [1, 1, 0, 0]);
    assert!(!actions.contains(&Action::Freeze));
    // What the life that is known says counts until then; when the other answers, it is over.
    welcomed_by(&mut replica, 0, 0, life(0));
    assert_eq!(drain(&mut replica), []);
    for hello_at in [20, 60, 140] {
        replica.on_tick(hello_at * MS);
        assert_eq!(kinds(&drain(&mut replica))[0], 2, "it and replica 2 are asked until they answer");
    }
    welcomed_by(&mut replica, 0, 0, anew);
    let actions = drain(&mut replica);
    assert_eq!(actions, [Action::ExpectIncarnation { peer: id(0), incarnation: anew }, Action::Freeze]);
}

/// Whoever is news to us did not hear what we said before, and need not wait until we say it again.
#[test]
fn what_a_newcomer_could_not_hear_is_said_again_behind_the_welcome() {
    let mut voter = back(vec![life(0), life(1), 0]);
    let says = |replica: &mut Replica, message: PeerMessage| {
        hello(replica, 0, 1);
        let actions = drain(replica);
        let told =
            actions.iter().position(|action| *action == Action::Send { to: id(1), message: message.clone() });
        assert!(told.is_some_and(|at| at > 0), "{message:?}: {actions:?}");
        hello(replica, 0, 1);
        assert_eq!(kinds(&drain(replica)), [0, 1, 0, 0], "once");
    };
    says(&mut voter, PeerMessage::StartViewChange { view: View(1) });
    let memory = Memory::View { view: View(0), last_normal_view: View(0) };
    let start = |recover_at_ns| {
        let config = ReplicaConfig { incarnation: LIFE, recover_at_ns, ..config(2, 3) };
        let mut replica = Replica::start(0, config, memory.clone()).unwrap();
        drain(&mut replica);
        replica
    };
    says(&mut start(0), PeerMessage::Recovery { nonce: u64::from(LIFE) << 32 | 1, view: View(0) });
    // D4: programs of the earlier life may still acknowledge.
    let mut early = start(MS);
    hello(&mut early, 0, 1);
    assert_eq!(kinds(&drain(&mut early)), [1, 1, 0, 0]);
}
