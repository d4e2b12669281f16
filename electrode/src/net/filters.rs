//! Filters on clsact qdiscs, anybody's: where TC programs live before tcx (6.6).

use std::io;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};
use serde::{Deserialize, Serialize};

use super::Netlink;

/// Which way the packets go that a program sees.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Into this host.
    Ingress,
    /// Out of it.
    Egress,
}

/// A filter on an interface's clsact qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClsactFilter {
    pub direction: Direction,
    pub handle: u32,
    pub priority: u32,
    /// The program, if it is a BPF filter.
    pub program: Option<FilterProgram>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterProgram {
    pub id: u32,
    /// As whoever attached it named it: libbpf writes `name:[id]`.
    pub name: String,
}

/// Major of TC_H_CLSACT, and the minors of its two halves.
const CLSACT: u16 = 0xffff;
const HALVES: [(Direction, u16); 2] = [(Direction::Ingress, 0xfff2), (Direction::Egress, 0xfff3)];

/// All filters on the interface's clsact qdisc; none if it has no such qdisc.
pub(crate) fn clsact_filters(netlink: &mut Netlink, ifindex: u32) -> io::Result<Vec<ClsactFilter>> {
    let mut filters = Vec::new();
    for (direction, minor) in HALVES {
        let mut message = TcMessage::with_index(ifindex as i32);
        message.header.parent = TcHandle { major: CLSACT, minor };
        let answers = netlink.request(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)?;
        filters.extend(answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(filter) => Some(from_message(direction, &filter)),
            _ => None,
        }));
    }
    Ok(filters)
}

/// Removes one BPF filter by its place; the caller knows whose it is.
#[cfg(feature = "ebpf")]
pub(crate) fn remove_clsact_filter(
    netlink: &mut Netlink,
    ifindex: u32,
    direction: Direction,
    handle: u32,
    priority: u32,
) -> io::Result<()> {
    let mut message = TcMessage::with_index(ifindex as i32);
    let minor = HALVES.iter().find(|(half, _)| *half == direction).map_or(0, |(_, minor)| *minor);
    message.header.parent = TcHandle { major: CLSACT, minor };
    message.header.handle = handle.into();
    message.header.info = priority << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
    message.attributes.push(TcAttribute::Kind("bpf".into()));
    netlink.request(RouteNetlinkMessage::DelTrafficFilter(message), netlink_packet_core::NLM_F_ACK)?;
    Ok(())
}

/// Removes the interface's clsact qdisc if no filter is left on it, anybody's; tells whether it did.
#[cfg(feature = "ebpf")]
pub(crate) fn remove_clsact_if_empty(netlink: &mut Netlink, ifindex: u32) -> io::Result<bool> {
    if !clsact_filters(netlink, ifindex)?.is_empty() {
        return Ok(false);
    }
    let mut message = TcMessage::with_index(ifindex as i32);
    message.header.parent = TcHandle { major: CLSACT, minor: 0xfff1 };
    message.header.handle = TcHandle { major: CLSACT, minor: 0 };
    message.attributes.push(TcAttribute::Kind("clsact".into()));
    match netlink.request(RouteNetlinkMessage::DelQueueDiscipline(message), netlink_packet_core::NLM_F_ACK) {
        Ok(_) => Ok(true),
        // There is none, or a qdisc of another kind in its place.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(false),
        Err(e) => Err(e),
    }
}

fn from_message(direction: Direction, message: &TcMessage) -> ClsactFilter {
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options.as_slice()),
        _ => None,
    });
    let (mut id, mut name) = (None, String::new());
    for option in options.unwrap_or_default() {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(found)) => id = Some(*found),
            TcOption::Bpf(TcFilterBpfOption::ProgName(found)) => name.clone_from(found),
            _ => {}
        }
    }
    ClsactFilter {
        direction,
        handle: u32::from(message.header.handle),
        // tcm_info is priority and protocol.
        priority: message.header.info >> 16,
        program: id.map(|id| FilterProgram { id, name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_from_other_filters() {
        let mut message = TcMessage::with_index(3);
        message.header.info = 49152 << 16 | 0x0300;
        message.header.handle = TcHandle { major: 0, minor: 1 };
        let plain = from_message(Direction::Egress, &message);
        assert_eq!((plain.priority, plain.handle, plain.program), (49152, 1, None));
        message.attributes.push(TcAttribute::Options(vec![
            TcOption::Bpf(TcFilterBpfOption::ProgName("elec_tx:[7]".into())),
            TcOption::Bpf(TcFilterBpfOption::ProgId(7)),
        ]));
        let program = from_message(Direction::Egress, &message).program.unwrap();
        assert_eq!((program.id, program.name.as_str()), (7, "elec_tx:[7]"));
    }

    #[test]
    fn an_interface_without_the_qdisc_has_no_filters() {
        assert_eq!(clsact_filters(&mut Netlink::open().unwrap(), 1).unwrap(), []);
    }
}
