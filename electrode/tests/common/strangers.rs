//! Frames that a replica's host may meet and that are no plain datagrams of ours.

use std::net::{IpAddr, SocketAddr};

use electrode::model::frame::{self, Checksum, Mac};

use super::actor::{Actor, Prepare};
use super::capture::Frame;

/// The stranger that is a plain datagram of ours but for one VLAN tag.
pub const A_VLAN_TAG: &str = "a VLAN tag";

/// A frame and how it is seen on the other side.
pub struct Stranger {
    pub name: String,
    pub frame: Vec<u8>,
}

impl Stranger {
    /// Whether a captured frame is this one. The kernel takes one VLAN tag out; it keeps it beside the frame
    /// until it finds that there is no interface for it.
    pub fn is(&self, seen: &Frame) -> bool {
        match tag(&self.frame) {
            Some(vlan) => {
                seen.vlan.is_none_or(|seen| seen == vlan)
                    && seen.bytes == [&self.frame[..12], &self.frame[16..]].concat()
            }
            None => seen.vlan.is_none() && seen.bytes == self.frame,
        }
    }
}

fn tag(frame: &[u8]) -> Option<u16> {
    matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8])
        .then(|| u16::from_be_bytes([frame[14], frame[15]]) & 0xfff)
}

/// Frames between two hardware addresses. Each but for its framing would be a Prepare of `leader`, or is
/// something else altogether.
pub fn strangers(leader: &Actor, macs: [Mac; 2], from: SocketAddr, to: SocketAddr) -> Vec<Stranger> {
    let mut list = vec![];
    let mut add = |name: &str, frame: Vec<u8>| list.push(Stranger { name: name.into(), frame });
    let prepare = leader.datagram(&Prepare::op(1));
    let udp = |to: SocketAddr, payload: &[u8]| frame::build(macs, from, to, payload, Checksum::Full);
    let ours = udp(to, &prepare);

    for size in [0, 1, 7, 79, 80, 81, 511, 1400] {
        let noise: Vec<u8> = (0..size).map(|i| (i * 31 + size) as u8).collect();
        add(&format!("{size} bytes of noise to our port"), udp(to, &noise));
        let elsewhere = SocketAddr::new(to.ip(), to.port() + 1);
        add(&format!("{size} bytes to another port"), udp(elsewhere, &noise));
    }
    add("to another port", udp(SocketAddr::new(to.ip(), to.port() + 1), &prepare));
    add("to another host", udp(SocketAddr::new(next_address(to.ip()), to.port()), &prepare));
    for (name, at, xor) in [
        ("another magic", 0, 1),
        ("another version", 4, 2),
        ("an unknown kind", 5, 0x40),
        ("flags", 7, 4),
        ("another group", 8, 1),
        ("another configuration", 16, 1),
        ("a wrong length", 70, 1),
        // From kind 1 to kind 4: the application's.
        ("a message", 5, 5),
    ] {
        let mut datagram = prepare.clone();
        datagram[at] ^= xor;
        add(name, udp(to, &datagram));
    }
    add(A_VLAN_TAG, tagged(&ours, &[0x81, 0, 0, 5]));
    add("two VLAN tags", tagged(&ours, &[0x88, 0xa8, 0, 6, 0x81, 0, 0, 5]));
    add("a priority tag in front of another", tagged(&ours, &[0x81, 0, 0x20, 7, 0x81, 0, 0, 9]));
    add("cut short", ours[..ours.len() - 5].to_vec());
    let mut unknown = ours.clone();
    unknown[12..14].copy_from_slice(&[0x88, 0xb5]);
    add("an unknown ethertype", unknown);
    let other_family = match to.ip() {
        IpAddr::V4(_) => ["[fd76::1]:7000", "[fd76::2]:7000"],
        IpAddr::V6(_) => ["10.76.0.1:7000", "10.76.0.2:7000"],
    };
    let [far, near] = other_family.map(|a| a.parse().unwrap());
    add("the other IP version", frame::build(macs, far, near, &prepare, Checksum::Full));
    match to.ip() {
        IpAddr::V4(_) => ipv4(&ours, &mut add),
        IpAddr::V6(_) => ipv6(&ours, &mut add),
    }
    list
}

fn next_address(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) + 1).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) + 1).into()),
    }
}

fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

fn ipv4(ours: &[u8], add: &mut impl FnMut(&str, Vec<u8>)) {
    let mut id = 1;
    let mut edited = |edit: &dyn Fn(&mut [u8])| {
        let mut frame = ours.to_vec();
        // Of their own, or fragments would be put together.
        id += 1;
        frame[18..20].copy_from_slice(&u16::to_be_bytes(id));
        edit(&mut frame);
        frame::seal_ipv4(&mut frame[14..]);
        frame
    };
    add("a first fragment", edited(&|f| f[20..22].copy_from_slice(&[0x20, 0])));
    add("a later fragment", edited(&|f| f[20..22].copy_from_slice(&[0, 8])));
    add("a middle fragment", edited(&|f| f[20..22].copy_from_slice(&[0x20, 8])));
    add("no UDP checksum", edited(&|f| f[40..42].fill(0)));
    add("a short UDP length", edited(&|f| f[39] -= 1));
    for protocol in [1, 2, 4, 6, 47, 132] {
        add(&format!("IP protocol {protocol}"), edited(&|f| f[23] = protocol));
    }
    // Options: four bytes of "no operation".
    let mut options = [&ours[..34], &[1; 4], &ours[34..]].concat();
    options[14] = 0x46;
    let total = u16::from_be_bytes([options[16], options[17]]) + 4;
    options[16..18].copy_from_slice(&total.to_be_bytes());
    options[24..26].fill(0);
    let sum =
        options[14..38].chunks(2).fold(0u32, |sum, w| sum + u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    options[24..26].copy_from_slice(&sum.to_be_bytes());
    add("IP options", options);
}

fn ipv6(ours: &[u8], add: &mut impl FnMut(&str, Vec<u8>)) {
    const UDP: u8 = 17;
    let with_header = |next: u8, header: [u8; 8]| {
        let mut frame = [&ours[..54], &header, &ours[54..]].concat();
        frame[20] = next;
        let bytes = u16::from_be_bytes([frame[18], frame[19]]) + 8;
        frame[18..20].copy_from_slice(&bytes.to_be_bytes());
        frame
    };
    // PadN of four bytes fills an options header.
    add("hop-by-hop options", with_header(0, [UDP, 0, 1, 4, 0, 0, 0, 0]));
    add("destination options", with_header(60, [UDP, 0, 1, 4, 0, 0, 0, 0]));
    add("a first fragment", with_header(44, [UDP, 0, 0, 1, 0, 0, 0, 1]));
    add("a later fragment", with_header(44, [UDP, 0, 0, 64, 0, 0, 0, 2]));
    add("a fragment that is whole", with_header(44, [UDP, 0, 0, 0, 0, 0, 0, 3]));
    for next in [4, 6, 47, 59, 132] {
        let mut frame = ours.to_vec();
        frame[20] = next;
        add(&format!("next header {next}"), frame);
    }
    let mut frame = ours.to_vec();
    frame[60..62].fill(0);
    add("no UDP checksum", frame);
    let mut frame = ours.to_vec();
    frame[59] -= 1;
    add("a short UDP length", frame);
}
