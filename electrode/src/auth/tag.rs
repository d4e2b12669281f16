//! The tag: SipHash-2-4 over the header without its last field, then the payload.
//!
//! 2-4 and not the cheaper 1-3, for this is a message authentication code against somebody who tries; 1-3 is made
//! for hash tables. 64 bits cannot be guessed at the rate of any network: a billion guesses a second take three
//! hundred years for an even chance, and each is counted. The kernel programs compute the same
//! (`bpf/src/auth.h`).

use std::hash::Hasher;
use std::mem::offset_of;

use siphasher::sip::SipHasher24;
use zerocopy::{FromBytes, IntoBytes};

use super::{Key, Keys};
use crate::abi::{FLAG_KEY_1, Header, Kind, Verdict};
use crate::types::{ReplicaId, ReplicaSet};

/// Bytes of the header that the tag covers: all but itself.
pub const COVERED_BYTES: usize = offset_of!(Header, auth_tag);

impl Key {
    /// The tag of a datagram. What `auth_tag` says does not matter.
    pub fn tag(&self, header: &Header, payload: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(&header.as_bytes()[..COVERED_BYTES]);
        hasher.write(payload);
        hasher.finish()
    }

    /// Makes the tag of a header: notes which key it is, then computes.
    pub fn seal(&self, header: &mut Header, payload: &[u8]) {
        header.flags = header.flags & !FLAG_KEY_1 | if self.slot() == 1 { FLAG_KEY_1 } else { 0 };
        header.auth_tag = self.tag(header, payload).into();
    }
}

impl Keys {
    /// Puts a tag on a datagram that is about to leave. Only members can check one: what goes to none has none.
    pub fn seal(&self, datagram: &mut [u8]) {
        let Ok((header, payload)) = Header::mut_from_prefix(datagram) else { return };
        if header.kind() != Some(Kind::Message) || header.targets.get() != 0 {
            self.sends_with().seal(header, payload);
        }
    }

    /// F4: whether a datagram in a member's name is to be believed at `me`: it is meant for us, its key is one
    /// that we accept, and its tag is right. Holds nothing up that comes from clients; who they are is not
    /// known by a tag.
    pub fn admit(&self, me: ReplicaId, header: &Header, payload: &[u8]) -> Result<(), Verdict> {
        admit(me, header, payload, |slot| self.in_slot(slot)).map(|_| ())
    }
}

/// [`Keys::admit`] on whatever holds keys: the one that the datagram was made with.
pub fn admit<'k>(
    me: ReplicaId,
    header: &Header,
    payload: &[u8],
    key: impl FnOnce(usize) -> Option<&'k Key>,
) -> Result<&'k Key, Verdict> {
    if !ReplicaSet::from_mask(header.targets.get()).contains(me) {
        return Err(Verdict::DropTarget);
    }
    let key = key(header.key_slot()).ok_or(Verdict::DropKey)?;
    // Two words are compared in one instruction: no byte-wise comparison that would tell how much was right.
    if key.tag(header, payload) == header.auth_tag.get() { Ok(key) } else { Err(Verdict::DropTag) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::SECRET_BYTES;
    use crate::types::{Epoch, OpNumber, View};
    use crate::wire::{Batch, Origin, prepare_ok};
    use proptest::prelude::*;

    const ME: ReplicaId = ReplicaId(1);

    fn key(id: u32) -> Key {
        Key::new(id, std::array::from_fn(|i| i as u8 + id as u8)).unwrap()
    }

    fn prepare(targets: u32, payload: &[u8]) -> Vec<u8> {
        let leader = Origin { group: 7, config_hash: 9, sender: Some(ReplicaId(0)), incarnation: 3 };
        let batch = Batch {
            view: View(4),
            first: OpNumber(10),
            last: OpNumber(12),
            round_tag: 99,
            leader_epoch: Epoch(5),
        };
        let targets = ReplicaSet::from_mask(targets);
        let header = leader.prepare(&batch, OpNumber(9), targets, payload.len() as u16);
        [header.as_bytes(), payload].concat()
    }

    fn admit(keys: &Keys, datagram: &[u8]) -> Result<(), Verdict> {
        let (header, payload) = Header::ref_from_prefix(datagram).unwrap();
        keys.admit(ME, header, payload)
    }

    /// The first and some of the 64 vectors of the reference implementation (key 00 to 0f, message 00, 01, ... of
    /// that many bytes); the one of 15 bytes is in the paper's appendix A.
    #[test]
    fn the_function_is_siphash_2_4() {
        let secret: [u8; SECRET_BYTES] = std::array::from_fn(|i| i as u8);
        let message: Vec<u8> = (0..64).collect();
        for (bytes, expected) in VECTORS {
            let hasher = SipHasher24::new_with_key(&secret);
            assert_eq!(hasher.hash(&message[..bytes]).to_le_bytes(), expected, "{bytes} bytes");
        }
    }

    const VECTORS: [(usize, [u8; 8]); 5] = [
        (0, [0x31, 0x0e, 0x0e, 0xdd, 0x47, 0xdb, 0x6f, 0x72]),
        (1, [0xfd, 0x67, 0xdc, 0x93, 0xc5, 0x39, 0xf8, 0x74]),
        (8, [0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93]),
        (15, [0xe5, 0x45, 0xbe, 0x49, 0x61, 0xca, 0x29, 0xa1]),
        (63, [0x72, 0x45, 0x06, 0xeb, 0x4c, 0x32, 0x8a, 0x95]),
    ];

    /// Header and payload are one message, however it is cut into calls.
    #[test]
    fn the_tag_is_over_header_and_payload() {
        let key = key(0);
        let datagram = prepare(2, b"some payload");
        let (header, payload) = Header::ref_from_prefix(&datagram).unwrap();
        let whole = [&datagram[..COVERED_BYTES], payload].concat();
        assert_eq!(key.tag(header, payload), SipHasher24::new_with_key(&key.secret).hash(&whole));
    }

    #[test]
    fn either_key_is_accepted_and_no_third() {
        let both = Keys::new(key(4)).with(key(5)).unwrap();
        for sender in [Keys::new(key(4)), Keys::new(key(5))] {
            let mut datagram = prepare(2, b"x");
            sender.seal(&mut datagram);
            assert_eq!(admit(&both, &datagram), Ok(()));
        }
        let mut datagram = prepare(2, b"x");
        Keys::new(key(6)).seal(&mut datagram);
        assert_eq!(admit(&both, &datagram), Err(Verdict::DropTag), "another key of the same parity");
        assert_eq!(admit(&Keys::new(key(5)), &datagram), Err(Verdict::DropKey));
    }

    #[test]
    fn a_datagram_for_others_is_not_for_us() {
        let keys = Keys::new(key(4));
        let mut datagram = prepare(0b101, b"x");
        keys.seal(&mut datagram);
        assert_eq!(admit(&keys, &datagram), Err(Verdict::DropTarget));
        let (header, _) = Header::ref_from_prefix(&datagram).unwrap();
        let mut ack = prepare_ok(header, ReplicaId(2), 1, header.last());
        keys.sends_with().seal(&mut ack, &[]);
        assert_eq!(keys.admit(ReplicaId(0), &ack, &[]), Ok(()), "an ack is for the leader");
        assert_eq!(keys.admit(ME, &ack, &[]), Err(Verdict::DropTarget));
    }

    #[test]
    fn what_goes_to_no_member_has_no_tag() {
        let keys = Keys::new(key(5));
        let origin = Origin { group: 7, config_hash: 9, sender: Some(ReplicaId(0)), incarnation: 3 };
        let before = origin.message(View(0), ReplicaSet::EMPTY, 0);
        let mut after = before;
        keys.seal(after.as_mut_bytes());
        assert_eq!(before, after);
    }

    proptest! {
        /// Any change of any byte is noticed.
        #[test]
        fn no_byte_can_be_changed(at in 0usize..110, flip in 1u8.., odd: bool) {
            let keys = Keys::new(key(4 + u32::from(odd)));
            let mut datagram = prepare(2, &[0x5a; 30]);
            keys.seal(&mut datagram);
            prop_assert_eq!(admit(&keys, &datagram), Ok(()));
            datagram[at] ^= flip;
            prop_assert!(admit(&keys, &datagram).is_err());
        }
    }
}
