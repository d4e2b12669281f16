//! What the running kernel says about itself.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::trial::{self, Trial};

/// Oldest kernel for the fast path: compare-and-swap, `bpf_xdp_load_bytes`, links.
pub const FLOOR: (u32, u32) = (6, 1);
/// Oldest kernel with tcx links; before it TC programs are filters on a clsact qdisc.
pub const TCX: (u32, u32) = (6, 6);

/// The running kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// Major and minor, if the release could be read.
    pub version: Option<(u32, u32)>,
    /// Whether the version is at least [`FLOOR`].
    pub new_enough: bool,
    /// How TC programs are attached: `tcx` or `clsact`.
    pub tc: &'static str,
    /// Type information of the kernel is there. The programs need none; tools that look into them do.
    pub btf: bool,
    /// `net.core.bpf_jit_enable`; `None`: not readable here.
    pub jit: Option<u32>,
    /// `kernel.unprivileged_bpf_disabled`; `None`: not readable here.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// RLIMIT_MEMLOCK in bytes, `None`: unlimited. Maps have not counted against it since 5.11.
    pub memlock_bytes: Option<u64>,
    /// Whether a program of two instructions loads.
    pub trial: Trial,
}

impl Kernel {
    pub(super) fn probe() -> Self {
        let release = release();
        let version = parse_version(&release);
        Self {
            version,
            new_enough: version.is_some_and(|v| v >= FLOOR),
            tc: if version.is_some_and(|v| v >= TCX) { "tcx" } else { "clsact" },
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            jit: read_number("/proc/sys/net/core/bpf_jit_enable"),
            unprivileged_bpf_disabled: read_number("/proc/sys/kernel/unprivileged_bpf_disabled"),
            memlock_bytes: memlock_bytes(),
            trial: trial::load(),
            release,
        }
    }

    /// Lines for people: a fact, and what it means.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let floor = format!("{}.{}", FLOOR.0, FLOOR.1);
        let version = match (self.version, self.new_enough) {
            (None, _) => format!("{}: not understood; {floor} or later is needed", self.release),
            (_, false) => format!("{}: too old, {floor} or later is needed", self.release),
            (_, true) => format!("{} ({floor} or later is needed)", self.release),
        };
        let tc = match self.tc {
            "tcx" => "tcx links, which go away with their process".to_owned(),
            _ => "clsact filters, for tcx needs 6.6; a lease and `elecctl detach` see to crashes".to_owned(),
        };
        let jit = match self.jit {
            Some(0) => "off: programs are interpreted and slow; `sysctl net.core.bpf_jit_enable=1`".into(),
            Some(_) => "on".into(),
            None => "not readable here (it belongs to root in the first network namespace)".into(),
        };
        let unprivileged = match self.unprivileged_bpf_disabled {
            Some(0) => "allowed, which makes no difference: these programs always need capabilities",
            Some(_) => "forbidden, so that only capabilities help",
            None => "not readable here",
        };
        let memlock = match self.memlock_bytes {
            None => "unlimited".to_owned(),
            Some(bytes) => {
                format!("{} KiB, which does not matter: maps have not counted since 5.11", bytes / 1024)
            }
        };
        let btf = if self.btf { "present" } else { "absent; the programs do without, tools may not" };
        vec![
            ("kernel", version),
            ("TC programs", tc),
            ("trial program", self.trial.to_string()),
            ("JIT", jit),
            ("kernel BTF", btf.to_owned()),
            ("unprivileged BPF", unprivileged.to_owned()),
            ("memlock limit", memlock),
        ]
    }
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Version of the running kernel.
pub fn kernel_version() -> Option<(u32, u32)> {
    parse_version(&release())
}

/// Major and minor of a release such as `6.1.0-18-amd64` or `6.18-rc1`.
fn parse_version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..digits].parse().ok()?))
}

fn read_number(path: &str) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn memlock_bytes() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid pointer to a struct of the right kind.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        for (release, version) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("6.18.44-fc-v657", Some((6, 18))),
            ("7.3-rc2", Some((7, 3))),
            ("5.10.0+", Some((5, 10))),
            ("10.0", Some((10, 0))),
            ("", None),
            ("linux", None),
            ("6.x", None),
        ] {
            assert_eq!(parse_version(release), version, "{release}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(parse_version("6.10.1").unwrap() > TCX);
        assert!(parse_version("5.15.0").unwrap() < FLOOR);
    }
}
