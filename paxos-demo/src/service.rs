//! Everything that applying the log changes: the store, the client table, a command of which more parts are to
//! come, and the history hash. Replicas
//! that applied the same ops hold equal services; a [`Snapshot`] is a copy of one.

use crate::batch::BatchEntry;
use crate::client_table::{ClientTable, Lookup};
use crate::digest::{Chain, Digest};
use crate::large::Partial;
use crate::snapshot::{self, Restored, Snapshot, SnapshotError};
use crate::state_machine::KvStore;
use electrode::types::OpNumber;

/// The replicated state.
#[derive(Debug)]
pub struct Service {
    store: KvStore,
    clients: ClientTable,
    partial: Partial,
    history: Chain,
}

impl Service {
    /// The state before op 1.
    pub fn new(client_sessions_max: usize) -> Self {
        Self {
            store: KvStore::default(),
            clients: ClientTable::new(client_sessions_max),
            partial: Partial::default(),
            history: Chain::default(),
        }
    }

    /// Applies one committed op of a batch of `time_ms` and returns its result. A request that was executed
    /// before (a view change can put it into the log twice) is not executed again; then there is no result.
    /// Nor has a no-op one, nor a part of a command before the last.
    pub fn apply(&mut self, op: OpNumber, time_ms: u64, entry: BatchEntry<'_>) -> Option<&[u8]> {
        self.store.advance(time_ms);
        let result = match self.partial.join(&entry) {
            Some(command) if !entry.is_no_op() => {
                self.clients.commit(entry.client, entry.request, |result| self.store.apply(command, result))
            }
            _ => None,
        };
        self.history = self
            .history
            .word(op.0)
            .word(self.store.clock_ms())
            .word(entry.client)
            .word(entry.request)
            .word(u64::from(entry.part) << 16 | u64::from(entry.parts))
            .bytes(entry.command)
            .word(u64::from(result.is_some()))
            .bytes(result.unwrap_or_default());
        result
    }

    /// Executes a command that changes nothing ([`crate::state_machine::Command::is_read`]) on the state as
    /// it is now, and appends the result to `result`. Any other command is answered as invalid.
    pub fn read(&self, command: &[u8], result: &mut Vec<u8>) {
        self.store.read(command, result);
    }

    /// A copy of the state; `applied` is the last op that was applied. Takes about a millisecond, however
    /// much is stored.
    pub fn snapshot(&self, applied: OpNumber) -> Snapshot {
        Snapshot {
            op: applied,
            clock_ms: self.store.clock_ms(),
            history: self.history,
            contents: self.store.contents(),
            pairs: self.store.pairs(),
            sessions: self.clients.snapshot(),
            partial: if self.partial.is_waiting() { self.partial.clone() } else { Partial::default() },
        }
    }

    /// The state that [`Snapshot::encode`] wrote down, and the last op in it. `client_sessions_max` is that
    /// of [`Self::new`].
    pub fn restore(bytes: &[u8], client_sessions_max: usize) -> Result<(Self, OpNumber), SnapshotError> {
        let Restored { op, history, store, clients, partial } = snapshot::decode(bytes, client_sessions_max)?;
        Ok((Self { store, clients, partial, history }, op))
    }

    /// Bytes that keys and values take, about.
    pub fn state_bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// The replicated clock in unix milliseconds: the latest time that any applied batch had.
    pub fn clock_ms(&self) -> u64 {
        self.store.clock_ms()
    }

    /// What is known about a request.
    pub fn lookup(&self, client: u64, request: u64) -> Lookup<'_> {
        self.clients.lookup(client, request)
    }

    /// Fingerprint of all that was applied and of what is stored.
    pub fn digest(&self) -> Digest {
        Digest { history: self.history.value(), contents: self.store.contents() }
    }

    /// Number of keys stored.
    pub fn keys(&self) -> usize {
        self.store.len()
    }

    /// Number of client sessions known.
    pub fn client_sessions(&self) -> usize {
        self.clients.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_machine::Command;

    fn entry<'a>(bytes: &'a mut Vec<u8>, client: u64, request: u64, command: Command<'_>) -> BatchEntry<'a> {
        command.encode(bytes).unwrap();
        BatchEntry::whole(client, request, bytes)
    }

    #[test]
    fn a_request_that_is_in_the_log_twice_is_executed_once() {
        let mut service = Service::new(8);
        let (mut set, mut del) = (Vec::new(), Vec::new());
        let set = entry(&mut set, 1, 1, Command::Set { key: b"k", value: b"v" });
        let del = entry(&mut del, 2, 1, Command::Del { key: b"k" });
        assert_eq!(service.apply(OpNumber(1), 0, set), Some(&[1][..]));
        assert_eq!(service.apply(OpNumber(2), 0, del), Some(&[1][..]));
        assert_eq!(service.apply(OpNumber(3), 0, set), None);
        assert_eq!(service.keys(), 0);
        assert_eq!(service.lookup(2, 1), Lookup::Cached(&[1]));
    }

    #[test]
    fn a_command_in_parts_is_executed_once_with_the_last() {
        let mut bytes = Vec::new();
        Command::Append { key: b"k", value: b"value" }.encode(&mut bytes).unwrap();
        let parts: Vec<BatchEntry<'_>> = (0..3u16)
            .zip(bytes.chunks(bytes.len().div_ceil(3)))
            .map(|(part, command)| BatchEntry { part, parts: 3, ..BatchEntry::whole(1, 1, command) })
            .collect();
        let [a, b, c] = parts[..] else { panic!() };
        let mut service = Service::new(8);
        let mut op = 0;
        let mut apply = |service: &mut Service, entry| {
            op += 1;
            service.apply(OpNumber(op), 0, entry).map(<[u8]>::to_vec)
        };
        // A view change cut the row.
        for entry in [a, b, BatchEntry::NO_OP, c] {
            assert_eq!(apply(&mut service, entry), None);
            assert_eq!((service.keys(), service.client_sessions()), (0, 0), "no trace of it");
        }
        // The client asked again, twice.
        for (entry, done) in [(a, false), (b, false), (c, true), (a, false), (b, false), (c, false)] {
            assert_eq!(apply(&mut service, entry).is_some(), done);
        }
        let mut read = Vec::new();
        Command::Get { key: b"k" }.encode(&mut read).unwrap();
        let mut result = Vec::new();
        service.read(&read, &mut result);
        assert_eq!(result, b"\x02value");
        assert!(matches!(service.lookup(1, 1), Lookup::Cached(_)));
    }

    #[test]
    fn a_read_changes_nothing_and_only_reads() {
        let mut service = Service::new(8);
        let (mut set, mut get) = (Vec::new(), Vec::new());
        let set = entry(&mut set, 1, 1, Command::Set { key: b"k", value: b"v" });
        Command::Get { key: b"k" }.encode(&mut get).unwrap();
        let _ = service.apply(OpNumber(1), 0, set);
        let digest = service.digest();
        let read = |command: &[u8]| {
            let mut result = Vec::new();
            service.read(command, &mut result);
            result
        };
        assert_eq!(read(&get), b"\x02v");
        assert_eq!(read(set.command), [3]);
        assert_eq!(read(b"?"), [3]);
        assert_eq!(service.digest(), digest);
    }

    /// Any single difference between two histories shows, also where the stores end equal.
    #[test]
    fn every_divergence_shows_in_the_digest() {
        let (mut set, mut other) = (Vec::new(), Vec::new());
        let set = entry(&mut set, 1, 1, Command::Set { key: b"k", value: b"v" });
        let other = entry(&mut other, 1, 1, Command::Set { key: b"k", value: b"w" });
        let digest = |ops: &[(u64, BatchEntry<'_>)]| {
            let mut service = Service::new(8);
            for (op, entry) in ops {
                let _ = service.apply(OpNumber(*op), 5, *entry);
            }
            service.digest()
        };
        let base = digest(&[(1, set)]);
        assert_eq!(base, digest(&[(1, set)]));
        for divergent in [
            digest(&[]),
            digest(&[(2, set)]),
            digest(&[(1, other)]),
            digest(&[(1, BatchEntry { client: 2, ..set })]),
            digest(&[(1, BatchEntry { request: 2, ..set })]),
            digest(&[(1, set), (2, set)]),
            digest(&[(1, set), (2, BatchEntry::NO_OP)]),
            digest(&[(1, BatchEntry::NO_OP)]),
            digest(&[(1, BatchEntry { parts: 2, ..set })]),
        ] {
            assert_ne!(base.history, divergent.history);
        }
    }
}
