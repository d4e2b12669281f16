//! Results of reads on their way from the leader in parts.

use super::kept::{Kept, Limits, Size};
use bytes::Bytes;
use std::net::SocketAddr;

/// What is kept at a time: for more sessions than a server has connections, each of which has one request.
const LIMITS: Limits = Limits { entries: 1024, bytes: 64 << 20, idle_ns: 5_000_000_000 };

#[derive(Debug)]
struct Pulled {
    reader: SocketAddr,
    bytes: Bytes,
}

impl Size for Pulled {
    fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// Results that do not fit a datagram, one a session. Whoever asks in vain reads again, so nothing depends on
/// them. They go only where the read came from: a small question under a forged address does not bring somebody
/// else a window of them.
#[derive(Debug)]
pub struct Results(Kept<Pulled>);

impl Default for Results {
    fn default() -> Self {
        Self(Kept::new(LIMITS))
    }
}

impl Results {
    /// Keeps a result in place of what the session asked for before.
    pub fn keep(&mut self, now: u64, reader: SocketAddr, client: u64, request: u64, bytes: Bytes) {
        self.0.insert(now, client, request, Pulled { reader, bytes });
    }

    /// A result that is still there, and `from` is who asked for it.
    pub fn get(&mut self, now: u64, from: SocketAddr, client: u64, request: u64) -> Option<Bytes> {
        let kept = self.0.get(now, client, request).filter(|kept| kept.reader == from)?;
        Some(kept.bytes.clone())
    }

    /// Forgets what nobody asked for lately.
    pub fn expire(&mut self, now: u64) {
        self.0.expire(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> SocketAddr {
        ([10, 0, 0, 1], 1).into()
    }

    fn bytes(length: usize) -> Bytes {
        vec![7; length].into()
    }

    #[test]
    fn a_session_has_one_result_for_a_while() {
        let mut results = Results::default();
        results.keep(0, reader(), 1, 1, bytes(5));
        results.keep(0, reader(), 2, 1, bytes(6));
        assert_eq!(results.get(1, reader(), 1, 1), Some(bytes(5)));
        assert_eq!(results.get(1, reader(), 1, 2), None);
        assert_eq!(results.get(1, ([10, 0, 0, 1], 2).into(), 1, 1), None, "somebody else");
        results.keep(2, reader(), 1, 2, bytes(7));
        assert_eq!((results.get(2, reader(), 1, 1), results.0.bytes()), (None, 13));
        results.expire(LIMITS.idle_ns);
        assert_eq!((results.get(2, reader(), 2, 1), results.0.bytes()), (None, 7));
        assert_eq!(results.get(LIMITS.idle_ns, reader(), 1, 2), Some(bytes(7)));
        results.expire(LIMITS.idle_ns + 2);
        assert_eq!(results.get(LIMITS.idle_ns, reader(), 1, 2), Some(bytes(7)), "it was asked for");
        results.expire(3 * LIMITS.idle_ns);
        assert_eq!((results.0.len(), results.0.bytes()), (0, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut results = Results::default();
        for client in 0..2 * LIMITS.entries as u64 {
            results.keep(client, reader(), client, 1, bytes(1500));
        }
        assert_eq!(results.0.len(), LIMITS.entries);
        assert_eq!(results.get(0, reader(), LIMITS.entries as u64 - 1, 1), None, "the oldest made room");
        for client in 0..100 {
            results.keep(5_000 + client, reader(), client, 1, bytes(1 << 20));
            assert!(results.0.bytes() <= LIMITS.bytes);
        }
        assert_eq!(results.0.len(), 64);
    }
}
