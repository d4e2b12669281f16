//! Leaving a view and entering the next.

use super::*;
use crate::peer::{ViewStart, Vote};

fn vote(last_normal_view: u64, last_op: u64, commit: u64) -> Vote {
    Vote { last_normal_view: View(last_normal_view), last_op: op(last_op), commit: op(commit) }
}

fn votes(view: u64, vote: Vote) -> PeerMessage {
    PeerMessage::DoViewChange { view: View(view), vote }
}

fn begins(view: u64, origin: u64, length: u64, commit: u64) -> PeerMessage {
    let (last_op, commit) = (op(length), op(commit));
    let start = ViewStart { origin: View(origin), length: op(length), last_op, commit };
    PeerMessage::StartView { view: View(view), start }
}

fn batch_of(view: u64, ordered_in: u64, at: u64, value: &str) -> PeerMessage {
    PeerMessage::NewState {
        view: View(view),
        ordered_in: View(ordered_in),
        first: op(at),
        last: op(at),
        payload: payload(&[(at, 1, &set(value))]),
    }
}

fn saves(action: &Action) -> bool {
    matches!(action, Action::SaveState { .. })
}

fn logs(replica: &mut Replica, view: u64, at: u64, value: &str) {
    let bytes = payload(&[(at, 1, &set(value))]);
    replica.on_logged(0, View(view), op(at), op(at), op(0), &bytes);
}

/// U1 to U3: frozen, drained, persisted, and only then the vote, which holds what the drain brought.
#[test]
fn a_vote_comes_after_the_drain_and_after_the_view_is_on_disk() {
    let mut replica = follower(2, 3);
    logs(&mut replica, 0, 1, "a");
    assert_eq!(from(&mut replica, 0, 1, left(1)), [Action::Freeze]);
    logs(&mut replica, 0, 2, "b");
    replica.on_frozen(0, 0);
    let actions = drain(&mut replica);
    let voted = |action: &Action| matches!(action, Action::Send { .. });
    assert!(position(&actions, saves) < position(&actions, voted), "D3");
    assert_eq!(sent(&actions, 0), [&left(1)]);
    assert_eq!(sent(&actions, 1), [&left(1), &votes(1, vote(0, 2, 0))]);
    // A late Prepare of the old view changes nothing any more.
    logs(&mut replica, 0, 3, "c");
    assert_eq!(replica.status().last_op, op(2));
}

/// A new leader with its own vote cast; its log holds ops 1 and 2 of view 0, the first of them committed.
fn candidate() -> Replica {
    let mut replica = follower(1, 3);
    logs(&mut replica, 0, 1, "a");
    logs(&mut replica, 0, 2, "b");
    replica.on_commit(View(0), op(1));
    drain(&mut replica);
    assert_eq!(from(&mut replica, 0, 2, left(1)), [Action::Freeze]);
    replica.on_frozen(0, 0);
    drain(&mut replica);
    replica
}

#[test]
fn a_quorum_of_votes_makes_a_leader_and_what_it_inherits_commits_in_its_view() {
    let mut replica = candidate();
    let actions = from(&mut replica, 0, 2, votes(1, vote(0, 1, 1)));
    let opens = position(&actions, |action| matches!(action, Action::OpenGate { role: GateRole::Lead, .. }));
    assert!(position(&actions, saves) < opens, "D3: before the gate opens");
    assert_eq!(sent(&actions, 0), [&begins(1, 0, 2, 1)]);
    assert_eq!(prepares(&actions), [(3, 3)], "L10: a barrier, by whose quorum op 2 commits");
    assert_eq!(replica.status().commit, op(1));
    replica.on_quorum(0, op(3));
    assert_eq!(replica.status().commit, op(3));
    assert_eq!(replica.status().last_normal_view, View(1));
}

#[test]
fn the_best_log_is_fetched_before_anything_is_replaced() {
    let mut replica = candidate();
    let actions = from(&mut replica, 0, 2, votes(1, vote(0, 4, 1)));
    let asks = PeerMessage::GetState { view: View(1), after: op(2), upto: op(4) };
    assert_eq!(sent(&actions, 2), [&asks], "logs of one view are prefixes of each other");
    from(&mut replica, 0, 2, batch_of(1, 0, 4, "d"));
    assert_eq!(replica.status().last_op, op(2), "staged (U6)");
    let actions = from(&mut replica, 0, 2, batch_of(1, 0, 3, "c"));
    assert_eq!(prepares(&actions), [(5, 5)]);
    assert_eq!(replica.status().role, RoleName::Leader);
}

/// B2: of another view's log only what is committed is surely the same.
#[test]
fn an_uncommitted_tail_of_another_view_is_not_kept() {
    let mut replica = follower(1, 5);
    for (at, value) in [(1, "a"), (2, "mine")] {
        logs(&mut replica, 0, at, value);
    }
    replica.on_commit(View(0), op(1));
    // View 5 began without this replica, and view 6, which it leads, was called for.
    from(&mut replica, 0, 2, left(6));
    replica.on_frozen(0, 0);
    drain(&mut replica);
    from(&mut replica, 0, 3, votes(6, vote(0, 1, 1)));
    let actions = from(&mut replica, 0, 2, votes(6, vote(5, 2, 1)));
    let asks = PeerMessage::GetState { view: View(6), after: op(1), upto: op(2) };
    assert_eq!(sent(&actions, 2), [&asks]);
    from(&mut replica, 0, 2, batch_of(6, 5, 2, "theirs"));
    let entry = replica.log().get(op(2)).unwrap();
    assert_eq!((entry.view, &entry.payload), (View(5), &payload(&[(2, 1, &set("theirs"))])));
}

/// U6: until the view's log is here, this replica votes with the old one.
#[test]
fn a_transfer_that_is_cut_off_leaves_the_old_log_for_the_vote() {
    let mut replica = candidate();
    from(&mut replica, 0, 2, votes(1, vote(0, 9, 1)));
    from(&mut replica, 0, 2, batch_of(1, 0, 3, "c"));
    let actions = from(&mut replica, 0, 2, left(2));
    assert_eq!(sent(&actions, 2), [&left(2), &votes(2, vote(0, 2, 1))]);
}

#[test]
fn a_follower_enters_when_the_leader_says_so_and_only_once() {
    let mut replica = follower(2, 3);
    logs(&mut replica, 0, 1, "a");
    logs(&mut replica, 0, 2, "b");
    from(&mut replica, 0, 1, left(1));
    replica.on_frozen(0, 0);
    drain(&mut replica);
    assert_eq!(from(&mut replica, 0, 0, begins(1, 0, 2, 2)), [], "view 1 is not replica 0's");
    let actions = from(&mut replica, 0, 1, begins(1, 0, 2, 2));
    let opens = position(&actions, |action| matches!(action, Action::OpenGate { last_op: OpNumber(2), .. }));
    assert!(position(&actions, saves) < opens);
    assert_eq!(replica.status().applied, op(2));
    logs(&mut replica, 1, 3, "c");
    assert_eq!(from(&mut replica, 0, 1, begins(1, 0, 2, 2)), [], "P4: a copy does not install again");
    assert_eq!(replica.status().last_op, op(3));
}

/// A replica that was away learns of the view from a packet of it, and asks its leader alone.
#[test]
fn whoever_was_away_asks_how_the_view_began() {
    let mut replica = follower(2, 3);
    replica.on_newer_view(0, View(4));
    assert_eq!(sent(&drain(&mut replica), 1), [&PeerMessage::AskStartView { view: View(4) }]);
    replica.on_newer_view(0, View(4));
    assert_eq!(drain(&mut replica), [], "not for every packet");
    assert_eq!(from(&mut replica, 0, 1, begins(4, 3, 1, 1)), [Action::Freeze]);
    replica.on_frozen(0, 0);
    let asks = PeerMessage::GetState { view: View(4), after: op(0), upto: op(1) };
    assert_eq!(sent(&drain(&mut replica), 1), [&asks]);
    from(&mut replica, 0, 1, batch_of(4, 2, 1, "x"));
    assert_eq!((replica.view(), replica.status().applied), (View(4), op(1)));
}

#[test]
fn a_leader_that_hears_of_a_higher_view_closes_its_gate_first() {
    let mut replica = leading(3);
    ask(&mut replica, 0, 1, 1, &set("v"));
    drain(&mut replica);
    assert_eq!(from(&mut replica, 0, 2, left(1)), [Action::Freeze]);
    // L8: votes of the old view count no more, and nothing is sent in it.
    replica.on_quorum(0, op(1));
    replica.on_tick(1000 * MS);
    assert_eq!(drain(&mut replica), []);
    replica.on_frozen(1000 * MS, 0);
    assert_eq!(sent(&drain(&mut replica), 1), [&left(1), &votes(1, vote(0, 1, 0))]);
}

/// The log may take longer to its leader than a view change may take.
#[test]
fn a_voter_waits_while_the_log_is_on_its_way_to_the_leader() {
    let fetching = |view| PeerMessage::Fetching { view: View(view) };
    let mut voter = follower(2, 3);
    from(&mut voter, 0, 1, left(1));
    voter.on_frozen(0, 0);
    from(&mut voter, 0, 1, left(1));
    for now in (0..3000).step_by(200) {
        from(&mut voter, now * MS, 1, fetching(1));
        // Neither another member nor another view.
        from(&mut voter, now * MS, 0, fetching(1));
        from(&mut voter, now * MS, 1, fetching(4));
        voter.on_tick(now * MS);
    }
    assert_eq!(voter.view(), View(1));
    voter.on_tick(3200 * MS);
    assert_eq!(voter.view(), View(2), "its leader is silent");

    // The leader says so as long as it fetches, and gives up by itself.
    let mut leader = follower(1, 3);
    from(&mut leader, 0, 2, left(1));
    leader.on_frozen(0, 0);
    drain(&mut leader);
    let tells = |leader: &mut Replica, now: u64| {
        leader.on_tick(now * MS);
        sent(&drain(leader), 2).contains(&&fetching(1))
    };
    assert!(!tells(&mut leader, 30), "no quorum yet");
    from(&mut leader, 31 * MS, 2, votes(1, vote(0, 3, 0)));
    assert!(tells(&mut leader, 60));
    from(&mut leader, 250 * MS, 2, batch_of(1, 0, 1, "a"));
    assert!(tells(&mut leader, 500), "it flows");
    tells(&mut leader, 600);
    assert_eq!(leader.view(), View(2));
}

/// Alone, a replica would run ahead in views, and drag everybody along when it comes back.
#[test]
fn view_numbers_grow_only_in_company() {
    let mut replica = follower(2, 3);
    from(&mut replica, 0, 1, left(1));
    replica.on_frozen(0, 0);
    drain(&mut replica);
    let mut alone = follower(2, 5);
    from(&mut alone, 0, 1, left(1));
    alone.on_frozen(0, 0);
    for now in 1..100 {
        alone.on_tick(now * 100 * MS);
    }
    assert_eq!(alone.view(), View(1), "two of five");
    assert!(drain(&mut alone).contains(&Action::Send { to: id(0), message: left(1) }), "but it insists");
    for peer in [1, 3] {
        from(&mut alone, 10_000 * MS, peer, left(1));
    }
    alone.on_tick(20_000 * MS);
    assert_eq!(alone.view(), View(2));
}

/// B4: the client table knows what was committed, not what was accepted.
#[test]
fn a_request_that_a_failed_leader_took_is_taken_again() {
    let mut replica = leading(3);
    ask(&mut replica, 0, 7, 1, &set("v"));
    drain(&mut replica);
    from(&mut replica, 0, 2, left(3));
    replica.on_frozen(0, 0);
    // View 3 is led by this replica again; the others never got the op.
    from(&mut replica, 0, 1, votes(3, vote(2, 0, 0)));
    assert_eq!(replica.status().last_op, op(1), "only the barrier");
    ask(&mut replica, 0, 7, 1, &set("v"));
    assert_eq!(prepares(&drain(&mut replica)), [(2, 2)]);
}

/// A leader that has begun its view and takes long to send it is not deposed for that.
#[test]
fn a_slow_transfer_is_asked_for_again_before_the_view_is_given_up() {
    let mut replica = follower(2, 3);
    from(&mut replica, 0, 1, left(1));
    replica.on_frozen(0, 0);
    from(&mut replica, 0, 1, left(1));
    drain(&mut replica);
    from(&mut replica, 0, 1, begins(1, 0, 9, 9));
    let timeout = replica.config().view_change_timeout_ns;
    replica.on_tick(timeout);
    assert_eq!(replica.view(), View(1));
    from(&mut replica, timeout, 1, begins(1, 0, 9, 9));
    replica.on_tick(2 * timeout);
    assert_eq!(replica.view(), View(1));
    drain(&mut replica);
    replica.on_tick(3 * timeout);
    assert_eq!(replica.view(), View(2), "no answer for a whole period");
}
