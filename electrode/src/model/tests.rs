//! Frames in and out, and one walk through each rule. Every verdict has its packet in
//! `tests/fixtures/`; here are the model's own properties.

use super::frame::{self, Checksum};
use super::*;
use crate::abi::{self, Header};
use crate::types::{ReplicaId, ReplicaSet, View};
use crate::wire::{self, Batch, Origin};
use crate::words::{self, GateState};
use proptest::prelude::*;
use std::net::SocketAddr;
use zerocopy::{FromBytes, IntoBytes};

/// Of leader and follower.
const MACS: [frame::Mac; 2] = [mac(0), mac(1)];

/// Of a member.
const fn mac(id: u8) -> frame::Mac {
    [2, 0, 0, 0, 0, 1 + id]
}
pub(super) const LEADER: Origin =
    Origin { group: 7, config_hash: 0xfeed, sender: Some(ReplicaId(0)), incarnation: 20 };
pub(super) const EPOCH: Epoch = Epoch(5);

pub(super) fn members(ipv6: bool) -> Vec<SocketAddr> {
    let addr = |i| if ipv6 { format!("[fd00::{i}]:900{i}") } else { format!("10.0.0.{i}:900{i}") };
    (1..=3).map(|i| addr(i).parse().unwrap()).collect()
}

/// Member `me` of three; member 0 leads view 3. Follows if `me` is not the leader, else leads.
pub(super) fn kernel(me: u8, ipv6: bool) -> Kernel {
    let members = members(ipv6);
    let mut kernel = Kernel::new(Params {
        config_hash: LEADER.config_hash,
        group: LEADER.group,
        slots: 4,
        slot_payload_bytes: 64,
        window: 4,
        incarnation: 20 + u32::from(me),
        own: members[usize::from(me)],
        me: ReplicaId(me),
        offload_fast_ack: true,
        offload_quorum: true,
        log_only: false,
        lease_required: false,
        authenticated: false,
        partial_checksums: false,
        busy_tries: params::BUSY_TRIES,
        swap_tries: params::SWAP_TRIES,
    });
    kernel.config = Config { view: 3, leader: 0, members };
    let state = if me == 0 { GateState::Lead } else { GateState::Follow };
    kernel.control.gate = GateWord { state, busy: false, epoch: EPOCH, op: OpNumber(0) }.pack();
    kernel.control.own_mac = words::mac_word(Some(mac(me)));
    kernel.control.incarnation[..3].copy_from_slice(&[20, 21, 22]);
    kernel
}

pub(super) fn prepare(view: u64, first: u64, last: u64) -> Batch {
    Batch {
        view: View(view),
        first: OpNumber(first),
        last: OpNumber(last),
        round_tag: 90 + last,
        leader_epoch: EPOCH,
    }
}

/// A frame between two members.
pub(super) fn frame_between(ipv6: bool, from: u8, to: u8, header: &Header, payload: &[u8]) -> Vec<u8> {
    let (members, datagram) = (members(ipv6), [header.as_bytes(), payload].concat());
    let macs = [mac(from), mac(to)];
    let [from, to] = [from, to].map(|id| members[usize::from(id)]);
    frame::build(macs, from, to, &datagram, Checksum::Full)
}

pub(super) fn prepare_frame(batch: &Batch, commit: u64, payload: &[u8]) -> Vec<u8> {
    let header = LEADER.prepare(batch, OpNumber(commit), ReplicaSet::all(3), payload.len() as u16);
    frame_between(false, 0, 1, &header, payload)
}

pub(super) fn ack_frame(sender: u8, batch: &Batch) -> Vec<u8> {
    let header = LEADER.prepare(batch, OpNumber(0), ReplicaSet::all(3), 0);
    let ack = wire::prepare_ok(&header, ReplicaId(sender), 20 + u32::from(sender), batch.last);
    frame_between(false, sender, 0, &ack, &[])
}

/// What user space does before a Prepare leaves (L1).
pub(super) fn open_round(kernel: &mut Kernel, batch: &Batch, voters: u32, threshold: u32) {
    *kernel.round_mut(batch.last) = Round {
        vote: words::vote_word(EPOCH, batch.last),
        op: batch.last.0,
        view: batch.view.0,
        round_tag: batch.round_tag,
        voters,
        threshold,
    };
}

fn acked_op(outcome: &Outcome) -> Option<u64> {
    let Action::Reply(frame) = &outcome.action else { return None };
    let (_, header) = Header::ref_from_suffix(frame).expect("a reply ends with its header");
    Some(header.last.get())
}

/// Computed apart from this code (RFC 1071 in Python): IPv4 with an odd payload, IPv6.
#[test]
fn checksums_agree_with_known_packets() {
    let v4 = frame::build(
        MACS,
        "192.168.1.10:4000".parse().unwrap(),
        "192.168.1.20:5000".parse().unwrap(),
        b"abc",
        Checksum::Full,
    );
    assert_eq!(v4[24..26], [0xa5, 0x2b], "IPv4 header");
    assert_eq!(v4[40..42], [0x94, 0xde], "UDP over IPv4");
    let v6 = frame::build(
        MACS,
        "[2001:db8::1]:4000".parse().unwrap(),
        "[2001:db8::2]:5000".parse().unwrap(),
        b"abcd",
        Checksum::Full,
    );
    assert_eq!(v6[60..62], [0xbc, 0x72], "UDP over IPv6");
}

#[test]
fn a_checksum_that_comes_out_as_zero_is_sent_as_ones() {
    let (from, to) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
    let hits = (0..=u16::MAX).filter(|filler| {
        let frame = frame::build(MACS, from, to, &filler.to_be_bytes(), Checksum::Full);
        let right = frame::parse(&frame, to).unwrap().checksum_is_right(&frame);
        assert!(right, "{filler:#x}");
        frame[40..42] == [0xff, 0xff]
    });
    assert_eq!(hits.count(), 1);
}

#[test]
fn f7_a_new_op_is_logged_then_acknowledged() {
    for ipv6 in [false, true] {
        let mut kernel = kernel(1, ipv6);
        let header = LEADER.prepare(&prepare(3, 1, 3), OpNumber(0), ReplicaSet::all(3), 5);
        let frame = frame_between(ipv6, 0, 1, &header, b"hello");
        let outcome = kernel.process(&frame);
        assert_eq!((outcome.verdict, acked_op(&outcome)), (Verdict::TxAck, Some(3)));
        assert_eq!((kernel.gate().op, kernel.gate().busy), (OpNumber(3), false));
        assert!(kernel.slot(OpNumber(1)).is_batch(EPOCH, 3, OpNumber(1)));
        assert_eq!(kernel.slot(OpNumber(1)).payload, b"hello");
        assert_eq!(kernel.counter(Verdict::TxAck), 1);

        let Action::Reply(reply) = outcome.action else { unreachable!() };
        let home = members(ipv6);
        let datagram = frame::parse(&reply, home[0]).unwrap();
        assert_eq!(datagram.from, home[1]);
        assert!(datagram.checksum_is_right(&reply) && !datagram.checksum_is_partial(&reply));
        let (ack, _) = wire::parse(datagram.payload(&reply)).unwrap();
        assert_eq!(*ack, wire::prepare_ok(&header, ReplicaId(1), 21, OpNumber(3)));
        assert_eq!((&reply[..6], &reply[6..12]), (&frame[6..12], &frame[..6]));
    }
}

/// The ack that the follower's kernel makes is a vote to the leader's.
#[test]
fn an_ack_is_a_vote() {
    let (mut follower, mut leader) = (kernel(1, false), kernel(0, false));
    let batch = prepare(3, 1, 1);
    open_round(&mut leader, &batch, 0b110, 1);
    leader.control.ring_on_quorum = 1;
    let outcome = follower.process(&prepare_frame(&batch, 0, b""));
    let Action::Reply(reply) = outcome.action else { panic!("{outcome:?}") };
    let outcome = leader.process(&reply);
    assert_eq!((outcome.verdict, outcome.action), (Verdict::PassQuorum, Action::Pass));
    assert_eq!(leader.control.acked[1], words::tagged(EPOCH, OpNumber(1)));
    assert_eq!(leader.control.ring_on_quorum, 0);
}

/// Where the mark travels with the packet (TC), the ack is left half-summed as the Prepare was.
#[test]
fn a_partial_checksum_is_kept_where_the_hook_keeps_the_mark() {
    for keeps in [false, true] {
        let mut kernel = kernel(1, false);
        kernel.params.partial_checksums = keeps;
        let header = LEADER.prepare(&prepare(3, 1, 1), OpNumber(0), ReplicaSet::all(3), 0);
        let home = members(false);
        let frame = frame::build(MACS, home[0], home[1], header.as_bytes(), Checksum::Partial);
        let Action::Reply(reply) = kernel.process(&frame).action else { panic!() };
        let datagram = frame::parse(&reply, home[0]).unwrap();
        assert!(datagram.checksum_is_right(&reply));
        assert_eq!(datagram.checksum_is_partial(&reply), keeps);
    }
}

#[test]
fn f7_a_lost_ack_is_made_again_for_the_resend() {
    let mut kernel = kernel(1, false);
    let frame = prepare_frame(&prepare(3, 1, 1), 0, b"");
    kernel.ack_fails = true;
    assert_eq!(kernel.process(&frame).verdict, Verdict::DropAckFailed);
    kernel.ack_fails = false;
    let outcome = kernel.process(&frame);
    assert_eq!((outcome.verdict, acked_op(&outcome)), (Verdict::TxAckRepeated, Some(1)));
}

/// Doorbells ring once, for what was reached, and not for one who is awake.
#[test]
fn doorbells_ring_once_when_reached() {
    let mut kernel = kernel(1, false);
    (kernel.control.ring_at_op, kernel.control.ring_at_commit) = (2, 2);
    let mut rang = Vec::new();
    for op in 1..=4 {
        rang.push(kernel.process(&prepare_frame(&prepare(3, op, op), op - 1, b"")).rang);
        kernel.control.released = op;
    }
    assert_eq!(rang, [false, true, true, false], "op 2 with op 2, commit 2 with op 3");
    assert_eq!(kernel.counter(Verdict::Rang), 2);
    assert_eq!((kernel.control.ring_at_op, kernel.control.ring_at_commit), (0, 0));
}

/// A busy log is waited for, and the batch is judged by the tail that comes out (F7).
#[test]
fn a_batch_waits_for_the_one_before_it() {
    let mut kernel = kernel(1, false);
    let [mut first, mut second] = [1, 2].map(|op| Run::new(&prepare_frame(&prepare(3, op, op), 0, b""), 0));
    while !kernel.gate().busy {
        assert_eq!(first.step(&mut kernel), Step::Continue);
    }
    while !second.next_step().contains("Spin") {
        assert_eq!(second.step(&mut kernel), Step::Continue);
    }
    second.step(&mut kernel);
    let finish = |run: &mut Run, kernel: &mut Kernel| loop {
        if let Step::Done(outcome) = run.step(kernel) {
            return outcome.verdict;
        }
    };
    assert_eq!(finish(&mut first, &mut kernel), Verdict::TxAck);
    assert_eq!(finish(&mut second, &mut kernel), Verdict::TxAck);
    assert_eq!(kernel.gate().op, OpNumber(2));
}

/// Each plant breaks the rule that it names, and nothing else notices in a single quiet run.
#[test]
fn plants_break_their_rule() {
    let planted = |plants: Plants, set_up: fn(&mut Kernel), frame: &[u8]| {
        [Plants::default(), plants].map(|plants| {
            let mut kernel = Kernel { plants, ..kernel(1, false) };
            set_up(&mut kernel);
            let outcome = kernel.process(frame);
            (outcome.verdict, acked_op(&outcome))
        })
    };
    let op = |op| prepare_frame(&prepare(3, op, op), 0, b"");

    let plants = Plants { shared_scratch: true, ..Plants::default() };
    let duplicate: fn(&mut Kernel) = |k| k.control.gate |= 1;
    let [sound, broken] = planted(plants, duplicate, &op(1));
    assert_eq!((sound, broken), ((Verdict::TxAckRepeated, Some(1)), (Verdict::TxAckRepeated, Some(0))));

    let plants = Plants { source_unchecked: true, ..Plants::default() };
    let header = LEADER.prepare(&prepare(3, 1, 1), OpNumber(0), ReplicaSet::all(3), 0);
    let [sound, broken] = planted(plants, |_| (), &frame_between(false, 2, 1, &header, b""));
    assert_eq!((sound, broken), ((Verdict::DropSource, None), (Verdict::TxAck, Some(1))));

    let plants = Plants { reuse_unreleased: true, ..Plants::default() };
    let full: fn(&mut Kernel) = |k| {
        for op in 1..=4 {
            k.process(&prepare_frame(&prepare(3, op, op), 0, b""));
        }
    };
    let [sound, broken] = planted(plants, full, &op(5));
    assert_eq!((sound, broken), ((Verdict::PassLogFull, None), (Verdict::TxAck, Some(5))));

    let plants = Plants { durable_ignored: true, ..Plants::default() };
    let disk: fn(&mut Kernel) = |k| {
        k.params.log_only = true;
        k.control.gate |= 1;
    };
    let [sound, broken] = planted(plants, disk, &op(1));
    assert_eq!((sound, broken), ((Verdict::DropNotDurable, None), (Verdict::TxAckRepeated, Some(1))));
}

proptest! {
    /// Whatever arrives: no panic, one counter raised, and without an accepted Prepare the log stays.
    #[test]
    fn any_mutation_ends_in_one_verdict(
        flips in proptest::collection::vec((0usize..160, any::<u8>()), 0..4),
        cut in 100usize..160,
        ipv6: bool,
    ) {
        let mut kernel = kernel(1, ipv6);
        let header = LEADER.prepare(&prepare(3, 1, 1), OpNumber(0), ReplicaSet::all(3), 9);
        let mut frame = frame_between(ipv6, 0, 1, &header, b"some load");
        for (at, value) in flips {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut);
        let before = kernel.slots.clone();
        let outcome = kernel.process(&frame);
        let total: u64 = kernel.counters.iter().sum();
        prop_assert_eq!(total, 1);
        prop_assert_eq!(kernel.counter(outcome.verdict), 1);
        if outcome.verdict != Verdict::TxAck {
            prop_assert_eq!(&before, &kernel.slots);
            prop_assert_eq!(kernel.gate().op, OpNumber(0));
        }
        if let Action::Reply(reply) = &outcome.action {
            let home = members(ipv6)[0];
            let datagram = frame::parse(reply, home).unwrap();
            prop_assert!(datagram.checksum_is_right(reply));
            prop_assert_eq!(reply.len(), datagram.udp.start + 8 + abi::HEADER_BYTES);
        }
    }

    /// Many Prepares in any order and number: the log is what contiguous delivery gives (C6), and every
    /// ack names an op that the log held then (C2).
    #[test]
    fn any_order_of_prepares_gives_a_contiguous_log(
        order in proptest::collection::vec((1u64..12, 0u64..3), 1..60),
    ) {
        let mut kernel = kernel(1, false);
        for (first, more) in order {
            let tail = kernel.gate().op.0;
            kernel.control.released = tail.saturating_sub(2);
            let (first, last) = (first, first + more);
            let outcome = kernel.process(&prepare_frame(&prepare(3, first, last), 0, b"x"));
            let now = kernel.gate().op.0;
            match acked_op(&outcome) {
                Some(acked) => {
                    prop_assert_eq!(acked, last);
                    prop_assert!(now >= last);
                    prop_assert!(now == tail || (first == tail + 1 && now == last));
                }
                None => prop_assert_eq!(now, tail),
            }
        }
    }
}
