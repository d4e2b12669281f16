//! bpf_link: tcx and XDP. The link is a descriptor, so it goes away with its process however that ends.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::net::Direction;

const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// In front of all others (BPF_F_BEFORE without a reference).
const BPF_F_BEFORE: u32 = 1 << 3;

/// A program's place on a hook; dropping it takes the program off.
pub(crate) struct Link(OwnedFd);

impl Drop for Link {
    fn drop(&mut self) {
        // Closing would do, but not at once where a child that was just forked holds the descriptor too.
        // Kernels that cannot detach a link of this kind do it on close.
        // SAFETY: takes the descriptor of a link.
        let _ = unsafe { libbpf_sys::bpf_link_detach(self.0.as_raw_fd()) };
    }
}

fn create(program: BorrowedFd<'_>, ifindex: u32, kind: u32, flags: u32) -> io::Result<Link> {
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags,
        ..Default::default()
    };
    // SAFETY: a valid program descriptor and options of the size that they state.
    let fd =
        unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex as i32, kind, &raw const opts) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a descriptor that was just made and that nobody else owns.
    Ok(Link(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// tcx link. At egress it is first in line: a program in front that ends the line would let carriers leave as
/// they are, and those behind still see every copy. At ingress it is last: whoever filters, filters first.
pub(super) fn tcx(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> io::Result<Link> {
    let (kind, flags) = match direction {
        Direction::Ingress => (libbpf_sys::BPF_TCX_INGRESS, 0),
        Direction::Egress => (libbpf_sys::BPF_TCX_EGRESS, BPF_F_BEFORE),
    };
    create(program, ifindex, kind, flags)
}

/// XDP link in the given mode; there is one XDP program an interface.
pub(super) fn xdp(program: BorrowedFd<'_>, ifindex: u32, generic: bool) -> io::Result<Link> {
    let flags = if generic { XDP_FLAGS_SKB_MODE } else { XDP_FLAGS_DRV_MODE };
    create(program, ifindex, libbpf_sys::BPF_XDP, flags)
}
