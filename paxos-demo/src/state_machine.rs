//! The replicated service: a key-value store.
//!
//! Command: `[op u8: 1 get, 2 set, 3 del][key_len u16 LE][key][value]`. Result: `[0]` absent, `[1]` done,
//! `[2][value]`, `[3]` not a command. Applying is deterministic: the result and the state after it depend on
//! the command and the state before it alone, so replicas that apply the same log stay equal.

mod store;

pub use store::{KvStore, Pair, Pairs};

use bytes::BufMut;
use thiserror::Error;

const GET: u8 = 1;
const SET: u8 = 2;
const DEL: u8 = 3;

const ABSENT: u8 = 0;
const DONE: u8 = 1;
const VALUE: u8 = 2;
const INVALID: u8 = 3;

/// Bytes that a command takes besides key and value.
pub const COMMAND_HEADER_BYTES: usize = 3;

/// What can be asked of the store.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Read a key: [`Outcome::Value`] or [`Outcome::Absent`].
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// Write a key: [`Outcome::Done`].
    Set {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Remove a key: [`Outcome::Done`] if it was there, else [`Outcome::Absent`].
    Del {
        /// The key.
        key: &'a [u8],
    },
}

/// Why bytes are no command or no result.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Shorter than its fixed part, or than its key.
    #[error("command is cut short")]
    Truncated,
    /// An operation that does not exist.
    #[error("unknown operation {0}")]
    UnknownOperation(u8),
    /// Bytes behind a command that takes no value.
    #[error("bytes follow the key of a command that takes no value")]
    Trailing,
    /// A key whose length does not fit its field.
    #[error("key of {0} bytes, at most 65535 are possible")]
    KeyTooLong(usize),
    /// Not what the store answers.
    #[error("result is malformed")]
    Result,
}

impl<'a> Command<'a> {
    /// Reads a command.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CommandError> {
        let (&[op, low, high], rest) = bytes.split_first_chunk().ok_or(CommandError::Truncated)?;
        let key_bytes = usize::from(u16::from_le_bytes([low, high]));
        let (key, value) = rest.split_at_checked(key_bytes).ok_or(CommandError::Truncated)?;
        match op {
            SET => Ok(Self::Set { key, value }),
            GET | DEL if !value.is_empty() => Err(CommandError::Trailing),
            GET => Ok(Self::Get { key }),
            DEL => Ok(Self::Del { key }),
            _ => Err(CommandError::UnknownOperation(op)),
        }
    }

    /// Whether the command changes nothing, so that no op is needed to execute it.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get { .. })
    }

    /// Appends the command to `out`.
    pub fn encode(&self, out: &mut impl BufMut) -> Result<(), CommandError> {
        let (op, key, value): (_, _, &[u8]) = match *self {
            Self::Get { key } => (GET, key, &[]),
            Self::Set { key, value } => (SET, key, value),
            Self::Del { key } => (DEL, key, &[]),
        };
        let key_bytes = u16::try_from(key.len()).map_err(|_| CommandError::KeyTooLong(key.len()))?;
        out.put_u8(op);
        out.put_u16_le(key_bytes);
        out.put_slice(key);
        out.put_slice(value);
        Ok(())
    }
}

/// What the store answers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// No such key.
    Absent,
    /// Written or removed.
    Done,
    /// The value read.
    Value(&'a [u8]),
    /// The command was not one. A leader refuses these; if one is in the log all the same, every replica
    /// answers it alike.
    Invalid,
}

impl<'a> Outcome<'a> {
    /// Reads a result.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CommandError> {
        match bytes {
            [ABSENT] => Ok(Self::Absent),
            [DONE] => Ok(Self::Done),
            [VALUE, value @ ..] => Ok(Self::Value(value)),
            [INVALID] => Ok(Self::Invalid),
            _ => Err(CommandError::Result),
        }
    }

    /// Appends the result to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Absent => out.push(ABSENT),
            Self::Done => out.push(DONE),
            Self::Value(value) => {
                out.push(VALUE);
                out.extend_from_slice(value);
            }
            Self::Invalid => out.push(INVALID),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn run(store: &mut KvStore, command: Command<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes).unwrap();
        let mut result = Vec::new();
        store.apply(&bytes, &mut result);
        result
    }

    #[test]
    fn layout_is_the_documented_one() {
        let mut bytes = Vec::new();
        Command::Set { key: b"k1", value: b"v" }.encode(&mut bytes).unwrap();
        assert_eq!(bytes, [2, 2, 0, b'k', b'1', b'v']);
        assert_eq!(bytes.len(), COMMAND_HEADER_BYTES + 3);
    }

    #[test]
    fn get_set_del() {
        let mut store = KvStore::default();
        assert_eq!(run(&mut store, Command::Get { key: b"k" }), [0]);
        assert_eq!(run(&mut store, Command::Set { key: b"k", value: b"v" }), [1]);
        assert_eq!(run(&mut store, Command::Get { key: b"k" }), [2, b'v']);
        assert_eq!(run(&mut store, Command::Set { key: b"k", value: b"" }), [1]);
        assert_eq!(run(&mut store, Command::Get { key: b"k" }), [2], "an empty value is not an absent one");
        assert_eq!(run(&mut store, Command::Del { key: b"k" }), [1]);
        assert_eq!(run(&mut store, Command::Del { key: b"k" }), [0]);
        assert!(store.is_empty());
    }

    #[test]
    fn what_is_no_command_is_answered_alike_and_changes_nothing() {
        for (bytes, error) in [
            (&b""[..], CommandError::Truncated),
            (&[1, 0], CommandError::Truncated),
            (&[1, 2, 0, b'k'], CommandError::Truncated),
            (&[1, 1, 0, b'k', b'v'], CommandError::Trailing),
            (&[9, 0, 0], CommandError::UnknownOperation(9)),
        ] {
            assert_eq!(Command::parse(bytes), Err(error));
            let (mut store, mut result) = (KvStore::default(), Vec::new());
            store.apply(bytes, &mut result);
            assert_eq!((result.as_slice(), store.contents()), (&[INVALID][..], 0));
        }
    }

    #[test]
    fn results_round_trip() {
        for outcome in [Outcome::Absent, Outcome::Done, Outcome::Value(b"v"), Outcome::Invalid] {
            let mut bytes = Vec::new();
            outcome.encode(&mut bytes);
            assert_eq!(Outcome::parse(&bytes), Ok(outcome));
        }
        for bytes in [&b""[..], &[0, 0], &[7]] {
            assert_eq!(Outcome::parse(bytes), Err(CommandError::Result));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, Vec<u8>),
        Del(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let value = proptest::collection::vec(any::<u8>(), 0..20);
        let step =
            prop_oneof![(0u8..8, value).prop_map(|(k, v)| Step::Set(k, v)), (0u8..8).prop_map(Step::Del)];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// The running hash after any history is the hash of the pairs that are left, computed afresh.
        #[test]
        fn contents_depend_on_the_pairs_alone(steps in steps()) {
            let (mut store, mut model) = (KvStore::default(), BTreeMap::new());
            for step in &steps {
                match step {
                    Step::Set(key, value) => {
                        run(&mut store, Command::Set { key: &[*key], value });
                        model.insert(*key, value.clone());
                    }
                    Step::Del(key) => {
                        run(&mut store, Command::Del { key: &[*key] });
                        model.remove(key);
                    }
                }
            }
            let mut fresh = KvStore::default();
            for (key, value) in &model {
                run(&mut fresh, Command::Set { key: &[*key], value });
            }
            prop_assert_eq!(store.contents(), fresh.contents());
            prop_assert_eq!(store.len(), model.len());

            run(&mut fresh, Command::Set { key: b"one more", value: b"" });
            prop_assert_ne!(store.contents(), fresh.contents());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut result = Vec::new();
            KvStore::default().apply(&bytes, &mut result);
            prop_assert!(Outcome::parse(&result).is_ok());
        }
    }
}
