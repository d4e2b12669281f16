//! A fingerprint that replicas compare: same ops applied, same state reached.
//!
//! Two halves, because each sees what the other cannot. *history* is a chain over every applied op with its
//! result: it differs for ever once one op differed, even if the states meet again. *contents* is a sum over
//! the pairs that are stored now: it differs if the same history was applied wrongly. Both are kept up to
//! date by every op, so reading a digest costs nothing at any size of state.
//!
//! The hash is made to catch mistakes, not adversaries: it is fixed (all replicas must agree) and fast.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Fingerprint of a replica's applied ops and of its state; 32 hex digits.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest {
    /// Chain over the applied ops.
    pub history: u64,
    /// Sum over what is stored.
    pub contents: u64,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.history, self.contents)
    }
}

/// Not 32 hex digits.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 32 hex digits")]
pub struct DigestError;

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(DigestError);
        }
        let both = u128::from_str_radix(text, 16).map_err(|_| DigestError)?;
        Ok(Self { history: (both >> 64) as u64, contents: both as u64 })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A chain of hashed words and byte strings. Each step is a bijection of the old state for a given input
/// and of the input for a given old state, so a difference cannot be absorbed by what follows it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain(u64);

impl Chain {
    /// A chain that starts elsewhere: sums over differently seeded chains are independent.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// What [`Self::seeded`] needs to go on from here.
    pub const fn seed(self) -> u64 {
        self.0
    }

    /// Appends one word.
    #[must_use]
    pub fn word(self, word: u64) -> Self {
        let mixed = (self.0 ^ word.wrapping_mul(0x9e37_79b1_85eb_ca87)).rotate_left(31);
        Self(mixed.wrapping_mul(0xc2b2_ae3d_27d4_eb4f).wrapping_add(0x1656_67b1_9e37_79f9))
    }

    /// Appends a byte string, its length first: ("ab", "c") is not ("a", "bc").
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut chain = self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            chain = chain.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            chain = chain.word(u64::from_le_bytes(last));
        }
        chain
    }

    /// The value, every bit of it depending on every bit of the state.
    pub fn value(self) -> u64 {
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn text_round_trips_and_nothing_else_is_a_digest() {
        let digest = Digest { history: 0x12, contents: u64::MAX };
        let text = "0000000000000012ffffffffffffffff";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        for wrong in ["", "12", "+000000000000012ffffffffffffffff", "zz00000000000012ffffffffffffffff"] {
            assert_eq!(wrong.parse::<Digest>(), Err(DigestError));
        }
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn boundaries_between_strings_count() {
        let hash = |a: &[u8], b: &[u8]| Chain::default().bytes(a).bytes(b).value();
        assert_ne!(hash(b"ab", b"c"), hash(b"a", b"bc"));
        assert_ne!(hash(b"", b"a"), hash(b"a", b""));
        assert_ne!(hash(b"a", b""), hash(b"a\0", b""));
    }

    #[test]
    fn short_inputs_do_not_collide() {
        let mut seen = HashSet::new();
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                assert!(seen.insert(Chain::default().bytes(&[a, b]).value()));
            }
        }
    }

    proptest! {
        #[test]
        fn a_difference_is_never_absorbed(a: u64, b: u64, tail in proptest::collection::vec(any::<u64>(), 0..20)) {
            prop_assume!(a != b);
            let end = |start: u64| tail.iter().fold(Chain::default().word(start), |c, w| c.word(*w));
            prop_assert_ne!(end(a).value(), end(b).value());
        }
    }
}
