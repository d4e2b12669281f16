//! Ethernet, IPv4, IPv6 and UDP as the ingress programs see them: whole frames in, whole frames out.
//!
//! Only the plainest framing is ours: no VLAN tag, no IP options or extension headers, no fragments.
//! Anything else goes to the stack as it came (A14, C7). Ethernet padding behind the IP length is allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use zerocopy::IntoBytes;

use crate::abi::{self, Header, Verdict};

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_UDP: u8 = 17;
/// IPv4 "more fragments" and the fragment offset; "don't fragment" is no fragment.
const FRAGMENT_MASK: u16 = 0x3fff;
/// TTL or hop limit of an ack.
const REPLY_HOPS: u8 = 64;

/// A hardware address.
pub type Mac = [u8; 6];

/// Where a UDP datagram lies in a frame and between whom it travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Datagram {
    /// Source address and port.
    pub from: SocketAddr,
    /// Destination address and port.
    pub to: SocketAddr,
    /// UDP header and payload.
    pub udp: Range<usize>,
}

/// How a frame's UDP checksum field is filled.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// The sum over everything, as on a cable.
    Full,
    /// The pseudo-header's sum, not complemented (CHECKSUM_PARTIAL): a device would have done the rest.
    Partial,
    /// None (allowed over IPv4).
    Zero,
}

/// Finds our datagram in a frame. `own` is the endpoint's address and port; `Err` is `PassForeign`,
/// `PassFraming` or, for a UDP length below UDP's own header, `PassMalformed`.
///
/// The IPv4 header checksum is not verified: addresses, protocol and length, all that is believed of the
/// header, are covered by the UDP checksum.
pub fn parse(frame: &[u8], own: SocketAddr) -> Result<Datagram, Verdict> {
    let ethertype = be16(frame, 12).ok_or(Verdict::PassForeign)?;
    match (ethertype, own.ip().to_canonical()) {
        (ETHERTYPE_IPV4, IpAddr::V4(addr)) => parse_ipv4(frame, addr, own),
        (ETHERTYPE_IPV6, IpAddr::V6(addr)) => parse_ipv6(frame, addr, own),
        _ => Err(Verdict::PassForeign),
    }
}

fn parse_ipv4(frame: &[u8], own_ip: Ipv4Addr, own: SocketAddr) -> Result<Datagram, Verdict> {
    let ip: &[u8; IPV4_BYTES] = array(frame, ETHERNET_BYTES).ok_or(Verdict::PassForeign)?;
    let addr = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    if ip[0] >> 4 != 4 || ip[9] != PROTOCOL_UDP || addr(16) != own_ip {
        return Err(Verdict::PassForeign);
    }
    if ip[0] & 0xf != 5 || u16::from_be_bytes([ip[6], ip[7]]) & FRAGMENT_MASK != 0 {
        return Err(Verdict::PassFraming);
    }
    let total_bytes = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let ip_payload_bytes = total_bytes.checked_sub(IPV4_BYTES);
    parse_udp(frame, ETHERNET_BYTES + IPV4_BYTES, ip_payload_bytes, addr(12).into(), own)
}

fn parse_ipv6(frame: &[u8], own_ip: Ipv6Addr, own: SocketAddr) -> Result<Datagram, Verdict> {
    let ip: &[u8; IPV6_BYTES] = array(frame, ETHERNET_BYTES).ok_or(Verdict::PassForeign)?;
    let addr = |at: usize| Ipv6Addr::from(*array::<16>(ip, at).expect("inside the header"));
    if ip[0] >> 4 != 6 || ip[6] != PROTOCOL_UDP || addr(24) != own_ip {
        return Err(Verdict::PassForeign);
    }
    let payload_bytes = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    parse_udp(frame, ETHERNET_BYTES + IPV6_BYTES, Some(payload_bytes), addr(8).into(), own)
}

fn parse_udp(
    frame: &[u8],
    at: usize,
    ip_payload_bytes: Option<usize>,
    from: IpAddr,
    own: SocketAddr,
) -> Result<Datagram, Verdict> {
    let udp: &[u8; UDP_BYTES] = array(frame, at).ok_or(Verdict::PassFraming)?;
    let field = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    if field(2) != own.port() {
        return Err(Verdict::PassForeign);
    }
    let bytes = usize::from(field(4));
    let whole = Some(bytes) == ip_payload_bytes && at + bytes <= frame.len();
    // A datagram without a checksum cannot be believed here (and is none over IPv6): the stack's business.
    if !whole || field(6) == 0 {
        return Err(Verdict::PassFraming);
    }
    if bytes < UDP_BYTES {
        return Err(Verdict::PassMalformed);
    }
    Ok(Datagram {
        from: SocketAddr::new(from, field(0)),
        to: SocketAddr::new(own.ip().to_canonical(), own.port()),
        udp: at..at + bytes,
    })
}

impl Datagram {
    /// The UDP payload.
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        &frame[self.udp.start + UDP_BYTES..self.udp.end]
    }

    /// F1: the checksum field is the pseudo-header's sum, as a local virtual peer leaves it, or the sum
    /// over everything is right. (A zero field did not get past [`parse`].)
    pub fn checksum_is_right(&self, frame: &[u8]) -> bool {
        let udp = &frame[self.udp.clone()];
        let field = u16::from_be_bytes([udp[6], udp[7]]);
        let sum = pseudo_sum(self.from.ip(), self.to.ip(), udp.len());
        field == fold(sum) || fold(sum + sum_of(udp)) == 0xffff
    }

    /// Whether the checksum field covers the pseudo-header only.
    pub fn checksum_is_partial(&self, frame: &[u8]) -> bool {
        be16(frame, self.udp.start + 6)
            == Some(fold(pseudo_sum(self.from.ip(), self.to.ip(), self.udp.len())))
    }

    /// The frame that answers `frame` with `header` alone: addresses and ports swapped, TOS or traffic
    /// class, flow label and IPv4 id kept, all else as a fresh packet.
    pub fn reply(&self, frame: &[u8], header: &Header, checksum: Checksum) -> Vec<u8> {
        let udp_bytes = UDP_BYTES + abi::HEADER_BYTES;
        let mut out = frame[..self.udp.start].to_vec();
        out[..6].copy_from_slice(&frame[6..12]);
        out[6..12].copy_from_slice(&frame[..6]);
        let ip = &mut out[ETHERNET_BYTES..];
        match (self.to.ip(), self.from.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let total_bytes = (IPV4_BYTES + udp_bytes) as u16;
                ip[2..4].copy_from_slice(&total_bytes.to_be_bytes());
                ip[8] = REPLY_HOPS;
                ip[12..16].copy_from_slice(&src.octets());
                ip[16..20].copy_from_slice(&dst.octets());
                seal_ipv4(ip);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                ip[4..6].copy_from_slice(&(udp_bytes as u16).to_be_bytes());
                ip[7] = REPLY_HOPS;
                ip[8..24].copy_from_slice(&src.octets());
                ip[24..40].copy_from_slice(&dst.octets());
            }
            _ => unreachable!("both ends of a frame are of one family"),
        }
        push_udp(&mut out, self.to, self.from, header.as_bytes(), checksum);
        out
    }
}

/// A frame with `payload` in one UDP datagram, as a well-behaved stack sends it.
///
/// # Panics
/// If the two addresses are not of one family.
pub fn build(
    macs: [Mac; 2],
    from: SocketAddr,
    to: SocketAddr,
    payload: &[u8],
    checksum: Checksum,
) -> Vec<u8> {
    let [src_mac, dst_mac] = macs;
    let mut out = [dst_mac, src_mac].concat();
    let udp_bytes = (UDP_BYTES + payload.len()) as u16;
    match (from.ip(), to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total_bytes = IPV4_BYTES as u16 + udp_bytes;
            out.extend(ETHERTYPE_IPV4.to_be_bytes());
            out.extend([0x45, 0]);
            out.extend(total_bytes.to_be_bytes());
            out.extend([0x12, 0x34, 0x40, 0, REPLY_HOPS, PROTOCOL_UDP, 0, 0]);
            out.extend(src.octets());
            out.extend(dst.octets());
            seal_ipv4(&mut out[ETHERNET_BYTES..]);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            out.extend(ETHERTYPE_IPV6.to_be_bytes());
            out.extend([0x60, 0, 0, 0]);
            out.extend(udp_bytes.to_be_bytes());
            out.extend([PROTOCOL_UDP, REPLY_HOPS]);
            out.extend(src.octets());
            out.extend(dst.octets());
        }
        _ => panic!("{from} and {to} are not of one family"),
    }
    push_udp(&mut out, from, to, payload, checksum);
    out
}

fn push_udp(out: &mut Vec<u8>, from: SocketAddr, to: SocketAddr, payload: &[u8], checksum: Checksum) {
    let start = out.len();
    let bytes = UDP_BYTES + payload.len();
    for field in [from.port(), to.port(), bytes as u16, 0] {
        out.extend(field.to_be_bytes());
    }
    out.extend(payload);
    let pseudo = pseudo_sum(from.ip(), to.ip(), bytes);
    let field = match checksum {
        Checksum::Zero => 0,
        Checksum::Partial => fold(pseudo),
        // Zero would mean "no checksum"; the other zero of one's complement says the same sum.
        Checksum::Full => match !fold(pseudo + sum_of(&out[start..])) {
            0 => 0xffff,
            sum => sum,
        },
    };
    out[start + 6..start + 8].copy_from_slice(&field.to_be_bytes());
}

/// Writes the checksum of an IPv4 header without options.
pub fn seal_ipv4(ip: &mut [u8]) {
    ip[10..12].fill(0);
    let sum = !fold(sum_of(&ip[..IPV4_BYTES]));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn pseudo_sum(from: IpAddr, to: IpAddr, udp_bytes: usize) -> u64 {
    let addr = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => sum_of(&ip.octets()),
        IpAddr::V6(ip) => sum_of(&ip.octets()),
    };
    addr(from) + addr(to) + u64::from(PROTOCOL_UDP) + udp_bytes as u64
}

fn sum_of(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).copied().map(u16::from_be_bytes)
}
