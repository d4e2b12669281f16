//! One at a time at an interface's clsact qdisc: whoever is about to put a filter on it, and whoever removes it because
//! it is empty, which the kernel cannot be asked to do in one step. Without this a guard that cleans up after a process
//! that was killed could take the filters of its successor along.
//!
//! The lock is an address of Unix sockets without a file: such names belong to a network namespace, one socket at a time
//! has a name, and it is free when its process has died. Nothing here allocates: guards use it.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// How long it is waited for: somebody without privileges could keep the name, and is not to stop anything for longer.
const TRIES: u32 = 1000;
static BETWEEN_TRIES: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
const NAME: &[u8] = b"electrode-clsact-";

/// Held until it is dropped.
pub(crate) struct QdiscLock {
    _name: OwnedFd,
}

impl QdiscLock {
    /// Waits until nobody else is at the qdisc of this interface, in this thread's namespace. None after a second: then
    /// it must do without.
    pub(crate) fn take(ifindex: u32) -> Option<Self> {
        // SAFETY: numbers only.
        let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return None;
        }
        // SAFETY: a descriptor that was just made and that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let (address, bytes) = address(ifindex);
        for _ in 0..TRIES {
            // SAFETY: an initialised address, and how much of it counts.
            if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes) } == 0 {
                return Some(Self { _name: socket });
            }
            // SAFETY: an initialised time; what is left of it is not asked for.
            unsafe { libc::nanosleep(&raw const BETWEEN_TRIES, std::ptr::null_mut()) };
        }
        None
    }
}

/// A zero (no file), the name, the interface.
fn address(ifindex: u32) -> (libc::sockaddr_un, libc::socklen_t) {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let name = NAME.iter().copied().chain(ifindex.to_ne_bytes());
    let mut bytes = size_of::<libc::sa_family_t>() + 1;
    for (to, from) in address.sun_path.iter_mut().skip(1).zip(name) {
        *to = from as libc::c_char;
        bytes += 1;
    }
    (address, bytes as libc::socklen_t)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that no interface has.
    const IFINDEX: u32 = u32::MAX - 7;

    #[test]
    fn one_at_a_time_an_interface() {
        let held = QdiscLock::take(IFINDEX).unwrap();
        assert!(QdiscLock::take(IFINDEX - 1).is_some(), "another interface");
        let waiting = std::thread::spawn(|| QdiscLock::take(IFINDEX).is_some());
        drop(held);
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn whoever_keeps_it_stops_nobody_for_ever() {
        let _held = QdiscLock::take(IFINDEX - 2).unwrap();
        assert!(QdiscLock::take(IFINDEX - 2).is_none());
    }
}
