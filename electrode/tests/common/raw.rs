//! Socket calls that the standard library does not have.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What a call returned, unless it failed: then the test does.
#[track_caller]
pub fn check(result: libc::c_int, what: &str) -> libc::c_int {
    assert!(result >= 0, "{what}: {}", io::Error::last_os_error());
    result
}

/// Sets an option that is an int.
#[track_caller]
pub fn set_option(socket: &impl AsRawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) {
    // SAFETY: an int option with an int's size.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    check(set, &format!("option {option} of level {level}"));
}

fn interface_index(name: &str) -> libc::c_int {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: a terminated string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "no interface {name:?}");
    index as libc::c_int
}

/// A packet socket in this thread's namespace, bound to an interface. It receives frames of `protocol`, or with 0 none.
pub fn packet_socket(interface: &str, protocol: u16) -> OwnedFd {
    // Protocol 0: nothing is queued before the socket is bound.
    // SAFETY: no pointers; the result is checked and nobody else owns it.
    let socket = unsafe {
        OwnedFd::from_raw_fd(check(
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0),
            "socket",
        ))
    };
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    addr.sll_family = libc::AF_PACKET as u16;
    addr.sll_protocol = protocol.to_be();
    addr.sll_ifindex = interface_index(interface);
    // SAFETY: an address of the size that is stated.
    let bound =
        unsafe { libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), size_of_val(&addr) as u32) };
    check(bound, "bind");
    socket
}
