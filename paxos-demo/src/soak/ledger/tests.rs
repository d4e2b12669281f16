use std::collections::BTreeSet;

use electrode::abi::Verdict;

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
const JUDGED: &str = "no loss excuses a Prepare and an ack";
const ALL: &str = "no loss excuses two packets";

#[test]
fn the_books_of_a_well_group_balance() {
    assert_eq!(wrong(group()), [""; 0]);
}

#[test]
fn every_single_packet_that_nobody_counted_is_named() {
    // A copy that got lost on its way, or was judged twice.
    assert_eq!(changed(1, Some(("drop_commit", 0)), None), [PREPARES, JUDGED, ALL]);
    assert_eq!(changed(1, Some(("drop_commit", 2)), None), [PREPARES, JUDGED, ALL]);
    // An ack likewise.
    assert_eq!(changed(0, Some(("drop_vote", 8)), None), [ACKS, JUDGED, ALL]);
    assert_eq!(changed(0, Some(("drop_vote", 10)), None), [ACKS, JUDGED, ALL]);
    // A Prepare lost before its program: the follower neither logged nor acknowledged it.
    // An ack that nobody sent makes up for it in the sum alone.
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
    assert_eq!(wrong(members.clone()), [PREPARES, JUDGED, ALL], "one too many is no loss");

    let mut verdicts = leader_verdicts();
    verdicts[5] = ("pass_message", 15);
    let mut full = counts(&verdicts, &leader());
    full.socket_drops = 3;
    members = group();
    members[0] = full;
    assert_eq!(wrong(members), [""; 0]);
}

/// A group whose leader's last broadcast met no program, and of which its socket refused so many datagrams.
fn a_carrier_less(refused: u64) -> Vec<Counts> {
    let less = |list: Vec<(&'static str, u64)>, of: &[(&str, u64)]| {
        let by = |name| of.iter().find(|(other, _)| *other == name).map_or(0, |(_, by)| *by);
        list.into_iter().map(|(name, n)| (name, n - by(name))).collect::<Vec<_>>()
    };
    let mut endpoint = less(leader(), &[("sent", refused)]);
    endpoint.extend([("carriers_lost", 1), ("send_failed", refused)]);
    let acked = [("drop_vote", 1), ("drop_vote_repeated", 1), ("carrier", 1), ("clone_sent", 2)];
    let follower = counts(&less(follower_verdicts(), &[("tx_ack", 1)]), &follower());
    vec![counts(&less(leader_verdicts(), &acked), &endpoint), follower.clone(), follower]
}

#[test]
fn a_lost_carrier_is_excused_by_the_socket_alone() {
    assert_eq!(wrong(a_carrier_less(1)), [""; 0], "two copies were not made of it");
    let found = wrong(a_carrier_less(0));
    let of_leader = [
        "replica 0: every carrier met the broadcast program",
        "replica 0: every lost carrier was refused by the socket",
        "replica 0: every carrier became its copies",
    ];
    assert_eq!(found, [&of_leader[..], &[PREPARES, JUDGED, ALL]].concat());
    // What else was refused is one packet each.
    let mut members = a_carrier_less(1);
    members[1] = counts(&[("tx_ack", 9), ("drop_commit", 0), ("pass_message", 1)], &follower());
    assert_eq!(wrong(members), [PREPARES, JUDGED, ALL]);
}

#[test]
fn one_loss_excuses_one_packet() {
    let lossy = |drops| {
        let mut members = group();
        members[1] = counts(&[("tx_ack", 10), ("drop_commit", 0), ("pass_message", 1)], &follower());
        let mut verdicts = leader_verdicts();
        verdicts[2] = ("drop_vote", 8);
        members[0] = counts(&verdicts, &leader());
        members[0].interface_drops = drops;
        members
    };
    assert_eq!(wrong(lossy(1)), [JUDGED, ALL], "a Commit and an ack");
    assert_eq!(wrong(lossy(2)), [""; 0]);
    // A message and a Commit; the socket's loss may be the message.
    let mut members = lossy(2);
    let mut endpoint = follower();
    endpoint.extend([("sent_message", 1), ("sent", 2)]);
    endpoint.remove(3);
    members[2] = counts(&follower_verdicts(), &endpoint);
    assert_eq!(wrong(members.clone()), [ALL]);
    members[0].interface_drops = 3;
    assert_eq!(wrong(members), [""; 0]);
}

/// What the equations name one by one: messages, and what becomes of a carrier.
const BY_NAME: [&str; 6] =
    ["pass_message", "carrier", "carrier_malformed", "clone_sent", "clone_failed", "clone_unresolved"];
/// Of which no equation speaks: another's packets, whose number nobody knows, and a bell that is rung beside the verdict
/// on the packet.
const UNSPOKEN: [&str; 2] = ["pass_foreign", "rang"];

#[test]
fn every_verdict_has_one_place_in_the_books() {
    let lists = [&VOTES[..], &FROM_LEADER, &ANY_KIND, &BY_NAME, &UNSPOKEN];
    let mut listed = lists.concat();
    let mut all: Vec<_> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
    listed.sort_unstable();
    all.sort_unstable();
    assert_eq!(listed, all, "a new verdict: where does its packet end?");

    let cut = Cut::of(group(), 0);
    let equations = balance(&cut, &cut);
    let terms = equations.iter().flat_map(|equation| [&equation.left, &equation.right, &equation.losses]);
    let spoken: BTreeSet<&str> = terms.flatten().map(|term| term.name.as_str()).collect();
    for name in all {
        assert_eq!(spoken.contains(name), !UNSPOKEN.contains(&name), "{name}");
    }
}

#[test]
fn sockets_alone_have_books_too() {
    let follower = [("sent_ack", 5), ("sent", 5), ("received", 6), ("heard_prepare", 5), ("heard_commit", 1)];
    let leader = |heard| {
        [("sent_prepare", 5), ("sent_commit", 1), ("sent", 6), ("received", heard), ("heard_ack", heard)]
    };
    assert_eq!(wrong(vec![counts(&[], &leader(5)), counts(&[], &follower)]), [""; 0]);
    assert_eq!(wrong(vec![counts(&[], &leader(4)), counts(&[], &follower)]), [ACKS, JUDGED, ALL]);
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
