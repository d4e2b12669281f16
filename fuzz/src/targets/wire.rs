//! A datagram's header: [`electrode::wire::parse`], F1.

use electrode::abi::{self, Kind};
use electrode::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use electrode::wire::{self, Batch, Origin};
use electrode::words::{GateState, GateWord};
use zerocopy::IntoBytes;

use super::Target;
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "wire",
    run,
    seeds,
    words: &[
        b"ELEC\x01",
        b"\x01\x00",
        b"\xff\xff\xff\xff\xff\xff\x00\x00",
        b"\x00\x00\x00\x00\x00\x00\x01\x00",
    ],
    bytes_max: 256,
    thousands: 1000,
};

const BATCH: Batch =
    Batch { view: View(3), first: OpNumber(11), last: OpNumber(12), round_tag: 77, leader_epoch: Epoch(5) };

/// A datagram of each kind.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let origin =
        Origin { group: 7, config_hash: 0x1122_3344_5566_7788, sender: Some(ReplicaId(0)), incarnation: 20 };
    let peers = ReplicaSet::all(3);
    let prepare = origin.prepare(&BATCH, OpNumber(9), peers, 7);
    let ack = wire::prepare_ok(&prepare, ReplicaId(1), 21, OpNumber(12));
    let commit = origin.commit(View(3), Epoch(5), OpNumber(9), peers);
    let client = Origin { sender: None, ..origin };
    let message = client.message(View(0), ReplicaSet::EMPTY, 5);
    vec![
        [prepare.as_bytes(), b"set x 1"].concat(),
        ack.as_bytes().to_vec(),
        commit.as_bytes().to_vec(),
        [message.as_bytes(), b"hello"].concat(),
    ]
}

fn run(input: &[u8]) {
    let Ok((header, payload)) = bounded(0, || wire::parse(input)) else { return };
    assert_eq!(header.as_bytes(), &input[..abi::HEADER_BYTES], "the header is the bytes that came");
    assert_eq!(payload, &input[abi::HEADER_BYTES..], "the payload is the bytes that came");
    assert_eq!(payload.len(), usize::from(header.payload_bytes.get()));

    // Lengths agree exactly: neither one byte less nor one more is this datagram.
    assert!(wire::parse(&input[..input.len() - 1]).is_err());
    assert!(wire::check(header, payload.len() + 1).is_err());

    let kind = header.kind().expect("a known kind was accepted");
    if kind == Kind::Message {
        return;
    }
    for op in [header.last(), header.commit()] {
        let word = GateWord { state: GateState::Follow, busy: false, epoch: Epoch(1), op };
        assert_eq!(GateWord::unpack(word.pack()), word, "an accepted op fits the shared words");
    }
    if kind == Kind::Prepare {
        assert!(OpNumber(1) <= header.first() && header.first() <= header.last());
        let ack = wire::prepare_ok(header, ReplicaId(1), 21, header.last());
        assert_eq!(wire::check(&ack, 0), Ok(Kind::PrepareOk), "what is accepted can be acknowledged");
        assert_eq!(ack.batch(), header.batch(), "F9: an ack echoes its batch");
    } else {
        assert!(payload.is_empty());
    }
}
