use super::*;
use proptest::prelude::*;
use zerocopy::IntoBytes;

const LEADER_ID: ReplicaId = ReplicaId(1);
const LEADER: Origin = Origin { group: 7, config_hash: 0xfeed, sender: Some(LEADER_ID), incarnation: 3 };
const BATCH: Batch =
    Batch { view: View(4), first: OpNumber(10), last: OpNumber(12), round_tag: 99, leader_epoch: Epoch(5) };

fn prepare(payload: &[u8]) -> Vec<u8> {
    let header = LEADER.prepare(&BATCH, OpNumber(9), ReplicaSet::all(3), payload.len() as u16);
    [header.as_bytes(), payload].concat()
}

fn edited(edit: impl FnOnce(&mut Header), payload: &[u8]) -> Result<Kind, WireError> {
    let mut header = *parse(&prepare(payload)).unwrap().0;
    edit(&mut header);
    check(&header, payload.len())
}

#[test]
fn prepare_round_trips() {
    let datagram = prepare(b"payload");
    let (header, payload) = parse(&datagram).unwrap();
    assert_eq!(header.kind(), Some(Kind::Prepare));
    assert_eq!(header.batch(), BATCH);
    assert_eq!((header.commit(), header.targets.get()), (OpNumber(9), 0b111));
    assert_eq!(payload, b"payload");
    assert_eq!(datagram[..8], *b"ELEC\x01\x01\x01\x00");
}

#[test]
fn ack_echoes_the_round_and_nothing_else() {
    let datagram = prepare(b"payload");
    let (header, _) = parse(&datagram).unwrap();
    let ack = prepare_ok(header, ReplicaId(2), 8, OpNumber(12));
    assert_eq!(check(&ack, 0), Ok(Kind::PrepareOk));
    assert_eq!(ack.batch(), BATCH);
    assert_eq!((ack.group, ack.config_hash), (header.group, header.config_hash));
    assert_eq!((ack.sender(), ack.incarnation.get()), (Some(ReplicaId(2)), 8));
    assert_eq!((ack.commit().0, ack.targets.get(), ack.payload_bytes.get()), (0, 1 << LEADER_ID.0, 0));
}

#[test]
fn an_ack_of_ones_own_is_the_one_that_answers() {
    let header = LEADER.prepare(&BATCH, OpNumber(9), ReplicaSet::all(3), 7);
    let me = Origin { sender: Some(ReplicaId(2)), incarnation: 8, ..LEADER };
    let batch = Batch { last: OpNumber(15), ..BATCH };
    let ack = me.prepare_ok(&batch, Some(LEADER_ID));
    assert_eq!(ack, prepare_ok(&header, ReplicaId(2), 8, OpNumber(15)));
}

#[test]
fn commit_and_message_are_well_formed() {
    let commit = LEADER.commit(View(4), Epoch(5), OpNumber(9), ReplicaSet::all(3));
    assert_eq!(check(&commit, 0), Ok(Kind::Commit));
    let client = Origin { sender: None, ..LEADER };
    let message = client.message(View(0), ReplicaSet::EMPTY, 5);
    assert_eq!(check(&message, 5), Ok(Kind::Message));
    assert_eq!(message.sender(), None);
}

#[test]
fn each_defect_is_named() {
    let big = OpNumber(1 << 48);
    assert_eq!(parse(&[0; 79]), Err(WireError::TooShort { bytes: 79 }));
    assert_eq!(edited(|h| h.magic = 1.into(), b""), Err(WireError::Magic(1)));
    assert_eq!(edited(|h| h.version = 2, b""), Err(WireError::Version(2)));
    assert_eq!(edited(|h| h.kind = 5, b""), Err(WireError::Kind(5)));
    assert_eq!(edited(|h| h.kind = 0, b""), Err(WireError::Kind(0)));
    assert_eq!(edited(|h| h.flags = 4, b""), Err(WireError::Flags(4)));
    assert_eq!(edited(|h| (h.kind, h.flags) = (3, 1), b""), Err(WireError::Flags(1)));
    assert_eq!(edited(|h| h.flags = 3, b""), Ok(Kind::Prepare));
    assert_eq!(
        edited(|h| h.payload_bytes = 2.into(), b"x"),
        Err(WireError::Length { declared: 2, actual: 1 })
    );
    assert_eq!(edited(|h| h.kind = 2, b"x"), Err(WireError::UnexpectedPayload(Kind::PrepareOk)));
    assert_eq!(edited(|h| h.kind = 3, b"x"), Err(WireError::UnexpectedPayload(Kind::Commit)));
    assert!(matches!(edited(|h| h.first = 0.into(), b""), Err(WireError::Batch { .. })));
    assert!(matches!(edited(|h| h.last = 9.into(), b""), Err(WireError::Batch { .. })));
    assert_eq!(edited(|h| h.last = big.0.into(), b""), Err(WireError::OpTooLarge(big)));
    assert_eq!(edited(|h| h.commit = big.0.into(), b""), Err(WireError::OpTooLarge(big)));
    assert_eq!(edited(|h| h.last = (big.0 - 1).into(), b""), Ok(Kind::Prepare));
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    /// A mutated Prepare never panics, and what is accepted keeps the promises of F1.
    #[test]
    fn mutations_never_break_the_promises(
        flips in proptest::collection::vec((0usize..110, any::<u8>()), 1..6),
        cut in 0usize..120,
    ) {
        let mut datagram = prepare(&[0xab; 30]);
        for (at, value) in flips {
            datagram[at] = value;
        }
        datagram.truncate(cut);
        if let Ok((header, payload)) = parse(&datagram) {
            prop_assert_eq!(payload.len(), usize::from(header.payload_bytes.get()));
            prop_assert_eq!(header.as_bytes(), &datagram[..abi::HEADER_BYTES]);
            if header.kind() == Some(Kind::Prepare) {
                prop_assert!(1 <= header.first().0 && header.first() <= header.last());
                prop_assert!(header.last().0 < 1 << abi::OP_BITS);
            }
        }
    }
}
