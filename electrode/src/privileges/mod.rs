//! Privileges: which capabilities the fast path needs, for what, and how to be without them as soon as it runs.
//!
//! Opening an endpoint loads and attaches programs, which takes the capabilities in [`NEEDED`]. What comes after
//! goes through descriptors and mapped maps, or through the guard of a clsact filter, and takes none: the gate,
//! rounds, counters, waiting, closing. So a process may call [`drop_all`] once its endpoints are open; from then on
//! whoever takes it over can attach nothing, anywhere.
//!
//! ```no_run
//! # fn main() -> electrode::Result<()> {
//! # let config = electrode::config::EndpointConfig::new(vec![], electrode::types::ReplicaId(0));
//! let endpoint = electrode::Endpoint::open(config)?;
//! electrode::privileges::drop_all()?;
//! # Ok(())
//! # }
//! ```

mod all_threads;
mod thread;

pub(crate) use self::thread::limit_to;

use std::io;

use serde::Serialize;

use crate::error::{Error, Result};

/// A capability that opening an endpoint needs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// As `capabilities(7)` calls it.
    pub name: &'static str,
    /// Its number.
    pub number: u32,
    /// What it is needed for.
    pub purpose: &'static str,
    /// Whether CAP_SYS_ADMIN, from which it was split off in Linux 5.8, does as well.
    pub in_sys_admin: bool,
}

impl Capability {
    /// Its bit in a set.
    pub const fn bit(self) -> u64 {
        1 << self.number
    }
}

/// Loading programs, making maps.
pub const BPF: Capability =
    Capability { name: "CAP_BPF", number: 39, purpose: "to load programs and make maps", in_sys_admin: true };

/// Attaching programs.
pub const NET_ADMIN: Capability = Capability {
    name: "CAP_NET_ADMIN",
    number: 12,
    purpose: "to put programs on an interface and, with clsact, to take them off again (the guard keeps it); \
              for socket buffers beyond the system's limit",
    in_sys_admin: false,
};

/// Having them verified without guards against speculation.
pub const PERFMON: Capability = Capability {
    name: "CAP_PERFMON",
    number: 38,
    purpose: "to have the verifier accept packet pointers that loops advance, which it refuses to others for \
              fear of speculation",
    in_sys_admin: true,
};

/// What opening an endpoint with kernel programs needs; an open endpoint needs none of it.
pub const NEEDED: [Capability; 3] = [BPF, NET_ADMIN, PERFMON];

/// CAP_SYS_ADMIN: stands in for what was split off it. `elecctl status` and `detach` need it to find programs by
/// their numbers.
pub(crate) const SYS_ADMIN: u32 = 21;

/// The part of a set that opening an endpoint makes use of.
fn needed_of(held: u64) -> u64 {
    let needed = NEEDED.iter().fold(0, |set, c| set | c.bit());
    let split_off = NEEDED.iter().filter(|c| c.in_sys_admin).fold(0, |set, c| set | c.bit());
    // Where one that was split off is not held, the old one does its work.
    let old = if held & split_off == split_off { 0 } else { 1 << SYS_ADMIN };
    held & (needed | old)
}

/// Gives up every capability of the calling thread but those of [`NEEDED`] that it holds, and raises these. For a
/// process that starts with more, before it has other threads.
///
/// # Errors
/// If the kernel refuses, which it does to nobody who asks for less.
pub fn keep_needed() -> Result<()> {
    let keep = thread::permitted().map(needed_of).and_then(limit_to);
    keep.map_err(|errno| failed("give up the capabilities that are not needed", errno))
}

/// Gives up all capabilities of all threads of this process, for good: the effective, permitted, inheritable and
/// ambient sets are emptied, the bounding set where CAP_SETPCAP is held, and programs that are executed gain
/// nothing (`no_new_privs`).
///
/// Capabilities belong to threads, so this interrupts every other thread with the last real-time signal (SIGRTMAX)
/// for the length of a few system calls; what it was doing goes on, or returns EINTR where such calls never go on
/// by themselves. To be called once the process's endpoints are open. It is no error to have none.
///
/// # Errors
/// If /proc is not there to tell the threads, or one of them blocks that signal. Threads that were reached by then
/// have no capabilities.
pub fn drop_all() -> Result<()> {
    all_threads::drop_all()
}

fn failed(what: &str, errno: i32) -> Error {
    Error::Kernel {
        what: what.into(),
        reason: io::Error::from_raw_os_error(errno).to_string(),
        hint: "a filter on system calls may be in the way: capset and prctl must be allowed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_is_needed() {
        let needed = BPF.bit() | NET_ADMIN.bit() | PERFMON.bit();
        assert_eq!(needed_of(u64::MAX), needed);
        assert_eq!(needed_of(needed), needed);
        assert_eq!(needed_of(0), 0);
        // A capability that is there is used, one that is not is made up for.
        let old = NET_ADMIN.bit() | 1 << SYS_ADMIN;
        assert_eq!(needed_of(old | 1), old);
        assert_eq!(needed_of(old | BPF.bit()), old | BPF.bit());
    }
}
