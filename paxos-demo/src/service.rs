//! Everything that applying the log changes: the store, the client table and the history hash. Replicas
//! that applied the same ops hold equal services; a snapshot is a copy of one.

use crate::batch::BatchEntry;
use crate::client_table::{ClientTable, Lookup};
use crate::digest::{Chain, Digest};
use crate::state_machine::KvStore;
use electrode::types::OpNumber;

/// The replicated state.
#[derive(Clone, Debug)]
pub struct Service {
    store: KvStore,
    clients: ClientTable,
    history: Chain,
}

impl Service {
    /// The state before op 1.
    pub fn new(client_sessions_max: usize) -> Self {
        Self {
            store: KvStore::default(),
            clients: ClientTable::new(client_sessions_max),
            history: Chain::default(),
        }
    }

    /// Applies one committed op and returns its result. A request that was executed before (a view change
    /// can put it into the log twice) is not executed again; then there is no result.
    pub fn apply(&mut self, op: OpNumber, entry: BatchEntry<'_>) -> Option<&[u8]> {
        let result = self.clients.commit(entry.client, entry.request).map(|result| {
            self.store.apply(entry.command, result);
            result.as_slice()
        });
        self.history = self
            .history
            .word(op.0)
            .word(entry.client)
            .word(entry.request)
            .bytes(entry.command)
            .word(u64::from(result.is_some()))
            .bytes(result.unwrap_or_default());
        result
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
        BatchEntry { client, request, command: bytes }
    }

    #[test]
    fn a_request_that_is_in_the_log_twice_is_executed_once() {
        let mut service = Service::new(8);
        let (mut set, mut del) = (Vec::new(), Vec::new());
        let set = entry(&mut set, 1, 1, Command::Set { key: b"k", value: b"v" });
        let del = entry(&mut del, 2, 1, Command::Del { key: b"k" });
        assert_eq!(service.apply(OpNumber(1), set), Some(&[1][..]));
        assert_eq!(service.apply(OpNumber(2), del), Some(&[1][..]));
        assert_eq!(service.apply(OpNumber(3), set), None);
        assert_eq!(service.keys(), 0);
        assert_eq!(service.lookup(2, 1), Lookup::Cached(&[1]));
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
                let _ = service.apply(OpNumber(*op), *entry);
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
        ] {
            assert_ne!(base.history, divergent.history);
        }
    }
}
