use super::*;
use crate::wire::{Batch, Origin};
use proptest::prelude::*;

const MEMBERS: [&str; 3] = ["10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.3:9001"];

fn members() -> Vec<SocketAddr> {
    MEMBERS.map(|m| m.parse().unwrap()).to_vec()
}

fn ack(sender: u8, last: u64, round_tag: u64) -> Header {
    let origin = Origin { group: 7, config_hash: 8, sender: Some(ReplicaId(sender)), incarnation: 11 };
    let batch = Batch {
        view: View(3),
        first: OpNumber(last),
        last: OpNumber(last),
        round_tag,
        leader_epoch: Epoch(5),
    };
    origin.prepare_ok(&batch, Some(ReplicaId(0)))
}

fn round(last: u64, bits: u32, voters: u32, threshold: u32) -> RoundState {
    RoundState {
        vote: words::vote_word(Epoch(5), OpNumber(last)) | u64::from(bits),
        op: OpNumber(last),
        view: View(3),
        round_tag: 99,
        voters: ReplicaSet::from_mask(voters),
        threshold,
    }
}

#[test]
fn f1_another_group_or_configuration_is_not_ours() {
    let header = ack(1, 1, 0);
    assert_eq!(admit_config(&header, 7, 8), Ok(()));
    assert_eq!(admit_config(&header, 6, 8), Err(Verdict::PassConfig));
    assert_eq!(admit_config(&header, 7, 9), Err(Verdict::PassConfig));
}

#[test]
fn f2_each_kind_has_its_state() {
    use GateState::{Follow, Frozen, Lead};
    let admitted = |kind| [Frozen, Follow, Lead].map(|state| admit_gate(kind, state).is_ok());
    assert_eq!(admitted(Kind::Prepare), [false, true, false]);
    assert_eq!(admitted(Kind::Commit), [false, true, false]);
    assert_eq!(admitted(Kind::PrepareOk), [false, false, true]);
    assert_eq!(admitted(Kind::Message), [true, true, true]);
}

#[test]
fn f3_only_our_view() {
    assert_eq!(admit_view(View(3), View(3)), Ok(()));
    assert_eq!(admit_view(View(3), View(2)), Err(Verdict::DropViewOld));
    assert_eq!(admit_view(View(3), View(4)), Err(Verdict::PassViewNew));
}

#[test]
fn f4_only_the_leader_only_from_its_home_and_only_in_its_known_life() {
    let members = members();
    let admitted = |sender: u8, from: &str, expected: u32| {
        let header = ack(sender, 1, 0);
        admit_leader(ReplicaId(1), &members, |_| expected, &header, from.parse().unwrap())
    };
    let life = ack(1, 1, 0).incarnation.get();
    assert_eq!(admitted(1, "10.0.0.2:9000", life), Ok(()));
    assert_eq!(admitted(1, "[::ffff:10.0.0.2]:9000", life), Ok(()));
    for (sender, from) in
        [(0, "10.0.0.1:9000"), (1, "10.0.0.1:9000"), (1, "10.0.0.2:9001"), (0, "10.0.0.2:9000")]
    {
        assert_eq!(admitted(sender, from, life), Err(Verdict::DropSource), "{sender} {from}");
    }
    assert_eq!(admitted(1, "10.0.0.2:9000", life + 1), Err(Verdict::DropSource));
    assert_eq!(admitted(1, "10.0.0.2:9000", 0), Err(Verdict::DropSource));
    assert_eq!(admitted(9, "10.0.0.2:9000", life), Err(Verdict::DropSource));
}

#[test]
fn l2_only_members_in_their_known_life() {
    let members = members();
    let admitted = |sender, from: &str, expected: u32| {
        admit_voter(ReplicaId(0), &members, |_| expected, &ack(sender, 1, 0), from.parse().unwrap())
    };
    assert_eq!(admitted(2, "10.0.0.3:9001", 11), Ok(ReplicaId(2)));
    assert_eq!(admitted(2, "10.0.0.3:9000", 11), Err(Verdict::DropSource));
    assert_eq!(admitted(2, "10.0.0.2:9000", 11), Err(Verdict::DropSource));
    assert_eq!(admitted(3, "10.0.0.3:9001", 11), Err(Verdict::DropSource));
    assert_eq!(admitted(0xff, "10.0.0.3:9001", 11), Err(Verdict::DropSource));
    assert_eq!(admitted(0, "10.0.0.1:9000", 11), Err(Verdict::DropVoteStranger), "ourselves");
    assert_eq!(admitted(2, "10.0.0.3:9001", 12), Err(Verdict::DropVoteStranger), "another life");
    assert!(!incarnation_counts(0, 0), "zero matches nobody");
}

#[test]
fn f5_f6_f8_each_position_and_refusal() {
    let gate = GateWord { state: GateState::Follow, busy: false, epoch: Epoch(5), op: OpNumber(10) };
    let log = LogState {
        gate,
        slot: SlotTag { epoch: Epoch(5), last: OpNumber(3) },
        released: OpNumber(3),
        durable: None,
        slot_payload_bytes: 100,
    };
    let decide = |log: LogState, first, last, payload_bytes| {
        append_decision(&log, Incoming { first: OpNumber(first), last: OpNumber(last), payload_bytes })
    };
    assert_eq!(decide(log, 11, 11, 100), Append::New);
    assert_eq!(decide(log, 11, 14, 0), Append::New);
    assert_eq!(decide(log, 10, 10, 0), Append::Duplicate);
    assert_eq!(decide(log, 2, 4, 500), Append::Duplicate, "a duplicate needs no room");
    assert_eq!(decide(log, 12, 12, 0), Append::Gap);
    assert_eq!(decide(log, 10, 11, 0), Append::Overlap);
    assert_eq!(decide(log, 11, 11, 101), Append::TooLarge);
    let unreleased = LogState { released: OpNumber(2), ..log };
    assert_eq!(decide(unreleased, 11, 11, 0), Append::Full);
    let drained = LogState { slot: SlotTag { epoch: Epoch(4), last: OpNumber(3) }, ..unreleased };
    assert_eq!(decide(drained, 11, 11, 0), Append::New, "older openings were drained");
    let disk = LogState { durable: Some(OpNumber(8)), ..log };
    assert_eq!(decide(disk, 8, 8, 0), Append::Duplicate);
    assert_eq!(decide(disk, 9, 9, 0), Append::NotDurable);
    assert_eq!(decide(disk, 11, 11, 0), Append::New);
}

#[test]
fn f8_a_duplicate_needs_the_same_opening() {
    let loaded = GateWord { state: GateState::Follow, busy: false, epoch: Epoch(5), op: OpNumber(10) };
    assert!(still_open(loaded, GateWord { op: OpNumber(12), busy: true, ..loaded }));
    assert!(!still_open(loaded, GateWord { epoch: Epoch(6), ..loaded }));
    assert!(!still_open(loaded, GateWord { state: GateState::Frozen, ..loaded }));
    assert!(!still_open(loaded, GateWord { state: GateState::Lead, ..loaded }));
}

#[test]
fn f10_a_commit_is_applied_as_far_as_the_log_reaches() {
    let word = words::tagged(Epoch(5), OpNumber(9));
    assert_eq!(commit_to_apply(word, Epoch(5), OpNumber(20)), OpNumber(9));
    assert_eq!(commit_to_apply(word, Epoch(5), OpNumber(7)), OpNumber(7));
    assert_eq!(commit_to_apply(word, Epoch(6), OpNumber(20)), OpNumber(0), "another opening's");
}

#[test]
fn l3_exactly_one_vote_completes() {
    let tally = |bits, sender| vote_decision(&round(7, bits, 0b111110, 2), Epoch(5), &ack(sender, 7, 99));
    assert_eq!(tally(0, 1).unwrap().tally, Tally::Below);
    assert_eq!(tally(0b10, 2).unwrap().tally, Tally::Completes);
    assert_eq!(tally(0b110, 3).unwrap().tally, Tally::Above);
    assert_eq!(tally(0b10, 1), Err(Verdict::DropVoteRepeated));
    assert_eq!(tally(0, 0), Err(Verdict::DropVoteRepeated), "not a voter of this round");
    assert_eq!(voters_after(tally(0b10, 2)), 0b110);
    let never = vote_decision(&round(7, 0, 0b110, 0), Epoch(5), &ack(1, 7, 99)).unwrap();
    assert_eq!(never.tally, Tally::Above, "threshold zero is never reached");
}

fn voters_after(vote: Result<Vote, Verdict>) -> u32 {
    words::voters_of(vote.unwrap().word).mask()
}

#[test]
fn l2_a_vote_counts_in_its_own_round_only() {
    let stale = |round: RoundState, epoch, header: Header| {
        assert_eq!(vote_decision(&round, Epoch(epoch), &header), Err(Verdict::DropVoteStale));
    };
    stale(round(7, 0, 0b110, 2), 6, ack(1, 7, 99));
    stale(round(8, 0, 0b110, 2), 5, ack(1, 7, 99));
    stale(round(7, 0, 0b110, 2), 5, ack(1, 7, 98));
    stale(RoundState { view: View(2), ..round(7, 0, 0b110, 2) }, 5, ack(1, 7, 99));
    stale(round(7 + (1 << 19), 0, 0b110, 2), 5, ack(1, 7, 99));
    assert_eq!(admit_leader_epoch(Epoch(5), Epoch(5)), Ok(()));
    assert_eq!(admit_leader_epoch(Epoch(5), Epoch(4)), Err(Verdict::DropVoteStale));
}

proptest! {
    /// F5 by definition: compare with the sets of ops themselves.
    #[test]
    fn position_agrees_with_sets_of_ops(tail in 0u64..12, first in 1u64..12, len in 0u64..5) {
        let last = first + len;
        let held = (first..=last).filter(|op| *op <= tail).count() as u64;
        let expected = if held == len + 1 {
            Append::Duplicate
        } else if held > 0 {
            Append::Overlap
        } else if (tail + 1..first).next().is_none() {
            Append::New
        } else {
            Append::Gap
        };
        prop_assert_eq!(position(OpNumber(tail), OpNumber(first), OpNumber(last)), expected);
    }

    /// Merging is a maximum: any order of the same packets gives the same word, older epochs never win.
    #[test]
    fn merging_is_order_free(seen in proptest::collection::vec((1u16..4, 0u64..9), 1..8), start in 0usize..8) {
        let merge = |word: u64, &(e, op): &(u16, u64)| {
            merge_max(word, Epoch(e), OpNumber(op)).unwrap_or(word)
        };
        let forwards = seen.iter().fold(0, merge);
        let start = start % seen.len();
        let rotated = seen[start..].iter().chain(&seen[..start]).fold(0, merge);
        prop_assert_eq!(forwards, rotated);
        let newest = seen.iter().max().unwrap();
        prop_assert_eq!(forwards, words::tagged(Epoch(newest.0), OpNumber(newest.1)));
    }

    /// However acks arrive, a round is completed once, by the vote that reaches the threshold.
    #[test]
    fn a_round_completes_once(senders in proptest::collection::vec(0u8..6, 0..20), threshold in 1u32..5) {
        let mut state = round(7, 0, 0b111110, threshold);
        let (mut completed, mut voted) = (0, ReplicaSet::EMPTY);
        for sender in senders {
            if let Ok(vote) = vote_decision(&state, Epoch(5), &ack(sender, 7, 99)) {
                prop_assert!(!voted.contains(ReplicaId(sender)), "counted twice");
                voted = voted.with(ReplicaId(sender));
                state.vote = vote.word;
                completed += u32::from(vote.tally == Tally::Completes);
            }
        }
        prop_assert_eq!(completed, u32::from(voted.len() as u32 >= threshold));
        prop_assert_eq!(words::voters_of(state.vote), voted);
    }
}
