//! What tests that need privileges share. Each test binary compiles its own copy and uses a part of it.
#![allow(dead_code)]

#[cfg(feature = "fabric")]
pub mod actor;
#[cfg(all(feature = "fabric", feature = "ebpf"))]
pub mod attacker;
#[cfg(feature = "fabric")]
pub mod broadcaster;
#[cfg(feature = "fabric")]
pub mod capture;
#[cfg(all(feature = "fabric", feature = "ebpf"))]
pub mod counting;
#[cfg(all(feature = "fabric", feature = "ebpf"))]
pub mod foreign;
#[cfg(feature = "fabric")]
pub mod group;
#[cfg(feature = "fabric")]
pub mod hosts;
#[cfg(all(feature = "fabric", feature = "ebpf"))]
pub mod memory;
pub mod raw;
#[cfg(feature = "fabric")]
pub mod strangers;
#[cfg(feature = "fabric")]
pub mod stress;
#[cfg(all(feature = "fabric", feature = "ebpf"))]
pub mod traces;
#[cfg(all(feature = "fabric", feature = "ebpf"))]
pub mod victim;
#[cfg(all(feature = "fabric", feature = "ebpf"))]
pub mod zerocopy;

use std::io::Write;
use std::sync::OnceLock;

use electrode::config::TcMechanism;

/// Set where a skipped privileged test must fail the run.
const REQUIRE: &str = "ELECTRODE_REQUIRE_EBPF";

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Whether a test that needs root may run: use as `if !privileged("name") { return; }`.
///
/// If it may not, a line `SKIPPED <name>: <reason>` goes to standard error; under
/// `ELECTRODE_REQUIRE_EBPF=1` the test fails instead.
pub fn privileged(test_name: &str) -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    match MISSING.get_or_init(missing) {
        None => true,
        Some(reason) => {
            skip(test_name, reason);
            false
        }
    }
}

/// Whether the kernel has tcx (6.6), which this test needs: use as [`privileged`].
pub fn has_tcx(test_name: &str) -> bool {
    let has = tcx();
    if !has {
        skip(test_name, "no tcx before 6.6");
    }
    has
}

/// Whether the kernel has tcx.
pub fn tcx() -> bool {
    electrode::probe::kernel_version().is_some_and(|version| version >= electrode::probe::TCX)
}

/// How TC programs can be attached here.
pub fn mechanisms() -> Vec<TcMechanism> {
    if tcx() { vec![TcMechanism::Tcx, TcMechanism::Clsact] } else { vec![TcMechanism::Clsact] }
}

/// Reports a skipped test, for a reason that the test found itself; fails it where skipping is forbidden.
pub fn skip(test_name: &str, reason: &str) {
    if std::env::var_os(REQUIRE).is_some_and(|value| value == "1") {
        panic!("{test_name} must not be skipped ({REQUIRE}=1): {reason}");
    }
    // Not `eprintln`: the harness captures that, and a skip that nobody sees is a defect.
    writeln!(std::io::stderr(), "SKIPPED {test_name}: {reason}").expect("standard error is open");
}

/// What this process lacks, if anything.
fn missing() -> Option<String> {
    let effective = effective_capabilities();
    for (name, bit) in [("CAP_NET_ADMIN", CAP_NET_ADMIN), ("CAP_SYS_ADMIN", CAP_SYS_ADMIN)] {
        if effective & (1 << bit) == 0 {
            return Some(format!("no {name}: run as root"));
        }
    }
    #[cfg(feature = "fabric")]
    if let Err(e) = electrode::fabric::available() {
        return Some(e.to_string());
    }
    None
}

fn effective_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff in status");
    u64::from_str_radix(line.trim(), 16).expect("CapEff is hexadecimal")
}
