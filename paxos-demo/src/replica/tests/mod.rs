//! Single replicas, driven by hand: each test is a short story of inputs and the outputs they must cause.

mod donor;
mod follower;
mod formation;
mod large;
mod leader;
mod reads;
mod recovery;
mod repeated;
mod replayed;
mod resend;
mod suspicion;
mod view_change;

use super::*;
use crate::batch::{self, BatchEntry};
use crate::message::{ClientRequest, Packet, ReplyStatus};
use crate::peer::Refusal;
use crate::state_machine::Command;
use bytes::Bytes;
use electrode::types::ReplicaSet;
use std::net::SocketAddr;

const MS: u64 = 1_000_000;
const HASH: u64 = 0xc0ffee;

/// Reads number themselves apart from writes.
const READ: u64 = 1 << 63;

fn id(id: u8) -> ReplicaId {
    ReplicaId(id)
}

fn op(op: u64) -> OpNumber {
    OpNumber(op)
}

fn address(port: u16) -> SocketAddr {
    ([10, 1, 0, 1], port).into()
}

/// Incarnation of each member: all different, so that mixing them up shows.
fn life(of: u8) -> u32 {
    100 + u32::from(of)
}

fn config(me: u8, members: usize) -> ReplicaConfig {
    ReplicaConfig { payload_bytes_max: 400, ..ReplicaConfig::new(id(me), members, life(me), HASH) }
}

fn drain(replica: &mut Replica) -> Vec<Action> {
    std::iter::from_fn(|| replica.next_action()).collect()
}

fn hello(replica: &mut Replica, now: u64, from: u8) {
    replica.on_member_heard(now, id(from), life(from));
    replica.on_peer_message(
        now,
        id(from),
        life(from),
        PeerMessage::Hello { config_hash: HASH, born: life(from) },
    );
}

/// A member, in whatever life, answers the Hello of this life.
fn welcomed_by(replica: &mut Replica, now: u64, by: u8, incarnation: u32) {
    let welcome =
        PeerMessage::Welcome { config_hash: HASH, incarnation: replica.config().incarnation, born: life(by) };
    replica.on_peer_message(now, id(by), incarnation, welcome);
}

/// A member says Hello and answers ours.
fn introduce(replica: &mut Replica, now: u64, peer: u8) {
    hello(replica, now, peer);
    welcomed_by(replica, now, peer, life(peer));
}

/// A leader that knows everybody.
fn leading_with(config: ReplicaConfig) -> Replica {
    let members = config.members as u8;
    let mut replica = Replica::new(0, config).unwrap();
    for peer in 1..members {
        introduce(&mut replica, 0, peer);
    }
    assert!(replica.is_leading());
    drain(&mut replica);
    replica
}

fn leading(members: usize) -> Replica {
    leading_with(config(0, members))
}

/// Replica 1, following replica 0.
fn following_with(config: ReplicaConfig) -> Replica {
    let mut replica = Replica::new(0, config).unwrap();
    introduce(&mut replica, 0, 0);
    assert_eq!(replica.status().role, RoleName::Follower);
    drain(&mut replica);
    replica
}

fn following(members: usize) -> Replica {
    following_with(config(1, members))
}

/// A follower that knows the other followers too.
fn follower(me: u8, members: usize) -> Replica {
    let mut replica = Replica::new(0, config(me, members)).unwrap();
    for peer in (0..members as u8).filter(|peer| *peer != me) {
        introduce(&mut replica, 0, peer);
    }
    drain(&mut replica);
    replica
}

fn set(value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    Command::Set { key: b"k", value: value.as_bytes() }.encode(&mut bytes).unwrap();
    bytes
}

fn get() -> Vec<u8> {
    let mut bytes = Vec::new();
    Command::Get { key: b"k" }.encode(&mut bytes).unwrap();
    bytes
}

/// A client (its address has its number as port) sends a request.
fn ask(replica: &mut Replica, now: u64, client: u64, request: u64, command: &[u8]) {
    let request = ClientRequest { client, request, attempt: 1, command };
    replica.on_request(now, address(client as u16), request);
}

/// The payload of one Prepare.
fn payload(entries: &[(u64, u64, &[u8])]) -> Bytes {
    let mut bytes = Vec::new();
    batch::encode_header(0, &mut bytes);
    for (client, request, command) in entries {
        BatchEntry::whole(*client, *request, command).encode(&mut bytes);
    }
    bytes.into()
}

/// The replies among some actions: address, status and result.
fn replies(actions: &[Action]) -> Vec<(u16, ReplyStatus, Vec<u8>)> {
    let reply = |action: &Action| {
        let Action::Reply { to, bytes } = action else { return None };
        let Ok(Packet::Reply(reply)) = Packet::parse(bytes) else { panic!("not a reply: {bytes:?}") };
        Some((to.port(), reply.status, reply.result.to_vec()))
    };
    actions.iter().filter_map(reply).collect()
}

/// First and last op of the Prepares among some actions.
fn prepares(actions: &[Action]) -> Vec<(u64, u64)> {
    let prepare = |action: &Action| match action {
        Action::Prepare { first, last, .. } => Some((first.0, last.0)),
        _ => None,
    };
    actions.iter().filter_map(prepare).collect()
}

/// First op and targets of the resends among some actions.
fn resends(actions: &[Action]) -> Vec<(u64, u32)> {
    let resend = |action: &Action| match action {
        Action::Resend { first, targets, .. } => Some((first.0, targets.mask())),
        _ => None,
    };
    actions.iter().filter_map(resend).collect()
}

fn left(view: u64) -> PeerMessage {
    PeerMessage::StartViewChange { view: View(view) }
}

/// What a replica does about a message that its sender had not sent before.
fn from(replica: &mut Replica, now: u64, peer: u8, message: PeerMessage) -> Vec<Action> {
    replica.on_member_heard(now, id(peer), life(peer));
    replica.on_peer_message(now, id(peer), life(peer), message);
    drain(replica)
}

/// What goes to one member.
fn sent(actions: &[Action], to: u8) -> Vec<&PeerMessage> {
    let mut messages = Vec::new();
    for action in actions {
        if let Action::Send { to: target, message } = action
            && *target == id(to)
        {
            messages.push(message);
        }
    }
    messages
}

fn position(actions: &[Action], which: impl Fn(&Action) -> bool) -> usize {
    actions.iter().position(which).unwrap_or_else(|| panic!("not in {actions:#?}"))
}

#[test]
fn a_stopped_replica_does_nothing_any_more() {
    let mut replica = following(3);
    replica.on_logged(0, View(0), op(5), op(5), op(0), b"");
    assert!(matches!(drain(&mut replica)[..], [Action::Fatal(Fatal::OutOfOrder(_))]));
    assert_eq!(replica.status().role, RoleName::Stopped);

    hello(&mut replica, 0, 2);
    ask(&mut replica, 0, 1, 1, &set("v"));
    replica.on_commit(View(0), op(9));
    replica.on_gap(0, op(0), op(9));
    replica.on_tick(10_000 * MS);
    assert_eq!(drain(&mut replica), []);
    assert_eq!(replica.next_deadline(), None);
}

#[test]
fn messages_of_strangers_are_ignored() {
    let mut replica = leading(3);
    let ignored = replica.status().counters.ignored;
    for (from, incarnation) in [(3, 1), (200, 1), (0, life(0)), (1, 0)] {
        let hello = PeerMessage::Hello { config_hash: HASH, born: 1 };
        replica.on_peer_message(0, id(from), incarnation, hello);
    }
    // Known, but not in this incarnation.
    let question = PeerMessage::NeedPrepares { view: View(0), have: op(0), upto: op(1) };
    replica.on_peer_message(0, id(1), life(1) + 1, question);
    assert_eq!(drain(&mut replica), []);
    assert_eq!(replica.status().counters.ignored, ignored + 5);
}

#[test]
fn a_status_fits_a_datagram() {
    let json = serde_json::to_vec(&leading(3).status()).unwrap();
    assert!(json.len() < 1100, "{} bytes", json.len());
    assert_eq!(serde_json::from_slice::<Status>(&json).unwrap().role, RoleName::Leader);
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut replica = leading(3);
    ask(&mut replica, 100 * MS, 1, 1, &set("v"));
    drain(&mut replica);
    replica.on_tick(0);
    assert_eq!(resends(&drain(&mut replica)), []);
    assert!(replica.next_deadline().unwrap() > 100 * MS);
}
