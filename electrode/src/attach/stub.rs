//! The other end of a veth: an XDP program that passes everything.

use std::os::fd::AsFd;

use super::Attached;
use crate::backend::ebpf::object;
use crate::error::{Error, Result};
use crate::net::Interface;

/// An XDP program that passes every packet; dropping it takes it off.
pub struct PassStub {
    _attached: Attached,
}

/// Puts an XDP program that passes every packet on an interface of this thread's network namespace.
///
/// A veth interface that runs an endpoint with [`Hook::Xdp`](crate::config::Hook::Xdp) hands its acks to the
/// driver of the other end, which drops them silently unless an XDP program runs there too. This is the least
/// one: attach it to the bridge's port of each such member. Network cards need nothing of the kind.
///
/// # Errors
/// If there is no such interface, if it has an XDP program already, or if the privileges are missing.
pub fn attach_pass_stub(interface: &str) -> Result<PassStub> {
    let all = Interface::all()?;
    let index = all.iter().find(|i| i.name == interface).map(|i| i.index).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|i| i.name.as_str()).collect();
        Error::Config(format!("there is no interface {interface}; there are {}", names.join(", ")))
    })?;
    let program = object::load_pass_stub()?;
    Ok(PassStub { _attached: super::xdp(program.as_fd(), index, false)? })
}
