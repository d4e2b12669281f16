//! How a group forms, and who may join it.

use super::*;

fn send(to: u8, message: PeerMessage) -> Action {
    Action::Send { to: id(to), message }
}

fn hello_from(me: u8, to: u8) -> Action {
    send(to, PeerMessage::Hello { config_hash: HASH, born: life(me) })
}

fn welcome_from(me: u8, to: u8) -> Action {
    send(to, PeerMessage::Welcome { config_hash: HASH, incarnation: life(to), born: life(me) })
}

/// D6: before anything is made of it.
fn note(peer: u8) -> Action {
    Action::SaveMember { peer: id(peer), born: life(peer) }
}

fn expect(peer: u8) -> Action {
    Action::ExpectIncarnation { peer: id(peer), incarnation: life(peer) }
}

fn open(role: GateRole) -> Action {
    Action::OpenGate { role, view: View(0), leader: id(0), last_op: op(0), commit: op(0) }
}

/// D3: before the gate opens.
fn remember() -> Action {
    Action::SaveState { view: View(0), last_normal_view: View(0) }
}

fn refused(replica: &mut Replica, by: u8, reason: Refusal) -> Vec<Action> {
    let me = replica.config().incarnation;
    replica.on_peer_message(0, id(by), life(by), PeerMessage::Refused { incarnation: me, reason });
    drain(replica)
}

fn fatal(actions: &[Action]) -> String {
    let [Action::Fatal(fatal)] = actions else { panic!("{actions:?}") };
    fatal.to_string()
}

/// The member welcomes this life.
fn welcomed(replica: &mut Replica, now: u64, by: u8) {
    welcomed_by(replica, now, by, life(by));
}

#[test]
fn a_leader_opens_when_everybody_is_there() {
    let mut replica = Replica::new(0, config(0, 3)).unwrap();
    assert_eq!(drain(&mut replica), [hello_from(0, 1), hello_from(0, 2)]);
    welcomed(&mut replica, 0, 2);
    assert_eq!(drain(&mut replica), [note(2), expect(2)]);
    assert!(!replica.is_leading(), "a quorum, but the third may be on its way");
    hello(&mut replica, 0, 1);
    assert_eq!(drain(&mut replica), [welcome_from(0, 1), hello_from(0, 1)], "it may have missed the first");
    assert!(!replica.is_leading(), "what says Hello may be over");
    welcomed(&mut replica, 0, 1);
    assert_eq!(drain(&mut replica), [note(1), expect(1), remember(), open(GateRole::Lead)]);
}

#[test]
fn a_leader_does_not_wait_for_a_dead_minority() {
    let mut replica = Replica::new(0, config(0, 5)).unwrap();
    welcomed(&mut replica, 0, 1);
    replica.on_tick(10_000 * MS);
    assert!(!replica.is_leading(), "two of five");
    welcomed(&mut replica, 10_000 * MS, 2);
    drain(&mut replica);
    replica.on_tick(10_199 * MS);
    assert!(!replica.is_leading());
    replica.on_tick(10_200 * MS);
    assert!(drain(&mut replica).contains(&open(GateRole::Lead)));
    // A member that comes later is added.
    hello(&mut replica, 10_300 * MS, 4);
    assert_eq!(drain(&mut replica), [welcome_from(0, 4), hello_from(0, 4)]);
    welcomed(&mut replica, 10_300 * MS, 4);
    assert_eq!(drain(&mut replica), [note(4), expect(4)]);
}

#[test]
fn a_follower_opens_when_its_leader_has_welcomed_it() {
    let mut replica = Replica::new(0, config(1, 3)).unwrap();
    drain(&mut replica);
    welcomed(&mut replica, 0, 2);
    assert_eq!(drain(&mut replica), [note(2), expect(2)]);
    hello(&mut replica, 0, 0);
    assert_eq!(drain(&mut replica), [welcome_from(1, 0), hello_from(1, 0)]);
    welcomed(&mut replica, 0, 0);
    assert_eq!(drain(&mut replica), [note(0), expect(0), remember(), open(GateRole::Follow)]);
}

#[test]
fn hellos_are_repeated_until_welcomed_and_ever_more_rarely() {
    let mut replica = Replica::new(0, config(1, 3)).unwrap();
    drain(&mut replica);
    let welcome = PeerMessage::Welcome { config_hash: HASH, incarnation: life(1), born: life(0) };
    replica.on_peer_message(0, id(2), life(2), welcome.clone());
    drain(&mut replica);
    let mut at = 0;
    for wait in [20, 40, 80, 160, 320, 640, 1000] {
        at += wait * MS;
        assert_eq!(replica.next_deadline(), Some(at));
        replica.on_tick(at);
        assert_eq!(drain(&mut replica), [hello_from(1, 0)]);
    }
    replica.on_peer_message(at, id(0), life(0), welcome);
    drain(&mut replica);
    let silence = at + replica.config().leader_timeout_ns;
    assert_eq!(replica.next_deadline(), Some(silence));
}

#[test]
fn a_welcome_to_an_earlier_life_is_not_for_this_one() {
    let mut replica = Replica::new(0, config(1, 3)).unwrap();
    drain(&mut replica);
    let welcome = PeerMessage::Welcome { config_hash: HASH, incarnation: life(1) - 1, born: life(0) };
    replica.on_peer_message(0, id(0), life(0), welcome);
    let reason = Refusal::Restarted { known: 3 };
    let refused = PeerMessage::Refused { incarnation: life(1) - 1, reason };
    replica.on_peer_message(0, id(0), life(0), refused);
    assert_eq!(drain(&mut replica), []);
}

#[test]
fn a_restarted_follower_is_turned_away_and_stops() {
    let mut leader = leading(3);
    let (old, new) = (life(1), life(1) + 5);
    leader.on_peer_message(0, id(1), new, PeerMessage::Hello { config_hash: HASH, born: new });
    let warning = Warning::PeerRestarted { peer: id(1), known: old, now: new };
    let reason = Refusal::Restarted { known: old };
    let refusal = PeerMessage::Refused { incarnation: new, reason };
    assert_eq!(drain(&mut leader), [Action::Warn(warning), send(1, refusal.clone())]);

    let mut restarted = Replica::new(0, ReplicaConfig { incarnation: new, ..config(1, 3) }).unwrap();
    drain(&mut restarted);
    restarted.on_peer_message(0, id(0), life(0), refusal);
    let text = fatal(&drain(&mut restarted));
    assert!(text.contains("turned away by replica 0") && text.contains("data directory was lost"), "{text}");
}

/// The leader welcomed it, for it had never met the life that is lost.
#[test]
fn a_restarted_follower_stops_even_after_it_opened() {
    let mut restarted = following(3);
    fatal(&refused(&mut restarted, 0, Refusal::Restarted { known: 1 }));
}

#[test]
fn a_restarted_leader_is_turned_away_and_stops() {
    let mut follower = following(3);
    let new = life(0) + 5;
    follower.on_peer_message(0, id(0), new, PeerMessage::Hello { config_hash: HASH, born: new });
    let reason = Refusal::Restarted { known: life(0) };
    let refusal = send(0, PeerMessage::Refused { incarnation: new, reason });
    assert_eq!(drain(&mut follower)[1..], [refusal]);

    // Whether it is still looking for a quorum or has found one that did not know it (L11).
    let mut forming = Replica::new(0, config(0, 3)).unwrap();
    drain(&mut forming);
    fatal(&refused(&mut forming, 2, reason));
    fatal(&refused(&mut leading(3), 2, reason));
}

/// D6: whoever the lost life had promised something to, this replica need not know of it.
#[test]
fn a_second_first_life_is_turned_away_by_everybody() {
    let incarnation = life(2) + 1;
    let hello_again = PeerMessage::Hello { config_hash: HASH, born: incarnation };
    let mut forming = Replica::new(0, config(1, 3)).unwrap();
    welcomed(&mut forming, 0, 2);
    let mut follower = following(3);
    welcomed(&mut follower, 0, 2);
    for replica in [&mut forming, &mut follower] {
        drain(replica);
        replica.on_peer_message(0, id(2), incarnation, hello_again.clone());
        let actions = drain(replica);
        let reason = Refusal::Restarted { known: life(2) };
        let refused = send(2, PeerMessage::Refused { incarnation, reason });
        assert_eq!(actions.last(), Some(&refused));
    }
}

/// Turned away, and started again: its directory now has a state file, but not what was lost.
#[test]
fn a_lost_memory_is_not_made_up_for_by_starting_again() {
    let mut leader = leading(3);
    let born = life(2) + 1;
    for incarnation in [born, born + 1, born + 2] {
        let config = ReplicaConfig { incarnation, born, ..config(2, 3) };
        let mut anew = Replica::start(0, config, Memory::Nothing).unwrap();
        let hello = drain(&mut anew).into_iter().find_map(|action| match action {
            Action::Send { to, message } if to == id(0) => Some(message),
            _ => None,
        });
        leader.on_peer_message(0, id(2), incarnation, hello.unwrap());
        let reason = Refusal::Restarted { known: life(2) };
        let refused = send(2, PeerMessage::Refused { incarnation, reason });
        assert_eq!(drain(&mut leader).last(), Some(&refused));
    }
}

/// A new directory may be made while the machine's clock is behind: it is another memory all the same.
#[test]
fn a_lost_memory_is_noticed_although_the_clock_was_put_back() {
    let mut replica = Replica::new(0, config(1, 3)).unwrap();
    welcomed(&mut replica, 0, 2);
    drain(&mut replica);
    let born = life(2) - 50;
    for incarnation in [born, life(2) + 1, life(2) + 2] {
        replica.on_peer_message(0, id(2), incarnation, PeerMessage::Hello { config_hash: HASH, born });
        let actions = drain(&mut replica);
        let turned_away = |a: &Action| matches!(a, Action::Send { message: PeerMessage::Refused { .. }, .. });
        assert!(actions.iter().any(turned_away), "incarnation {incarnation}: {actions:?}");
    }
}

/// Whoever met it does not forget it when it is started again itself.
#[test]
fn a_lost_memory_is_noticed_by_later_lives_too() {
    let met = vec![life(0), 0, life(2)];
    let again = ReplicaConfig { incarnation: life(1) + 1, born: life(1), met, ..config(1, 3) };
    let memory = Memory::View { view: View(4), last_normal_view: View(4) };
    let mut replica = Replica::start(0, again, memory).unwrap();
    drain(&mut replica);
    let born = life(2) + 7;
    replica.on_peer_message(0, id(2), born, PeerMessage::Hello { config_hash: HASH, born });
    let reason = Refusal::Restarted { known: life(2) };
    let refused = send(2, PeerMessage::Refused { incarnation: born, reason });
    assert_eq!(drain(&mut replica).last(), Some(&refused));
    // One that kept its memory is as welcome as ever, and need not be noted again.
    welcomed(&mut replica, 0, 0);
    assert_eq!(drain(&mut replica)[0], expect(0));
}

/// A member may find out last, and from anybody.
#[test]
fn whoever_says_that_the_memory_is_lost_is_believed() {
    for by in [0, 2] {
        fatal(&refused(&mut following(3), by, Refusal::Restarted { known: 1 }));
    }
}

/// A start that came to nothing was no life: its number is known, and nothing was promised under it.
#[test]
fn a_start_that_came_to_nothing_can_be_repeated() {
    let again = ReplicaConfig { incarnation: life(2) + 1, born: life(2), ..config(2, 3) };
    let mut second = Replica::start(0, again, Memory::Nothing).unwrap();
    assert_eq!(second.status().role, RoleName::Forming);
    let actions = drain(&mut second);
    let Some(Action::Send { message, .. }) = actions.first() else { panic!("{actions:?}") };

    let mut leader = leading(3);
    let incarnation = life(2) + 1;
    leader.on_peer_message(0, id(2), incarnation, message.clone());
    let welcome = PeerMessage::Welcome { config_hash: HASH, incarnation, born: life(0) };
    assert_eq!(drain(&mut leader), [send(2, welcome), hello_from(0, 2)]);
    welcomed_by(&mut leader, 0, 2, incarnation);
    let expected = Action::ExpectIncarnation { peer: id(2), incarnation };
    assert_eq!(drain(&mut leader)[0], expected);
    // The old life's Hello comes late: it does not bring it back.
    hello(&mut leader, 0, 2);
    assert!(matches!(drain(&mut leader)[..], [Action::Send { message: PeerMessage::Refused { .. }, .. }]));
}

#[test]
fn another_configuration_is_turned_away_with_both_hashes() {
    let mut leader = leading(3);
    let hello = PeerMessage::Hello { config_hash: 0xbad, born: life(1) };
    for warnings in [1, 0] {
        leader.on_peer_message(0, id(1), life(1), hello.clone());
        let actions = drain(&mut leader);
        assert_eq!(actions.len(), warnings + 1, "a warning once, an answer always");
        let reason = Refusal::ConfigMismatch { theirs: HASH, yours: 0xbad };
        let refused = PeerMessage::Refused { incarnation: life(1), reason };
        assert_eq!(actions[warnings], send(1, refused));
    }
}

#[test]
fn whoever_cannot_work_with_its_configuration_stops() {
    let reason = Refusal::ConfigMismatch { theirs: 0xbad, yours: HASH };

    let mut follower = Replica::new(0, config(1, 5)).unwrap();
    drain(&mut follower);
    assert!(matches!(refused(&mut follower, 2, reason)[..], [Action::Warn(Warning::TurnedAway { .. })]));
    assert!(refused(&mut follower, 2, reason).is_empty(), "once is enough");
    let text = fatal(&refused(&mut follower, 0, reason));
    assert!(text.contains("0x0000000000000bad") && text.contains("0x0000000000c0ffee"), "{text}");

    // A leader can do without some of its followers, but not without a quorum.
    let mut leader = Replica::new(0, config(0, 5)).unwrap();
    drain(&mut leader);
    for by in [1, 2] {
        assert!(matches!(refused(&mut leader, by, reason)[..], [Action::Warn(_)]));
    }
    fatal(&refused(&mut leader, 3, reason));

    // A group that works does not let a stranger stop it.
    let mut leader = leading(3);
    for by in [1, 2] {
        assert!(matches!(refused(&mut leader, by, reason)[..], [Action::Warn(_)]));
    }
    assert!(leader.is_leading());
}

#[test]
fn requests_before_the_group_has_formed_are_put_off() {
    let mut replica = Replica::new(0, config(0, 3)).unwrap();
    drain(&mut replica);
    ask(&mut replica, 0, 1, 1, &get());
    assert_eq!(replies(&drain(&mut replica)), [(1, ReplyStatus::TryAgain, vec![])]);
}
