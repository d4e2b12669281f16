//! The control message that says how long the datagrams are that cross between process and kernel as one.

use std::mem;
use std::os::fd::RawFd;

/// Room for a control message with one number.
const CONTROL_BYTES: usize = 24;

/// A control message that holds one number, aligned as the kernel wants it.
#[repr(C, align(8))]
#[derive(Copy, Clone, Default)]
pub(super) struct Control([u8; CONTROL_BYTES]);

/// Has the stack cut a message into datagrams of `segment` bytes (UDP_SEGMENT).
pub(super) fn cut_into(header: &mut libc::msghdr, control: &mut Control, segment: u16) {
    make_room(header, control);
    // SAFETY: the control buffer is aligned for a cmsghdr and holds one with two bytes of data, as the header says.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as usize;
        libc::CMSG_DATA(message).cast::<u16>().write_unaligned(segment);
    }
}

/// Lets a message bring a control message.
pub(super) fn make_room(header: &mut libc::msghdr, control: &mut Control) {
    header.msg_control = (&raw mut control.0).cast();
    header.msg_controllen = CONTROL_BYTES;
}

/// Length of the datagrams that were handed over as one, the last of which may be shorter; `None`: it is one.
pub(super) fn segment_of(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel has written whole control messages into the buffer that the header names, and its length.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        let ours = !message.is_null()
            && (*message).cmsg_level == libc::SOL_UDP
            && (*message).cmsg_type == libc::UDP_GRO;
        ours.then(|| libc::CMSG_DATA(message).cast::<libc::c_int>().read_unaligned())
            .and_then(|bytes| usize::try_from(bytes).ok())
    }
}

/// Asks for what came together to be handed over together (UDP_GRO, Linux 5.0); whether the kernel does.
pub(super) fn take_joined(fd: RawFd) -> bool {
    let one: libc::c_int = 1;
    // SAFETY: a pointer to an int and its size.
    let set = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const one).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    set == 0
}
