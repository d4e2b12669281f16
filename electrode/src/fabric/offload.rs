//! Offloads of an interface, by the ioctl that `ethtool -K` uses.
//!
//! Between virtual hosts a packet usually travels with its checksum left out (CHECKSUM_PARTIAL), because
//! veth promises to fill it in. Programs that build or rewrite packets must be right with and without.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// Whether the interface, in the calling thread's namespace, leaves checksums to its hardware.
pub(super) fn tx_checksum(interface: &str) -> io::Result<bool> {
    ethtool(interface, ETHTOOL_GTXCSUM, 0).map(|data| data != 0)
}

/// Switches that on or off.
pub(super) fn set_tx_checksum(interface: &str, on: bool) -> io::Result<()> {
    ethtool(interface, ETHTOOL_STXCSUM, u32::from(on)).map(|_| ())
}

fn ethtool(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    // Any socket will do: it says which namespace is meant.
    // SAFETY: no pointers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };

    let mut value = EthtoolValue { command, data };
    // SAFETY: all zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(interface.len() < request.ifr_name.len(), "a name with its terminator");
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request and the value that it points to outlive the call, and both commands read and
    // write no more than an `ethtool_value`.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data)
}
