//! clsact qdiscs and filters without a single allocation: what removes them may be a process that was forked from
//! one with many threads, where nothing else is safe. Errors are numbers.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{Direction, QdiscLock};

/// A BPF filter on an interface's clsact qdisc.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilterAt {
    pub ifindex: u32,
    /// TC_H_MIN_INGRESS or TC_H_MIN_EGRESS, under the major of clsact.
    parent: u32,
    pub handle: u32,
    pub priority: u32,
    /// What the filter runs: at its place there may be another one by now.
    pub program_id: u32,
}

impl FilterAt {
    /// No filter.
    pub(crate) const NONE: Self = Self { ifindex: 0, parent: 0, handle: 0, priority: 0, program_id: 0 };

    pub(crate) fn new(
        ifindex: u32,
        direction: Direction,
        handle: u32,
        priority: u32,
        program_id: u32,
    ) -> Self {
        Self { ifindex, parent: parent(direction), handle, priority, program_id }
    }
}

const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;

/// The half of a clsact qdisc.
fn parent(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => 0xffff_fff2,
        Direction::Egress => 0xffff_fff3,
    }
}

/// `struct nlmsghdr`, `struct tcmsg`, and the attribute TCA_KIND.
#[repr(C)]
#[derive(Default)]
struct Request {
    bytes: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u32,
    ifindex: u32,
    handle: u32,
    parent: u32,
    info: u32,
    attribute_bytes: u16,
    attribute: u16,
    name: [u8; 8],
}

const HEADER_BYTES: usize = 16;
const TCMSG_BYTES: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;
/// What the names of our programs, and so of our filters, begin with. Nobody else's filter is removed, whoever asks:
/// to give one such a name takes CAP_BPF.
const OURS: &[u8] = b"elec_";
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
/// The kernel sends at most as much as it was last offered room for, and 8 KiB at first.
const BUFFER_BYTES: usize = 16 << 10;

impl Request {
    fn new(kind: u16, flags: u16, ifindex: u32, parent: u32) -> Self {
        let bytes = (HEADER_BYTES + TCMSG_BYTES) as u32;
        Self { bytes, kind, flags: REQUEST | flags, ifindex, parent, ..Self::default() }
    }

    /// Of this kind of filter or qdisc; `name` ends with a zero.
    fn named<const N: usize>(mut self, name: &[u8; N]) -> Self {
        const { assert!(N <= 8) };
        for (to, from) in self.name.iter_mut().zip(name) {
            *to = *from;
        }
        (self.attribute_bytes, self.attribute) = (4 + N as u16, TCA_KIND);
        self.bytes += (4 + N as u32).next_multiple_of(4);
        self
    }
}

/// A netlink socket, in the namespace of the thread that opens it.
pub(crate) struct RawTc {
    socket: OwnedFd,
    sequence: u32,
}

fn errno() -> i32 {
    // SAFETY: always a valid pointer to this thread's own number.
    unsafe { *libc::__errno_location() }
}

impl RawTc {
    pub(crate) fn open() -> Result<Self, i32> {
        // SAFETY: numbers only.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        if fd < 0 {
            return Err(errno());
        }
        // SAFETY: a descriptor that was just made and that nobody else owns.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, sequence: 0 })
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Makes the interface's clsact qdisc; false if it has one already.
    pub(crate) fn make_qdisc(&mut self, ifindex: u32) -> Result<bool, i32> {
        let flags = ACK | (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let request = Request::new(libc::RTM_NEWQDISC, flags, ifindex, TC_H_CLSACT).named(b"clsact\0");
        match self.ask(Request { handle: CLSACT_HANDLE, ..request }, &mut |_, _| ()) {
            Ok(()) => Ok(true),
            Err(libc::EEXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Whether the filter is there, and this one.
    pub(crate) fn has_filter(&mut self, filter: &FilterAt) -> Result<bool, i32> {
        let mut found = false;
        self.filters(filter.ifindex, filter.parent, &mut |handle, priority, program_id| {
            found |= (handle, priority) == (filter.handle, filter.priority)
                && program_id == Some(filter.program_id);
        })?;
        Ok(found)
    }

    /// Whether the interface has any filter of ours.
    pub(crate) fn has_ours(&mut self, ifindex: u32) -> Result<bool, i32> {
        let mut found = false;
        for direction in [Direction::Ingress, Direction::Egress] {
            self.filters(ifindex, parent(direction), &mut |_, _, program_id| found |= program_id.is_some())?;
        }
        Ok(found)
    }

    /// Removes the filter if it is still there, and still this one; tells whether it was.
    pub(crate) fn remove_filter(&mut self, filter: &FilterAt) -> Result<bool, i32> {
        if !self.has_filter(filter)? {
            return Ok(false);
        }
        let info = filter.priority << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
        let request = Request::new(libc::RTM_DELTFILTER, ACK, filter.ifindex, filter.parent).named(b"bpf\0");
        let request = Request { handle: filter.handle, info, ..request };
        match self.ask(request, &mut |_, _| ()) {
            Ok(()) => Ok(true),
            // Somebody else was faster.
            Err(libc::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Removes the interface's clsact qdisc if no filter is left on it, anybody's; tells whether it did. Nobody of ours
    /// puts one on it meanwhile, if the thread is in the interface's namespace.
    pub(crate) fn remove_qdisc_if_empty(&mut self, ifindex: u32) -> Result<bool, i32> {
        let _alone = QdiscLock::take(ifindex);
        let mut empty = true;
        for direction in [Direction::Ingress, Direction::Egress] {
            self.filters(ifindex, parent(direction), &mut |_, _, _| empty = false)?;
        }
        if !empty {
            return Ok(false);
        }
        let request = Request::new(libc::RTM_DELQDISC, ACK, ifindex, TC_H_CLSACT).named(b"clsact\0");
        match self.ask(Request { handle: CLSACT_HANDLE, ..request }, &mut |_, _| ()) {
            Ok(()) => Ok(true),
            // There is none, or a qdisc of another kind in its place; or no interface any more.
            Err(libc::ENOENT | libc::EINVAL | libc::ENODEV) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Tells handle, priority and, if it is ours, program of each filter on one half of the qdisc.
    fn filters(
        &mut self,
        ifindex: u32,
        parent: u32,
        each: &mut dyn FnMut(u32, u32, Option<u32>),
    ) -> Result<(), i32> {
        let request = Request::new(libc::RTM_GETTFILTER, DUMP, ifindex, parent);
        let answer = self.ask(request, &mut |kind, message| {
            if kind == libc::RTM_NEWTFILTER
                && let (Some(handle), Some(info)) = (u32_at(message, 8), u32_at(message, 16))
            {
                each(handle, info >> 16, program_id(message));
            }
        });
        match answer {
            // No interface, no filters.
            Err(libc::ENODEV) => Ok(()),
            answer => answer,
        }
    }

    /// Sends one request and hands over what comes back, up to its end.
    fn ask(&mut self, request: Request, each: &mut dyn FnMut(u16, &[u8])) -> Result<(), i32> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = Request { sequence: self.sequence, ..request };
        // SAFETY: the message is not longer than the struct.
        let sent =
            unsafe { libc::send(self.as_raw_fd(), (&raw const request).cast(), request.bytes as usize, 0) };
        if sent < 0 {
            return Err(errno());
        }
        let mut buffer = [0u8; BUFFER_BYTES];
        loop {
            // SAFETY: a buffer of the length that is given.
            let got = unsafe { libc::recv(self.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if got < 0 {
                match errno() {
                    libc::EINTR => continue,
                    errno => return Err(errno),
                }
            }
            let mut rest = buffer.get(..got as usize).unwrap_or_default();
            while let Some((kind, sequence, message, next)) = message(rest) {
                rest = next;
                if sequence != self.sequence {
                    continue;
                }
                match i32::from(kind) {
                    // Both begin with what went wrong, 0 if nothing did.
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => match u32_at(message, 0).unwrap_or(0) as i32 {
                        0 => return Ok(()),
                        error => return Err(error.wrapping_neg()),
                    },
                    _ => each(kind, message),
                }
            }
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Kind, sequence number and content of the first message, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let content = bytes.get(HEADER_BYTES..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16_at(bytes, 4)?, u32_at(bytes, 8)?, content, rest))
}

/// The content of an attribute among attributes.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    const FLAGS: u16 = 0xc000;
    loop {
        let length = usize::from(u16_at(bytes, 0)?);
        let content = bytes.get(4..length)?;
        if u16_at(bytes, 2)? & !FLAGS == wanted {
            return Some(content);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

/// The program of a filter that is BPF, and ours.
fn program_id(message: &[u8]) -> Option<u32> {
    let options = attribute(message.get(TCMSG_BYTES..)?, TCA_OPTIONS)?;
    if !attribute(options, TCA_BPF_NAME)?.starts_with(OURS) {
        return None;
    }
    u32_at(attribute(options, TCA_BPF_ID)?, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_layout_of_the_kernel() {
        assert_eq!(size_of::<Request>(), HEADER_BYTES + TCMSG_BYTES + 4 + 8);
        assert_eq!(std::mem::offset_of!(Request, handle), HEADER_BYTES + 8);
        assert_eq!(Request::new(1, 0, 0, 0).named(b"bpf\0").bytes, 44);
        let clsact = Request::new(1, 0, 0, 0).named(b"clsact\0");
        assert_eq!((clsact.bytes, clsact.attribute_bytes), (48, 11));
    }

    #[test]
    fn an_interface_without_the_qdisc_has_nothing_to_remove() {
        let mut tc = RawTc::open().unwrap();
        let lo = FilterAt::new(1, Direction::Ingress, 1, 49152, 7);
        assert_eq!(tc.remove_filter(&lo), Ok(false));
        assert_eq!(tc.remove_filter(&FilterAt { ifindex: u32::MAX >> 1, ..lo }), Ok(false));
    }

    /// A filter as the kernel shows it, with options: TCA_BPF_NAME, TCA_BPF_ID.
    fn shown(name: &[u8], id: u32) -> Vec<u8> {
        let attribute = |kind: u16, content: &[u8]| {
            let mut bytes = (4 + content.len() as u16).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let options = [attribute(TCA_BPF_NAME, name), attribute(TCA_BPF_ID, &id.to_ne_bytes())].concat();
        [vec![0; TCMSG_BYTES], attribute(TCA_KIND, b"bpf\0"), attribute(TCA_OPTIONS, &options)].concat()
    }

    /// Whoever is asked to remove somebody else's does not even see it.
    #[test]
    fn only_filters_with_our_names_are_ours() {
        assert_eq!(program_id(&shown(b"elec_rx_tc:[7]\0", 7)), Some(7));
        assert_eq!(program_id(&shown(b"cil_from_netdev:[7]\0", 7)), None);
        assert_eq!(program_id(&shown(b"\0", 7)), None);
    }

    #[test]
    fn whatever_the_bytes_nothing_panics() {
        let mut bytes = [0u8; 64];
        for seed in 0..200_000u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Small numbers are plausible lengths.
                *byte = if state & 0x300 == 0 { state as u8 } else { state as u8 & 0x1f };
            }
            let mut rest = &bytes[..(seed % 65) as usize];
            let mut messages = 0;
            while let Some((_, _, content, next)) = message(rest) {
                program_id(content);
                assert!(next.len() < rest.len());
                (rest, messages) = (next, messages + 1);
            }
            assert!(messages <= 4);
        }
    }
}
