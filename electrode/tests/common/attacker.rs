//! A hostile neighbour on the same bridge: it sees every frame, spoofs hardware address, IP address and port of any
//! member, and knows everything but the key.

use std::net::SocketAddr;

use electrode::abi::{FLAG_KEY_1, Header};
use electrode::auth::{Key, Keys, SECRET_BYTES};
use electrode::fabric::{Fabric, Host, NetNs};
use electrode::model::frame::{self, Checksum};
use zerocopy::FromBytes;

use super::capture::inject;
use super::foreign::command;
use super::group::PORT;

/// The group's key of that number.
pub fn key(id: u32) -> Key {
    Key::new(id, std::array::from_fn(|i| (id as u8).wrapping_mul(31) + i as u8 + 1)).unwrap()
}

/// The group's keys while there is only that one.
pub fn keys(id: u32) -> Keys {
    Keys::new(key(id))
}

/// The host that it owns, and whom it pretends to be.
pub struct Attacker<'f> {
    fabric: &'f Fabric,
    host: usize,
}

impl<'f> Attacker<'f> {
    /// On a host of its own. The switch does not learn from what it sends: otherwise a spoofed hardware address
    /// alone would draw a member's packets to it, which no end of a cable can do anything about.
    pub fn new(fabric: &'f Fabric, host: usize) -> Self {
        command(fabric.switch(), &format!("bridge link set dev {} learning off", fabric.port_name(host)));
        Self { fabric, host }
    }

    fn host(&self, index: usize) -> &Host {
        self.fabric.host(index)
    }

    /// The frame of a datagram from one member to another, as if it came from there.
    pub fn spoof(&self, from: usize, to: usize, datagram: &[u8]) -> Vec<u8> {
        let macs = [self.host(from).mac(), self.host(to).mac()];
        let [from, to] = [from, to].map(|i| SocketAddr::new(self.host(i).addr(), PORT));
        frame::build(macs, from, to, datagram, Checksum::Full)
    }

    pub fn netns(&self) -> &NetNs {
        self.host(self.host).netns()
    }

    /// Sends frames as they are.
    pub fn send(&self, frames: &[Vec<u8>]) {
        inject(self.netns(), "eth0", frames);
    }

    /// Sends datagrams from one member to another.
    pub fn send_as(&self, from: usize, to: usize, datagrams: &[Vec<u8>]) {
        let frames: Vec<_> = datagrams.iter().map(|datagram| self.spoof(from, to, datagram)).collect();
        self.send(&frames);
    }
}

/// What somebody without the key can make of a datagram: without a tag, with a guessed one, with another group's
/// key of the same place, and with the right tag of something else.
pub fn forgeries(honest: &[u8]) -> Vec<Vec<u8>> {
    let id = 2 + header(honest).key_slot() as u32;
    let other = Key::new(id, [0x77; SECRET_BYTES]).unwrap();
    let retagged = |edit: &dyn Fn(&mut Header, &mut [u8])| {
        let mut datagram = honest.to_vec();
        let (header, payload) = Header::mut_from_prefix(&mut datagram).unwrap();
        edit(header, payload);
        datagram
    };
    vec![
        retagged(&|h, _| h.auth_tag = 0.into()),
        retagged(&|h, _| h.auth_tag = 0x0123_4567_89ab_cdef.into()),
        retagged(&|h, _| h.auth_tag = (h.auth_tag.get() ^ 1).into()),
        retagged(&|h, payload| other.seal(h, payload)),
        retagged(&|h, _| h.last = (h.last.get() ^ 1).max(h.first.get()).into()),
        retagged(&|h, _| h.commit = (h.commit.get() + 1).into()),
    ]
    .into_iter()
    .filter(|forged| forged != honest)
    .collect()
}

/// The same datagram said to be made with the other key.
pub fn with_other_slot(honest: &[u8]) -> Vec<u8> {
    let mut datagram = honest.to_vec();
    Header::mut_from_prefix(&mut datagram).unwrap().0.flags ^= FLAG_KEY_1;
    datagram
}

pub fn header(datagram: &[u8]) -> Header {
    Header::read_from_prefix(datagram).unwrap().0
}

/// Each byte changed, one at a time, to another value that depends on where it is.
pub fn mutations(datagram: &[u8]) -> Vec<Vec<u8>> {
    let change = |at: usize| {
        let mut changed = datagram.to_vec();
        changed[at] ^= 1 << (at % 8);
        changed
    };
    (0..datagram.len()).map(change).collect()
}
