//! What is on the hooks of this network namespace now: anybody's programs, Electrode's endpoints among them,
//! and what a process that died has left.
//!
//! Reading is all that happens here, but for `sweep`, which removes what is ours and nobody's.

#[cfg(feature = "ebpf")]
mod installed;
#[cfg(feature = "ebpf")]
mod object;
#[cfg(feature = "ebpf")]
mod owner;
#[cfg(feature = "ebpf")]
mod sweep;
#[cfg(feature = "ebpf")]
mod tcx;

use std::fmt;

use serde::Serialize;

#[cfg(feature = "ebpf")]
pub use self::installed::{Gate, Identity, Installed, installed, network_namespace};
#[cfg(feature = "ebpf")]
pub use self::object::{ObjectKind, still_loaded};
#[cfg(feature = "ebpf")]
pub use self::owner::{Owners, Process};
#[cfg(feature = "ebpf")]
pub use self::sweep::{Sweep, sweep};

use crate::error::{Error, Result};
use crate::net::{ClsactFilter, Direction, Interface, Netlink, XdpMode, clsact_filters};

/// Where a program is attached.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachedTo {
    /// XDP in the driver.
    Xdp,
    /// XDP in the stack.
    XdpGeneric,
    /// XDP on the card.
    XdpOffload,
    /// TC by a tcx link (or program).
    Tcx,
    /// TC by a filter on a clsact qdisc.
    Clsact,
}

impl AttachedTo {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::XdpOffload => "xdp-offload",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// A program on a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Interface.
    pub interface: String,
    /// Its kernel index.
    pub ifindex: u32,
    /// Mechanism.
    pub hook: AttachedTo,
    /// Which packets it sees.
    pub direction: Direction,
    /// Program id, as `bpftool prog` lists it.
    pub program_id: u32,
    /// Name of the program; `None` without the right to look.
    pub program: Option<String>,
    /// One of Electrode's, by the names of the program and of its maps.
    pub electrode: bool,
    /// Handle and priority of a clsact filter.
    #[serde(skip)]
    pub(crate) filter: Option<(u32, u32)>,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        write!(f, "{} {} {direction}: program {}", self.interface, self.hook.name(), self.program_id)?;
        match &self.program {
            Some(name) if self.electrode => write!(f, " {name} (Electrode)"),
            Some(name) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

/// Programs on the hooks of one interface. tcx can be listed only with privileges, and in a build with
/// kernel programs.
pub fn on_interface(interface: &Interface) -> Result<Vec<Attachment>> {
    let attachment = |hook, direction, program_id, filter, name: Option<String>| {
        let known = look_at(program_id);
        Attachment {
            interface: interface.name.clone(),
            ifindex: interface.index,
            hook,
            direction,
            program_id,
            electrode: known.as_ref().is_some_and(|(_, electrode)| *electrode),
            program: known.map(|(name, _)| name).or(name),
            filter,
        }
    };
    let mut found = Vec::new();
    for program in &interface.xdp {
        let hook = match program.mode {
            XdpMode::Native => AttachedTo::Xdp,
            XdpMode::Generic => AttachedTo::XdpGeneric,
            XdpMode::Offloaded => AttachedTo::XdpOffload,
        };
        found.push(attachment(hook, Direction::Ingress, program.id, None, None));
    }
    for direction in [Direction::Ingress, Direction::Egress] {
        let ids = tcx_programs(interface.index, direction);
        found.extend(ids.into_iter().map(|id| attachment(AttachedTo::Tcx, direction, id, None, None)));
    }
    let filters = Netlink::open()
        .and_then(|mut netlink| clsact_filters(&mut netlink, interface.index))
        .map_err(Error::io("listing clsact filters"))?;
    for ClsactFilter { direction, handle, priority, program } in filters {
        if let Some(program) = program {
            let place = Some((handle, priority));
            found.push(attachment(AttachedTo::Clsact, direction, program.id, place, Some(program.name)));
        }
    }
    Ok(found)
}

/// Programs on all hooks of this thread's network namespace.
pub fn attachments() -> Result<Vec<Attachment>> {
    let mut found = Vec::new();
    for interface in Interface::all()? {
        found.extend(on_interface(&interface)?);
    }
    Ok(found)
}

/// Name of a program and whether it is one of Electrode's; `None` without the right to look.
#[cfg(feature = "ebpf")]
fn look_at(program_id: u32) -> Option<(String, bool)> {
    let program = object::Program::by_id(program_id).ok()?;
    let electrode = object::is_electrode(&program);
    Some((program.name, electrode))
}

#[cfg(not(feature = "ebpf"))]
fn look_at(_program_id: u32) -> Option<(String, bool)> {
    None
}

#[cfg(feature = "ebpf")]
fn tcx_programs(ifindex: u32, direction: Direction) -> Vec<u32> {
    // Kernels before 6.6 have no such hook, and others may not look.
    tcx::programs(ifindex, direction).unwrap_or_default()
}

#[cfg(not(feature = "ebpf"))]
fn tcx_programs(_ifindex: u32, _direction: Direction) -> Vec<u32> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_can_be_asked_without_privileges() {
        let lo = Interface::all().unwrap().into_iter().find(|i| i.loopback).unwrap();
        let found = on_interface(&lo).unwrap();
        assert!(found.iter().all(|a| !a.electrode), "no endpoint is ever on lo: {found:?}");
    }

    #[test]
    fn an_attachment_reads_well() {
        let mut attachment = Attachment {
            interface: "eth0".into(),
            ifindex: 2,
            hook: AttachedTo::Clsact,
            direction: Direction::Egress,
            program_id: 7,
            program: Some("elec_tx".into()),
            electrode: true,
            filter: Some((1, 49152)),
        };
        assert_eq!(attachment.to_string(), "eth0 clsact egress: program 7 elec_tx (Electrode)");
        (attachment.program, attachment.electrode) = (None, false);
        assert_eq!(attachment.to_string(), "eth0 clsact egress: program 7");
    }
}
