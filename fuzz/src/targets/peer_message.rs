//! What replicas say to each other: [`codec::decode`] and `PeerMessage::is_plausible`.

use bytes::Bytes;
use electrode::types::{OpNumber, View};
use paxos_demo::codec::{self, MESSAGE_BYTES_MAX};
use paxos_demo::message::{Packet, TAG_PEER};
use paxos_demo::peer::{PeerMessage, Refusal, ViewStart, Vote};

use super::Target;
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "peer_message",
    run,
    seeds,
    words: &[
        b"\xfb\xff\xff",
        b"\xfc\xff\xff\xff\xff",
        b"\xfd\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xfd\xff\xff\xff\xff\xff\xff\x00\x00",
        b"\xfd\x00\x00\x00\x00\x00\x00\x01\x00",
        b"\xfe",
    ],
    bytes_max: MESSAGE_BYTES_MAX + 8,
    thousands: 1000,
};

fn seeds() -> Vec<Vec<u8>> {
    let (view, op, nonce) = (View(7), OpNumber(300), 9);
    let start = ViewStart { origin: View(5), length: op, last_op: OpNumber(301), commit: OpNumber(299) };
    let (payload, bytes) = (Bytes::from_static(b"batch"), Bytes::from_static(b"bytes"));
    let messages = [
        PeerMessage::Hello { config_hash: u64::MAX, born: 3 },
        PeerMessage::Welcome { config_hash: 1, incarnation: u32::MAX, born: 0 },
        PeerMessage::Refused { incarnation: 3, reason: Refusal::Restarted { known: 2 } },
        PeerMessage::Refused {
            incarnation: 3,
            reason: Refusal::ConfigMismatch { theirs: u64::MAX, yours: 0 },
        },
        PeerMessage::NeedPrepares { view, have: op, upto: OpNumber((1 << 48) - 1) },
        PeerMessage::Stable { view, op },
        PeerMessage::Suspect { view },
        PeerMessage::StartViewChange { view },
        PeerMessage::Fetching { view },
        PeerMessage::DoViewChange {
            view,
            vote: Vote { last_normal_view: View(6), last_op: op, commit: OpNumber(3) },
        },
        PeerMessage::StartView { view, start },
        PeerMessage::AskStartView { view },
        PeerMessage::Recovery { nonce, view },
        PeerMessage::RecoveryResponse { nonce, view, start: None },
        PeerMessage::RecoveryResponse { nonce, view, start: Some(start) },
        PeerMessage::NotNormal { nonce, recovering: true },
        PeerMessage::GetState { view, after: OpNumber(1), upto: op },
        PeerMessage::NewState { view, ordered_in: View(0), first: OpNumber(1), last: OpNumber(2), payload },
        PeerMessage::StateGone { view, oldest: op },
        PeerMessage::GetSnapshot { op: OpNumber(0), offset: 1 << 40 },
        PeerMessage::SnapshotChunk { view, op, total_bytes: 9, offset: 4, bytes },
    ];
    messages.iter().map(|message| codec::encode(message)[1..].to_vec()).collect()
}

fn run(input: &[u8]) {
    // Bincode takes the bytes that a length claims before it looks for them, but no more than its limit: one datagram.
    let Ok(message) = bounded(2 * MESSAGE_BYTES_MAX + 256, || codec::decode(input)) else { return };
    assert!(input.len() <= MESSAGE_BYTES_MAX);

    // Whatever way a number was written, it is read back as it is written here.
    let written = codec::encode(&message);
    assert_eq!(written[0], TAG_PEER);
    let Ok(Packet::Peer(body)) = Packet::parse(&written) else { panic!("its tag is another's") };
    assert_eq!(codec::decode(body).expect("what was written is read"), message);
    assert!(body.len() <= input.len(), "and there is no shorter way");
    for cut in [body.len() / 2, body.len() - 1] {
        assert!(codec::decode(&body[..cut]).is_err(), "cut to {cut} bytes");
    }
    assert!(codec::decode(&[body, &[0]].concat()).is_err(), "nothing may follow");

    // A replica that has come further believes whatever it would have believed before.
    let believed: Vec<bool> =
        [0, 5, 1 << 33, u64::MAX].map(|own| message.is_plausible(View(own))).into_iter().collect();
    assert!(believed.is_sorted(), "{message:?}: {believed:?}");
    if let PeerMessage::NewState { first, last, .. } = &message
        && believed[3]
    {
        assert!(first <= last && last.0 < 1 << 48, "{message:?}");
    }
}
