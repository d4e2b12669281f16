//! Requests on their way to the leader in parts.

use super::COMMAND_BYTES_MAX;
use super::kept::{Kept, Limits, Size};
use crate::message::Part;
use crate::session::READ;

/// What may be on its way at a time: as many as a front-end has connections do not stand in each other's way.
const LIMITS: Limits = Limits { entries: 256, bytes: 64 << 20, idle_ns: 10_000_000_000 };

#[derive(Debug)]
struct Assembly {
    total_bytes: usize,
    bytes: Vec<u8>,
}

impl Size for Assembly {
    fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// Requests that are not there as a whole, one a session. It is the leader's own memory and holds nothing that
/// was promised to anybody.
#[derive(Debug)]
pub struct Assemblies(Kept<Assembly>);

/// What there is of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    /// So many bytes; the next part begins there.
    Have(u32),
    /// All of it. It is not here any more.
    Whole(Vec<u8>),
}

impl Default for Assemblies {
    fn default() -> Self {
        Self(Kept::new(LIMITS))
    }
}

impl Assemblies {
    /// A part arrived. Taken is what continues the request, or begins one that is not older; anything else was lost
    /// on the way, came twice or came late.
    pub fn add(&mut self, now: u64, part: &Part<'_>) -> Added {
        let total_bytes = part.total_bytes as usize;
        debug_assert!(total_bytes <= COMMAND_BYTES_MAX, "looked at by the leader");
        if self.0.request(part.client).is_some_and(|held| is_older(part.request, held)) {
            return Added::Have(0);
        }
        let known = self.0.get(now, part.client, part.request);
        if known.is_none_or(|assembly| assembly.total_bytes != total_bytes) {
            if part.offset > 0 {
                return Added::Have(0);
            }
            self.0.insert(now, part.client, part.request, Assembly { total_bytes, bytes: Vec::new() });
        }
        let have = self.0.grow(part.client, part.bytes.len(), |assembly| {
            let (have, offset) = (assembly.bytes.len(), part.offset as usize);
            if let Some(more) = have.checked_sub(offset).and_then(|known| part.bytes.get(known..)) {
                // Not much more memory than was sent, and never more than is announced.
                if assembly.bytes.capacity() < have + more.len() {
                    assembly.bytes.reserve_exact(have.clamp(more.len(), total_bytes - have));
                }
                assembly.bytes.extend_from_slice(more);
            }
            assembly.bytes.len()
        });
        let have = have.unwrap_or(0);
        if have < total_bytes {
            return Added::Have(have as u32);
        }
        let whole = self.0.remove(part.client).expect("it is there");
        Added::Whole(whole.bytes)
    }

    /// Keeps a whole request that could not be taken now: its last part will come again.
    pub fn put_back(&mut self, now: u64, client: u64, request: u64, mut bytes: Vec<u8>) {
        let total_bytes = bytes.len();
        // Without its last byte it is not whole: what comes again completes it.
        bytes.truncate(total_bytes.saturating_sub(1));
        self.0.insert(now, client, request, Assembly { total_bytes, bytes });
    }

    /// Forgets what there is of a request.
    pub fn forget(&mut self, client: u64, request: u64) {
        if self.0.request(client) == Some(request) {
            self.0.remove(client);
        }
    }

    /// Forgets those that were silent for long.
    pub fn expire(&mut self, now: u64) {
        self.0.expire(now);
    }

    /// Number of requests on their way.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is on its way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether a session sent one request before another. It never uses a number twice; but it counts reads and writes
/// apart, and which of two such is older cannot be told.
fn is_older(request: u64, than: u64) -> bool {
    request & READ == than & READ && request < than
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(client: u64, request: u64, total_bytes: u32, offset: u32, bytes: &[u8]) -> Part<'_> {
        Part { client, request, attempt: 1, total_bytes, offset, asks: true, bytes }
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
        assert_eq!(assemblies.0.bytes(), 0);

        assert_eq!(assemblies.add(0, &part(1, 1, 6, 0, b"ab")), Added::Have(2));
        assert_eq!(
            assemblies.add(0, &part(1, 2, 2, 0, b"xy")),
            Added::Whole(b"xy".to_vec()),
            "takes its place"
        );
        assert_eq!(assemblies.0.bytes(), 0);
    }

    #[test]
    fn what_was_put_back_is_whole_again_with_its_last_part() {
        let mut assemblies = Assemblies::default();
        assemblies.put_back(0, 1, 1, b"abcdef".to_vec());
        assert_eq!(assemblies.add(0, &part(1, 1, 6, 3, b"def")), Added::Whole(b"abcdef".to_vec()));
        assert_eq!(assemblies.0.bytes(), 0);
    }

    #[test]
    fn the_longest_silent_makes_room_and_all_expire() {
        let mut assemblies = Assemblies::default();
        for client in 0..LIMITS.entries as u64 {
            assemblies.add(client, &part(client, 1, 4, 0, b"ab"));
        }
        // The first is heard again, so the second is the one.
        assert_eq!(assemblies.add(1000, &part(0, 1, 4, 2, b"c")), Added::Have(3));
        assemblies.add(1001, &part(1000, 1, 4, 0, b"ab"));
        assert_eq!(assemblies.len(), LIMITS.entries);
        assert_eq!(assemblies.add(1002, &part(1, 1, 4, 2, b"c")), Added::Have(0));
        assert_eq!(assemblies.add(1002, &part(0, 1, 4, 3, b"d")), Added::Whole(b"abcd".to_vec()));
        assemblies.expire(LIMITS.idle_ns + 10);
        assert_eq!(assemblies.len(), LIMITS.entries - 1 - 9, "clients 2 to 10 were heard before");
        assemblies.expire(2 * LIMITS.idle_ns);
        assert_eq!((assemblies.len(), assemblies.0.bytes()), (0, 0));
    }

    #[test]
    fn memory_is_bounded_whatever_is_announced() {
        let mut assemblies = Assemblies::default();
        let bytes = vec![7; 60_000];
        for round in 0..17 {
            for client in 0..300 {
                let total = COMMAND_BYTES_MAX as u32;
                assemblies.add(round, &part(client, 1, total, round as u32 * 60_000, &bytes));
            }
            let capacity: usize = assemblies.0.values().map(|a| a.bytes.capacity()).sum();
            assert!(assemblies.len() <= LIMITS.entries && capacity <= 2 * LIMITS.bytes);
            assert!(assemblies.0.bytes() <= LIMITS.bytes);
        }
    }

    #[test]
    fn what_is_older_does_not_take_the_place_of_what_is_newer() {
        let mut assemblies = Assemblies::default();
        assert_eq!(assemblies.add(0, &part(1, 8, 6, 0, b"ab")), Added::Have(2));
        assert_eq!(assemblies.add(0, &part(1, 7, 9, 0, b"xyz")), Added::Have(0), "a late copy");
        assemblies.forget(1, 7);
        assert_eq!(assemblies.add(0, &part(1, 8, 6, 2, b"cd")), Added::Have(4));
        // Reads are counted apart: which of both is newer is not known.
        assert_eq!(assemblies.add(0, &part(1, READ | 3, 6, 0, b"ab")), Added::Have(2));
        assert_eq!(assemblies.add(0, &part(1, READ | 2, 6, 0, b"ab")), Added::Have(0));
        assert_eq!(assemblies.add(0, &part(1, 9, 6, 0, b"a")), Added::Have(1));
        assemblies.forget(1, 9);
        assert!(assemblies.is_empty());
    }

    #[test]
    fn honest_clients_do_not_stand_in_each_others_way() {
        let mut assemblies = Assemblies::default();
        let bytes = vec![7; 1000];
        for offset in (0..9000).step_by(1000) {
            for client in 0..256 {
                assert_eq!(
                    assemblies.add(offset, &part(client, 1, 10_000, offset as u32, &bytes)),
                    Added::Have(offset as u32 + 1000)
                );
            }
        }
        for client in 0..256 {
            let whole = assemblies.add(9000, &part(client, 1, 10_000, 9000, &bytes));
            assert!(matches!(whole, Added::Whole(whole) if whole.len() == 10_000));
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
