//! One endpoint under attack, wherever packets are judged, and what must not have changed afterwards.

use std::time::{Duration, Instant};

use crate::common::actor::Actor;
use crate::common::attacker::{Attacker, keys, mutations};
use crate::common::group::{PORT, Seen, open};
use crate::common::hosts::{DEADLINE, fabric, pass_stubs};
use crate::common::memory::Memory;

use electrode::abi::Verdict;
use electrode::auth::{self, Keys};
use electrode::config::{Backend, EndpointConfig, Hook, UdpSend};
use electrode::fabric::{Fabric, Family};
use electrode::types::{ReplicaId, ReplicaSet, View};
use electrode::wire::Origin;
use electrode::{Endpoint, PassStub};
use zerocopy::IntoBytes;

/// Members; the host after the last one is the attacker's.
pub const N: usize = 3;

/// The programs' clock is coarse: a sign of life within the same tick would not show.
pub const CLOCK_TICK: Duration = Duration::from_millis(20);

/// Who judges what arrives.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum At {
    Kernel(Hook),
    UserSpace,
}

pub const EVERYWHERE: [At; 4] =
    [At::Kernel(Hook::Tc), At::Kernel(Hook::Xdp), At::Kernel(Hook::XdpGeneric), At::UserSpace];

impl At {
    pub fn configure(self, config: &mut EndpointConfig, keys: &Keys) {
        config.keys = Some(keys.clone());
        match self {
            Self::Kernel(hook) => (config.backend, config.hook) = (Backend::Ebpf, hook),
            Self::UserSpace => config.backend = Backend::Udp(UdpSend::Mmsg),
        }
    }

    /// What native XDP on virtual cables needs.
    pub fn stubs(self, fabric: &Fabric) -> Vec<PassStub> {
        if self == Self::Kernel(Hook::Xdp) { pass_stubs(fabric) } else { Vec::new() }
    }

    pub fn memory(self, fabric: &Fabric, host: usize) -> Option<Memory> {
        (self != Self::UserSpace).then(|| Memory::of(fabric.host(host)))
    }
}

pub fn everywhere(test: impl Fn(&Fabric, At)) {
    for family in [Family::V4, Family::V6] {
        for at in EVERYWHERE {
            let fabric = fabric(N + 1, family);
            let _stubs = at.stubs(&fabric);
            test(&fabric, at);
        }
    }
}

/// One endpoint under attack.
pub struct Target<'f> {
    pub fabric: &'f Fabric,
    pub at: At,
    pub endpoint: Endpoint,
    pub seen: Seen,
    pub host: usize,
    /// A client.
    pub stranger: Origin,
}

impl<'f> Target<'f> {
    pub fn new(fabric: &'f Fabric, at: At, host: usize) -> Self {
        let endpoint = open(fabric, N, host, &|c: &mut EndpointConfig| at.configure(c, &keys(2)));
        let config_hash = auth::config_hash(0, true);
        let stranger = Origin { group: 1, config_hash, sender: None, incarnation: 1 };
        Self { fabric, at, endpoint, seen: Seen::default(), host, stranger }
    }

    /// How often a verdict was given, by whoever gives it here.
    pub fn count(&self, verdict: Verdict) -> u64 {
        let stats = self.endpoint.stats().unwrap();
        let refused = stats.refused.iter().find(|(v, _)| *v == verdict).map_or(0, |(_, n)| *n);
        if self.at == At::UserSpace { refused } else { stats.kernel(verdict) }
    }

    /// Packets judged; neighbours' own chatter is not.
    pub fn judged(&self) -> u64 {
        let stats = self.endpoint.stats().unwrap();
        if self.at == At::UserSpace {
            return stats.malformed + stats.refused.iter().map(|(_, n)| n).sum::<u64>();
        }
        let others = [Verdict::PassForeign, Verdict::Rang];
        let relevant = |(verdict, _): &&(Verdict, u64)| {
            !others.contains(verdict) && !(Verdict::Carrier..=Verdict::Rang).contains(verdict)
        };
        stats.kernel.iter().filter(relevant).map(|(_, n)| n).sum()
    }

    /// Polls until `done`, without arming any doorbell.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let since = Instant::now();
        while !done(self) {
            assert!(since.elapsed() < DEADLINE, "{what}: {:?} {:?}", self.seen, self.endpoint.stats());
            self.seen.poll(&mut self.endpoint);
            std::thread::yield_now();
        }
        self.seen.poll(&mut self.endpoint);
    }

    /// What `attack` sends changes nothing at all: neither the memory that is shared with the programs nor what the
    /// application is told.
    pub fn unmoved(&mut self, what: &str, attack: impl FnOnce(&mut Self)) {
        let what = format!("{what}, {:?}", self.at);
        let before = self.at.memory(self.fabric, self.host);
        let known = |t: &Self| {
            let acked: Vec<_> = (0..N).map(|i| t.endpoint.acked(ReplicaId(i as u8))).collect();
            let seen = (t.seen.log.len(), t.seen.commit, t.seen.quorums.clone(), t.seen.gaps.clone());
            (acked, seen, t.seen.newer_views, t.endpoint.held(), t.endpoint.last_leader_ns())
        };
        let knew = known(self);
        attack(self);
        self.seen.poll(&mut self.endpoint);
        assert_eq!(known(self), knew, "{what}");
        if let Some(before) = before {
            Memory::of(self.fabric.host(self.host)).assert_as(&before, &what);
        }
    }

    /// Every datagram brings its verdict, and nothing else.
    pub fn refused(&mut self, attacker: &Attacker<'_>, from: usize, datagrams: &[Vec<u8>], verdict: Verdict) {
        self.unmoved(verdict.name(), |target| {
            let (before, messages) = (target.count(verdict), target.seen.messages.len());
            attacker.send_as(from, target.host, datagrams);
            let all = before + datagrams.len() as u64;
            target.until(verdict.name(), |t| t.count(verdict) >= all);
            assert_eq!(target.count(verdict), all, "{}", verdict.name());
            assert_eq!(target.seen.messages.len(), messages);
        });
    }

    /// Every byte of a datagram changed, one at a time: each is refused, for one reason or another.
    pub fn refuses_mutations(&mut self, attacker: &Attacker<'_>, from: usize, honest: &[u8]) {
        self.unmoved("mutations", |target| {
            let (changed, before) = (mutations(honest), target.judged());
            attacker.send_as(from, target.host, &changed);
            target.until("mutations", |t| t.judged() >= before + changed.len() as u64);
        });
    }

    /// What a neighbour sends that brings no verdict of its own each: it is over when a stranger's message, sent behind
    /// it, has come.
    pub fn unmoved_by(&mut self, what: &str, attacker: &Attacker<'_>, mut frames: Vec<Vec<u8>>) {
        let marker = format!("{what}: the end").into_bytes();
        let header = self.stranger.message(View(0), ReplicaSet::EMPTY, marker.len() as u16);
        frames.push(attacker.spoof(N, self.host, &[header.as_bytes(), &marker].concat()));
        self.unmoved(what, |target| {
            target.seen.messages.clear();
            attacker.send(&frames);
            target.until("the marker", |t| t.seen.messages.contains(&marker));
        });
    }
}

pub fn actor(fabric: &Fabric, i: usize) -> Actor {
    Actor::new(fabric, i).with_keys(&keys(2))
}

/// Makes what a member would make if the group had that key. It sends nothing, so it may be anywhere.
pub fn liar(fabric: &Fabric, member: usize, id: u32) -> Actor {
    let port = PORT + 1 + member as u16;
    Actor::at(crate::common::actor::socket(fabric.host(N), port), member).with_keys(&keys(id))
}
