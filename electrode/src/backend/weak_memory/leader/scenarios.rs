//! Which acks meet which rounds, and what each broken rule is noticed by.

use super::super::{Plant, caught};
use super::Act::{Begin, LeadAgain, Recount, Sleep};
use super::{Scenario, ack, early};
use crate::abi::Verdict::{
    DropQuorumQuiet, DropVote, DropVoteRepeated, DropVoteStale, PassFrozen, PassQuorum,
};

fn one_round() -> Scenario {
    Scenario {
        name: "three members complete a round of two",
        window: 1,
        before: &[Begin { op: 1, threshold: 2 }],
        acks: [vec![ack(1, 1), ack(2, 1)], vec![ack(3, 1)]],
        script: &[Sleep, Recount],
        preemptions: Some(2),
        expected: &[DropVote, DropVoteRepeated, DropQuorumQuiet, PassQuorum],
    }
}

fn repeated() -> Scenario {
    Scenario {
        name: "one member thrice does not complete a round of two",
        window: 1,
        before: &[Begin { op: 1, threshold: 2 }],
        acks: [vec![ack(1, 1), ack(1, 1)], vec![ack(1, 1)]],
        script: &[Recount],
        preemptions: Some(3),
        expected: &[DropVote, DropVoteRepeated],
    }
}

fn out_of_order() -> Scenario {
    Scenario {
        name: "a member's acks of two rounds overtake each other",
        window: 2,
        before: &[Begin { op: 1, threshold: 2 }, Begin { op: 2, threshold: 2 }],
        acks: [vec![ack(1, 2), ack(2, 1)], vec![ack(1, 1)]],
        script: &[Recount],
        preemptions: Some(3),
        expected: &[DropVote, DropQuorumQuiet],
    }
}

fn reused() -> Scenario {
    Scenario {
        name: "a slot goes to the next round while the old one's acks arrive",
        window: 1,
        before: &[Begin { op: 1, threshold: 1 }],
        acks: [vec![ack(1, 1), ack(1, 2)], vec![ack(2, 1)]],
        script: &[Recount, Begin { op: 2, threshold: 2 }],
        preemptions: Some(2),
        expected: &[DropVote, DropVoteRepeated, DropVoteStale, DropQuorumQuiet],
    }
}

fn too_early() -> Scenario {
    Scenario {
        name: "an ack that is made up meets its round while it begins",
        acks: [vec![ack(2, 1), early(1, 2)], vec![ack(1, 1)]],
        ..reused()
    }
}

fn led_again() -> Scenario {
    Scenario {
        name: "the leader leads again while acks of its last opening arrive",
        window: 1,
        before: &[Begin { op: 1, threshold: 2 }],
        acks: [vec![ack(1, 1), ack(1, 2)], vec![ack(2, 1)]],
        script: &[LeadAgain, Begin { op: 1, threshold: 2 }],
        preemptions: Some(2),
        expected: &[DropVote, DropVoteStale, DropQuorumQuiet, PassFrozen],
    }
}

#[test]
fn a_round_is_completed_once_by_distinct_members() {
    [one_round(), repeated()].iter().for_each(Scenario::is_sound);
}

#[test]
fn a_maximum_is_the_highest_op_whatever_comes_last() {
    out_of_order().is_sound();
}

#[test]
fn a_vote_counts_only_in_its_round() {
    [reused(), too_early()].iter().for_each(Scenario::is_sound);
}

#[test]
fn old_votes_die_with_the_opening() {
    led_again().is_sound();
}

#[test]
fn l1_a_round_published_without_releasing_is_noticed() {
    caught(too_early().explore(Plant::RoundRelaxed), "L3");
}

#[test]
fn l1_a_round_published_before_its_threshold_is_noticed() {
    caught(too_early().explore(Plant::RoundPublishedFirst), "L3");
}

#[test]
fn l1_a_round_described_under_the_old_word_is_noticed() {
    caught(reused().explore(Plant::RoundNotInvalidated), "L3");
}

#[test]
fn a8_a_vote_by_plain_or_is_noticed() {
    caught(one_round().explore(Plant::VoteByOr), "L3");
    caught(led_again().explore(Plant::VoteByOr), "C4");
}

#[test]
fn l2_a_maximum_that_is_stored_is_noticed() {
    caught(out_of_order().explore(Plant::MaximumStored), "L2");
}

#[test]
fn l8_leading_again_in_the_same_epoch_is_noticed() {
    caught(led_again().explore(Plant::SameEpoch), "L2");
}

#[test]
fn a_wake_up_lost_between_looking_and_sleeping_is_noticed() {
    for plant in [Plant::FenceLeftOut, Plant::SwapNoBarrier] {
        caught(one_round().explore(plant), "a wake-up was lost");
    }
}
