//! A hostile host on the members' network: it hears everything, sends in any member's name at many times their
//! rate, and has no key. Answers stay right, no view ends, and the counters tell what was refused.
//!
//! It sends with its own hardware address: a switch that learns a member's address at the wrong port is something
//! that no key can help against.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use electrode::abi::{FLAG_KEY_1, Header};
use electrode::auth::Key;
use electrode::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use electrode::wire::{Batch, Origin, prepare_ok};
use paxos_demo::cli::BackendChoice;
use paxos_demo::codec;
use paxos_demo::node::NodeStatus;
use paxos_demo::peer::{PeerMessage, Refusal, ViewStart, Vote};
use paxos_demo::status::{Counters, Status};
use zerocopy::{FromBytes, IntoBytes};

use crate::common;
use crate::site::{REPLICAS, Site, Writers, counts, on_both_backends, patient, spec};
use crate::spoofer::{Captured, Ear, Spoofer};

/// Datagrams captured before it begins.
const CAPTURED: usize = 1500;
/// Datagrams that it sends while clients write as fast as they can, at least.
const FORGED: u64 = 60_000;
/// Answers that clients get meanwhile, at least.
const ANSWERS: u64 = 3000;
/// Keys written and read back one after the other, and datagrams that it sends for each of them, at least.
const ASKED: u64 = 300;
const FORGED_EACH: u64 = 400;
/// What the members say of datagrams that they refuse.
const REFUSED: [&str; 4] = ["drop_tag", "drop_key", "drop_target", "drop_source"];
/// Sent in a row.
const BURST: u64 = 64;

/// What a forged datagram carries as its tag.
#[derive(Copy, Clone, Debug)]
enum Tag {
    None,
    Random,
    /// Of a key that the group does not have, with the number of the one that it has.
    Foreign,
    /// ... with a number that the group does not use.
    OtherSlot,
}

struct Neighbour {
    ear: Ear,
    spoofer: Spoofer,
    members: Vec<SocketAddr>,
    /// Odd like the group's, and even.
    foreign: [Key; 2],
    captured: Vec<Captured>,
    /// Those of them that are meant for one member alone.
    for_one: Vec<Captured>,
    rng: fastrand::Rng,
}

impl Neighbour {
    fn new(site: &Site) -> Self {
        let members = site.cluster.config().replicas.clone();
        let fabric = site.cluster.fabric().expect("on virtual hosts");
        let key = |id| Key::new(id, [0x5a; 16]).unwrap();
        Self {
            ear: Ear::new(fabric.switch(), &members),
            spoofer: Spoofer::new(fabric.host(REPLICAS).netns()),
            members,
            foreign: [key(1), key(2)],
            captured: Vec::new(),
            for_one: Vec::new(),
            rng: fastrand::Rng::with_seed(1),
        }
    }

    /// Listens until it has heard enough, of each member.
    fn listen(&mut self) {
        common::wait_for("datagrams of all members", || {
            while let Some(captured) = self.ear.hear() {
                if captured.header().targets.get().count_ones() == 1 {
                    self.for_one.push(captured.clone());
                }
                if self.captured.len() < CAPTURED || !self.knows(captured.from, captured.to) {
                    self.captured.push(captured);
                }
            }
            // Followers speak to the leader alone.
            let all = (1..REPLICAS).all(|peer| self.knows(peer, 0) && self.knows(0, peer));
            (self.captured.len() >= CAPTURED && all && !self.for_one.is_empty()).then_some(())
        });
    }

    fn knows(&self, from: usize, to: usize) -> bool {
        self.captured.iter().any(|c| (c.from, c.to) == (from, to))
    }

    /// Who a member says that it is, as the last of its datagrams has it.
    fn origin(&self, member: usize) -> (Origin, Header) {
        let header = self.captured.iter().rfind(|c| c.from == member).expect("all were heard").header();
        let origin = Origin {
            group: header.group.get(),
            config_hash: header.config_hash.get(),
            sender: Some(ReplicaId(member as u8)),
            incarnation: header.incarnation.get(),
        };
        (origin, *header)
    }

    fn send_from(&mut self, from: usize, to: usize, mut bytes: Vec<u8>, tag: Tag) {
        let (header, payload) = Header::mut_from_prefix(&mut bytes).expect("a header and more");
        match tag {
            Tag::None => header.auth_tag = 0.into(),
            Tag::Random => {
                header.flags |= FLAG_KEY_1;
                header.auth_tag = self.rng.u64(..).into();
            }
            Tag::Foreign => self.foreign[0].seal(header, payload),
            Tag::OtherSlot => self.foreign[1].seal(header, payload),
        }
        self.spoofer.send(self.members[from], self.members[to], &bytes);
    }

    /// One datagram that a member never made, of any kind.
    fn forge(&mut self) {
        let (from, to) = (self.rng.usize(..REPLICAS), self.rng.usize(..REPLICAS));
        let tag = [Tag::None, Tag::Random, Tag::Foreign, Tag::OtherSlot][self.rng.usize(..4)];
        let target = ReplicaSet::EMPTY.with(ReplicaId(to as u8));
        let (origin, seen) = self.origin(from);
        let (leader, of_leader) = self.origin(0);
        let (view, last) = (of_leader.view(), of_leader.last());
        let epoch = Epoch(of_leader.leader_epoch.get());
        let beyond = OpNumber(last.0 + self.rng.u64(1..50));
        let junk = vec![0xa5; self.rng.usize(..600)];
        let batch = Batch { view, first: beyond, last: beyond, round_tag: 0, leader_epoch: epoch };
        let prepare = |junk: &[u8]| leader.prepare(&batch, beyond, target, junk.len() as u16);
        let bytes = match self.rng.u8(..5) {
            0 => [prepare(&junk).as_bytes(), &junk].concat(),
            1 => {
                let ack = prepare_ok(&prepare(&[]), ReplicaId(from as u8), origin.incarnation, beyond);
                // Aimed at whom it is sent to, or it would fall by that alone.
                Header { targets: target.mask().into(), ..ack }.as_bytes().to_vec()
            }
            2 => leader.commit(view, epoch, beyond, target).as_bytes().to_vec(),
            _ => {
                let victim = self.origin(to).0.incarnation;
                let message = forged_message(self.rng.usize(..19), view, beyond, victim, origin.config_hash);
                let payload = codec::encode(&message);
                // Once in a while in another life, of which nobody has heard.
                let incarnation = origin.incarnation + u32::from(self.rng.u8(..4) == 0);
                let origin = Origin { incarnation, ..origin };
                let mut header = origin.message(seen.view(), target, payload.len() as u16);
                header.round_tag = u64::MAX.into();
                [header.as_bytes(), &payload].concat()
            }
        };
        self.send_from(from, to, bytes, tag);
    }

    /// Some of everything. Two processors are for everybody.
    fn burst(&mut self) {
        for _ in 0..BURST {
            if self.rng.u8(..3) == 0 { self.replay() } else { self.forge() }
        }
        std::thread::yield_now();
    }

    /// A datagram as it was, a byte of it changed, or given to somebody for whom it was not meant.
    fn replay(&mut self) {
        let how = self.rng.u8(..3);
        let kept = if how == 0 { &self.for_one } else { &self.captured };
        let Captured { from, mut to, mut bytes } = kept[self.rng.usize(..kept.len())].clone();
        match how {
            0 => to = (to + 1) % REPLICAS,
            1 => {
                let at = self.rng.usize(..bytes.len());
                bytes[at] ^= self.rng.u8(1..);
            }
            _ => {}
        }
        self.spoofer.send(self.members[from], self.members[to], &bytes);
    }
}

/// Every kind of message, with what would do the most harm if it were believed.
fn forged_message(kind: usize, view: View, op: OpNumber, victim: u32, config_hash: u64) -> PeerMessage {
    let later = View(view.0 + 7);
    let start = ViewStart { origin: later, length: OpNumber(0), last_op: OpNumber(0), commit: OpNumber(0) };
    let nonce = u64::from(victim) << 32 | 1;
    let (offset, total_bytes, bytes) = (0, 10, Bytes::from_static(b"forged"));
    match kind {
        0 => PeerMessage::Hello { config_hash, born: victim },
        1 => PeerMessage::Welcome { config_hash, incarnation: victim, born: victim + 1 },
        2 => PeerMessage::Refused { incarnation: victim, reason: Refusal::Restarted { known: 1 } },
        3 => PeerMessage::NeedPrepares { view, have: OpNumber(0), upto: op },
        4 => PeerMessage::Stable { view, op },
        5 => PeerMessage::Suspect { view },
        6 => PeerMessage::Suspect { view: later },
        7 => PeerMessage::StartViewChange { view: later },
        8 => {
            let vote = Vote { last_normal_view: view, last_op: op, commit: op };
            PeerMessage::DoViewChange { view: later, vote }
        }
        9 => PeerMessage::Fetching { view },
        10 => PeerMessage::StartView { view: later, start },
        11 => PeerMessage::AskStartView { view: later },
        12 => PeerMessage::Recovery { nonce, view: later },
        13 => PeerMessage::RecoveryResponse { nonce, view: later, start: Some(start) },
        14 => PeerMessage::NotNormal { nonce, recovering: true },
        15 => PeerMessage::GetState { view, after: OpNumber(0), upto: op },
        16 => PeerMessage::StateGone { view, oldest: op },
        17 => PeerMessage::GetSnapshot { op: OpNumber(0), offset },
        _ => PeerMessage::SnapshotChunk { view, op, total_bytes, offset, bytes },
    }
}

/// Whether a number still grows.
struct Progress {
    seen: u64,
    at: Instant,
}

impl Progress {
    fn new(seen: u64) -> Self {
        Self { seen, at: Instant::now() }
    }

    fn goes_on(&mut self, now: u64) -> bool {
        if now > self.seen {
            *self = Self::new(now);
        }
        self.at.elapsed() < common::PATIENCE
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the members did and refused between two looks at them.
struct Between {
    refused: BTreeMap<&'static str, u64>,
    /// Datagrams that they sent, replies to clients and the acks of their kernels included.
    sent: u64,
}

impl Between {
    /// Nothing but counters may have changed.
    fn of(before: &[NodeStatus], after: &[NodeStatus]) -> Self {
        let mut between = Self { refused: BTreeMap::new(), sent: 0 };
        for (before, after) in before.iter().zip(after) {
            let (earlier, later) = (counts(before), counts(after));
            let of = |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).copied().unwrap_or(0);
            let rise = |name: &str| of(&later, name) - of(&earlier, name);
            for name in REFUSED {
                *between.refused.entry(name).or_default() += rise(name);
            }
            between.sent += rise("sent") + rise("tx_ack") + rise("tx_ack_repeated");
            let (was, is) = (&before.replica, &after.replica);
            assert_eq!((is.view, is.role), (was.view, was.role), "a view ended");
            let rare = |status: &Status| {
                let Counters { view_changes, steps_down, recoveries, snapshots_refused, .. } =
                    status.counters;
                (view_changes, steps_down, recoveries, snapshots_refused)
            };
            assert_eq!(rare(is), rare(was));
            assert_eq!(after.node.incarnation, before.node.incarnation);
        }
        between
    }
}

/// Requests under a flood that never pauses: each waits for its share of it, so that the neighbour sends many times
/// what the members do, however fast either is.
fn ask_under_flood(site: &Site, mut neighbour: Neighbour) -> u64 {
    let (forged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut client = site.cluster.client().unwrap();
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let before = neighbour.spoofer.sent;
            while !stop.load(Ordering::Relaxed) {
                neighbour.burst();
                forged.store(neighbour.spoofer.sent - before, Ordering::Relaxed);
            }
        });
        // Ends the flood however this ends.
        let _stop = StopOnDrop(&stop);
        for n in 0..ASKED {
            let due = n * FORGED_EACH;
            let enough = || (forged.load(Ordering::Relaxed) >= due || flood.is_finished()).then_some(());
            common::wait_for("the neighbour", enough);
            let (key, value) = ((n % 7).to_le_bytes(), n.to_le_bytes());
            client.put(&key, &value).unwrap();
            assert_eq!(client.get(&key).unwrap().as_deref(), Some(&value[..]));
        }
    });
    forged.into_inner()
}

fn achieves_nothing(backend: BackendChoice) {
    let mut site = Site::start(patient(spec(backend)));
    let writers = Writers::start(&site.cluster);
    let mut neighbour = Neighbour::new(&site);
    neighbour.listen();

    // Clients write as fast as they can.
    let (before, answered) = (site.statuses(), writers.answered());
    let mut progress = Progress::new(answered);
    while neighbour.spoofer.sent < FORGED || writers.answered() < answered + ANSWERS {
        neighbour.burst();
        assert!(progress.goes_on(writers.answered()), "nobody is answered any more");
    }
    let (forged, answers) = (neighbour.spoofer.sent, writers.answered() - answered);
    let outcome = writers.finish();
    site.await_agreement();
    let between = site.statuses();
    let Between { refused, sent } = Between::of(&before, &between);
    println!(
        "{backend}: {forged} forged beside {sent} of the members, {answers} answered, {} retries; refused {refused:?}",
        outcome.retries
    );
    // What got through the queues on its way was refused by name.
    assert!(REFUSED.iter().all(|name| refused[name] > 0), "{refused:?}");

    // It sends many times what the members do.
    let forged = ask_under_flood(&site, neighbour);
    site.await_agreement();
    let Between { refused, sent } = Between::of(&between, &site.statuses());
    println!("{backend}: {forged} forged beside {sent} of the members; refused {refused:?}");
    assert!(forged > 5 * sent, "{forged} forged, {sent} of the members");
    assert!(REFUSED.iter().all(|name| refused[name] > 0), "{refused:?}");
}

on_both_backends! {
    achieves_nothing: a_neighbour_without_a_key_achieves_nothing_over_udp,
        a_neighbour_without_a_key_achieves_nothing_over_ebpf;
}
