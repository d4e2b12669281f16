//! Putting a program on a hook and taking it off again: one mechanism a file, one guard for all.
//!
//! Links (tcx, XDP) belong to a descriptor, so they go away however the process dies. A clsact filter stays
//! behind then until its guard removes it, a process of its own; if that is killed, too, rule F2's lease makes the
//! filter harmless and `elecctl detach` removes it.

mod clsact;
mod guard;
mod link;
mod stub;

pub use stub::{PassStub, attach_pass_stub};

use std::os::fd::BorrowedFd;

use crate::config::TcMechanism;
use crate::error::{Error, Result};
use crate::net::Direction;

/// A program on its hook; dropping it takes the program off.
pub(crate) enum Attached {
    Link(#[allow(dead_code, reason = "held for its drop")] link::Link),
    Filter(#[allow(dead_code, reason = "held for its drop")] clsact::Filter),
}

/// Attaches a TC program to an interface, behind whoever is there already.
pub(crate) fn tc(
    program: BorrowedFd<'_>,
    ifindex: u32,
    direction: Direction,
    mechanism: TcMechanism,
) -> Result<Attached> {
    if mechanism != TcMechanism::Clsact {
        match link::tcx(program, ifindex, direction) {
            Ok(fd) => return Ok(Attached::Link(fd)),
            // EINVAL: an attach type that this kernel does not know.
            Err(e) if mechanism == TcMechanism::Auto && e.raw_os_error() == Some(libc::EINVAL) => {}
            Err(e) => return Err(failed("attach to tcx", &e)),
        }
    }
    clsact::Filter::attach(program, ifindex, direction)
        .map(Attached::Filter)
        .map_err(|e| failed("attach to clsact", &e))
}

/// Attaches an XDP program. A program that is there already is left alone: that is an error.
pub(crate) fn xdp(program: BorrowedFd<'_>, ifindex: u32, generic: bool) -> Result<Attached> {
    link::xdp(program, ifindex, generic).map(Attached::Link).map_err(|e| match e.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => Error::Kernel {
            what: "attach to XDP".into(),
            reason: "another XDP program is on this interface and stays there".into(),
            hint: "use --hook tc, which shares the interface".into(),
        },
        _ => failed(if generic { "attach to generic XDP" } else { "attach to native XDP" }, &e),
    })
}

fn failed(what: &str, error: &std::io::Error) -> Error {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => "it needs CAP_NET_ADMIN and CAP_BPF: run as root",
        Some(libc::EOPNOTSUPP) => "this driver has no such hook: use --hook tc",
        _ => "`elecctl doctor` tells what this interface can do",
    };
    Error::Kernel { what: what.into(), reason: error.to_string(), hint: hint.into() }
}
