//! A member played by a plain socket: it sends whatever a test wants sent and shows what comes back.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use electrode::abi::{Header, Kind};
use electrode::auth::{self, Keys};
use electrode::fabric::{Fabric, Host};
use electrode::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use electrode::wire::{self, Batch, Origin};
use zerocopy::IntoBytes;

use super::group::PORT;
use super::hosts::DEADLINE;

/// How long nothing must happen before "nothing happened" is believed, where no counter tells.
pub const QUIET: Duration = Duration::from_millis(100);

/// A UDP socket on a virtual host.
pub fn socket(host: &Host, port: u16) -> UdpSocket {
    let addr = SocketAddr::new(host.addr(), port);
    host.netns().run(|| UdpSocket::bind(addr)).unwrap().unwrap_or_else(|e| panic!("bind {addr}: {e}"))
}

/// Waits for one datagram; `None` if none comes in time.
pub fn receive(socket: &UdpSocket, timeout: Duration) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 4096];
    socket.set_read_timeout(Some(timeout.max(Duration::from_micros(1)))).unwrap();
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((bytes, from)) => return Some((buffer[..bytes].to_vec(), from)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
            // An ICMP answer to something that was sent earlier.
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("receive: {e}"),
        }
    }
}

/// Everything that has arrived, until nothing more does for a moment.
pub fn receive_all(socket: &UdpSocket) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| receive(socket, QUIET)).map(|(bytes, _)| bytes).collect()
}

/// What a Prepare says; the rest is as an honest leader of view 0 would have it.
#[derive(Clone, Debug)]
pub struct Prepare {
    pub view: u64,
    pub first: u64,
    pub last: u64,
    pub commit: u64,
    pub tag: u64,
    pub leader_epoch: u16,
    pub payload: Vec<u8>,
    pub targets: ReplicaSet,
}

impl Prepare {
    /// One op with a payload that tells it from every other.
    pub fn op(op: u64) -> Self {
        let (payload, targets) = (payload_of(op), ReplicaSet::from_mask(u32::MAX));
        Self { view: 0, first: op, last: op, commit: 0, tag: 0, leader_epoch: 1, payload, targets }
    }
}

/// The payload of [`Prepare::op`].
pub fn payload_of(op: u64) -> Vec<u8> {
    format!("payload of op {op}").into_bytes()
}

/// Member `id` of a group, at its own address, without an endpoint.
pub struct Actor {
    pub socket: UdpSocket,
    pub origin: Origin,
    /// What its datagrams are tagged with, if the group has keys.
    pub keys: Option<Keys>,
}

impl Actor {
    /// Plays member `i` at host `i`.
    pub fn new(fabric: &Fabric, i: usize) -> Self {
        Self::at(socket(fabric.host(i), PORT), i)
    }

    /// Claims to be member `i`, wherever the socket is.
    pub fn at(socket: UdpSocket, i: usize) -> Self {
        let sender = Some(ReplicaId(i as u8));
        Self { socket, origin: Origin { group: 1, config_hash: 0, sender, incarnation: 1 }, keys: None }
    }

    /// The datagram of a Prepare.
    pub fn datagram(&self, p: &Prepare) -> Vec<u8> {
        self.sealed([self.header(p).as_bytes(), &p.payload].concat())
    }

    fn header(&self, p: &Prepare) -> Header {
        let batch = Batch {
            view: View(p.view),
            first: OpNumber(p.first),
            last: OpNumber(p.last),
            round_tag: p.tag,
            leader_epoch: Epoch(p.leader_epoch),
        };
        let bytes = p.payload.len() as u16;
        self.origin.prepare(&batch, OpNumber(p.commit), p.targets, bytes)
    }

    /// In a group with keys.
    pub fn with_keys(mut self, keys: &Keys) -> Self {
        self.origin.config_hash = auth::config_hash(self.origin.config_hash, true);
        self.keys = Some(keys.clone());
        self
    }

    fn sealed(&self, mut datagram: Vec<u8>) -> Vec<u8> {
        if let Some(keys) = &self.keys {
            keys.seal(&mut datagram);
        }
        datagram
    }

    pub fn prepare(&self, to: SocketAddr, p: &Prepare) {
        self.socket.send_to(&self.datagram(p), to).unwrap();
    }

    /// Prepares ops one by one.
    pub fn prepare_ops(&self, to: SocketAddr, ops: impl IntoIterator<Item = u64>) {
        ops.into_iter().for_each(|op| self.prepare(to, &Prepare::op(op)));
    }

    /// The datagram that acknowledges `last` to member 0, whose Prepare would have been `p`.
    pub fn ack_datagram(&self, p: &Prepare, last: u64) -> Vec<u8> {
        let prepare = Header { sender: 0, ..self.header(p) };
        let me = self.origin.sender.unwrap();
        let ack = wire::prepare_ok(&prepare, me, self.origin.incarnation, OpNumber(last));
        self.sealed(ack.as_bytes().to_vec())
    }

    /// Sends that.
    pub fn ack(&self, to: SocketAddr, p: &Prepare, last: u64) {
        self.socket.send_to(&self.ack_datagram(p, last), to).unwrap();
    }

    /// The datagram of the `count`th Commit.
    pub fn commit_datagram(&self, commit: u64, count: u64) -> Vec<u8> {
        let all = ReplicaSet::from_mask(u32::MAX);
        let header = self.origin.commit(View(0), Epoch(1), OpNumber(commit), all);
        self.sealed(Header { round_tag: count.into(), ..header }.as_bytes().to_vec())
    }

    /// The datagram of a message to all members.
    pub fn message_datagram(&self, payload: &[u8]) -> Vec<u8> {
        let all = ReplicaSet::from_mask(u32::MAX);
        let header = self.origin.message(View(0), all, payload.len() as u16);
        self.sealed([header.as_bytes(), payload].concat())
    }

    /// The next acknowledgement; `None` if none comes in time.
    pub fn next_ack(&self, timeout: Duration) -> Option<Header> {
        let since = Instant::now();
        while let Some(left) = timeout.checked_sub(since.elapsed()) {
            let (datagram, _) = receive(&self.socket, left)?;
            let (header, payload) = wire::parse(&datagram).expect("only datagrams of ours come here");
            if header.kind() == Some(Kind::PrepareOk) {
                // As the member whom this plays would: an ack is for the leader, and for nobody else.
                let me = self.origin.sender.unwrap();
                assert_eq!(header.targets.get(), ReplicaSet::EMPTY.with(me).mask(), "{header:?}");
                if let Some(keys) = &self.keys {
                    assert_eq!(keys.admit(me, header, payload), Ok(()), "{header:?}");
                }
                return Some(*header);
            }
        }
        None
    }

    /// Reads acknowledgements until one reaches `op`; returns the ops of all of them.
    pub fn acks_up_to(&self, op: u64) -> Vec<u64> {
        let mut ops = vec![];
        while ops.last().is_none_or(|last| *last < op) {
            let ack = self.next_ack(DEADLINE).unwrap_or_else(|| panic!("no ack of {op}; there were {ops:?}"));
            ops.push(ack.last().0);
        }
        ops
    }

    /// Ops acknowledged by what has arrived, until nothing more does for a moment.
    pub fn acks_so_far(&self) -> Vec<u64> {
        std::iter::from_fn(|| self.next_ack(QUIET)).map(|ack| ack.last().0).collect()
    }
}
