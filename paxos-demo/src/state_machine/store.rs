//! The pairs, their deadlines, and the running hash of what is in them.
//!
//! **Expiry.** The only clock is the replicated one: the latest time that any applied batch had. A pair whose
//! deadline has come is gone for everybody who asks from that op on; its memory is given back a few pairs an
//! op, in order of deadline, so no op takes long and replicas drop alike.

use crate::digest::Chain;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Pairs that one command drops at most because their deadline has come. It brings at most one deadline, so
/// what is due does not pile up.
const SWEEP_PAIRS: usize = 8;
/// What a pair takes besides its bytes, about.
const PAIR_OVERHEAD_BYTES: u64 = 128;
/// What may be stored by default, overhead included. All replicas must use the same number.
const STORE_BYTES_MAX: u64 = 4 << 30;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The value.
    pub value: Arc<[u8]>,
    /// When it expires, in unix milliseconds.
    pub deadline_ms: Option<u64>,
    /// Over key and value. Kept because hashing takes as long as storing: another deadline takes no time.
    chain: Chain,
}

impl Pair {
    /// Its part of the hash of all contents.
    fn hash(&self) -> u64 {
        self.deadline_ms.map_or(self.chain, |deadline_ms| self.chain.word(deadline_ms)).value()
    }
}

/// All pairs. A copy is free, and later changes of the store copy only what they touch: this is what makes a
/// snapshot of any size cost nothing while it is taken. Its order means nothing.
pub type Pairs =
    imbl::GenericHashMap<Arc<[u8]>, Pair, ahash::RandomState, imbl::shared_ptr::DefaultSharedPtr>;

/// The store.
#[derive(Clone, Debug)]
pub struct KvStore {
    pairs: Pairs,
    contents: u64,
    clock_ms: u64,
    /// Keys that have a deadline, by deadline. Follows from `pairs`.
    deadlines: BTreeSet<(u64, Arc<[u8]>)>,
    /// How many of them are due and not dropped yet. Follows from `deadlines` and the clock.
    due: usize,
    /// Follows from `pairs`.
    bytes: u64,
    bytes_max: u64,
}

impl Default for KvStore {
    fn default() -> Self {
        Self::at(0)
    }
}

impl KvStore {
    /// An empty store at some time.
    pub fn at(clock_ms: u64) -> Self {
        Self {
            pairs: Pairs::default(),
            contents: 0,
            clock_ms,
            deadlines: BTreeSet::new(),
            due: 0,
            bytes: 0,
            bytes_max: STORE_BYTES_MAX,
        }
    }

    /// The same store with another bound on what may be stored.
    #[must_use]
    pub fn with_bytes_max(self, bytes_max: u64) -> Self {
        Self { bytes_max, ..self }
    }

    /// The replicated clock: the latest time that any applied batch had.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// One op more, of a batch of `time_ms`: the clock goes on if that is ahead of it, and some of what is
    /// due is dropped.
    pub fn advance(&mut self, time_ms: u64) {
        if time_ms > self.clock_ms {
            let before = std::mem::replace(&mut self.clock_ms, time_ms);
            if self.deadlines.last().is_some_and(|(last, _)| *last > before) {
                let after = |ms: u64| (ms.saturating_add(1), Arc::from(&[][..]));
                self.due += self.deadlines.range(after(before)..after(time_ms)).count();
            }
        }
        self.sweep();
    }

    /// Drops some of what is due.
    pub(super) fn sweep(&mut self) {
        for _ in 0..SWEEP_PAIRS.min(self.due) {
            let (_, key) = self.deadlines.first().expect("what is due has a deadline");
            let key = Arc::clone(key);
            self.drop_pair(&key);
        }
    }

    /// What a key holds, unless its deadline has come.
    pub fn get(&self, key: &[u8]) -> Option<&Pair> {
        self.pairs.get(key).filter(|pair| pair.deadline_ms.is_none_or(|at| at > self.clock_ms))
    }

    /// Stores a pair, over whatever the key held.
    pub fn set(&mut self, key: &[u8], value: &[u8], deadline_ms: Option<u64>) {
        let chain = Chain::seeded(0x6b65_7920_7661_6c75).bytes(key).bytes(value);
        self.bytes += value.len() as u64;
        let Some(pair) = self.pairs.get_mut(key) else {
            let key: Arc<[u8]> = key.into();
            self.bytes += key.len() as u64 + PAIR_OVERHEAD_BYTES;
            self.index(&key, deadline_ms);
            let pair = Pair { value: value.into(), deadline_ms, chain };
            self.contents = self.contents.wrapping_add(pair.hash());
            self.pairs.insert(key, pair);
            return;
        };
        self.contents = self.contents.wrapping_sub(pair.hash());
        self.bytes -= pair.value.len() as u64;
        // In place, unless a snapshot or the length is in the way.
        match Arc::get_mut(&mut pair.value).filter(|old| old.len() == value.len()) {
            Some(old) => old.copy_from_slice(value),
            None => pair.value = value.into(),
        }
        pair.chain = chain;
        let old = std::mem::replace(&mut pair.deadline_ms, deadline_ms);
        self.contents = self.contents.wrapping_add(pair.hash());
        self.reindex(key, old, deadline_ms);
    }

    /// Gives a pair that is there another deadline. The value is not touched, however long it is.
    pub(super) fn redate(&mut self, key: &[u8], deadline_ms: Option<u64>) {
        let Some(pair) = self.pairs.get_mut(key) else { return };
        self.contents = self.contents.wrapping_sub(pair.hash());
        let old = std::mem::replace(&mut pair.deadline_ms, deadline_ms);
        self.contents = self.contents.wrapping_add(pair.hash());
        self.reindex(key, old, deadline_ms);
    }

    /// Removes a pair; whether it was there for somebody who asks.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let there = self.get(key).is_some();
        self.drop_pair(key);
        there
    }

    fn drop_pair(&mut self, key: &[u8]) {
        let Some((key, pair)) = self.pairs.remove_with_key(key) else { return };
        self.contents = self.contents.wrapping_sub(pair.hash());
        self.bytes -= (key.len() + pair.value.len()) as u64 + PAIR_OVERHEAD_BYTES;
        self.unindex(&key, pair.deadline_ms);
    }

    fn reindex(&mut self, key: &[u8], old: Option<u64>, new: Option<u64>) {
        if old != new {
            let key = Arc::clone(self.pairs.get_key_value(key).expect("it is there").0);
            self.unindex(&key, old);
            self.index(&key, new);
        }
    }

    fn index(&mut self, key: &Arc<[u8]>, deadline_ms: Option<u64>) {
        let Some(at) = deadline_ms else { return };
        self.deadlines.insert((at, Arc::clone(key)));
        self.due += usize::from(at <= self.clock_ms);
    }

    fn unindex(&mut self, key: &Arc<[u8]>, deadline_ms: Option<u64>) {
        let Some(at) = deadline_ms else { return };
        self.deadlines.remove(&(at, Arc::clone(key)));
        self.due -= usize::from(at <= self.clock_ms);
    }

    /// Bytes that keys and values take, about.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether `value_bytes` more, in so many new pairs, would be too much.
    pub fn is_full(&self, value_bytes: usize, pairs: usize) -> bool {
        self.bytes + value_bytes as u64 + pairs as u64 * PAIR_OVERHEAD_BYTES > self.bytes_max
    }

    /// A copy of all pairs, those that are due and not dropped yet among them: when they are dropped is part
    /// of what replicas agree on.
    pub fn pairs(&self) -> Pairs {
        self.pairs.clone()
    }

    /// Hash of what is stored, whatever the order in which it came ([`crate::digest::Digest::contents`]).
    pub fn contents(&self) -> u64 {
        self.contents
    }

    /// Number of keys for somebody who asks.
    pub fn len(&self) -> usize {
        self.pairs.len() - self.due
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
