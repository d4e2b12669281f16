//! Bytes of [`PeerMessage`]: the only place that knows bincode.
//!
//! These messages are rare, so they need no fixed layout; they do come from the network, so decoding is
//! bounded ([`MESSAGE_BYTES_MAX`]) and strict (nothing may follow the message).

use crate::message::TAG_PEER;
use crate::peer::PeerMessage;
use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use thiserror::Error;

/// Longest encoded message, tag included: one datagram.
pub const MESSAGE_BYTES_MAX: usize = electrode::abi::PAYLOAD_BYTES_MAX;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MESSAGE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();

/// Why bytes are no [`PeerMessage`].
#[derive(Debug, Error)]
pub enum CodecError {
    /// Longer than any message.
    #[error("message between replicas of {0} bytes, at most {MESSAGE_BYTES_MAX} are possible")]
    TooLong(usize),
    /// Not what bincode writes.
    #[error("message between replicas is malformed: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// Bytes behind the message.
    #[error("{0} bytes follow a message between replicas")]
    Trailing(usize),
}

/// The whole datagram, tag first.
pub fn encode(message: &PeerMessage) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48);
    bytes.push(TAG_PEER);
    bincode::serde::encode_into_std_write(message, &mut bytes, CONFIG)
        .expect("bounded by who sends, written to memory");
    debug_assert!(bytes.len() <= MESSAGE_BYTES_MAX);
    bytes
}

/// Reads what follows the tag ([`crate::message::Packet::Peer`]).
pub fn decode(bytes: &[u8]) -> Result<PeerMessage, CodecError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLong(bytes.len()));
    }
    let (message, read) = bincode::serde::decode_from_slice(bytes, CONFIG)?;
    if read == bytes.len() { Ok(message) } else { Err(CodecError::Trailing(bytes.len() - read)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Packet;
    use crate::peer::{Refusal, ViewStart, Vote};
    use bytes::Bytes;
    use electrode::types::{OpNumber, ReplicaId, View};
    use proptest::prelude::*;

    fn messages() -> Vec<PeerMessage> {
        vec![
            PeerMessage::Hello { config_hash: u64::MAX, born: u32::MAX },
            PeerMessage::Welcome { config_hash: 1, incarnation: u32::MAX, born: 0 },
            PeerMessage::Refused { incarnation: 3, reason: Refusal::Restarted { known: 2 } },
            PeerMessage::Refused {
                incarnation: 3,
                reason: Refusal::ConfigMismatch { theirs: u64::MAX, yours: 0 },
            },
            PeerMessage::NeedPrepares { view: View(1), have: OpNumber(u64::MAX), upto: OpNumber(3) },
            PeerMessage::Stable { view: View(1), op: OpNumber(300) },
            PeerMessage::Suspect { view: View(u64::MAX) },
            PeerMessage::StartViewChange { view: View(7) },
            PeerMessage::Fetching { view: View(7) },
            PeerMessage::DoViewChange {
                view: View(7),
                vote: Vote { last_normal_view: View(6), last_op: OpNumber(u64::MAX), commit: OpNumber(3) },
            },
            PeerMessage::StartView { view: View(7), start: START },
            PeerMessage::AskStartView { view: View(7) },
            PeerMessage::Recovery { nonce: u64::MAX, view: View(2) },
            PeerMessage::RecoveryResponse { nonce: 1, view: View(2), start: None },
            PeerMessage::RecoveryResponse { nonce: 1, view: View(2), start: Some(START) },
            PeerMessage::NotNormal { nonce: 1, recovering: true },
            PeerMessage::GetState { view: View(1), after: OpNumber(1), upto: OpNumber(2) },
            PeerMessage::NewState {
                view: View(1),
                ordered_in: View(0),
                first: OpNumber(1),
                last: OpNumber(2),
                payload: Bytes::from_static(b"batch"),
            },
            PeerMessage::StateGone { view: View(1), oldest: OpNumber(9) },
            PeerMessage::GetSnapshot { op: OpNumber(0), offset: 1 << 40 },
            PeerMessage::SnapshotChunk {
                view: View(1),
                op: OpNumber(8),
                total_bytes: 9,
                offset: 4,
                bytes: Bytes::from_static(b"bytes"),
            },
        ]
    }

    const START: ViewStart =
        ViewStart { origin: View(5), length: OpNumber(300), last_op: OpNumber(301), commit: OpNumber(299) };

    /// A batch of the largest size that a Prepare may have can be sent on by state transfer.
    #[test]
    fn the_largest_batch_fits_beside_what_describes_it() {
        let config = crate::replica::ReplicaConfig::new(ReplicaId(0), 3, 1, 0);
        let payload = Bytes::from(vec![0xff; config.batch_bytes_max()]);
        let (view, first, last) = (View(u64::MAX), OpNumber(u64::MAX), OpNumber(u64::MAX));
        let batch = PeerMessage::NewState { view, ordered_in: view, first, last, payload };
        assert!(encode(&batch).len() <= config.payload_bytes_max);
        let (total_bytes, offset) = (u64::MAX, u64::MAX);
        let bytes = Bytes::from(vec![0xff; config.chunk_bytes()]);
        let chunk = PeerMessage::SnapshotChunk { view, op: last, total_bytes, offset, bytes };
        assert!(encode(&chunk).len() <= config.payload_bytes_max);
    }

    #[test]
    fn messages_round_trip_through_their_datagram() {
        for message in messages() {
            let bytes = encode(&message);
            let Ok(Packet::Peer(body)) = Packet::parse(&bytes) else { panic!("tagged as peer message") };
            assert_eq!(decode(body).unwrap(), message);
            for cut in 0..body.len() {
                assert!(decode(&body[..cut]).is_err(), "{message:?} cut to {cut} bytes");
            }
            let longer = [body, &[0]].concat();
            assert!(matches!(decode(&longer), Err(CodecError::Trailing(1))));
        }
    }

    #[test]
    fn a_datagram_of_unreasonable_length_is_not_even_read() {
        assert!(matches!(decode(&[0; MESSAGE_BYTES_MAX + 1]), Err(CodecError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
        }
    }
}
