//! Effective capabilities of this thread, by name.

use std::fs;

use serde::Serialize;

const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// Those that matter to the fast path.
const NAMED: [(&str, u32); 4] =
    [("CAP_BPF", BPF), ("CAP_NET_ADMIN", NET_ADMIN), ("CAP_PERFMON", PERFMON), ("CAP_SYS_ADMIN", SYS_ADMIN)];

/// What this thread may do. Capabilities of a user namespace look the same and do not count for programs:
/// that is what the trial load is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Names of those that matter and are held.
    pub held: Vec<&'static str>,
    /// What is missing, as a sentence names it.
    pub missing: Vec<&'static str>,
}

impl Capabilities {
    pub(crate) fn probe() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Self::of(effective(&status).unwrap_or(0))
    }

    fn of(effective: u64) -> Self {
        let has = |bit: u32| effective >> bit & 1 == 1;
        let held = NAMED.iter().filter(|(_, bit)| has(*bit)).map(|(name, _)| *name).collect();
        let mut missing = Vec::new();
        // CAP_SYS_ADMIN stands in for the two that were split off it in 5.8, not for CAP_NET_ADMIN.
        if !has(BPF) && !has(SYS_ADMIN) {
            missing.push("CAP_BPF (or CAP_SYS_ADMIN)");
        }
        if !has(NET_ADMIN) {
            missing.push("CAP_NET_ADMIN");
        }
        // Without it the verifier guards against speculation, and refuses pointers that loops advance.
        if !has(PERFMON) && !has(SYS_ADMIN) {
            missing.push("CAP_PERFMON (or CAP_SYS_ADMIN)");
        }
        Self { held, missing }
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
        let old = Capabilities::of(1 << SYS_ADMIN | 1 << NET_ADMIN);
        assert!(old.missing.is_empty(), "{old:?}");
        let new = Capabilities::of(1 << BPF | 1 << PERFMON | 1 << NET_ADMIN);
        assert!(new.missing.is_empty(), "{new:?}");
        assert_eq!(Capabilities::of(1 << SYS_ADMIN).missing, ["CAP_NET_ADMIN"]);
        assert_eq!(Capabilities::of(1 << BPF | 1 << NET_ADMIN).missing, ["CAP_PERFMON (or CAP_SYS_ADMIN)"]);
    }
}
