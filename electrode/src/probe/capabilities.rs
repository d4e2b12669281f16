//! Effective capabilities of this thread, by name.

use std::fmt;
use std::fs;

use serde::Serialize;

use crate::privileges::{Capability, NEEDED, SYS_ADMIN};

/// What this thread may do. Capabilities of a user namespace look the same and do not count for programs:
/// that is what the trial load is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Names of those that matter and are held.
    pub held: Vec<&'static str>,
    /// Those that opening an endpoint with kernel programs needs, what for, and whether they are held.
    pub needed: Vec<Need>,
    /// Names of those that are needed and not held; CAP_SYS_ADMIN stands in for all but CAP_NET_ADMIN.
    pub missing: Vec<&'static str>,
}

/// A capability that is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Which, and what for.
    #[serde(flatten)]
    pub capability: Capability,
    /// This thread has it.
    pub held: bool,
}

impl Capabilities {
    pub(crate) fn probe() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Self::of(effective(&status).unwrap_or(0))
    }

    pub(super) fn of(effective: u64) -> Self {
        let has = |bit: u32| effective >> bit & 1 == 1;
        let mut held: Vec<_> = NEEDED.iter().filter(|c| has(c.number)).map(|c| c.name).collect();
        if has(SYS_ADMIN) {
            held.push("CAP_SYS_ADMIN");
        }
        let lacks = |c: &&Capability| !(has(c.number) || c.in_sys_admin && has(SYS_ADMIN));
        let missing = NEEDED.iter().filter(lacks).map(|c| c.name).collect();
        let needed = NEEDED.map(|capability| Need { capability, held: has(capability.number) }).to_vec();
        Self { held, needed, missing }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = if self.held { "held" } else { "not held" };
        write!(f, "{} ({held}): {}", self.capability.name, self.capability.purpose)
    }
}

/// The bits of CapEff in `/proc/<pid>/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privileges::{BPF, NET_ADMIN, PERFMON};

    #[test]
    fn the_line_of_proc_is_read() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("CapPrm:\t0000000000000001\n"), None);
        assert_eq!(effective("CapEff:\tzz\n"), None);
    }

    #[test]
    fn root_lacks_nothing_and_nobody_lacks_all() {
        assert!(Capabilities::of(u64::MAX).missing.is_empty());
        let none = Capabilities::of(0);
        assert!(none.held.is_empty());
        assert_eq!(none.missing.len(), 3);
    }

    #[test]
    fn sys_admin_stands_in_for_what_was_split_off_it() {
        let old = Capabilities::of(1 << SYS_ADMIN | NET_ADMIN.bit());
        assert!(old.missing.is_empty(), "{old:?}");
        let new = Capabilities::of(BPF.bit() | PERFMON.bit() | NET_ADMIN.bit());
        assert!(new.missing.is_empty(), "{new:?}");
        assert_eq!(Capabilities::of(1 << SYS_ADMIN).missing, ["CAP_NET_ADMIN"]);
        assert_eq!(Capabilities::of(BPF.bit() | NET_ADMIN.bit()).missing, ["CAP_PERFMON"]);
    }
}
