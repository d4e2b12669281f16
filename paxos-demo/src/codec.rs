//! Bytes of [`PeerMessage`]: the only place that knows bincode.
//!
//! These messages are rare, so they need no fixed layout; they do come from the network, so decoding is
//! bounded ([`MESSAGE_BYTES_MAX`]) and strict (nothing may follow the message).

use crate::message::TAG_PEER;
use crate::peer::PeerMessage;
use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use thiserror::Error;

/// Longest encoded message, tag included: one datagram.
pub const MESSAGE_BYTES_MAX: usize = 1300;

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
        .expect("fixed-size fields, written to memory");
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
    use crate::peer::Refusal;
    use electrode::types::{OpNumber, View};
    use proptest::prelude::*;

    fn messages() -> Vec<PeerMessage> {
        vec![
            PeerMessage::Hello { config_hash: u64::MAX },
            PeerMessage::Welcome { config_hash: 1, incarnation: u32::MAX },
            PeerMessage::Refused { incarnation: 3, reason: Refusal::Restarted { known: 2 } },
            PeerMessage::Refused {
                incarnation: 3,
                reason: Refusal::ConfigMismatch { theirs: u64::MAX, yours: 0 },
            },
            PeerMessage::Refused { incarnation: 3, reason: Refusal::LogTruncated { oldest: OpNumber(9) } },
            PeerMessage::NeedPrepares { view: View(1), have: OpNumber(u64::MAX), upto: OpNumber(3) },
            PeerMessage::Stable { view: View(1), op: OpNumber(300) },
        ]
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
