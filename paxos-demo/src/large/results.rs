//! Results of reads on their way from the leader in parts.

use bytes::Bytes;
use std::collections::VecDeque;

/// Results that are kept at a time: more than a server has connections, each of which has one request.
const RESULTS_MAX: usize = 1024;
/// Bytes of all of them.
const BYTES_MAX: usize = 64 << 20;
/// How long one is kept after it was last asked for.
const KEPT_NS: u64 = 5_000_000_000;

#[derive(Debug)]
struct Kept {
    client: u64,
    request: u64,
    bytes: Bytes,
    used_at: u64,
}

/// Results that do not fit a datagram, one a session. Bounded: the oldest makes room. Whoever asks in vain
/// reads again, so nothing depends on them.
#[derive(Debug, Default)]
pub struct Results {
    /// In the order in which they came.
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Results {
    /// Keeps a result in place of what the session asked for before.
    pub fn keep(&mut self, now: u64, client: u64, request: u64, bytes: Bytes) {
        if let Some(at) = self.kept.iter().position(|kept| kept.client == client) {
            self.remove(at);
        }
        while !self.kept.is_empty()
            && (self.kept.len() >= RESULTS_MAX || self.bytes + bytes.len() > BYTES_MAX)
        {
            self.remove(0);
        }
        self.bytes += bytes.len();
        self.kept.push_back(Kept { client, request, bytes, used_at: now });
    }

    /// A result that is still there.
    pub fn get(&mut self, now: u64, client: u64, request: u64) -> Option<Bytes> {
        let asked = |kept: &&mut Kept| kept.client == client && kept.request == request;
        let kept = self.kept.iter_mut().find(asked)?;
        kept.used_at = now;
        Some(kept.bytes.clone())
    }

    /// Forgets what nobody asked for lately.
    pub fn expire(&mut self, now: u64) {
        while let Some(at) = self.kept.iter().position(|kept| now >= kept.used_at.saturating_add(KEPT_NS)) {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        if let Some(kept) = self.kept.remove(at) {
            self.bytes -= kept.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Bytes {
        vec![7; length].into()
    }

    #[test]
    fn a_session_has_one_result_for_a_while() {
        let mut results = Results::default();
        results.keep(0, 1, 1, bytes(5));
        results.keep(0, 2, 1, bytes(6));
        assert_eq!(results.get(1, 1, 1), Some(bytes(5)));
        assert_eq!(results.get(1, 1, 2), None);
        results.keep(2, 1, 2, bytes(7));
        assert_eq!((results.get(2, 1, 1), results.bytes), (None, 13));
        results.expire(KEPT_NS);
        assert_eq!((results.get(2, 2, 1), results.bytes), (None, 7));
        assert_eq!(results.get(KEPT_NS, 1, 2), Some(bytes(7)));
        results.expire(KEPT_NS + 2);
        assert_eq!(results.get(KEPT_NS, 1, 2), Some(bytes(7)), "it was asked for");
        results.expire(3 * KEPT_NS);
        assert_eq!((results.kept.len(), results.bytes), (0, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut results = Results::default();
        for client in 0..2 * RESULTS_MAX as u64 {
            results.keep(0, client, 1, bytes(1500));
        }
        assert_eq!(results.kept.len(), RESULTS_MAX);
        assert_eq!(results.get(0, RESULTS_MAX as u64 - 1, 1), None, "the oldest made room");
        for client in 0..100 {
            results.keep(0, client, 1, bytes(1 << 20));
            assert!(results.bytes <= BYTES_MAX);
        }
        assert_eq!(results.kept.len(), 64);
    }
}
