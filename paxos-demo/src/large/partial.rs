//! A command that arrives in several ops of the log.

use super::COMMAND_BYTES_MAX;
use crate::batch::BatchEntry;

/// The parts so far of the one command that is not complete, if there is one.
///
/// The parts of a command are consecutive in the log: its leader queues them so. A view change can cut the
/// row; then the next op, whatever it is, is not the part that is missing, and what is here is dropped. It
/// will not be executed by this row of ops, on any replica; the client asks again, and all parts come again.
/// What is here follows from the ops applied alone, so it is part of the replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    pub(crate) client: u64,
    pub(crate) request: u64,
    /// The part that is missing next; 0 if there is no command.
    pub(crate) next: u16,
    pub(crate) parts: u16,
    pub(crate) command: Vec<u8>,
}

impl Partial {
    /// The next op of the log: the command to be executed now, if there is one.
    pub fn join<'a>(&'a mut self, entry: &BatchEntry<'a>) -> Option<&'a [u8]> {
        if entry.parts == 0 {
            self.drop_command();
            return Some(entry.command);
        }
        if entry.part == 0 {
            self.drop_command();
            (self.client, self.request, self.parts) = (entry.client, entry.request, entry.parts);
        }
        let continues = (entry.client, entry.request, entry.part, entry.parts)
            == (self.client, self.request, self.next, self.parts);
        // No leader sends more; memory is bounded all the same.
        if !continues || self.command.len() + entry.command.len() > COMMAND_BYTES_MAX {
            self.drop_command();
            return None;
        }
        self.command.extend_from_slice(entry.command);
        self.next += 1;
        if self.next < self.parts {
            return None;
        }
        // Complete: executed by the caller, and dropped with the next op.
        (self.client, self.request, self.next, self.parts) = (0, 0, 0, 0);
        Some(&self.command)
    }

    /// Whether a command waits for its next part.
    pub fn is_waiting(&self) -> bool {
        self.next > 0
    }

    fn drop_command(&mut self) {
        if self.next > 0 || self.command.capacity() > 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(request: u64, part: u16, command: &[u8]) -> BatchEntry<'_> {
        BatchEntry { part, parts: 3, ..BatchEntry::whole(1, request, command) }
    }

    /// Joins some entries, and says which commands came out.
    fn join(entries: &[BatchEntry<'_>]) -> Vec<Vec<u8>> {
        let mut partial = Partial::default();
        entries.iter().filter_map(|entry| partial.join(entry).map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn a_row_that_was_cut_is_dropped() {
        let [a, b, c] = [part(1, 0, b"a"), part(1, 1, b"b"), part(1, 2, b"c")];
        let other = BatchEntry::whole(2, 1, b"x");
        assert_eq!(join(&[a, b, c]), [b"abc"]);
        assert_eq!(join(&[a, b, c, c]), [b"abc"]);
        assert_eq!(join(&[a, b, BatchEntry::NO_OP, c]), [b""]);
        assert_eq!(join(&[a, BatchEntry::NO_OP, a, b, c]), [&b""[..], b"abc"]);
        assert_eq!(join(&[a, b, other, c, a, b, c]), [&b"x"[..], b"abc"]);
        assert_eq!(join(&[a, b, a, b, c]), [b"abc"], "the same again");
        assert_eq!(join(&[a, c, b]), [b""; 0], "out of order");
        assert_eq!(join(&[b, c]), [b""; 0], "without a beginning");
        assert_eq!(join(&[a, b, part(2, 2, b"c")]), [b""; 0], "of another request");
        assert_eq!(join(&[a, b, BatchEntry { client: 2, ..c }]), [b""; 0], "of another client");
        assert_eq!(join(&[a, b, BatchEntry { parts: 4, ..c }]), [b""; 0], "of another number of parts");
    }

    #[test]
    fn memory_is_bounded_by_the_longest_command() {
        let bytes = vec![7; 60_000];
        let mut partial = Partial::default();
        for number in 0..1000 {
            let entry = BatchEntry { part: number, parts: 1000, ..BatchEntry::whole(1, 1, &bytes) };
            assert_eq!(partial.join(&entry), None);
            assert!(partial.command.len() <= COMMAND_BYTES_MAX);
        }
        assert!(!partial.is_waiting());
    }
}
