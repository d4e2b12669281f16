//! What an earlier life of a member may have left on the hooks.

use super::LEASE_NS;
use crate::error::{Error, Result};
use crate::net::{Interface, RawTc};

/// D4: an earlier life may have used clsact, whatever this one does, and its filters may still be there if its guard
/// was killed with it: until their lease is over, they acknowledge. Returns when that is, in ns of the monotonic
/// clock; 0 if there are none. To be asked before there are any of our own.
pub(crate) fn earlier_filters_end_ns() -> u64 {
    // What cannot be seen may be there.
    if has_filters().unwrap_or(true) { crate::clock::monotonic_ns() + LEASE_NS } else { 0 }
}

/// Whether any interface of this network namespace has filters of ours.
fn has_filters() -> Result<bool> {
    let error = |errno| Error::io("netlink socket")(std::io::Error::from_raw_os_error(errno));
    let mut tc = RawTc::open().map_err(error)?;
    for interface in Interface::all()? {
        if tc.has_ours(interface.index).map_err(error)? {
            return Ok(true);
        }
    }
    Ok(false)
}
