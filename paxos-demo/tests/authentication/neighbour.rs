//! A hostile host on the members' network: it hears everything, sends in any member's name at many times their
//! rate, and has no key. Answers stay right, no view ends, and the counters tell what was refused.
//!
//! It sends with its own hardware address: a switch that learns a member's address at the wrong port is something
//! that no key can help against.

use std::net::SocketAddr;

use bytes::Bytes;
use electrode::abi::{FLAG_KEY_1, Header};
use electrode::auth::Key;
use electrode::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use electrode::wire::{Batch, Origin, prepare_ok};
use paxos_demo::cli::BackendChoice;
use paxos_demo::codec;
use paxos_demo::peer::{PeerMessage, Refusal, ViewStart, Vote};
use zerocopy::{FromBytes, IntoBytes};

use crate::common;
use crate::site::{REPLICAS, Site, Writers, counts, on_both_backends, patient, spec};
use crate::spoofer::{Captured, Ear, Spoofer};

/// Datagrams captured before it begins.
const CAPTURED: usize = 1500;
/// Datagrams that it sends, at least.
const FORGED: u64 = 60_000;
/// Answers that clients get meanwhile, at least.
const ANSWERS: u64 = 3000;
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
            rng: fastrand::Rng::with_seed(1),
        }
    }

    /// Listens until it has heard enough, of each member.
    fn listen(&mut self) {
        common::wait_for("datagrams of all members", || {
            while let Some(captured) = self.ear.hear() {
                if self.captured.len() < CAPTURED || !self.knows(captured.from, captured.to) {
                    self.captured.push(captured);
                }
            }
            // Followers speak to the leader alone.
            let all = (1..REPLICAS).all(|peer| self.knows(peer, 0) && self.knows(0, peer));
            (self.captured.len() >= CAPTURED && all).then_some(())
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
                ack.as_bytes().to_vec()
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

    /// A datagram as it was, a byte of it changed, or given to somebody for whom it was not meant.
    fn replay(&mut self) {
        let Captured { from, mut to, mut bytes } =
            self.captured[self.rng.usize(..self.captured.len())].clone();
        match self.rng.u8(..3) {
            0 => {}
            1 => {
                let at = self.rng.usize(..bytes.len());
                bytes[at] ^= self.rng.u8(1..);
            }
            _ => to = (to + 1) % REPLICAS,
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

fn achieves_nothing(backend: BackendChoice) {
    let mut site = Site::start(patient(spec(backend)));
    let writers = Writers::start(&site.cluster);
    let mut neighbour = Neighbour::new(&site);
    neighbour.listen();
    let (before, answered) = (site.statuses(), writers.answered());
    let since = std::time::Instant::now();
    let mut seen = (answered, since);
    while neighbour.spoofer.sent < FORGED || writers.answered() < answered + ANSWERS {
        for _ in 0..BURST {
            if neighbour.rng.u8(..3) == 0 { neighbour.replay() } else { neighbour.forge() }
        }
        // Two processors for everybody; and whoever makes no progress any more must be seen to.
        std::thread::yield_now();
        if writers.answered() > seen.0 {
            seen = (writers.answered(), std::time::Instant::now());
        }
        assert!(seen.1.elapsed() < common::PATIENCE, "nobody is answered any more");
    }
    let (forged, answers) = (neighbour.spoofer.sent, writers.answered() - answered);
    let outcome = writers.finish();
    site.await_agreement();
    let after = site.statuses();
    let mut refused = std::collections::BTreeMap::<String, u64>::new();
    for (before, after) in before.iter().zip(&after) {
        let (earlier, later) = (counts(before), counts(after));
        for name in ["drop_tag", "drop_key", "drop_target", "drop_source"] {
            let of =
                |counts: &std::collections::BTreeMap<String, u64>| counts.get(name).copied().unwrap_or(0);
            *refused.entry(name.to_owned()).or_default() += of(&later) - of(&earlier);
        }
        let (was, is) = (&before.replica, &after.replica);
        assert_eq!((is.view, is.role), (was.view, was.role), "a view ended");
        assert_eq!(is.counters.view_changes, was.counters.view_changes);
        assert_eq!(is.counters.recoveries, was.counters.recoveries);
        assert_eq!(after.node.incarnation, before.node.incarnation);
    }
    println!(
        "{backend}: {forged} forged and {answers} answered in {:?}, {} checked, {} retries; refused {refused:?}",
        since.elapsed(),
        outcome.checked,
        outcome.retries
    );
    // What got through the queues on its way was refused by name.
    for name in ["drop_tag", "drop_key", "drop_target", "drop_source"] {
        assert!(refused[name] > 0, "{name}: {refused:?}");
    }
    assert_eq!(after.iter().map(|status| status.replica.counters.snapshots_refused).sum::<u64>(), 0);
}

on_both_backends! {
    achieves_nothing: a_neighbour_without_a_key_achieves_nothing_over_udp,
        a_neighbour_without_a_key_achieves_nothing_over_ebpf;
}
