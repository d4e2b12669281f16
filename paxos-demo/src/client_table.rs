//! Exactly-once: for each client session the number of its last committed request and the reply to it
//! (VR Revisited, section 4.1).
//!
//! The table is part of the replicated state: it changes when an op is applied and at no other time, so all
//! replicas hold the same table after the same op. In particular it never remembers a request that did not
//! commit (B4); what a leader has in flight is its own business ([`crate::in_flight`]).
//!
//! **Bounded.** At `capacity` sessions the one whose last commit is longest ago makes room. That is decided
//! by op order alone, so replicas evict alike. What a client sees: a session that was evicted is unknown,
//! and a request of an unknown session other than its first is refused ([`Lookup::Unknown`]) because nobody
//! can tell any more whether it was executed. The one case that is left: a copy of request 1, held back by the
//! network or sent again by a client that got no answer, arrives after its session was evicted. That takes
//! `capacity` other sessions that commit meanwhile, at most within the client's timeout.

mod kept;

use kept::Kept;
use std::collections::HashMap;

/// What the table says about a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The session was never seen or was evicted.
    Unknown,
    /// Newer than anything committed in this session.
    New,
    /// The last request that committed: this is its result.
    Cached(&'a [u8]),
    /// Older than the last one; the client has its reply and moved on.
    Stale,
}

const NIL: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Session {
    client: u64,
    request: u64,
    result: Kept,
    /// Neighbours in order of last commit.
    older: u32,
    newer: u32,
}

/// The sessions, linked in order of their last commit. Slots are reused, so a commit in the steady state
/// allocates nothing unless its result is long.
#[derive(Debug)]
pub struct ClientTable {
    slots: HashMap<u64, u32, ahash::RandomState>,
    sessions: Vec<Session>,
    capacity: usize,
    oldest: u32,
    newest: u32,
    /// The result of the last commit.
    result: Vec<u8>,
}

impl ClientTable {
    /// An empty table for at most `capacity` sessions; all replicas must use the same number.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0 && capacity < NIL as usize, "capacity of the client table");
        Self {
            slots: HashMap::default(),
            sessions: Vec::new(),
            capacity,
            oldest: NIL,
            newest: NIL,
            result: Vec::new(),
        }
    }

    /// What is known about a request. Changes nothing, whoever asks and however often.
    pub fn lookup(&self, client: u64, request: u64) -> Lookup<'_> {
        let Some(&slot) = self.slots.get(&client) else { return Lookup::Unknown };
        let session = &self.sessions[slot as usize];
        match request.cmp(&session.request) {
            std::cmp::Ordering::Greater => Lookup::New,
            std::cmp::Ordering::Equal => Lookup::Cached(session.result.as_slice()),
            std::cmp::Ordering::Less => Lookup::Stale,
        }
    }

    /// Records that `request` commits now, with the result that `execute` appends to an empty buffer, and
    /// returns that. `None` if this or a later request of the session has committed before: then nothing is
    /// executed.
    pub fn commit(&mut self, client: u64, request: u64, execute: impl FnOnce(&mut Vec<u8>)) -> Option<&[u8]> {
        let slot = match self.slots.get(&client) {
            Some(&slot) if request <= self.sessions[slot as usize].request => return None,
            Some(&slot) => {
                self.unlink(slot);
                slot
            }
            None => self.admit(client),
        };
        self.link_newest(slot);
        self.result.clear();
        execute(&mut self.result);
        let session = &mut self.sessions[slot as usize];
        session.request = request;
        session.result = Kept::new(&self.result);
        Some(&self.result)
    }

    /// A copy of the sessions, to be looked at elsewhere and later.
    pub fn snapshot(&self) -> Sessions {
        Sessions { sessions: self.sessions.clone(), oldest: self.oldest }
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no session is known.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// An unlinked slot for a new session: a fresh one, or at capacity that of the oldest.
    fn admit(&mut self, client: u64) -> u32 {
        let slot = if self.sessions.len() < self.capacity {
            let slot = self.sessions.len() as u32;
            self.sessions.push(Session { client, request: 0, result: Kept::EMPTY, older: NIL, newer: NIL });
            slot
        } else {
            let slot = self.oldest;
            self.unlink(slot);
            let evicted = std::mem::replace(&mut self.sessions[slot as usize].client, client);
            self.slots.remove(&evicted);
            slot
        };
        self.slots.insert(client, slot);
        slot
    }

    fn unlink(&mut self, slot: u32) {
        let Session { older, newer, .. } = self.sessions[slot as usize];
        match older {
            NIL => self.oldest = newer,
            _ => self.sessions[older as usize].newer = newer,
        }
        match newer {
            NIL => self.newest = older,
            _ => self.sessions[newer as usize].older = older,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let older = std::mem::replace(&mut self.newest, slot);
        match older {
            NIL => self.oldest = slot,
            _ => self.sessions[older as usize].newer = slot,
        }
        let session = &mut self.sessions[slot as usize];
        (session.older, session.newer) = (older, NIL);
    }
}

/// The sessions of a table at one moment.
#[derive(Clone, Debug)]
pub struct Sessions {
    sessions: Vec<Session>,
    oldest: u32,
}

impl Sessions {
    /// Session, last committed request and its result: in the order in which they would be evicted, which
    /// is all that there is to know. Putting them into an empty table in this order gives the same table.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, &[u8])> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let session = self.sessions.get(next as usize)?;
            next = session.newer;
            Some((session.client, session.request, session.result.as_slice()))
        })
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl PartialEq for Sessions {
    /// In which slots they are does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn commit(table: &mut ClientTable, client: u64, request: u64) -> bool {
        let execute = |result: &mut Vec<u8>| {
            assert!(result.is_empty(), "no result shines through from an earlier request");
            result.extend_from_slice(&request.to_le_bytes());
        };
        table.commit(client, request, execute).is_some()
    }

    #[test]
    fn a_request_commits_once_and_its_result_is_kept() {
        let mut table = ClientTable::new(4);
        assert_eq!(table.lookup(7, 1), Lookup::Unknown);
        assert!(commit(&mut table, 7, 1));
        assert_eq!(table.lookup(7, 1), Lookup::Cached(&1u64.to_le_bytes()));
        assert!(!commit(&mut table, 7, 1));
        assert_eq!(table.lookup(7, 2), Lookup::New);
        assert_eq!(table.lookup(7, 2), Lookup::New, "asking is not remembering (B4)");
        assert!(commit(&mut table, 7, 2));
        assert_eq!(table.lookup(7, 1), Lookup::Stale);
        assert!(!commit(&mut table, 7, 1));
        assert_eq!(table.lookup(7, 2), Lookup::Cached(&2u64.to_le_bytes()));
    }

    #[test]
    fn the_session_that_committed_longest_ago_is_evicted() {
        let mut table = ClientTable::new(2);
        assert!(commit(&mut table, 1, 1));
        assert!(commit(&mut table, 2, 1));
        assert!(commit(&mut table, 1, 2));
        let _ = table.lookup(2, 1);
        assert!(commit(&mut table, 3, 1));
        assert_eq!(table.lookup(2, 1), Lookup::Unknown, "a lookup does not keep a session alive");
        assert_eq!(table.lookup(1, 2), Lookup::Cached(&2u64.to_le_bytes()));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_table_of_one_works() {
        let mut table = ClientTable::new(1);
        for client in 0..5 {
            assert!(commit(&mut table, client, 1));
            assert!(commit(&mut table, client, 2));
            assert_eq!(table.len(), 1);
        }
    }

    proptest! {
        /// The linked slots against a list that is searched: same answers, same evictions.
        #[test]
        fn agrees_with_a_list(
            capacity in 1usize..6,
            steps in proptest::collection::vec((0u64..8, 1u64..6), 0..200),
        ) {
            let mut table = ClientTable::new(capacity);
            let mut list: Vec<(u64, u64)> = Vec::new();
            for (client, request) in steps {
                let at = list.iter().position(|session| session.0 == client);
                let known = at.map(|at| list[at].1);
                let executes = known.is_none_or(|last| request > last);
                prop_assert_eq!(commit(&mut table, client, request), executes);
                if executes {
                    match at {
                        Some(at) => { list.remove(at); }
                        None if list.len() == capacity => { list.remove(0); }
                        None => {}
                    }
                    list.push((client, request));
                }
                prop_assert_eq!(table.len(), list.len());
                let order: Vec<_> = table.snapshot().iter().map(|(client, request, _)| (client, request)).collect();
                prop_assert_eq!(&order, &list, "the order of eviction");
                for client in 0..8 {
                    let expected = list.iter().find(|session| session.0 == client).map(|session| session.1);
                    let bytes = expected.unwrap_or(0).to_le_bytes();
                    let lookup = table.lookup(client, expected.unwrap_or(1));
                    prop_assert_eq!(lookup, if expected.is_some() { Lookup::Cached(&bytes) } else { Lookup::Unknown });
                }
            }
        }
    }
}
