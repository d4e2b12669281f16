//! What a leader forgets, and what it gives to those who missed it.

use super::*;

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
