//! Whether a driver has native XDP: the generic netlink family `netdev` (Linux 6.3 and later) tells, without
//! attaching anything.

use std::io;

use netlink_packet_core::{NlaBuffer, NlasIterator};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// The driver can pass, drop and turn round (NETDEV_XDP_ACT_BASIC).
const ACT_BASIC: u64 = 1;

const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// struct nlmsghdr and struct genlmsghdr.
const HEADERS_BYTES: usize = 16 + 4;

/// `None`: this kernel does not tell.
pub(crate) fn native_xdp(ifindex: u32) -> Option<bool> {
    let features = || -> io::Result<Option<u64>> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let answer =
            ask(&socket, &request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0"))?;
        let Some(family) = number(&answer, CTRL_ATTR_FAMILY_ID) else { return Ok(None) };
        let answer = ask(
            &socket,
            &request(family as u16, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes()),
        )?;
        Ok(number(&answer, NETDEV_A_DEV_XDP_FEATURES))
    };
    features().ok().flatten().map(|features| features & ACT_BASIC != 0)
}

/// A request with one attribute.
fn request(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let attribute_bytes = 4 + value.len();
    let bytes = HEADERS_BYTES + attribute_bytes.next_multiple_of(4);
    let mut packet = Vec::with_capacity(bytes);
    packet.extend((bytes as u32).to_ne_bytes());
    packet.extend(family.to_ne_bytes());
    packet.extend(NLM_F_REQUEST.to_ne_bytes());
    packet.extend([0; 8]); // sequence number and port
    packet.extend([command, 1, 0, 0]);
    packet.extend((attribute_bytes as u16).to_ne_bytes());
    packet.extend(attribute.to_ne_bytes());
    packet.extend(value);
    packet.resize(bytes, 0);
    packet
}

/// The attributes of the answer.
fn ask(socket: &Socket, request: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(request, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let kind = answer.get(4..6).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    if kind.is_none() || kind == Some(NLMSG_ERROR) || answer.len() < HEADERS_BYTES {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(answer[HEADERS_BYTES..].to_vec())
}

/// Value of an integer attribute of two to eight bytes.
fn number(attributes: &[u8], wanted: u16) -> Option<u64> {
    let found = NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|nla: &NlaBuffer<&[u8]>| nla.kind() == wanted)?;
    let bytes = found.value();
    match bytes.len() {
        2 => Some(u16::from_ne_bytes(bytes.try_into().ok()?).into()),
        4 => Some(u32::from_ne_bytes(bytes.try_into().ok()?).into()),
        8 => Some(u64::from_ne_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_padded_and_states_its_length() {
        let packet = request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
        assert_eq!(packet.len(), 32);
        assert_eq!(packet[..4], 32u32.to_ne_bytes());
        assert_eq!(packet[20..22], 11u16.to_ne_bytes());
    }

    #[test]
    fn numbers_are_found_among_other_attributes() {
        let mut attributes = Vec::new();
        for (kind, value) in [(1u16, &7u32.to_ne_bytes()[..]), (3, &67u64.to_ne_bytes()[..])] {
            attributes.extend((4 + value.len() as u16).to_ne_bytes());
            attributes.extend(kind.to_ne_bytes());
            attributes.extend(value);
        }
        assert_eq!(number(&attributes, NETDEV_A_DEV_XDP_FEATURES), Some(67));
        assert_eq!(number(&attributes, 9), None);
    }

    #[test]
    fn an_interface_that_does_not_exist_has_no_answer() {
        assert_eq!(native_xdp(u32::MAX >> 1), None);
    }
}
