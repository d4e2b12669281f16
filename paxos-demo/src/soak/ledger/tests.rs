use super::*;
use crate::soak::cut::tests::counts;

/// A leader whose 10 broadcasts to two followers were logged by them, and what a status request leaves.
fn leader() -> Vec<(&'static str, u64)> {
    vec![
        ("sent_prepare", 20),
        ("sent_commit", 2),
        ("sent_outside", 11),
        ("carriers", 10),
        ("carried", 20),
        ("sent", 10 + 2 + 11),
        ("received", 12),
        ("heard_outside", 12),
    ]
}

fn leader_verdicts() -> Vec<(&'static str, u64)> {
    vec![
        ("carrier", 10),
        ("clone_sent", 20),
        ("drop_vote", 9),
        ("drop_vote_repeated", 10),
        ("drop_quorum_quiet", 1),
        ("pass_message", 12),
        ("pass_foreign", 3),
        ("rang", 4),
    ]
}

fn follower_verdicts() -> Vec<(&'static str, u64)> {
    vec![("tx_ack", 10), ("drop_commit", 1), ("pass_message", 1)]
}

fn follower() -> Vec<(&'static str, u64)> {
    vec![("received", 1), ("heard_outside", 1), ("sent_outside", 1), ("sent", 1)]
}

fn group() -> Vec<Counts> {
    vec![
        counts(&leader_verdicts(), &leader()),
        counts(&follower_verdicts(), &follower()),
        counts(&follower_verdicts(), &follower()),
    ]
}

fn wrong(members: Vec<Counts>) -> Vec<String> {
    let before = Cut::of(vec![counts(&[("rang", 0)], &[]); members.len()], 0);
    let equations = balance(&before, &Cut::of(members, 0));
    equations.iter().filter(|e| !e.holds).map(|e| e.name.clone()).collect()
}

fn changed(
    id: usize,
    verdict: Option<(&'static str, u64)>,
    user: Option<(&'static str, u64)>,
) -> Vec<String> {
    let mut members = group();
    let (mut verdicts, mut endpoint) =
        if id == 0 { (leader_verdicts(), leader()) } else { (follower_verdicts(), follower()) };
    let set = |list: &mut Vec<(&'static str, u64)>, (name, n)| {
        list.retain(|(other, _)| *other != name);
        list.push((name, n));
    };
    if let Some(pair) = verdict {
        set(&mut verdicts, pair);
    }
    if let Some(pair) = user {
        set(&mut endpoint, pair);
    }
    members[id] = counts(&verdicts, &endpoint);
    wrong(members)
}

const PREPARES: &str = "every Prepare and Commit was judged once by a follower";
const ACKS: &str = "every ack was judged once by the leader";

#[test]
fn the_books_of_a_well_group_balance() {
    assert_eq!(wrong(group()), [""; 0]);
}

#[test]
fn every_single_packet_that_nobody_counted_is_named() {
    // A copy that got lost on its way, or was judged twice.
    assert_eq!(changed(1, Some(("drop_commit", 0)), None), [PREPARES]);
    assert_eq!(changed(1, Some(("drop_commit", 2)), None), [PREPARES]);
    // An ack likewise.
    assert_eq!(changed(0, Some(("drop_vote", 8)), None), [ACKS]);
    assert_eq!(changed(0, Some(("drop_vote", 10)), None), [ACKS]);
    // A Prepare lost before its program: the follower neither logged nor acknowledged it.
    assert_eq!(changed(2, Some(("tx_ack", 9)), None), [PREPARES, ACKS]);
    // A carrier that was not met, a copy not made, a datagram not received or not read.
    let of_leader = |what: &str| vec![format!("replica 0: {what}")];
    assert_eq!(changed(0, Some(("carrier", 9)), None), of_leader("every carrier met the broadcast program"));
    assert_eq!(changed(0, Some(("clone_sent", 19)), None), of_leader("every carrier became its copies"));
    let passed = of_leader("what the programs passed reached the socket");
    assert_eq!(changed(0, Some(("pass_message", 13)), None), passed);
    assert_eq!(changed(0, None, Some(("heard_outside", 11))), of_leader("what the socket gave was read"));
    assert_eq!(changed(0, None, Some(("sent", 22))), of_leader("what was queued was handed to the socket"));
}

#[test]
fn a_loss_that_was_counted_is_no_difference() {
    let mut members = group();
    let lost = |n| {
        let mut verdicts = follower_verdicts();
        verdicts[1] = ("drop_commit", n);
        counts(&verdicts, &follower())
    };
    members[1] = lost(0);
    members[1].interface_drops = 1;
    assert_eq!(wrong(members.clone()), [""; 0]);
    members[1] = lost(2);
    members[1].interface_drops = 1;
    assert_eq!(wrong(members.clone()), [PREPARES], "one too many is no loss");

    let mut verdicts = leader_verdicts();
    verdicts[5] = ("pass_message", 15);
    let mut full = counts(&verdicts, &leader());
    full.socket_drops = 3;
    members = group();
    members[0] = full;
    assert_eq!(wrong(members), [""; 0]);
}

#[test]
fn sockets_alone_have_books_too() {
    let follower = [("sent_ack", 5), ("sent", 5), ("received", 6), ("heard_prepare", 5), ("heard_commit", 1)];
    let leader = |heard| {
        [("sent_prepare", 5), ("sent_commit", 1), ("sent", 6), ("received", heard), ("heard_ack", heard)]
    };
    assert_eq!(wrong(vec![counts(&[], &leader(5)), counts(&[], &follower)]), [""; 0]);
    assert_eq!(wrong(vec![counts(&[], &leader(4)), counts(&[], &follower)]), [ACKS]);
}

#[test]
fn an_equation_shows_its_sides() {
    let text = balance(&Cut::of(vec![counts(&[("rang", 0)], &[])], 0), &Cut::of(vec![group().remove(0)], 0))
        .iter()
        .map(Equation::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        text.contains(
            "replica 0: every carrier met the broadcast program: 10 = 10 [carriers 10 | carrier 10]"
        )
    );
    assert!(text.contains("difference 22"), "{text}");
}
