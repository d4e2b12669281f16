//! What a leader has accepted and not yet committed, by client session.
//!
//! Kept apart from the client table on purpose: these requests may never commit, and a table that knew them
//! would let a retry go unanswered for ever after a failed view change (B4). This map dies with the
//! leadership; the table is replicated.

use std::collections::HashMap;
use std::net::SocketAddr;

#[derive(Copy, Clone, Debug)]
struct Waiting {
    request: u64,
    reply_to: SocketAddr,
}

/// What is in flight says about a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum InFlightLookup {
    /// Nothing of this session is in flight.
    Absent,
    /// An earlier request is; the client gave up on it.
    Newer,
    /// This very request is. The reply will go to the address that asked last.
    Duplicate,
    /// A later request is.
    Stale,
}

/// Accepted requests that wait for their commit.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    by_client: HashMap<u64, Waiting>,
}

impl InFlight {
    /// Classifies a request; a duplicate re-arms the reply with the address that it came from.
    pub fn lookup(&mut self, client: u64, request: u64, from: SocketAddr) -> InFlightLookup {
        let Some(waiting) = self.by_client.get_mut(&client) else { return InFlightLookup::Absent };
        match request.cmp(&waiting.request) {
            std::cmp::Ordering::Greater => InFlightLookup::Newer,
            std::cmp::Ordering::Equal => {
                waiting.reply_to = from;
                InFlightLookup::Duplicate
            }
            std::cmp::Ordering::Less => InFlightLookup::Stale,
        }
    }

    /// Remembers an accepted request. It takes the place of an earlier one of its session: that one still
    /// commits, and nobody waits for its reply.
    pub fn insert(&mut self, client: u64, request: u64, reply_to: SocketAddr) {
        self.by_client.insert(client, Waiting { request, reply_to });
    }

    /// The request committed: where its reply goes, if anybody waits for it.
    pub fn complete(&mut self, client: u64, request: u64) -> Option<SocketAddr> {
        let waiting = *self.by_client.get(&client)?;
        if waiting.request != request {
            return None;
        }
        self.by_client.remove(&client);
        Some(waiting.reply_to)
    }

    /// Number of sessions with a request in flight.
    pub fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    #[test]
    fn the_reply_goes_to_whoever_asked_last() {
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.lookup(1, 1, address(1)), InFlightLookup::Absent);
        in_flight.insert(1, 1, address(1));
        assert_eq!(in_flight.lookup(1, 1, address(2)), InFlightLookup::Duplicate);
        assert_eq!(in_flight.complete(1, 1), Some(address(2)));
        assert_eq!(in_flight.complete(1, 1), None);
        assert!(in_flight.is_empty());
    }

    #[test]
    fn an_abandoned_request_is_not_answered() {
        let mut in_flight = InFlight::default();
        in_flight.insert(1, 1, address(1));
        assert_eq!(in_flight.lookup(1, 2, address(1)), InFlightLookup::Newer);
        in_flight.insert(1, 2, address(1));
        assert_eq!(in_flight.lookup(1, 1, address(1)), InFlightLookup::Stale);
        assert_eq!(in_flight.complete(1, 1), None);
        assert_eq!(in_flight.complete(1, 2), Some(address(1)));
    }
}
