//! Electrode's endpoints on the hooks of this network namespace: who they are, how their gate stands, what
//! they have counted.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use electrode_bpf::types::{elec_config, elec_control, elec_params};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::object::{Maps, Program};
use super::owner::{Holders, Owners};
use super::{Attachment, attachments};
use crate::abi::Verdict;
use crate::clock::monotonic_ns;
use crate::config::Offloads;
use crate::error::{Error, Result};
use crate::words::{GateState, GateWord};

/// One endpoint whose programs are on hooks.
#[derive(Clone, Debug, Serialize)]
pub struct Installed {
    /// Its programs.
    pub attachments: Vec<Attachment>,
    /// Who holds it; nobody does if its process died.
    pub owners: Owners,
    /// Who it is; `None` if another version of the library loaded it.
    pub identity: Option<Identity>,
    /// Its gate; `None` as above.
    pub gate: Option<Gate>,
    /// Verdicts so far, all CPUs together; empty as above.
    #[serde(serialize_with = "by_name")]
    pub counters: Vec<(Verdict, u64)>,
}

/// Who an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Consensus group.
    pub group: u32,
    /// Own index.
    pub member: u8,
    /// Size of the group.
    pub members: u8,
    /// Own address.
    pub addr: SocketAddr,
    /// This life of the replica.
    pub incarnation: u32,
    /// Its group has keys (F4); which ones, nobody tells.
    pub authenticated: bool,
    /// What the kernel does for it.
    pub offloads: Offloads,
}

/// How a gate stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// `frozen`, `follow` or `lead`.
    pub state: &'static str,
    /// Number of this opening.
    pub epoch: u16,
    /// View of this opening, or of the last one if it is frozen.
    pub view: u64,
    /// Leader of that view.
    pub leader: u8,
    /// Its tail: last op in the kernel's log.
    pub op: u64,
    /// Milliseconds until its lease runs out, below zero: since it has. `None`: it needs no lease (F2).
    pub lease_ms: Option<i64>,
}

/// Inode of this thread's network namespace, as `readlink /proc/PID/ns/net` shows it.
pub fn network_namespace() -> Result<u64> {
    let namespace = std::fs::metadata("/proc/thread-self/ns/net");
    Ok(namespace.map_err(Error::io("looking at /proc/thread-self/ns/net"))?.ino())
}

/// Endpoints whose programs are on hooks of this network namespace. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN.
pub fn installed() -> Result<Vec<Installed>> {
    crate::backend::ebpf::object::quiet_libbpf();
    let capabilities = crate::probe::Capabilities::probe();
    for name in ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"] {
        if !capabilities.held.contains(&name) {
            return Err(Error::Kernel {
                what: "list the programs in the kernel".into(),
                reason: format!("this process lacks {name}"),
                hint: "run as root".into(),
            });
        }
    }
    let holders = Holders::read(Path::new("/proc")).map_err(Error::io("reading /proc"))?;
    let mut found: Vec<(u32, Installed)> = Vec::new();
    for attachment in attachments()?.into_iter().filter(|a| a.electrode) {
        // It may have gone since it was listed.
        let Ok(program) = Program::by_id(attachment.program_id) else { continue };
        let Some(maps) = Maps::of(&program) else { continue };
        let id = maps.control_id;
        if !found.iter().any(|(known, _)| *known == id) {
            found.push((id, describe(&maps)));
        }
        let (_, endpoint) = found.iter_mut().find(|(known, _)| *known == id).expect("just put there");
        endpoint.attachments.push(attachment);
    }
    for (control_id, endpoint) in &mut found {
        // The constants and scratch maps are nobody's to hold; the control map the owner keeps open.
        let programs: Vec<_> = endpoint.attachments.iter().map(|a| a.program_id).collect();
        endpoint.owners = holders.owners(&programs, &[*control_id]);
    }
    Ok(found.into_iter().map(|(_, endpoint)| endpoint).collect())
}

fn describe(maps: &Maps) -> Installed {
    let params = maps.params();
    let leased = params.as_ref().is_some_and(|p| p.lease_required != 0);
    Installed {
        attachments: Vec::new(),
        owners: Owners::default(),
        gate: params
            .as_ref()
            .and(maps.control().zip(maps.config()))
            .map(|(control, config)| gate(&control, &config, leased, monotonic_ns())),
        identity: params.as_ref().map(identity),
        counters: maps.counters().unwrap_or_default(),
    }
}

fn identity(params: &elec_params) -> Identity {
    let ip = Ipv6Addr::from(params.addr);
    let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
    Identity {
        group: params.group,
        member: params.slf,
        members: params.members,
        addr: SocketAddr::new(ip, u16::from_be(params.port_be)),
        incarnation: params.incarnation,
        authenticated: params.authenticated != 0,
        offloads: Offloads {
            broadcast: params.offload_broadcast != 0,
            fast_ack: params.offload_fast_ack != 0,
            quorum: params.offload_quorum != 0,
        },
    }
}

fn gate(control: &elec_control, config: &elec_config, leased: bool, now_ns: u64) -> Gate {
    let word = GateWord::unpack(control.gate);
    Gate {
        state: match word.state {
            GateState::Frozen => "frozen",
            GateState::Follow => "follow",
            GateState::Lead => "lead",
        },
        epoch: word.epoch.0,
        view: config.view,
        leader: config.leader as u8,
        op: word.op.0,
        lease_ms: leased.then(|| (control.lease_ns.wrapping_sub(now_ns) as i64) / 1_000_000),
    }
}

fn by_name<S: Serializer>(counters: &[(Verdict, u64)], to: S) -> std::result::Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(counters.len()))?;
    for (verdict, count) in counters {
        map.serialize_entry(verdict.name(), count)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Epoch, OpNumber};

    #[test]
    fn an_endpoint_is_known_by_its_constants() {
        let params = elec_params {
            group: 3,
            slf: 1,
            members: 5,
            port_be: 7000u16.to_be(),
            addr: std::net::Ipv4Addr::new(10, 76, 0, 2).to_ipv6_mapped().octets(),
            offload_quorum: 1,
            ..Default::default()
        };
        let identity = identity(&params);
        assert_eq!(identity.addr, "10.76.0.2:7000".parse().unwrap());
        assert_eq!((identity.group, identity.member, identity.members), (3, 1, 5));
        assert!(identity.offloads.quorum && !identity.offloads.broadcast);
    }

    #[test]
    fn a_lease_counts_down_and_past_zero() {
        let word = GateWord { state: GateState::Follow, busy: false, epoch: Epoch(4), op: OpNumber(9) };
        let control = elec_control { gate: word.pack(), lease_ns: 5_000_000_000, ..Default::default() };
        let config = elec_config { view: 12, leader: 2, ..Default::default() };
        let read = |leased, now| gate(&control, &config, leased, now);
        assert_eq!(read(true, 4_000_000_000).lease_ms, Some(1000));
        assert_eq!(read(true, 7_000_000_000).lease_ms, Some(-2000));
        assert_eq!(read(false, 0).lease_ms, None);
        let gate = read(false, 0);
        assert_eq!((gate.state, gate.epoch, gate.view, gate.leader, gate.op), ("follow", 4, 12, 2, 9));
    }
}
