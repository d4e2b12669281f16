//! Switches of a device, by the ioctl that `ethtool` uses.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

/// Whether receive offload joins packets.
pub(crate) const ETHTOOL_GGRO: u32 = 0x2b;

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Sends a command that takes and gives one number to an interface of the calling thread's namespace.
pub(crate) fn ethtool(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    // Any socket will do: it says which namespace is meant.
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut value = EthtoolValue { command, data };
    // SAFETY: all zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request, whose name ends with a zero, and the value that it points to outlive the call, and these
    // commands read and write no more than an `ethtool_value`.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data)
}

/// Whether the device of this name joins datagrams on their way in (generic receive offload), before any program at TC sees
/// them. What cannot be found out counts as a yes.
pub(crate) fn joins_received(name: &str) -> bool {
    ethtool(name, ETHTOOL_GGRO, 0).map_or(true, |on| on != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_tells_nothing_may_join() {
        assert!(joins_received("no-such-device"));
        assert!(joins_received("a-name-that-is-longer-than-any"));
    }

    #[test]
    fn the_loopback_device_tells() {
        assert!(ethtool("lo", ETHTOOL_GGRO, 0).is_ok());
    }
}
