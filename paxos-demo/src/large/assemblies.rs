//! Requests on their way to the leader in parts.

use super::COMMAND_BYTES_MAX;
use crate::message::Part;
use std::collections::HashMap;

/// Requests that may be on their way at a time.
const ASSEMBLIES_MAX: usize = 64;
/// Bytes of all of them.
const BYTES_MAX: usize = 64 << 20;
/// After so much silence one is dropped.
const IDLE_NS: u64 = 10_000_000_000;

#[derive(Debug)]
struct Assembly {
    request: u64,
    total_bytes: usize,
    bytes: Vec<u8>,
    used_at: u64,
}

/// Requests that are not there as a whole, one a session. Bounded: whoever was silent for the longest time
/// makes room. It is the leader's own memory and holds nothing that was promised to anybody.
#[derive(Debug, Default)]
pub struct Assemblies {
    by_client: HashMap<u64, Assembly>,
    bytes: usize,
}

/// What there is of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    /// So many bytes; the next part begins there.
    Have(u32),
    /// All of it. It is not here any more.
    Whole(Vec<u8>),
}

impl Assemblies {
    /// A part arrived. Taken is what continues the request; anything else was lost on the way or came twice.
    pub fn add(&mut self, now: u64, part: &Part<'_>) -> Added {
        let total_bytes = part.total_bytes as usize;
        debug_assert!(total_bytes <= COMMAND_BYTES_MAX, "looked at by the leader");
        let same =
            |assembly: &Assembly| assembly.request == part.request && assembly.total_bytes == total_bytes;
        if !self.by_client.get(&part.client).is_some_and(same) {
            if part.offset > 0 {
                return Added::Have(0);
            }
            self.remove(part.client);
            let (request, used_at) = (part.request, now);
            self.insert(part.client, Assembly { request, total_bytes, bytes: Vec::new(), used_at });
        }
        self.make_room(part.client, part.bytes.len());
        let Some(assembly) = self.by_client.get_mut(&part.client) else { return Added::Have(0) };
        assembly.used_at = now;
        let (have, offset) = (assembly.bytes.len(), part.offset as usize);
        if let Some(more) = have.checked_sub(offset).and_then(|known| part.bytes.get(known..)) {
            // Not much more memory than was sent, and never more than is announced.
            if assembly.bytes.capacity() < have + more.len() {
                assembly.bytes.reserve_exact(have.clamp(more.len(), total_bytes - have));
            }
            assembly.bytes.extend_from_slice(more);
            self.bytes += more.len();
        }
        if assembly.bytes.len() < total_bytes {
            return Added::Have(assembly.bytes.len() as u32);
        }
        let whole = self.remove(part.client).expect("it is there");
        Added::Whole(whole.bytes)
    }

    /// Keeps a whole request that could not be taken now: its last part will come again.
    pub fn put_back(&mut self, now: u64, client: u64, request: u64, mut bytes: Vec<u8>) {
        let total_bytes = bytes.len();
        // Without its last byte it is not whole: what comes again completes it.
        bytes.truncate(total_bytes.saturating_sub(1));
        self.remove(client);
        self.insert(client, Assembly { request, total_bytes, bytes, used_at: now });
    }

    /// Forgets what there is of a session's requests.
    pub fn forget(&mut self, client: u64) {
        self.remove(client);
    }

    /// Forgets those that were silent for long.
    pub fn expire(&mut self, now: u64) {
        let Self { by_client, bytes } = self;
        by_client.retain(|_, assembly| {
            let keep = now < assembly.used_at.saturating_add(IDLE_NS);
            *bytes -= if keep { 0 } else { assembly.bytes.len() };
            keep
        });
    }

    /// Number of requests on their way.
    pub fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Whether none is on its way.
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    fn insert(&mut self, client: u64, assembly: Assembly) {
        if self.by_client.len() >= ASSEMBLIES_MAX {
            self.drop_idle(client);
        }
        self.bytes += assembly.bytes.len();
        self.by_client.insert(client, assembly);
    }

    fn remove(&mut self, client: u64) -> Option<Assembly> {
        let removed = self.by_client.remove(&client)?;
        self.bytes -= removed.bytes.len();
        Some(removed)
    }

    fn make_room(&mut self, client: u64, more: usize) {
        while self.bytes + more > BYTES_MAX && self.by_client.len() > 1 {
            self.drop_idle(client);
        }
    }

    fn drop_idle(&mut self, but: u64) {
        let others = self.by_client.iter().filter(|(client, _)| **client != but);
        if let Some(idle) = others.min_by_key(|(_, assembly)| assembly.used_at).map(|(client, _)| *client) {
            self.remove(idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(client: u64, request: u64, total_bytes: u32, offset: u32, bytes: &[u8]) -> Part<'_> {
        Part { client, request, total_bytes, offset, asks: true, bytes }
    }

    #[test]
    fn only_what_continues_a_request_is_taken() {
        let mut assemblies = Assemblies::default();
        assert_eq!(assemblies.add(0, &part(1, 1, 6, 2, b"cd")), Added::Have(0), "no beginning");
        assert!(assemblies.is_empty());
        assert_eq!(assemblies.add(0, &part(1, 1, 6, 0, b"ab")), Added::Have(2));
        assert_eq!(assemblies.add(0, &part(1, 1, 6, 0, b"ab")), Added::Have(2), "twice");
        assert_eq!(assemblies.add(0, &part(1, 1, 6, 4, b"ef")), Added::Have(2), "one is missing");
        assert_eq!(assemblies.add(0, &part(1, 1, 7, 2, b"cd")), Added::Have(0), "another length");
        assert_eq!(assemblies.add(0, &part(1, 2, 6, 2, b"cd")), Added::Have(0), "another request");
        assert_eq!(assemblies.add(0, &part(2, 1, 6, 2, b"cd")), Added::Have(0), "another session");
        assert_eq!(assemblies.add(0, &part(1, 1, 6, 2, b"cd")), Added::Have(4));
        assert_eq!(assemblies.add(0, &part(1, 1, 6, 4, b"ef")), Added::Whole(b"abcdef".to_vec()));
        assert!(assemblies.is_empty());
        assert_eq!(assemblies.bytes, 0);

        assert_eq!(assemblies.add(0, &part(1, 1, 6, 0, b"ab")), Added::Have(2));
        assert_eq!(
            assemblies.add(0, &part(1, 2, 2, 0, b"xy")),
            Added::Whole(b"xy".to_vec()),
            "takes its place"
        );
        assert_eq!(assemblies.bytes, 0);
    }

    #[test]
    fn what_was_put_back_is_whole_again_with_its_last_part() {
        let mut assemblies = Assemblies::default();
        assemblies.put_back(0, 1, 1, b"abcdef".to_vec());
        assert_eq!(assemblies.add(0, &part(1, 1, 6, 3, b"def")), Added::Whole(b"abcdef".to_vec()));
        assert_eq!(assemblies.bytes, 0);
    }

    #[test]
    fn the_longest_silent_makes_room_and_all_expire() {
        let mut assemblies = Assemblies::default();
        for client in 0..ASSEMBLIES_MAX as u64 {
            assemblies.add(client, &part(client, 1, 4, 0, b"ab"));
        }
        // The first is heard again, so the second is the one.
        assert_eq!(assemblies.add(1000, &part(0, 1, 4, 2, b"c")), Added::Have(3));
        assemblies.add(1001, &part(1000, 1, 4, 0, b"ab"));
        assert_eq!(assemblies.len(), ASSEMBLIES_MAX);
        assert_eq!(assemblies.add(1002, &part(1, 1, 4, 2, b"c")), Added::Have(0));
        assert_eq!(assemblies.add(1002, &part(0, 1, 4, 3, b"d")), Added::Whole(b"abcd".to_vec()));
        assemblies.expire(IDLE_NS + 10);
        assert_eq!(assemblies.len(), ASSEMBLIES_MAX - 1 - 9, "clients 2 to 10 were heard before");
        assemblies.expire(2 * IDLE_NS);
        assert_eq!((assemblies.len(), assemblies.bytes), (0, 0));
    }

    #[test]
    fn memory_is_bounded_whatever_is_announced() {
        let mut assemblies = Assemblies::default();
        let bytes = vec![7; 60_000];
        for round in 0..17 {
            for client in 0..200 {
                let total = COMMAND_BYTES_MAX as u32;
                assemblies.add(round, &part(client, 1, total, round as u32 * 60_000, &bytes));
            }
            let capacity: usize = assemblies.by_client.values().map(|a| a.bytes.capacity()).sum();
            assert!(assemblies.len() <= ASSEMBLIES_MAX && capacity <= 2 * BYTES_MAX);
            assert!(assemblies.bytes <= BYTES_MAX);
            assert_eq!(assemblies.bytes, assemblies.by_client.values().map(|a| a.bytes.len()).sum::<usize>());
        }
    }

    proptest! {
        /// Whatever is lost, doubled or out of order: what comes out is what went in.
        #[test]
        fn a_request_arrives_whole(
            bytes in proptest::collection::vec(any::<u8>(), 1..300),
            cuts in proptest::collection::vec((0u32..300, 1usize..40), 0..400),
        ) {
            let mut assemblies = Assemblies::default();
            let total = bytes.len() as u32;
            let send = |assemblies: &mut Assemblies, offset: u32, length: usize| {
                let end = bytes.len().min(offset as usize + length);
                assemblies.add(0, &part(1, 1, total, offset, &bytes[offset as usize..end]))
            };
            let mut have = 0;
            for (offset, length) in cuts.into_iter().filter(|(offset, _)| *offset < total) {
                match send(&mut assemblies, offset, length) {
                    Added::Have(next) => have = next,
                    Added::Whole(whole) => { prop_assert_eq!(whole, bytes); return Ok(()); }
                }
            }
            loop {
                match send(&mut assemblies, have, 7) {
                    Added::Have(next) => { prop_assert!(next > have); have = next; }
                    Added::Whole(whole) => { prop_assert_eq!(whole, bytes); break; }
                }
            }
        }
    }
}
