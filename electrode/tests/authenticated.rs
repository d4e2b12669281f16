//! A group with a key, and a hostile neighbour on the same bridge without it (F4): it sees every frame, spoofs any
//! member's addresses, forges, changes, floods, and sends again what it has kept. Nothing of it changes anything,
//! and the counters tell what was refused.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::actor::{Actor, Prepare};
use common::attacker::{Attacker, forgeries, key, keys, mutations, with_other_slot};
use common::capture::{Capture, Tap};
use common::group::{PORT, Seen, group, open, round};
use common::hosts::{DEADLINE, fabric, pass_stubs, wait_until};
use common::memory::Memory;
use common::privileged;
use electrode::abi::Verdict;
use electrode::auth::{self, Keys};
use electrode::config::{Backend, EndpointConfig, Hook, UdpSend};
use electrode::fabric::{Fabric, Family};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::wire::Origin;
use electrode::{Endpoint, PassStub};
use zerocopy::IntoBytes;

/// Members; the host after the last one is the attacker's.
const N: usize = 3;

/// The programs' clock is coarse: a sign of life within the same tick would not show.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// Who judges what arrives.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum At {
    Kernel(Hook),
    UserSpace,
}

const EVERYWHERE: [At; 4] =
    [At::Kernel(Hook::Tc), At::Kernel(Hook::Xdp), At::Kernel(Hook::XdpGeneric), At::UserSpace];

impl At {
    fn configure(self, config: &mut EndpointConfig, keys: &Keys) {
        config.keys = Some(keys.clone());
        match self {
            Self::Kernel(hook) => (config.backend, config.hook) = (Backend::Ebpf, hook),
            Self::UserSpace => config.backend = Backend::Udp(UdpSend::Mmsg),
        }
    }

    /// What native XDP on virtual cables needs.
    fn stubs(self, fabric: &Fabric) -> Vec<PassStub> {
        if self == Self::Kernel(Hook::Xdp) { pass_stubs(fabric) } else { Vec::new() }
    }

    fn memory(self, fabric: &Fabric, host: usize) -> Option<Memory> {
        (self != Self::UserSpace).then(|| Memory::of(fabric.host(host)))
    }
}

fn everywhere(test: impl Fn(&Fabric, At)) {
    for family in [Family::V4, Family::V6] {
        for at in EVERYWHERE {
            let fabric = fabric(N + 1, family);
            let _stubs = at.stubs(&fabric);
            test(&fabric, at);
        }
    }
}

/// One endpoint under attack.
struct Target<'f> {
    fabric: &'f Fabric,
    at: At,
    endpoint: Endpoint,
    seen: Seen,
    host: usize,
    /// A client.
    stranger: Origin,
}

impl<'f> Target<'f> {
    fn new(fabric: &'f Fabric, at: At, host: usize) -> Self {
        let endpoint = open(fabric, N, host, &|c: &mut EndpointConfig| at.configure(c, &keys(2)));
        let config_hash = auth::config_hash(0, true);
        let stranger = Origin { group: 1, config_hash, sender: None, incarnation: 1 };
        Self { fabric, at, endpoint, seen: Seen::default(), host, stranger }
    }

    /// How often a verdict was given, by whoever gives it here.
    fn count(&self, verdict: Verdict) -> u64 {
        let stats = self.endpoint.stats().unwrap();
        let refused = stats.refused.iter().find(|(v, _)| *v == verdict).map_or(0, |(_, n)| *n);
        if self.at == At::UserSpace { refused } else { stats.kernel(verdict) }
    }

    /// Packets judged; neighbours' own chatter is not.
    fn judged(&self) -> u64 {
        let stats = self.endpoint.stats().unwrap();
        if self.at == At::UserSpace {
            return stats.malformed + stats.refused.iter().map(|(_, n)| n).sum::<u64>();
        }
        let others = [Verdict::PassForeign, Verdict::Rang];
        let relevant =
            |(verdict, _): &&(Verdict, u64)| !others.contains(verdict) && *verdict < Verdict::Carrier;
        stats.kernel.iter().filter(relevant).map(|(_, n)| n).sum()
    }

    /// Polls until `done`, without arming any doorbell.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
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
    fn unmoved(&mut self, what: &str, attack: impl FnOnce(&mut Self)) {
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
    fn refused(&mut self, attacker: &Attacker<'_>, from: usize, datagrams: &[Vec<u8>], verdict: Verdict) {
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
    fn refuses_mutations(&mut self, attacker: &Attacker<'_>, from: usize, honest: &[u8]) {
        self.unmoved("mutations", |target| {
            let (changed, before) = (mutations(honest), target.judged());
            attacker.send_as(from, target.host, &changed);
            target.until("mutations", |t| t.judged() >= before + changed.len() as u64);
        });
    }

    /// What a neighbour sends that brings no verdict of its own each: it is over when a stranger's message, sent behind
    /// it, has come.
    fn unmoved_by(&mut self, what: &str, attacker: &Attacker<'_>, mut frames: Vec<Vec<u8>>) {
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

fn actor(fabric: &Fabric, i: usize) -> Actor {
    Actor::new(fabric, i).with_keys(&keys(2))
}

#[test]
fn a_follower_believes_nothing_that_is_made_without_the_key() {
    if !privileged("a_follower_believes_nothing_that_is_made_without_the_key") {
        return;
    }
    everywhere(|fabric, at| {
        let (leader, attacker) = (actor(fabric, 0), Attacker::new(fabric, N));
        let mut target = Target::new(fabric, at, 1);
        target.endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
        let to = target.endpoint.local_addr();

        // What the attacker has seen.
        let wire = Capture::new(fabric.switch(), "port0", Tap::Wire);
        let kept: Vec<_> = (1..=3).map(|op| leader.datagram(&Prepare::op(op))).collect();
        let (commit, message) = (leader.commit_datagram(2, 1), leader.message_datagram(b"hello"));
        for datagram in kept.iter().chain([&commit, &message]) {
            leader.socket.send_to(datagram, to).unwrap();
        }
        target.until("honest traffic", |t| {
            (t.seen.log.len(), t.seen.commit, t.seen.messages.len()) == (3, 2, 1)
        });
        assert_eq!(leader.acks_up_to(3).last(), Some(&3));
        let frames = wire.matching(5, |frame| frame.datagram(to).is_some());

        // What it has not seen yet, and would like to make.
        let next = leader.datagram(&Prepare::op(4));
        let (next_commit, next_message) = (leader.commit_datagram(3, 2), leader.message_datagram(b"vote"));
        for honest in [&next, &next_commit, &next_message] {
            target.refused(&attacker, 0, &forgeries(honest), Verdict::DropTag);
            target.refused(&attacker, 0, &[with_other_slot(honest)], Verdict::DropKey);
        }
        let others = Prepare { targets: ReplicaSet::EMPTY.with(ReplicaId(2)), ..Prepare::op(4) };
        target.refused(&attacker, 0, &[leader.datagram(&others)], Verdict::DropTarget);
        target.refuses_mutations(&attacker, 0, &next);
        target.refuses_mutations(&attacker, 0, &next_commit);

        // The same once more: answered or absorbed, and that is all; no sign of life either (U9). A frame is taken from
        // the wire before its checksum is filled in; whoever sends it again does that.
        let whole: Vec<_> = frames
            .iter()
            .map(|frame| attacker.spoof(0, 1, frame.datagram(to).unwrap().payload(&frame.bytes)))
            .collect();
        target.unmoved("replays", |t| {
            std::thread::sleep(CLOCK_TICK);
            (0..3).for_each(|_| attacker.send(&whole));
            t.until("replayed messages", |t| t.seen.messages.len() == 4);
        });
        if at != At::UserSpace {
            assert_eq!((target.count(Verdict::TxAckRepeated), target.count(Verdict::DropCommit)), (9, 4));
        }
        for (whole, frame) in whole.iter().zip(&frames).take(4) {
            // Headers of Ethernet, IP and UDP too. What is left valid is what was sent, once more.
            let changed = [mutations(whole), mutations(&frame.bytes)].concat();
            target.unmoved_by("changed frames", &attacker, changed);
        }
        leader.acks_so_far();

        // The honest ones are heard, and the acks are honest too.
        leader.socket.send_to(&next, to).unwrap();
        target.until("the next op", |t| t.seen.log.len() == 4);
        let ack = leader.next_ack(DEADLINE).expect("an ack, made here or by the kernel");
        assert_eq!((ack.last().0, keys(2).admit(ReplicaId(0), &ack, &[])), (4, Ok(())));
        leader.socket.send_to(&next_commit, to).unwrap();
        target.until("the honest ones", |t| (t.seen.log.len(), t.seen.commit) == (4, 3));

        // Another opening of the same view makes nothing new of what was kept (U9).
        let held = target.endpoint.gate().freeze(&mut |_| ()).unwrap();
        target.endpoint.gate().follow(View(0), ReplicaId(0), held).unwrap();
        let (alive, messages) = (target.endpoint.last_leader_ns(), target.seen.messages.len());
        std::thread::sleep(CLOCK_TICK);
        attacker.send(&whole);
        target.until("replays in another opening", |t| t.seen.messages.len() > messages);
        assert_eq!((target.endpoint.last_leader_ns(), target.endpoint.held().0), (alive, 4), "{at:?}");

        // In another view, what was right in this one is old.
        let held = target.endpoint.gate().freeze(&mut |_| ()).unwrap();
        target.endpoint.gate().follow(View(3), ReplicaId(0), held).unwrap();
        let old: Vec<_> = kept.iter().chain([&commit, &next, &next_commit]).cloned().collect();
        target.refused(&attacker, 0, &old, Verdict::DropViewOld);
    });
}

#[test]
fn a_leader_counts_no_vote_that_is_made_without_the_key() {
    if !privileged("a_leader_counts_no_vote_that_is_made_without_the_key") {
        return;
    }
    everywhere(|fabric, at| {
        let [one, two] = [1, 2].map(|i| actor(fabric, i));
        let attacker = Attacker::new(fabric, N);
        let mut target = Target::new(fabric, at, 0);
        let epoch = target.endpoint.gate().lead(View(0), OpNumber(0)).unwrap();
        let to = target.endpoint.local_addr();
        target.endpoint.elec_broadcast(&round(N, 1, 0, 2), b"x").unwrap();
        target.endpoint.flush().unwrap();
        let prepare = Prepare { leader_epoch: epoch.0, ..Prepare::op(1) };

        let [first, second] = [&one, &two].map(|member| member.ack_datagram(&prepare, 1));
        one.socket.send_to(&first, to).unwrap();
        target.until("an honest vote", |t| t.endpoint.acked(ReplicaId(1)) == OpNumber(1));

        target.refused(&attacker, 2, &forgeries(&second), Verdict::DropTag);
        target.refused(&attacker, 2, &[with_other_slot(&second)], Verdict::DropKey);
        target.refuses_mutations(&attacker, 2, &second);
        // One member's vote in the other's name.
        let mut stolen = first.clone();
        stolen[6] = 2;
        target.refused(&attacker, 2, &[stolen], Verdict::DropTag);
        target.unmoved_by("one vote many times", &attacker, vec![attacker.spoof(1, 0, &first); 10]);
        // What it said itself, come back.
        let mine = liar(fabric, 0, 2).datagram(&prepare);
        target.unmoved("its own Prepare", |t| {
            let refused = |t: &Target<'_>| {
                let stats = t.endpoint.stats().unwrap();
                stats.refused.iter().find(|(v, _)| *v == Verdict::DropSource).map_or(0, |(_, n)| *n)
            };
            let before = refused(t);
            attacker.send_as(1, 0, &[mine]);
            t.until("its own", |t| refused(t) > before);
        });

        two.socket.send_to(&second, to).unwrap();
        target.until("the quorum", |t| t.seen.quorums == [1]);

        // Votes of an opening are worth nothing in the next one (L8), and less in the next view.
        target.endpoint.gate().freeze(&mut |_| ()).unwrap();
        target.endpoint.gate().lead(View(0), OpNumber(0)).unwrap();
        target.endpoint.elec_broadcast(&round(N, 1, 0, 1), b"y").unwrap();
        target.endpoint.flush().unwrap();
        target.refused(&attacker, 1, std::slice::from_ref(&first), Verdict::DropVoteStale);
        target.endpoint.gate().freeze(&mut |_| ()).unwrap();
        target.endpoint.gate().lead(View(3), OpNumber(0)).unwrap();
        target.refused(&attacker, 2, &[second.clone(), second], Verdict::DropViewOld);
    });
}

/// Makes what a member would make if the group had that key. It sends nothing, so it may be anywhere.
fn liar(fabric: &Fabric, member: usize, id: u32) -> Actor {
    let port = PORT + 1 + member as u16;
    Actor::at(common::actor::socket(fabric.host(N), port), member).with_keys(&keys(id))
}

/// Whatever the attacker can send, rounds go on completing, and nothing of it is in anybody's log.
#[test]
fn commits_go_on_in_a_flood() {
    if !privileged("commits_go_on_in_a_flood") {
        return;
    }
    const ROUNDS: u64 = 150;
    /// Forged datagrams for each of the group's own.
    const TIMES: u64 = 20;
    for at in EVERYWHERE {
        let fabric = fabric(N + 1, Family::V4);
        let _stubs = at.stubs(&fabric);
        let mut endpoints = group(&fabric, N, |c| at.configure(c, &keys(2)));
        let epoch = endpoints[0].gate().epoch();
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let attacker = Attacker::new(&fabric, N);
        let liars: Vec<_> = (0..N).map(|member| liar(&fabric, member, 4)).collect();
        let prepare = |op| Prepare { leader_epoch: epoch.0, ..Prepare::op(op) };
        let mut frames = Vec::new();
        for op in 1..=ROUNDS {
            for member in 1..N {
                frames.push(attacker.spoof(0, member, &liars[0].datagram(&prepare(op))));
                frames.push(attacker.spoof(0, member, &liars[0].commit_datagram(op, op)));
                let vote = liars[member].ack_datagram(&prepare(op), op);
                frames.push(attacker.spoof(member, 0, &vote));
            }
        }
        let mut seen: Vec<_> = (0..N).map(|_| Seen::default()).collect();
        std::thread::scope(|s| {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for burst in frames.chunks(32) {
                        attacker.send(burst);
                        sent.fetch_add(burst.len() as u64, Ordering::Relaxed);
                    }
                }
            });
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for op in 1..=ROUNDS {
                    // Each round is three datagrams to each follower and back, at most.
                    wait_until("the flood", || {
                        sent.load(Ordering::Relaxed) >= op * TIMES * 2 * (N as u64 - 1)
                    });
                    let round = round(N, op, op - 1, N as u32 - 1);
                    let payload = op.to_le_bytes();
                    endpoints[0].elec_broadcast(&round, &payload).unwrap();
                    endpoints[0].flush().unwrap();
                    let (since, mut asked) = (Instant::now(), Instant::now());
                    while seen[0].quorums.last() != Some(&op) {
                        assert!(since.elapsed() < DEADLINE, "round {op}: {:?}", endpoints[0].stats());
                        for (endpoint, seen) in endpoints.iter_mut().zip(&mut seen) {
                            seen.poll(endpoint);
                        }
                        // A flooded cable loses packets, as any.
                        if asked.elapsed() > Duration::from_millis(20) {
                            endpoints[0].resend(&round, round.targets, &payload).unwrap();
                            asked = Instant::now();
                        }
                    }
                }
            }));
            stop.store(true, Ordering::Relaxed);
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        assert_eq!(seen[0].quorums, (1..=ROUNDS).collect::<Vec<_>>(), "{at:?}");
        for (endpoint, seen) in endpoints.iter_mut().zip(&mut seen).skip(1) {
            seen.poll(endpoint);
            let log: Vec<_> = seen.log.iter().map(|e| e.payload.clone()).collect();
            assert_eq!(log, (1..=ROUNDS).map(|op| op.to_le_bytes().to_vec()).collect::<Vec<_>>(), "{at:?}");
            assert!(seen.commit < ROUNDS, "{at:?}: a forged commit number");
        }
        for endpoint in &endpoints {
            let stats = endpoint.stats().unwrap();
            let refused: u64 =
                stats.refused.iter().filter(|(v, _)| *v == Verdict::DropTag).map(|(_, n)| n).sum();
            let refused = refused + stats.kernel(Verdict::DropTag);
            let own = 3 * ROUNDS;
            assert!(
                refused > own,
                "{at:?}: {refused} of {} forged ones were refused",
                sent.load(Ordering::Relaxed)
            );
        }
    }
}

/// Two keys are valid meanwhile: no round is lost, and no packet refused.
#[test]
fn keys_change_under_traffic() {
    if !privileged("keys_change_under_traffic") {
        return;
    }
    everywhere(|fabric, at| {
        let mut endpoints = group(fabric, N, |c| at.configure(c, &keys(1)));
        let mut seen: Vec<_> = (0..N).map(|_| Seen::default()).collect();
        let mut op = 0;
        let mut rounds = |endpoints: &mut [Endpoint], change: Option<(usize, &Keys)>| {
            // Rounds are in flight while the key changes.
            for _ in 0..5 {
                op += 1;
                endpoints[0].elec_broadcast(&round(N, op, op - 1, N as u32 - 1), &op.to_le_bytes()).unwrap();
                endpoints[0].flush().unwrap();
            }
            if let Some((member, keys)) = change {
                endpoints[member].set_keys(keys).unwrap();
            }
            let since = Instant::now();
            while seen[0].quorums.last() != Some(&op) {
                assert!(since.elapsed() < DEADLINE, "{at:?}: {:?}", endpoints[0].stats());
                for (endpoint, seen) in endpoints.iter_mut().zip(&mut seen) {
                    seen.poll(endpoint);
                }
            }
        };
        rounds(&mut endpoints, None);
        for old in 1..=3 {
            let new = old + 1;
            let steps = [
                Keys::new(key(old)).with(key(new)).unwrap(),
                Keys::new(key(new)).with(key(old)).unwrap(),
                Keys::new(key(new)),
            ];
            for step in &steps {
                (0..N).for_each(|member| rounds(&mut endpoints, Some((member, step))));
            }
        }
        let ops = 5 * (1 + 3 * 3 * N as u64);
        assert_eq!(seen[0].quorums, (1..=ops).collect::<Vec<_>>(), "{at:?}");
        for endpoint in &endpoints {
            let stats = endpoint.stats().unwrap();
            let wrong = [Verdict::DropTag, Verdict::DropKey, Verdict::DropTarget, Verdict::DropAckFailed];
            let refused: u64 = stats
                .kernel
                .iter()
                .chain(&stats.refused)
                .filter(|(v, _)| wrong.contains(v))
                .map(|(_, n)| n)
                .sum();
            assert_eq!(refused, 0, "{at:?}: {stats:?}");
        }
        // The first key is gone from everybody.
        let attacker = Attacker::new(fabric, N);
        let late = liar(fabric, 0, 1);
        let follower = &mut endpoints[1];
        let count = |follower: &Endpoint| {
            let stats = follower.stats().unwrap();
            let all = stats.kernel.iter().chain(&stats.refused);
            all.filter(|(v, _)| *v == Verdict::DropKey).map(|(_, n)| n).sum::<u64>()
        };
        attacker.send_as(0, 1, &[late.datagram(&Prepare::op(ops + 1))]);
        let since = Instant::now();
        while count(follower) == 0 {
            assert!(since.elapsed() < DEADLINE, "{at:?}");
            seen[1].poll(follower);
        }
    });
}

/// Half a group with a key: both halves say so.
#[test]
fn a_group_that_got_its_key_by_half_says_so() {
    if !privileged("a_group_that_got_its_key_by_half_says_so") {
        return;
    }
    for id in [2, 3] {
        for (at, keyed) in EVERYWHERE.into_iter().flat_map(|at| [(at, 0), (at, 1)]) {
            let fabric = fabric(N, Family::V4);
            let _stubs = at.stubs(&fabric);
            let mut endpoints: Vec<_> = (0..2)
                .map(|i| {
                    open(&fabric, N, i, &|c: &mut EndpointConfig| {
                        at.configure(c, &keys(id));
                        c.keys = c.keys.take().filter(|_| i == keyed);
                    })
                })
                .collect();
            let mut seen = [Seen::default(), Seen::default()];
            for (from, to) in [(0, 1), (1, 0)] {
                endpoints[from].send_to_member(ReplicaId(to), b"hello").unwrap();
                endpoints[from].flush().unwrap();
            }
            for (endpoint, seen) in endpoints.iter_mut().zip(&mut seen) {
                seen.until(endpoint, "being told", |s| s.misconfigured == 1);
                assert_eq!((seen.keys_differ, seen.messages.len()), (1, 0), "{at:?}");
            }
            let refused = endpoints[1 - keyed].set_keys(&keys(id)).unwrap_err().to_string();
            assert!(refused.contains("without"), "{refused}");
        }
    }
}
