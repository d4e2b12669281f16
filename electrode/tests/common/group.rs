//! A group of endpoints, each on a virtual host of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use electrode::config::EndpointConfig;
use electrode::fabric::Fabric;
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::{Endpoint, Event, Round};

use super::hosts::DEADLINE;

pub const PORT: u16 = 7000;

/// Addresses of the first `n` hosts.
pub fn members(fabric: &Fabric, n: usize) -> Vec<SocketAddr> {
    (0..n).map(|i| (fabric.host(i).addr(), PORT).into()).collect()
}

/// Opens member `i` on its host.
pub fn open(fabric: &Fabric, n: usize, i: usize, adjust: &dyn Fn(&mut EndpointConfig)) -> Endpoint {
    let mut config = EndpointConfig::new(members(fabric, n), ReplicaId(i as u8));
    config.log_slots = 256;
    config.quorum_window = 256;
    adjust(&mut config);
    let opened = std::thread::scope(|s| {
        s.spawn(|| {
            fabric.host(i).netns().enter_current_thread().unwrap();
            Endpoint::open(config)
        })
        .join()
        .unwrap()
    });
    opened.unwrap_or_else(|e| panic!("endpoint {i}: {e}"))
}

/// A leader (member 0) and its followers, gates open in view 0.
pub fn group(fabric: &Fabric, n: usize, adjust: impl Fn(&mut EndpointConfig)) -> Vec<Endpoint> {
    let mut endpoints: Vec<_> = (0..n).map(|i| open(fabric, n, i, &adjust)).collect();
    endpoints[0].gate().lead(View(0), OpNumber(0)).unwrap();
    for follower in &mut endpoints[1..] {
        follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    }
    endpoints
}

/// One op to everybody, complete with `threshold` acks.
pub fn round(n: usize, op: u64, commit: u64, threshold: u32) -> Round {
    let peers = ReplicaSet::all(n).without(ReplicaId(0));
    Round {
        first: OpNumber(op),
        last: OpNumber(op),
        commit: OpNumber(commit),
        tag: 0,
        targets: peers,
        voters: peers,
        threshold,
        independent: false,
    }
}

/// What a follower was handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub first: u64,
    pub last: u64,
    pub payload: Vec<u8>,
}

/// Polls and keeps what matters.
#[derive(Default, Debug)]
pub struct Seen {
    pub log: Vec<Entry>,
    pub commit: u64,
    pub quorums: Vec<u64>,
    pub gaps: Vec<(u64, u64)>,
    pub messages: Vec<Vec<u8>>,
    pub misconfigured: usize,
    /// Of these: one side has keys and the other has none.
    pub keys_differ: usize,
    pub newer_views: usize,
}

impl Seen {
    pub fn poll(&mut self, endpoint: &mut Endpoint) -> usize {
        endpoint.elec_poll_message(1024, &mut |event| self.take(&event)).unwrap()
    }

    /// Keeps one event.
    pub fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Logged { first, last, payload, .. } => {
                self.log.push(Entry { first: first.0, last: last.0, payload: payload.to_vec() });
            }
            Event::Commit { commit, .. } => self.commit = commit.0,
            Event::Quorum { last, .. } => self.quorums.push(last.0),
            Event::Gap { have, missing } => self.gaps.push((have.0, missing.0)),
            Event::Message { payload, .. } => self.messages.push(payload.to_vec()),
            Event::Misconfigured { keys_differ, .. } => {
                self.misconfigured += 1;
                self.keys_differ += usize::from(*keys_differ);
            }
            Event::NewerView { .. } => self.newer_views += 1,
            _ => {}
        }
    }

    /// Polls until `done`.
    pub fn until(&mut self, endpoint: &mut Endpoint, what: &str, done: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !done(self) {
            assert!(since.elapsed() < DEADLINE, "{what}: not after {DEADLINE:?}; seen {self:?}");
            endpoint.wait(Duration::from_millis(2), electrode::endpoint::Patience::Eager).unwrap();
            self.poll(endpoint);
        }
    }
}

/// Polls all members until `done` of what the leader, the first, has seen. A follower that does not look for half a second
/// has no lease where filters are used (F2), and opening many endpoints takes longer than that on a slow machine.
pub fn all_until(endpoints: &mut [Endpoint], seen: &mut [Seen], what: &str, done: impl Fn(&Seen) -> bool) {
    let since = Instant::now();
    loop {
        for (endpoint, seen) in endpoints.iter_mut().zip(seen.iter_mut()) {
            seen.poll(endpoint);
        }
        if done(&seen[0]) {
            return;
        }
        assert!(since.elapsed() < DEADLINE, "{what}: not after {DEADLINE:?}; seen {:?}", seen[0]);
        endpoints[0].wait(Duration::from_millis(2), electrode::endpoint::Patience::Eager).unwrap();
    }
}
