//! What this machine can do, which backend `auto` would choose and why: nothing is attached to find out.
//!
//! ```
//! let report = electrode::probe::probe();
//! println!("{report}");
//! assert!(!report.reasons.is_empty(), "a choice without a reason helps nobody");
//! ```

mod capabilities;
mod interfaces;
mod kernel;
mod trial;

use std::fmt;

use serde::Serialize;

pub use self::capabilities::{Capabilities, Need};
pub use self::interfaces::InterfaceReport;
pub use self::kernel::{FLOOR, Kernel, TCX, kernel_version};
pub use self::trial::Trial;

use crate::error::{Error, Result};
use crate::net::Interface;

/// What [`probe`] found. Its JSON carries `"schema": 1`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this layout.
    pub schema: u32,
    /// Whether this build has kernel programs (feature `ebpf`).
    pub kernel_programs: bool,
    /// The running kernel.
    pub kernel: Kernel,
    /// What this thread may do.
    pub capabilities: Capabilities,
    /// Interfaces of this thread's network namespace.
    pub interfaces: Vec<InterfaceReport>,
    /// What `auto` would choose: `ebpf` or `udp`.
    pub backend: &'static str,
    /// Why, the first thing to change first.
    pub reasons: Vec<String>,
}

/// Looks at this machine from this thread: its capabilities, its network namespace.
pub fn probe() -> Report {
    let kernel = Kernel::probe();
    let capabilities = Capabilities::probe();
    let (interfaces, failure) = match Interface::all() {
        Ok(all) => (all.iter().map(InterfaceReport::of).collect(), None),
        Err(e) => (Vec::new(), Some(e.to_string())),
    };
    let mut report = Report {
        schema: 1,
        kernel_programs: BUILT,
        kernel,
        capabilities,
        interfaces,
        backend: "udp",
        reasons: Vec::new(),
    };
    report.choose();
    report.reasons.extend(failure);
    report
}

impl Report {
    /// The same for one interface alone.
    pub fn only(mut self, name: &str) -> Result<Self> {
        if !self.interfaces.iter().any(|i| i.name == name) {
            let names: Vec<_> = self.interfaces.iter().map(|i| i.name.as_str()).collect();
            return Err(Error::Config(format!(
                "there is no interface {name} in this network namespace; there are {}",
                names.join(", ")
            )));
        }
        self.interfaces.retain(|i| i.name == name);
        self.choose();
        Ok(self)
    }

    fn choose(&mut self) {
        let obstacles = obstacles(self.kernel_programs, &self.kernel, &self.capabilities);
        let hooks: Vec<_> = self.interfaces.iter().filter(|i| i.hook != "none" && i.up).collect();
        (self.backend, self.reasons) = if !obstacles.is_empty() {
            ("udp", obstacles.into_iter().map(|o| format!("{}; {}", o.reason, o.hint)).collect())
        } else if hooks.is_empty() {
            ("udp", vec!["no interface that is up carries Ethernet frames: there is no hook to use".into()])
        } else {
            let names: Vec<_> = hooks.iter().map(|i| format!("{} ({})", i.name, i.hook)).collect();
            let reason = format!("nothing is missing, and there is a hook on {}", names.join(", "));
            let condition = "members must be on other hosts or in network namespaces of their own: traffic \
                             within a host goes over lo and meets no hook";
            ("ebpf", vec![reason, condition.into()])
        };
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, what: &str, text: &str| writeln!(f, "{what:<17} {text}");
        for (what, text) in self.kernel.lines() {
            line(f, what, &text)?;
        }
        let capabilities = match self.capabilities.missing.as_slice() {
            [] => "all that are needed, and only until endpoints are open".to_owned(),
            missing => format!("missing: {}", missing.join(", ")),
        };
        line(f, "capabilities", &capabilities)?;
        for need in &self.capabilities.needed {
            line(f, "", &need.to_string())?;
        }
        let sees_all = self.capabilities.held.contains(&"CAP_SYS_ADMIN");
        let held = if sees_all { "held" } else { "not held" };
        let purpose = "only for `elecctl status`, `watch` and `detach`, which look programs up by number, and for \
                       virtual hosts; does for CAP_BPF and CAP_PERFMON";
        line(f, "", &format!("CAP_SYS_ADMIN ({held}): {purpose}"))?;
        let programs =
            if self.kernel_programs { "in this build" } else { "not in this build (feature `ebpf`)" };
        line(f, "kernel programs", programs)?;
        let lines = self.interfaces.iter().flat_map(InterfaceReport::lines);
        for (i, text) in lines.enumerate() {
            line(f, if i == 0 { "interfaces" } else { "" }, &text)?;
        }
        line(f, "backend of `auto`", self.backend)?;
        for (i, reason) in self.reasons.iter().enumerate() {
            line(f, if i == 0 { "because" } else { "" }, reason)?;
        }
        Ok(())
    }
}

/// Whether this build has kernel programs.
const BUILT: bool = cfg!(feature = "ebpf");

/// Something between this process and the kernel fast path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Obstacle {
    reason: String,
    hint: String,
}

/// All of them, in the order in which to remove them.
fn obstacles(built: bool, kernel: &Kernel, capabilities: &Capabilities) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let mut add = |reason: String, hint: &str| found.push(Obstacle { reason, hint: hint.to_owned() });
    if !built {
        add(
            "this build has no kernel programs".into(),
            "build with feature `ebpf` (the default), which needs clang and libelf",
        );
    }
    if !kernel.new_enough {
        let (major, minor) = FLOOR;
        let release = if kernel.release.is_empty() { "unknown" } else { &kernel.release };
        add(
            format!("kernel {release} is older than {major}.{minor}"),
            "boot a newer kernel; backend udp runs on any",
        );
    }
    if !capabilities.missing.is_empty() {
        add(
            format!("this process lacks {}", capabilities.missing.join(", ")),
            "run as root, or grant them (`setcap cap_bpf,cap_net_admin,cap_perfmon+ep` on the program)",
        );
    } else if let Some(error) = &kernel.trial.error {
        // Without capabilities the refusal is no news.
        add(format!("the kernel refuses a BPF program: {error}"), kernel.trial.meaning());
    }
    found
}

/// Whether the running kernel is at least this version.
#[cfg(feature = "ebpf")]
pub(crate) fn kernel_at_least(version: (u32, u32)) -> bool {
    kernel_version().is_some_and(|v| v >= version)
}

/// What keeps this process from the kernel fast path; `None`: nothing that can be told without attaching.
pub(crate) fn missing() -> Option<Error> {
    let first = obstacles(BUILT, &Kernel::probe(), &Capabilities::probe()).into_iter().next()?;
    Some(Error::Unavailable { reason: first.reason, hint: first.hint })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn kernel(release: &str, version: (u32, u32), trial: io::Result<()>) -> Kernel {
        Kernel {
            release: release.into(),
            version: Some(version),
            new_enough: version >= FLOOR,
            tc: if version >= TCX { "tcx" } else { "clsact" },
            btf: true,
            jit: Some(1),
            unprivileged_bpf_disabled: Some(2),
            memlock_bytes: None,
            trial: Trial::from_result(trial),
        }
    }

    fn interface(name: &str, hook: &'static str, up: bool) -> InterfaceReport {
        InterfaceReport {
            name: name.into(),
            index: 1,
            kind: None,
            mtu: 1500,
            ethernet: hook != "none",
            up,
            native_xdp: None,
            programs: Vec::new(),
            hook,
            reason: "because".into(),
        }
    }

    fn capabilities(missing: &[&'static str]) -> Capabilities {
        let held = crate::privileges::NEEDED.iter().filter(|c| !missing.contains(&c.name));
        Capabilities::of(held.fold(0, |set, c| set | c.bit()))
    }

    fn report(
        built: bool,
        kernel: Kernel,
        missing: &[&'static str],
        interfaces: Vec<InterfaceReport>,
    ) -> Report {
        let mut report = Report {
            schema: 1,
            kernel_programs: built,
            kernel,
            capabilities: capabilities(missing),
            interfaces,
            backend: "",
            reasons: Vec::new(),
        };
        report.choose();
        report
    }

    fn good() -> Kernel {
        kernel("6.12.1", (6, 12), Ok(()))
    }

    #[test]
    fn the_choice_and_its_first_reason() {
        let eth = || vec![interface("lo", "none", true), interface("eth0", "xdp", true)];
        let refused = || Err(io::Error::from_raw_os_error(libc::EPERM));
        let table = [
            (report(true, good(), &[], eth()), "ebpf", "a hook on eth0 (xdp)"),
            (report(true, kernel("6.1.9", (6, 1), Ok(())), &[], eth()), "ebpf", "nothing is missing"),
            (
                report(true, kernel("5.10.0", (5, 10), Ok(())), &[], eth()),
                "udp",
                "kernel 5.10.0 is older than 6.1",
            ),
            (report(false, good(), &[], eth()), "udp", "no kernel programs"),
            (report(true, good(), &["CAP_NET_ADMIN"], eth()), "udp", "lacks CAP_NET_ADMIN"),
            (report(true, kernel("6.8.0", (6, 8), refused()), &[], eth()), "udp", "refuses a BPF program"),
            (report(true, good(), &[], vec![interface("lo", "none", true)]), "udp", "no interface"),
            (
                report(true, good(), &[], vec![interface("eth0", "tc", false)]),
                "udp",
                "no interface that is up",
            ),
        ];
        for (report, backend, reason) in table {
            assert_eq!(report.backend, backend, "{report}");
            assert!(report.reasons[0].contains(reason), "{report}");
        }
    }

    #[test]
    fn missing_capabilities_are_not_told_twice() {
        let refused = Err(io::Error::from_raw_os_error(libc::EPERM));
        let found = obstacles(true, &kernel("6.8.0", (6, 8), refused), &capabilities(&["CAP_BPF"]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].hint.contains("root"));
    }

    #[test]
    fn one_interface_is_judged_alone() {
        let all = vec![interface("lo", "none", true), interface("eth0", "tc", true)];
        let report = report(true, good(), &[], all);
        assert_eq!(report.clone().only("eth0").unwrap().backend, "ebpf");
        assert_eq!(report.clone().only("lo").unwrap().backend, "udp");
        let error = report.only("eth7").unwrap_err().to_string();
        assert!(error.contains("eth7") && error.contains("lo, eth0"), "{error}");
    }

    #[test]
    fn what_people_read_names_every_fact() {
        let text = report(true, kernel("6.1.9", (6, 1), Ok(())), &[], vec![interface("eth0", "tc", true)])
            .to_string();
        for part in ["6.1.9", "clsact", "loads", "CAP_NET_ADMIN", "eth0", "ebpf", "because"] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
    }

    #[test]
    fn this_machine_has_a_report() {
        let report = probe();
        assert!(report.kernel.version.is_some());
        assert!(report.interfaces.iter().any(|i| i.name == "lo" && i.hook == "none"));
        assert_eq!(
            report.backend == "ebpf",
            missing().is_none() && report.interfaces.iter().any(|i| i.hook != "none" && i.up)
        );
    }
}
