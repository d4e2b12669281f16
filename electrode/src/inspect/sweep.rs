//! Removing what a process that died has left: clsact filters, the only thing that outlives it.

use serde::Serialize;

use super::{AttachedTo, Attachment, Gate, Installed, Owners, installed};
use crate::error::{Error, Result};
use crate::net::{FilterAt, RawTc};

/// What [`sweep`] did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sweep {
    /// Filters that were nobody's any more.
    pub removed: Vec<Attachment>,
    /// Interfaces whose clsact qdisc was left empty, and removed.
    pub qdiscs_removed: Vec<String>,
    /// What stayed, and why.
    pub kept: Vec<(Attachment, String)>,
    /// What should have gone and did not, and what the kernel said.
    pub failed: Vec<(Attachment, String)>,
}

/// Removes Electrode's clsact filters that no process owns from this network namespace. Other people's
/// filters are not touched. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN.
pub fn sweep() -> Result<Sweep> {
    let error = std::io::Error::from_raw_os_error;
    let mut tc = RawTc::open().map_err(|errno| Error::io("netlink socket")(error(errno)))?;
    let mut sweep = Sweep::default();
    let mut interfaces: Vec<(u32, String)> = Vec::new();
    for Installed { attachments, owners, gate, .. } in installed()? {
        for attachment in attachments {
            if let Err(reason) = is_abandoned(attachment.hook, &owners, gate.as_ref()) {
                sweep.kept.push((attachment, reason));
                continue;
            }
            let (handle, priority) = attachment.filter.unwrap_or_default();
            let Attachment { ifindex, direction, program_id, .. } = attachment;
            match tc.remove_filter(&FilterAt::new(ifindex, direction, handle, priority, program_id)) {
                Ok(false) => sweep.kept.push((attachment, "it has just been removed".into())),
                Ok(true) => {
                    let interface = (attachment.ifindex, attachment.interface.clone());
                    if !interfaces.contains(&interface) {
                        interfaces.push(interface);
                    }
                    sweep.removed.push(attachment);
                }
                Err(errno) => sweep.failed.push((attachment, error(errno).to_string())),
            }
        }
    }
    for (ifindex, name) in interfaces {
        // The process made the qdisc for its filters; with a filter of anybody on it, it stays.
        if tc.remove_qdisc_if_empty(ifindex) == Ok(true) {
            sweep.qdiscs_removed.push(name);
        }
    }
    Ok(sweep)
}

/// Whether an attachment is a dead process's; if not, why it stays.
fn is_abandoned(hook: AttachedTo, owners: &Owners, gate: Option<&Gate>) -> std::result::Result<(), String> {
    if let Some(process) = owners.processes.first() {
        return Err(format!("process {} ({}) owns it", process.pid, process.name));
    }
    if hook != AttachedTo::Clsact {
        return Err("it goes with its link, which somebody still holds".into());
    }
    let Some(gate) = gate else {
        return Err("another version of Electrode loaded it; use that version's elecctl".into());
    };
    // An owner that /proc does not show, in another PID namespace say, still renews its lease (F2).
    if gate.lease_ms.is_some_and(|left| left > 0) {
        return Err("its lease has not run out: the owner may be alive where it cannot be seen".into());
    }
    if owners.unreadable > 0 {
        return Err(format!(
            "the descriptors of {} processes cannot be read, and the owner may be among them: run as root",
            owners.unreadable
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Process;
    use super::*;

    fn gate(lease_ms: Option<i64>) -> Gate {
        Gate { state: "follow", epoch: 1, view: 0, leader: 0, op: 1, lease_ms }
    }

    #[test]
    fn only_what_is_certainly_nobodys_goes() {
        let nobody = Owners::default();
        let process = Process { pid: 7, name: "replica".into() };
        let owned = Owners { processes: vec![process], unreadable: 0 };
        let hidden = Owners { processes: Vec::new(), unreadable: 1 };
        let dead = gate(Some(-600));
        let keeps = |hook, owners: &Owners, gate: Option<&Gate>, why: &str| {
            let reason = is_abandoned(hook, owners, gate).expect_err("must stay");
            assert!(reason.contains(why), "{reason}");
        };
        is_abandoned(AttachedTo::Clsact, &nobody, Some(&dead)).unwrap();
        is_abandoned(AttachedTo::Clsact, &nobody, Some(&gate(None))).unwrap();
        keeps(AttachedTo::Clsact, &owned, Some(&dead), "process 7");
        keeps(AttachedTo::Clsact, &hidden, Some(&dead), "cannot be read");
        keeps(AttachedTo::Clsact, &nobody, Some(&gate(Some(100))), "lease");
        keeps(AttachedTo::Clsact, &nobody, None, "another version");
        keeps(AttachedTo::Tcx, &nobody, Some(&dead), "link");
        keeps(AttachedTo::Xdp, &owned, Some(&dead), "owns it");
    }
}
