//! What each interface can carry, and who is on its hooks already.

use serde::Serialize;

use crate::inspect::{self, Attachment};
use crate::net::{Interface, XdpMode, native_xdp};

/// One interface as `auto` would see it.
#[derive(Clone, Debug, Serialize)]
pub struct InterfaceReport {
    /// Name.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// Kind of a software device; `None` for hardware and loopback.
    pub kind: Option<String>,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Frames carry an Ethernet header.
    pub ethernet: bool,
    /// It is switched on.
    pub up: bool,
    /// Whether its driver has native XDP; `None`: this kernel does not tell (6.3 and later do).
    pub native_xdp: Option<bool>,
    /// Programs on its hooks, anybody's.
    pub programs: Vec<Attachment>,
    /// Hook that `auto` would choose: `xdp`, `tc`, or `none`.
    pub hook: &'static str,
    /// Why that hook.
    pub reason: String,
}

impl InterfaceReport {
    pub(super) fn of(interface: &Interface) -> Self {
        let native_xdp = native_xdp(interface.index);
        let (hook, reason) = choose_hook(interface, native_xdp);
        Self {
            name: interface.name.clone(),
            index: interface.index,
            kind: interface.kind.clone(),
            mtu: interface.mtu,
            ethernet: interface.ethernet,
            up: interface.up,
            native_xdp,
            // What cannot be listed without privileges is left out here and named there.
            programs: inspect::on_interface(interface).unwrap_or_default(),
            hook,
            reason,
        }
    }

    /// Lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let kind = match (&self.kind, self.ethernet) {
            (Some(kind), _) => kind.as_str(),
            (None, true) => "hardware",
            (None, false) => "no Ethernet",
        };
        let state = if self.up { "" } else { ", down" };
        let mut lines = vec![format!(
            "{} ({kind}, MTU {}{state}): hook {}: {}",
            self.name, self.mtu, self.hook, self.reason
        )];
        lines.extend(self.programs.iter().map(|program| format!("  already there: {program}")));
        lines
    }
}

/// The choice of `auto` for the ingress program, without attaching anything.
fn choose_hook(interface: &Interface, native_xdp: Option<bool>) -> (&'static str, String) {
    if !interface.ethernet {
        return ("none", "it carries no Ethernet frames, so that only sockets work here".into());
    }
    if let Some(reason) = interface.prefers_tc() {
        return ("tc", format!("{reason}, where TC is the faster hook"));
    }
    if let Some(taken) = interface.xdp.iter().find(|p| p.mode != XdpMode::Offloaded) {
        return ("tc", format!("XDP is taken by program {}, which stays there", taken.id));
    }
    match native_xdp {
        Some(true) => ("xdp", "its driver has native XDP".into()),
        Some(false) => ("tc", "its driver has no native XDP".into()),
        None => ("xdp", "hardware; TC takes over if its driver refuses native XDP".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::XdpProgram;

    fn interface(kind: Option<&str>) -> Interface {
        Interface {
            index: 2,
            name: "eth0".into(),
            mtu: 1500,
            ethernet: true,
            loopback: false,
            kind: kind.map(str::to_owned),
            up: true,
            xdp: Vec::new(),
        }
    }

    #[test]
    fn every_kind_of_interface_has_its_hook() {
        assert_eq!(choose_hook(&interface(Some("veth")), Some(true)).0, "tc");
        assert_eq!(choose_hook(&interface(None), Some(true)).0, "xdp");
        assert_eq!(choose_hook(&interface(None), Some(false)).0, "tc");
        assert_eq!(choose_hook(&interface(None), None).0, "xdp");
        let tunnel = Interface { ethernet: false, ..interface(Some("wireguard")) };
        assert_eq!(choose_hook(&tunnel, None).0, "none");
    }

    #[test]
    fn a_hook_that_is_taken_is_left_alone() {
        let xdp = vec![XdpProgram { mode: XdpMode::Native, id: 77 }];
        let taken = Interface { xdp, ..interface(None) };
        let (hook, reason) = choose_hook(&taken, Some(true));
        assert_eq!(hook, "tc");
        assert!(reason.contains("program 77"), "{reason}");
    }
}
