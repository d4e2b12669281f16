//! A whole Ethernet frame and a state that it meets: [`electrode::model`], the ingress programs in Rust. (Model and
//! programs are compared elsewhere; here are laws that hold of any frame.)
//!
//! The first byte chooses the state: bit 0 leader, bit 1 IPv6, bit 2 frozen, bit 3 log only, bit 4 slots of 16
//! bytes. With bit 7 what follows is a UDP payload that is sent as by the member that it should come from, so that
//! mutations get past addresses and checksums.

use std::net::SocketAddr;

use electrode::abi::{Kind, Verdict};
use electrode::model::frame::{self, Checksum};
use electrode::model::params::{BUSY_TRIES, SWAP_TRIES};
use electrode::model::{Action, Config, Kernel, Params, Round};
use electrode::types::{Epoch, OpNumber, ReplicaId};
use electrode::wire;
use electrode::words::{self, GateState, GateWord};

use super::Target;
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "frame",
    run,
    seeds,
    words: &[b"\x08\x00\x45\x00", b"\x86\xdd\x60\x00", b"ELEC\x01", b"\x00\x00\x00\x00\x00\x00\x01\x00"],
    bytes_max: 512,
    thousands: 1000,
};

const LEAD: u8 = 1;
const IPV6: u8 = 2;
const FROZEN: u8 = 4;
const LOG_ONLY: u8 = 8;
const SMALL_SLOTS: u8 = 16;
const WRAP: u8 = 128;
const MACS: [frame::Mac; 2] = [[2, 0, 0, 0, 0, 0xaa], [2, 0, 0, 0, 0, 0xbb]];
const EPOCH: Epoch = Epoch(5);

fn members(flags: u8) -> Vec<SocketAddr> {
    let member = |i: u8| match flags & IPV6 {
        0 => SocketAddr::from(([10, 0, 0, i + 1], 9000 + u16::from(i))),
        _ => SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(i) + 1], 9000 + u16::from(i))),
    };
    (0..3).map(member).collect()
}

fn kernel(flags: u8) -> Kernel {
    let me = u8::from(flags & LEAD == 0);
    let members = members(flags);
    let mut kernel = Kernel::new(Params {
        config_hash: 0x1122_3344_5566_7788,
        group: 7,
        slots: 8,
        slot_payload_bytes: if flags & SMALL_SLOTS == 0 { 256 } else { 16 },
        window: 8,
        incarnation: 20 + u32::from(me),
        own: members[usize::from(me)],
        me: ReplicaId(me),
        offload_fast_ack: true,
        offload_quorum: true,
        log_only: flags & LOG_ONLY != 0,
        lease_required: false,
        authenticated: false,
        partial_checksums: false,
        busy_tries: BUSY_TRIES,
        swap_tries: SWAP_TRIES,
    });
    kernel.config = Config { view: 3, leader: 0, members };
    let state = match flags {
        _ if flags & FROZEN != 0 => GateState::Frozen,
        _ if flags & LEAD != 0 => GateState::Lead,
        _ => GateState::Follow,
    };
    let op = OpNumber(10);
    kernel.control.gate = GateWord { state, busy: false, epoch: EPOCH, op }.pack();
    kernel.control.durable = words::tagged(EPOCH, OpNumber(8));
    kernel.control.released = 6;
    kernel.control.own_mac = words::mac_word(Some(MACS[1]));
    (0..3).for_each(|member| kernel.control.incarnation[member] = 20 + member as u64);
    let vote = words::vote_word(EPOCH, OpNumber(12));
    *kernel.round_mut(OpNumber(12)) =
        Round { vote, op: 12, view: 3, round_tag: 77, voters: 0b110, threshold: 2 };
    kernel
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (datagram, leads) in super::wire::seeds().into_iter().zip([0, LEAD, 0, 0]) {
        for flags in [0, IPV6, LOG_ONLY, FROZEN] {
            let flags = flags | leads;
            seeds.push([&[flags | WRAP], &datagram[..]].concat());
            seeds.push([vec![flags], wrap(flags, &datagram)].concat());
        }
    }
    seeds
}

/// The frame that brings `datagram` from the leader to member 1, or from member 1 to the leader.
fn wrap(flags: u8, datagram: &[u8]) -> Vec<u8> {
    let members = members(flags);
    let (from, to) = if flags & LEAD == 0 { (members[0], members[1]) } else { (members[1], members[0]) };
    frame::build(MACS, from, to, datagram, Checksum::Full)
}

fn run(input: &[u8]) {
    let Some((&flags, rest)) = input.split_first() else { return };
    let frame = if flags & WRAP == 0 { rest.to_vec() } else { wrap(flags, rest) };
    let before = kernel(flags);
    let mut after = before.clone();
    // The frame that it works on, a copy in the log, and a reply.
    let outcome = bounded(4 * frame.len() + 4096, || after.process(&frame));

    let counted = |verdict: &Verdict| after.counter(*verdict) - before.counter(*verdict);
    let raised: Vec<_> = Verdict::ALL.iter().filter(|verdict| counted(verdict) != 0).collect();
    assert_eq!(raised, [&outcome.verdict], "F11: one counter");
    let name = outcome.verdict.name();
    match &outcome.action {
        Action::Pass => assert!(name.starts_with("pass_"), "{name} passes"),
        Action::Drop => assert!(name.starts_with("drop_"), "{name} drops"),
        Action::Reply(reply) => check_reply(&before, &after, &frame, reply),
    }

    // F10: state, epoch and view are user space's; the tail only grows, and by what was logged alone.
    let (was, is) = (before.gate(), after.gate());
    assert_eq!((was.state, was.epoch, &before.config), (is.state, is.epoch, &after.config));
    assert!(!is.busy, "F7: the log is let go");
    let logs = matches!(outcome.verdict, Verdict::TxAck | Verdict::DropLogged);
    assert_eq!(is.op > was.op, logs, "{name} and the tail");
    if !logs {
        assert_eq!(before.slots, after.slots, "{name} writes no slot");
    }
    let votes = outcome.verdict == Verdict::DropVote || name.contains("quorum");
    assert_eq!(before.rounds != after.rounds, votes, "{name} and the rounds");

    // The same frame again is never logged or counted again.
    let again = after.clone().process(&frame);
    let repeated = match outcome.verdict {
        Verdict::TxAck => Verdict::TxAckRepeated,
        Verdict::DropLogged if before.params.log_only => Verdict::DropNotDurable,
        Verdict::DropLogged => Verdict::TxAckRepeated,
        Verdict::DropVote => Verdict::DropVoteRepeated,
        same => same,
    };
    assert_eq!(again.verdict, repeated, "a second time, after {name}");
    if let (Action::Reply(first), Action::Reply(second)) = (&outcome.action, &again.action) {
        assert_eq!(first, second, "A2: an ack is a function of its packet");
    }
}

/// F9: what is acknowledged is held, and the ack says exactly that.
fn check_reply(before: &Kernel, after: &Kernel, frame: &[u8], reply: &[u8]) {
    let prepare = frame::parse(frame, before.params.own).expect("an answered frame is ours");
    let (header, _) = wire::parse(prepare.payload(frame)).expect("and well-formed");
    let datagram = frame::parse(reply, prepare.from).expect("the ack is for the sender");
    assert_eq!(datagram.from, before.params.own);
    assert!(datagram.checksum_is_right(reply));
    let (ack, payload) = wire::parse(datagram.payload(reply)).expect("the ack is well-formed");
    assert_eq!((ack.kind(), payload.len()), (Some(Kind::PrepareOk), 0));
    assert_eq!((ack.batch(), ack.last()), (header.batch(), header.last()));
    assert!(ack.last() <= after.gate().op, "A1: acked implies logged");
    assert_eq!(before.gate().state, GateState::Follow, "F2: nothing is acked through another gate");
}
