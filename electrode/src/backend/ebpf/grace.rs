//! Waiting until every kernel program that runs now has run out (U1).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::{Error, Result};

/// Two maps, made when the endpoint is opened: making maps takes a capability, updating them does not.
pub(super) struct Grace {
    inner: OwnedFd,
    outer: OwnedFd,
}

fn create(kind: u32, value_bytes: u32, inner: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        inner_map_fd: inner.map_or(0, |fd| fd.as_raw_fd() as u32),
        ..Default::default()
    };
    // SAFETY: a static name and options of the size that they state.
    let fd = unsafe {
        libbpf_sys::bpf_map_create(kind, c"elec_grace".as_ptr(), 4, value_bytes, 1, &raw const opts)
    };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a descriptor that was just made and that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Grace {
    pub(super) fn new() -> Result<Self> {
        let make = || -> io::Result<Self> {
            let inner = create(libbpf_sys::BPF_MAP_TYPE_ARRAY, 4, None)?;
            let outer = create(libbpf_sys::BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, Some(&inner))?;
            Ok(Self { inner, outer })
        };
        make().map_err(Error::io("making the maps of the grace period"))
    }

    /// Returns after one grace period. An update of a map of maps waits for one, so that no program still sees
    /// the map that was replaced; membarrier does not do on every machine (kernel-facts).
    pub(super) fn period(&self) -> Result<()> {
        let (key, value) = (0u32, self.inner.as_raw_fd());
        // SAFETY: key and value have the sizes that the map was made with.
        let result = unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.outer.as_raw_fd(),
                (&raw const key).cast(),
                (&raw const value).cast(),
                0,
            )
        };
        if result == 0 {
            return Ok(());
        }
        Err(Error::io("waiting for running kernel programs")(io::Error::from_raw_os_error(-result)))
    }
}
