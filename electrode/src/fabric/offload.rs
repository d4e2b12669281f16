//! Offloads of an interface, by the ioctl that `ethtool -K` uses.
//!
//! Between virtual hosts a packet usually travels with its checksum left out (CHECKSUM_PARTIAL), because
//! veth promises to fill it in. Programs that build or rewrite packets must be right with and without.

use std::io;

use crate::net::ethtool;

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
