//! What can fail: what, on what, and what to try.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// Errors of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(String),
    /// The endpoint's own address could not be bound.
    #[error("cannot bind UDP {addr}: {source}; {}", bind_hint(source))]
    Bind {
        /// The endpoint's address.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// No interface carries the endpoint's address, or the named one does not exist.
    #[error("no interface for {addr}{}: {reason}; name one of `ip -brief address` with `interface`", name.as_deref().map(|n| format!(" named {n}")).unwrap_or_default())]
    Interface {
        /// The endpoint's address.
        addr: IpAddr,
        /// The configured interface, if any.
        name: Option<String>,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel fast path was asked for and cannot be had.
    #[error("the kernel fast path is not available: {reason}; {hint}")]
    Unavailable {
        /// What is missing.
        reason: String,
        /// What to try.
        hint: String,
    },
    /// Loading or attaching a kernel program failed.
    #[error("cannot {what}: {reason}; {hint}")]
    Kernel {
        /// The step that failed.
        what: String,
        /// What the kernel or libbpf said.
        reason: String,
        /// What to try.
        hint: String,
    },
    /// The message does not fit; nothing was sent.
    #[error(
        "message of {bytes} bytes exceeds {max}: split it, or raise `payload_bytes_max` (an MTU of 1500 holds 1392 over IPv4, 1372 over IPv6)"
    )]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
        /// What fits.
        max: usize,
    },
    /// The round cannot be started in the endpoint's present role.
    #[error("{what} needs the endpoint to {needs}; it is {is}")]
    Role {
        /// What was asked.
        what: &'static str,
        /// The role that it needs.
        needs: &'static str,
        /// The role that it has.
        is: &'static str,
    },
    /// The round's ops are not acceptable now.
    #[error("round {first}..={last}: {reason}")]
    Round {
        /// First op.
        first: u64,
        /// Last op.
        last: u64,
        /// Why not.
        reason: &'static str,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The call and its object.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn bind_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 (net.ipv4.ip_unprivileged_port_start) take CAP_NET_BIND_SERVICE, which a replica has given \
             up by then even if root started it: choose another port"
        }
        _ => "is another replica running there, or the address not on this host?",
    }
}

impl Error {
    /// For `map_err` on a system call.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Result of the library's calls.
pub type Result<T> = std::result::Result<T, Error>;
