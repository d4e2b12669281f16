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
