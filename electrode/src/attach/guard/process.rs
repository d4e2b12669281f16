//! What the guard does. It is forked from a process with many threads, whose locks nobody will ever release here:
//! nothing below allocates, locks, prints or panics.

use std::os::fd::RawFd;

use crate::net::{FilterAt, RawTc};
use crate::privileges;

/// What the owner wants.
#[repr(C)]
#[derive(Copy, Clone, Default)]
pub(super) struct Order {
    /// Which order this is: an answer that comes too late is not that to another one.
    pub(super) number: u64,
    kind: u32,
    filter: FilterAt,
}

const MAKE_QDISC: u32 = 1;
const TAKE: u32 = 2;
const REMOVE: u32 = 3;
const END: u32 = 4;

impl Order {
    /// Make the qdisc; done, if there was none.
    pub(super) const MAKE_QDISC: Self = Self { number: 0, kind: MAKE_QDISC, filter: FilterAt::NONE };
    /// All filters have gone, and the guard goes. The qdisc does, if it may; done, if so.
    pub(super) const END: Self = Self { number: 0, kind: END, filter: FilterAt::NONE };

    /// A filter was attached.
    pub(super) fn take(filter: FilterAt) -> Self {
        Self { number: 0, kind: TAKE, filter }
    }

    /// It is to go; done, if it was there.
    pub(super) fn remove(filter: FilterAt) -> Self {
        Self { number: 0, kind: REMOVE, filter }
    }
}

/// What came of it.
#[repr(C)]
#[derive(Copy, Clone, Default)]
pub(super) struct Answer {
    /// Of the order that it answers.
    pub(super) number: u64,
    /// 0 if nothing went wrong.
    pub(super) errno: i32,
    /// Whether there was anything to be done.
    pub(super) done: u32,
}

/// More than the endpoints of one process on one interface have.
const FILTERS_MAX: usize = 128;

struct Charge<'a> {
    tc: &'a mut RawTc,
    ifindex: u32,
    made_qdisc: bool,
    filters: [FilterAt; FILTERS_MAX],
}

/// Ends this process at once; what its owner left in this memory is not its to clean up.
struct Exit;

impl Drop for Exit {
    fn drop(&mut self) {
        // SAFETY: a number.
        unsafe { libc::_exit(0) }
    }
}

/// The guard, from its first instruction to its last.
pub(super) fn run(link: RawFd, tc: &mut RawTc, ifindex: u32, shared: &[(usize, usize)]) -> ! {
    // Nothing here panics; if something did, it must not go on in the owner's code.
    let exit = Exit;
    let limited = leave_all(link, tc.as_raw_fd(), shared);
    let mut charge = Charge { tc, ifindex, made_qdisc: false, filters: [FilterAt::NONE; FILTERS_MAX] };
    while limited.is_ok() {
        let mut order = Order::default();
        // SAFETY: room for an order, which is plain words.
        let got = unsafe { libc::recv(link, (&raw mut order).cast(), size_of::<Order>(), 0) };
        if got != size_of::<Order>() as isize {
            // The owner is gone.
            charge.remove_all();
            break;
        }
        let answer = match charge.obey(order) {
            Ok(done) => Answer { number: order.number, errno: 0, done: done.into() },
            Err(errno) => Answer { number: order.number, errno, done: 0 },
        };
        // If nobody hears it, the next receive says so.
        // SAFETY: an answer is plain words.
        unsafe { libc::send(link, (&raw const answer).cast(), size_of::<Answer>(), libc::MSG_NOSIGNAL) };
        if order.kind == END {
            break;
        }
    }
    drop(exit);
    unreachable!()
}

/// Lets go of everything of the owner's but the two sockets.
fn leave_all(link: RawFd, tc: RawFd, shared: &[(usize, usize)]) -> Result<(), i32> {
    let (low, high) = (link.min(tc) as libc::c_uint, link.max(tc) as libc::c_uint);
    let between = (low.saturating_add(1), high.saturating_sub(1));
    let ranges =
        [low.checked_sub(1).map(|last| (0, last)), Some(between), Some((high.saturating_add(1), u32::MAX))];
    for (first, last) in ranges.into_iter().flatten().filter(|(first, last)| first <= last) {
        // SAFETY: numbers only; nothing here uses the descriptors that are closed.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
            // A guard that held a link would keep programs attached.
            return Err(libc::EBADF);
        }
    }
    for &(start, bytes) in shared {
        // SAFETY: whole mappings that the owner shared with others; nothing here uses them.
        unsafe { libc::munmap(start as *mut libc::c_void, bytes) };
    }
    // SAFETY: static strings and numbers. Signals stay blocked, and no terminal sends any to a session of its own.
    unsafe {
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        libc::prctl(libc::PR_SET_NAME, c"elec-guard".as_ptr(), 0, 0, 0);
    }
    privileges::limit_to(privileges::NET_ADMIN.bit())
}

impl Charge<'_> {
    fn obey(&mut self, order: Order) -> Result<bool, i32> {
        match order.kind {
            MAKE_QDISC => {
                let made = self.tc.make_qdisc(self.ifindex)?;
                // Asked again, if somebody took it away: one that it made once is one that it may remove.
                self.made_qdisc |= made;
                Ok(made)
            }
            // An owner that somebody took over has no say in other places, nor in what it never attached.
            TAKE if order.filter.ifindex == self.ifindex => {
                let free = self.filters.iter_mut().find(|f| **f == FilterAt::NONE).ok_or(libc::ENOSPC)?;
                *free = order.filter;
                Ok(true)
            }
            REMOVE => {
                let known = self.filters.iter_mut().find(|f| **f == order.filter).ok_or(libc::ENOENT)?;
                let removed = self.tc.remove_filter(&order.filter)?;
                *known = FilterAt::NONE;
                Ok(removed)
            }
            END => self.remove_qdisc(),
            _ => Err(libc::EINVAL),
        }
    }

    fn remove_qdisc(&mut self) -> Result<bool, i32> {
        if self.made_qdisc { self.tc.remove_qdisc_if_empty(self.ifindex) } else { Ok(false) }
    }

    /// Nobody is left to hear of a failure.
    fn remove_all(&mut self) {
        for filter in self.filters.iter().filter(|f| **f != FilterAt::NONE) {
            let _ = self.tc.remove_filter(filter);
        }
        let _ = self.remove_qdisc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Direction;

    const IFINDEX: u32 = 1;

    fn filter(ifindex: u32) -> FilterAt {
        FilterAt::new(ifindex, Direction::Ingress, 1, 49152, 7)
    }

    /// An owner that somebody took over has everything but its guard: that does nothing for it elsewhere.
    #[test]
    fn only_filters_that_were_taken_on_its_own_interface_are_removed() {
        let mut tc = RawTc::open().unwrap();
        let filters = [FilterAt::NONE; FILTERS_MAX];
        let mut charge = Charge { tc: &mut tc, ifindex: IFINDEX, made_qdisc: false, filters };
        assert_eq!(charge.obey(Order::take(filter(IFINDEX + 1))), Err(libc::EINVAL));
        assert_eq!(charge.obey(Order::remove(filter(IFINDEX + 1))), Err(libc::ENOENT));
        assert_eq!(charge.obey(Order::remove(filter(IFINDEX))), Err(libc::ENOENT), "it was never taken");
        assert_eq!(charge.obey(Order::take(filter(IFINDEX))), Ok(true));
        // It is on no interface; the order itself is one to obey, once.
        assert_eq!(charge.obey(Order::remove(filter(IFINDEX))), Ok(false));
        assert_eq!(charge.obey(Order::remove(filter(IFINDEX))), Err(libc::ENOENT));
        assert_eq!(charge.obey(Order { kind: 9, ..Order::default() }), Err(libc::EINVAL));
        assert_eq!(charge.obey(Order::END), Ok(false), "a qdisc that it did not make");
        for _ in 0..FILTERS_MAX {
            assert_eq!(charge.obey(Order::take(filter(IFINDEX))), Ok(true));
        }
        assert_eq!(charge.obey(Order::take(filter(IFINDEX))), Err(libc::ENOSPC));
    }
}
