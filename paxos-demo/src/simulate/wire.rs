//! The wire: who reaches whom, and what happens to a frame on its way.

use std::net::SocketAddr;

use electrode::abi::{HEADER_BYTES, Header, Kind};
use electrode::model::frame::{self, Checksum};
use electrode::types::OpNumber;
use electrode::wire;
use zerocopy::{FromBytes, IntoBytes};

use super::check::Promise;
use super::keys;
use super::weather::{MS, US};
use super::world::{Frame, Happening, World};
use crate::codec;
use crate::message::Packet;

/// Everybody's hardware address: there is no switch in this world.
pub(super) const MAC: frame::Mac = [2, 0, 0, 0, 0, 1];
/// Frames that are remembered for those who forge and replay.
const SEEN_MAX: usize = 128;
/// Where forged frames come from.
const STRANGER: [u8; 4] = [10, 0, 9, 9];

/// What is wrong with the links now.
pub(super) struct Links {
    members: usize,
    blocked: Vec<bool>,
    /// Nothing arrives before this; then all of it.
    clogged_until: Vec<u64>,
}

impl Links {
    pub(super) fn new(members: usize) -> Self {
        Self { members, blocked: vec![false; members * members], clogged_until: vec![0; members * members] }
    }

    fn index(&self, from: usize, to: usize) -> usize {
        from * self.members + to
    }

    pub(super) fn block(&mut self, from: usize, to: usize, blocked: bool) {
        let index = self.index(from, to);
        self.blocked[index] = blocked;
    }

    pub(super) fn clog(&mut self, from: usize, to: usize, until: u64) {
        let index = self.index(from, to);
        self.clogged_until[index] = until;
    }

    pub(super) fn mend_all(&mut self) {
        *self = Self::new(self.members);
    }
}

/// A frame with a datagram.
pub(super) fn build(from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> Frame {
    frame::build([MAC; 2], from, to, datagram, Checksum::Full).into()
}

impl World {
    /// A frame leaves a machine. `unpromised`: if it is an ack, what it says has yet to be checked.
    pub(super) fn leave(&mut self, node: usize, frame: Frame, unpromised: bool) {
        self.trace.mix(&[node as u64, frame.len() as u64, sum(&frame)]);
        if let Some(promise) = Promise::in_ack(&frame) {
            let log_only = self.nodes[node].kernel.params.log_only;
            let mut checked = Ok(());
            if unpromised {
                checked = self.checker.promised(node, promise, &self.nodes[node].kernel);
            }
            if checked.is_ok() {
                let durable = log_only.then_some(self.nodes[node].disk.durable);
                checked = self.checker.acked(node, promise, durable);
            }
            self.violate(checked);
        } else if let Some(commit) = claimed_commit(&frame) {
            let durable = self.nodes[node].disk.durable;
            let checked = self.checker.commits(node, commit, Some(durable));
            self.violate(checked);
        }
        let Some(to) = destination(&frame) else { return };
        match self.node_at(to) {
            Some(peer) => self.carry(node, peer, frame),
            None => {
                if let Some(client) = self.clients.at(to) {
                    for at in self.arrivals() {
                        self.plan(at, Happening::ToClient { client, frame: frame.clone() });
                    }
                }
                self.staged_answer(to, &frame);
            }
        }
    }

    /// A frame travels between two machines.
    pub(super) fn carry(&mut self, from: usize, to: usize, frame: Frame) {
        if from == to {
            return self.plan(self.now + US, Happening::Arrive { node: to, frame });
        }
        if self.stage.is_some() {
            return self.staged_carry(from, to, frame);
        }
        self.remember(to, &frame);
        self.record(from, to, &frame);
        let index = self.links.index(from, to);
        if self.links.blocked[index] {
            return;
        }
        let clogged = self.links.clogged_until[index];
        for at in self.arrivals() {
            let at = if at < clogged { clogged + self.rng.u64(0..50 * US) } else { at };
            self.plan(at, Happening::Arrive { node: to, frame: frame.clone() });
        }
        self.mischief();
    }

    /// A frame of a client.
    pub(super) fn send_request(&mut self, to: usize, frame: Frame) {
        for at in self.arrivals() {
            self.plan(at, Happening::Arrive { node: to, frame: frame.clone() });
        }
    }

    /// When the copies of a frame arrive: none, one or two.
    fn arrivals(&mut self) -> impl Iterator<Item = u64> + use<> {
        let Self { weather, rng, now, .. } = self;
        let travel = |rng: &mut fastrand::Rng| {
            let late = weather.overtake.hit(rng);
            *now + rng.u64(20 * US..100 * US) + if late { rng.u64(0..weather.overtake_ns_max) } else { 0 }
        };
        let first = (!weather.loss.hit(rng)).then(|| travel(rng));
        let second = weather.duplicate.hit(rng).then(|| travel(rng));
        first.into_iter().chain(second)
    }

    fn remember(&mut self, to: usize, frame: &Frame) {
        if self.calm {
            return;
        }
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back((to, frame.clone()));
    }

    /// Old frames come again, and frames from nowhere.
    fn mischief(&mut self) {
        if self.weather.replay.hit(&mut self.rng) {
            let (to, frame) = self.pick_seen();
            let at = self.now + self.rng.u64(0..50 * MS);
            self.plan(at, Happening::Arrive { node: to, frame });
        }
        if self.weather.forge.hit(&mut self.rng) {
            let (to, frame) = self.pick_seen();
            if let Some(frame) = self.forge(to, &frame) {
                let at = self.now + self.rng.u64(10 * US..200 * US);
                self.plan(at, Happening::Arrive { node: to, frame });
            }
        }
    }

    fn pick_seen(&mut self) -> (usize, Frame) {
        let index = self.rng.usize(0..self.seen.len());
        self.seen[index].clone()
    }

    /// A frame that nobody sent: from a stranger's address with whatever header, or damaged on the way. Members' own
    /// addresses are forged only where the group has keys: without, the network is trusted to keep them.
    fn forge(&mut self, to: usize, frame: &Frame) -> Option<Frame> {
        let own = self.nodes[to].addr;
        let datagram = frame::parse(frame, own).ok()?;
        let rng = &mut self.rng;
        match rng.u8(0..4) {
            // Damaged: the checksum does not know.
            0 => {
                let mut bytes = frame.to_vec();
                let at = rng.usize(42..bytes.len().max(43));
                *bytes.get_mut(at)? ^= 1 << rng.u8(0..8);
                Some(bytes.into())
            }
            // Foreign: another protocol, another port, a fragment.
            1 => {
                let mut bytes = frame.to_vec();
                match rng.u8(0..3) {
                    0 => bytes[23] = 6,
                    1 => bytes[37] ^= 1,
                    _ => bytes[20] |= 0x20,
                }
                Some(bytes.into())
            }
            _ => {
                let mut payload = datagram.payload(frame).to_vec();
                let (bytes, _) = payload.split_at_mut_checked(HEADER_BYTES)?;
                let header = Header::mut_from_bytes(bytes).ok()?;
                forge_header(header, rng, self.weather.members);
                let mut from = (STRANGER, datagram.from.port()).into();
                if self.weather.authenticated {
                    // Somebody who knows everything but the key, and spoofs whomever it names.
                    let named = self.nodes.get(usize::from(header.sender)).map(|machine| machine.addr);
                    from = named.unwrap_or(datagram.from);
                    match rng.u8(0..4) {
                        0 => header.auth_tag = rng.u64(..).into(),
                        1 => keys::foreign().seal(header, &[]),
                        2 => header.targets = u32::MAX.into(),
                        _ => {}
                    }
                }
                Some(build(from, own, &payload))
            }
        }
    }

    /// Egress: a carrier becomes a copy a peer (broadcast.h).
    pub(super) fn carrier(&mut self, node: usize, datagram: &[u8]) {
        if self.weather.clone_fails.hit(&mut self.rng) && self.rng.u8(0..4) == 0 {
            // A filter in front takes it, and nobody counts.
            return;
        }
        self.nodes[node].meet_carrier();
        let Ok((header, _)) = wire::parse(datagram) else { return };
        let (op, view) = (header.last(), header.view());
        let prepare = header.kind() == Some(Kind::Prepare);
        let from = self.nodes[node].addr;
        for peer in (0..self.weather.members).filter(|peer| header.targets.get() >> peer & 1 == 1) {
            if peer == node {
                continue;
            }
            if self.weather.clone_fails.hit(&mut self.rng) {
                self.trace.line(self.now, |line| {
                    line.push_str(&format!("r{node} clone for r{peer} fails, op {op}"));
                });
                if prepare {
                    self.nodes[node].miss(op, view, peer);
                }
                continue;
            }
            let frame = build(from, self.nodes[peer].addr, datagram);
            self.leave(node, frame, true);
        }
    }
}

fn forge_header(header: &mut Header, rng: &mut fastrand::Rng, members: usize) {
    for _ in 0..rng.u8(0..3) {
        match rng.u8(0..8) {
            0 => header.sender = rng.u8(0..members as u8 + 1),
            1 => header.view = (header.view.get() + rng.u64(0..2)).into(),
            2 => header.last = (header.last.get() + rng.u64(0..4)).into(),
            3 => header.commit = (header.commit.get() + rng.u64(0..4)).into(),
            4 => header.incarnation = rng.u32(0..4).into(),
            5 => header.group = 2.into(),
            6 => header.kind = rng.u8(0..5),
            _ => header.round_tag = 1.into(),
        }
    }
}

/// The datagram in a frame of this simulation: Ethernet, IPv4 without options, UDP.
pub(super) fn datagram(frame: &[u8]) -> Option<&[u8]> {
    frame.get(42..)
}

fn destination(frame: &[u8]) -> Option<SocketAddr> {
    let ip: [u8; 4] = frame.get(30..34)?.try_into().ok()?;
    let port = u16::from_be_bytes(frame.get(36..38)?.try_into().ok()?);
    Some((ip, port).into())
}

/// What a leader's frame says to be committed.
fn claimed_commit(frame: &[u8]) -> Option<OpNumber> {
    let (header, _) = wire::parse(datagram(frame)?).ok()?;
    matches!(header.kind(), Some(Kind::Prepare | Kind::Commit)).then(|| header.commit())
}

/// A message in a few words.
pub(super) fn describe_message(body: &[u8]) -> String {
    match Packet::parse(body) {
        Ok(Packet::Request(r)) => format!("request {}/{}", r.client, r.request),
        Ok(Packet::Reply(r)) => format!("reply {:?} to {}/{}", r.status, r.client, r.request),
        Ok(Packet::Peer(bytes)) => match codec::decode(bytes) {
            Ok(message) => {
                let mut text = format!("{message:?}");
                if text.len() > 300 {
                    text.truncate(300);
                    text.push_str(" ...");
                }
                text
            }
            Err(_) => "an unreadable peer message".into(),
        },
        _ => format!("a message of {} bytes", body.as_bytes().len()),
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0, |sum: u64, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}
