//! Authentication with a pre-shared key of the group (F4): the keys, and what they change.
//!
//! Without keys a member is known by its address and port alone, which is as good as the network that carries
//! them. With keys every datagram that a member sends to members carries a tag over its header and payload
//! ([`tag`]), and nothing is believed of a datagram in a member's name before its tag is right: neither in the
//! kernel programs nor here. What a client sends carries none.
//!
//! Three things go together in this:
//!
//! - The tag says that *some member* made the datagram, for it is one key for all. Who it was is what the
//!   header says, as far as members do not lie about each other; the protocols above trust members anyway.
//! - The tag covers `targets`, and a receiver wants its own bit there: a datagram for one member is worth
//!   nothing at another, an ack nothing but at the leader that it answers.
//! - An old datagram has a right tag for ever. View, op, leader epoch and incarnation tell what it is worth:
//!   it is a duplicate, which changes nothing and counts as no sign of life (U9).
//!
//! Whether a group has keys is part of what its members must agree on ([`config_hash`]).
//!
//! # Changing the key without a pause
//!
//! There is room for two keys, one with an even and one with an odd id, so a bit in the header tells which.
//! Each step must have reached every member before the next begins:
//!
//! | step | [`crate::Endpoint::set_keys`] | sent with | accepted |
//! |---|---|---|---|
//! | before | `Keys::new(old)` | old | old |
//! | 1 | `Keys::new(old).with(new)?` | old | both |
//! | 2 | `Keys::new(new).with(old)?` | new | both |
//! | 3 | `Keys::new(new)` | new | new |

pub mod tag;

use std::fmt;
use std::hash::{Hash, Hasher};

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 16;

/// One key: a number that all members know it by, and a secret. `Debug` shows the number only; the secret is
/// wiped from memory with the last copy of the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: u32,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

impl Key {
    /// Key number `id`. The secret should come from a random source; all zeros, which is what an unread buffer
    /// holds, is refused.
    pub fn new(id: u32, secret: [u8; SECRET_BYTES]) -> Result<Self> {
        let secret = Zeroizing::new(secret);
        if *secret == [0; SECRET_BYTES] {
            return Err(Error::Config(format!(
                "the secret of key {id} is all zeros; make one from /dev/urandom"
            )));
        }
        Ok(Self { id, secret })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Which of the two places it takes, 0 or 1: all that the header says of it.
    pub fn slot(&self) -> usize {
        (self.id & 1) as usize
    }

    /// The secret as the programs have it.
    #[cfg(feature = "ebpf")]
    pub(crate) fn words(&self) -> [u64; 2] {
        let (words, _) = self.secret.as_chunks::<8>();
        [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.id, *self.secret).hash(hasher);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// The keys that a member holds: one that it sends with, and perhaps a second one that it accepts too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    sends: Key,
    accepts: Option<Key>,
}

impl Keys {
    /// Sends with `key`, and accepts it.
    pub fn new(key: Key) -> Self {
        Self { sends: key, accepts: None }
    }

    /// Accepts `key` as well. One of the two has an even id and the other an odd one, for the header has a bit
    /// to tell them apart.
    pub fn with(self, key: Key) -> Result<Self> {
        if key.slot() == self.sends.slot() {
            return Err(Error::Config(format!(
                "keys {} and {} cannot be told apart: of two keys in use one has an even id and the other an \
                 odd one; number them 1, 2, 3 ... as they come",
                self.sends.id, key.id
            )));
        }
        Ok(Self { accepts: Some(key), ..self })
    }

    /// The key that datagrams leave with.
    pub fn sends_with(&self) -> &Key {
        &self.sends
    }

    /// Both keys, by their places.
    pub fn slots(&self) -> [Option<Key>; 2] {
        [0, 1].map(|slot| self.in_slot(slot).cloned())
    }

    /// The key in a place, 0 or 1.
    pub fn in_slot(&self, slot: usize) -> Option<&Key> {
        [Some(&self.sends), self.accepts.as_ref()].into_iter().flatten().find(|key| key.slot() == slot)
    }
}

/// What goes into the configuration hash of a group with keys.
const AUTHENTICATED: u64 = u64::from_le_bytes(*b"siphash!");

/// The configuration hash as it is on the wire: members with and without keys are of different
/// configurations, so a group that got its keys by half says so ([`crate::Event::Misconfigured`]). The endpoint
/// does this by itself; clients, who hold no key, must know whether the group has one.
pub fn config_hash(config_hash: u64, with_keys: bool) -> u64 {
    if with_keys { config_hash ^ AUTHENTICATED } else { config_hash }
}

/// Whether two hashes on the wire differ in nothing but that one side has keys.
pub fn differ_by_keys(a: u64, b: u64) -> bool {
    a ^ b == AUTHENTICATED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32) -> Key {
        Key::new(id, [0xab; SECRET_BYTES]).unwrap()
    }

    #[test]
    fn secrets_are_not_shown() {
        let keys = Keys::new(key(7)).with(key(8)).unwrap();
        let shown = format!("{keys:?} {keys:#?}");
        assert!(shown.contains("Key(7)") && shown.contains("Key(8)"), "{shown}");
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab"), "{shown}");
    }

    #[test]
    fn two_keys_differ_in_parity() {
        let refused = Keys::new(key(3)).with(key(5)).unwrap_err().to_string();
        assert!(refused.contains("keys 3 and 5"), "{refused}");
        let keys = Keys::new(key(3)).with(key(4)).unwrap();
        assert_eq!((keys.in_slot(0).unwrap().id(), keys.in_slot(1).unwrap().id()), (4, 3));
        assert!(Keys::new(key(3)).in_slot(0).is_none());
    }

    #[test]
    fn an_unread_secret_is_refused() {
        assert!(Key::new(1, [0; SECRET_BYTES]).unwrap_err().to_string().contains("key 1"));
    }

    #[test]
    fn keys_are_part_of_the_configuration() {
        assert_eq!(config_hash(5, false), 5);
        assert!(differ_by_keys(config_hash(5, true), 5));
        assert!(!differ_by_keys(config_hash(5, true), 6));
        assert!(!differ_by_keys(5, 5));
    }
}
