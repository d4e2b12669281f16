//! Whether a device joins datagrams on their way in (generic receive offload), before any program at TC sees them.

use std::mem;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

const SIOCETHTOOL: u32 = 0x8946;
/// ETHTOOL_GGRO: is generic receive offload on?
const ETHTOOL_GGRO: u32 = 0x2b;

/// struct ethtool_value.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Whether the device of this name joins what it receives. What cannot be found out counts as a yes.
pub(crate) fn joins_received(name: &str) -> bool {
    asked(name).is_none_or(|on| on)
}

fn asked(name: &str) -> Option<bool> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    let mut value = EthtoolValue { command: ETHTOOL_GGRO, data: 0 };
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request names a device, its last byte is zero, and points to an ethtool_value that lives as long.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    (done == 0).then_some(value.data != 0)
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
        assert!(asked("lo").is_some());
    }
}
