//! What can go wrong while namespaces and links are made: what failed, on what, and what to try.

use std::io;

/// Why virtual hosts could not be made or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FabricError {
    /// The process lacks a capability.
    #[error(
        "cannot {action}: not permitted. Virtual hosts need CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root \
         (in a container, with --privileged)"
    )]
    NotPermitted {
        /// What was tried.
        action: String,
    },

    /// The kernel does not know this kind of link.
    #[error(
        "cannot {action}: this kernel has no `{driver}` links. Try `modprobe {driver}`, or a kernel built with it"
    )]
    NoDriver {
        /// What was tried.
        action: String,
        /// The kernel module that would provide it.
        driver: &'static str,
    },

    /// The kernel refused for another reason.
    #[error("cannot {action}: {cause}. {advice}")]
    Kernel {
        /// What was tried.
        action: String,
        /// What the kernel said.
        cause: io::Error,
        /// What to try.
        advice: &'static str,
    },

    /// A link did not come up in time.
    #[error("link of host {host} is not up after {waited_ms} ms. Is the machine overloaded?")]
    LinkNotUp {
        /// Index of the host.
        host: usize,
        /// How long it was waited for.
        waited_ms: u64,
    },

    /// The programs that make faults cannot be used.
    #[error(transparent)]
    Faults(#[from] crate::Error),

    /// The configuration asks for something that cannot be.
    #[error("fabric configuration: {0}")]
    Config(String),
}

impl FabricError {
    /// Wraps what the kernel said while it was asked to do `action`.
    pub(super) fn kernel(action: impl Into<String>, cause: io::Error) -> Self {
        let action = action.into();
        match cause.raw_os_error() {
            Some(libc::EPERM) => Self::NotPermitted { action },
            errno => Self::Kernel { action, cause, advice: advice(errno) },
        }
    }

    /// As [`FabricError::kernel`], for a request that needs a link driver.
    pub(super) fn link(action: impl Into<String>, driver: &'static str, cause: io::Error) -> Self {
        match cause.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Self::NoDriver { action: action.into(), driver },
            _ => Self::kernel(action, cause),
        }
    }
}

/// What to try, by error number.
fn advice(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EMFILE | libc::ENFILE) => "Each host holds a file descriptor open: raise `ulimit -n`",
        Some(libc::ENOSPC | libc::EUSERS) => {
            "Too many namespaces: see /proc/sys/user/max_net_namespaces, or end what holds others"
        }
        Some(libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN) => {
            "The kernel is out of memory or tasks: ask for fewer hosts"
        }
        Some(libc::EINVAL) => "The kernel may lack network namespaces (CONFIG_NET_NS) or refuse this MTU",
        Some(libc::EROFS) => "/proc/sys is read-only here: remount it writable, or run with --privileged",
        Some(libc::EACCES | libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => {
            "IPv6 may be switched off on this kernel (ipv6.disable=1): try IPv4"
        }
        Some(libc::ENOENT) => "Is /proc mounted, and does the process that held the namespace still live?",
        _ => "`dmesg` may know more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn a_missing_capability_says_what_to_run_as() {
        let text = FabricError::kernel("make a network namespace", errno(libc::EPERM)).to_string();
        assert!(text.contains("make a network namespace"), "{text}");
        assert!(text.contains("run as root"), "{text}");
        assert!(text.contains("CAP_SYS_ADMIN"), "{text}");
    }

    #[test]
    fn a_missing_driver_names_the_module() {
        let error = FabricError::link("add port0", "veth", errno(libc::EOPNOTSUPP));
        assert!(matches!(error, FabricError::NoDriver { driver: "veth", .. }), "{error:?}");
        assert!(error.to_string().contains("modprobe veth"), "{error}");
        // Only a missing driver is called one.
        let error = FabricError::link("add port0", "veth", errno(libc::EPERM));
        assert!(matches!(error, FabricError::NotPermitted { .. }), "{error:?}");
    }

    #[test]
    fn other_errors_carry_the_cause_and_an_advice() {
        let text = FabricError::kernel("make a network namespace", errno(libc::ENOSPC)).to_string();
        assert!(text.contains("max_net_namespaces"), "{text}");
        let text = FabricError::kernel("open x", errno(libc::EMFILE)).to_string();
        assert!(text.contains("ulimit -n") && text.contains("os error 24"), "{text}");
    }
}
