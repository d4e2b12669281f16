//! The pairs, and the running hash of what is in them.

use super::{Command, Outcome};
use crate::digest::Chain;
use std::sync::Arc;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The value.
    pub value: Arc<[u8]>,
    /// When it expires, in unix milliseconds.
    pub deadline_ms: Option<u64>,
    /// Its part of the hash of all contents; kept because hashing takes as long as storing.
    hash: u64,
}

/// All pairs. A copy is free, and later changes of the store copy only what they touch: this is what makes a
/// snapshot of any size cost nothing while it is taken. Its order means nothing.
pub type Pairs = imbl::HashMap<Arc<[u8]>, Pair>;

/// The store.
#[derive(Clone, Debug, Default)]
pub struct KvStore {
    pairs: Pairs,
    contents: u64,
    clock_ms: u64,
}

impl KvStore {
    /// An empty store at some time.
    pub fn at(clock_ms: u64) -> Self {
        Self { clock_ms, ..Self::default() }
    }

    /// The replicated clock: the latest time that any applied batch had.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// The replicated clock goes on, if `time_ms` is ahead of it.
    pub fn advance(&mut self, time_ms: u64) {
        self.clock_ms = self.clock_ms.max(time_ms);
    }

    /// Applies a command and appends its result to `result`.
    pub fn apply(&mut self, command: &[u8], result: &mut Vec<u8>) {
        match Command::parse(command) {
            Ok(Command::Set { key, value }) => {
                self.set(key, value, None);
                Outcome::Done.encode(result);
            }
            Ok(Command::Del { key }) => match self.pairs.remove(key) {
                Some(pair) => {
                    self.contents = self.contents.wrapping_sub(pair.hash);
                    Outcome::Done.encode(result);
                }
                None => Outcome::Absent.encode(result),
            },
            Ok(Command::Get { .. }) => self.read(command, result),
            Err(_) => Outcome::Invalid.encode(result),
        }
    }

    /// Executes a command that changes nothing ([`Command::is_read`]); any other is answered as invalid.
    pub fn read(&self, command: &[u8], result: &mut Vec<u8>) {
        match Command::parse(command) {
            Ok(Command::Get { key }) => match self.pairs.get(key) {
                Some(pair) => Outcome::Value(&pair.value).encode(result),
                None => Outcome::Absent.encode(result),
            },
            Ok(Command::Set { .. } | Command::Del { .. }) | Err(_) => Outcome::Invalid.encode(result),
        }
    }

    /// Stores a pair, over whatever the key held.
    pub fn set(&mut self, key: &[u8], value: &[u8], deadline_ms: Option<u64>) {
        let hash = pair_hash(key, value, deadline_ms);
        self.contents = self.contents.wrapping_add(hash);
        match self.pairs.get_mut(key) {
            Some(pair) => {
                self.contents = self.contents.wrapping_sub(pair.hash);
                // In place, unless a snapshot or the length is in the way.
                match Arc::get_mut(&mut pair.value).filter(|old| old.len() == value.len()) {
                    Some(old) => old.copy_from_slice(value),
                    None => pair.value = value.into(),
                }
                (pair.deadline_ms, pair.hash) = (deadline_ms, hash);
            }
            None => {
                self.pairs.insert(key.into(), Pair { value: value.into(), deadline_ms, hash });
            }
        }
    }

    /// A copy of all pairs.
    pub fn pairs(&self) -> Pairs {
        self.pairs.clone()
    }

    /// Hash of what is stored, whatever the order in which it came ([`crate::digest::Digest::contents`]).
    pub fn contents(&self) -> u64 {
        self.contents
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

fn pair_hash(key: &[u8], value: &[u8], deadline_ms: Option<u64>) -> u64 {
    let pair = Chain::seeded(0x6b65_7920_7661_6c75).bytes(key).bytes(value);
    deadline_ms.map_or(pair, |deadline_ms| pair.word(deadline_ms)).value()
}
