//! A small process that takes clsact filters off when nobody else can: their owner was killed, or has given up the
//! capability that it takes.
//!
//! A filter belongs to its qdisc, not to a descriptor, so it outlives whoever attached it. The guard is forked when
//! the first filter of an interface is attached. It keeps CAP_NET_ADMIN and two sockets: one to the kernel's tables,
//! one to its owner. The owner tells it each filter, and asks it to remove them when endpoints are closed. When the
//! other end of that socket closes without a word, the owner is gone: the guard removes every filter that it was
//! told and is still there, the qdisc if it made that and nobody else uses it by now, and ends.
//!
//! It holds nothing else: no descriptor, no shared mapping, so no program, map or link lives on through it. If the
//! guard is killed as well, the lease (F2) makes the filters harmless and `elecctl detach` removes them.

mod line;
mod process;

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::line::Line;
use self::process::Order;
use crate::net::{FilterAt, RawTc};

/// One interface's guard, as its owner sees it. Dropping it ends the guard in order: the qdisc goes if the guard made
/// it and nobody uses it.
pub(super) struct Guard {
    ifindex: u32,
    line: Mutex<Line>,
    pid: libc::pid_t,
    /// For when the guard is gone; in the interface's namespace.
    tc: Mutex<RawTc>,
    made_qdisc: AtomicBool,
}

fn from_errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    /// Starts the guard of an interface in this thread's namespace, and gives the interface a clsact qdisc if it
    /// has none.
    pub(super) fn start(ifindex: u32) -> io::Result<Self> {
        let tc = RawTc::open().map_err(from_errno)?;
        let mut its_tc = RawTc::open().map_err(from_errno)?;
        let [ours, its] = line::pair(line::PATIENCE)?;
        let pid = fork(its.as_raw_fd(), &mut its_tc, ifindex)?;
        drop((its, its_tc));
        let line = Mutex::new(Line::over(ours));
        let guard = Self { ifindex, line, pid, tc: Mutex::new(tc), made_qdisc: AtomicBool::new(false) };
        guard.make_qdisc()?;
        Ok(guard)
    }

    /// Gives the interface a clsact qdisc if it has none (any more).
    pub(super) fn make_qdisc(&self) -> io::Result<()> {
        if self.order(Order::MAKE_QDISC)? {
            self.made_qdisc.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether a filter is on the interface.
    pub(super) fn sees(&self, filter: FilterAt) -> io::Result<bool> {
        locked(&self.tc).has_filter(&filter).map_err(from_errno)
    }

    /// Tells the guard of a filter that was attached.
    pub(super) fn take(&self, filter: FilterAt) -> io::Result<()> {
        self.order(Order::take(filter)).map(drop)
    }

    /// Removes a filter, by the guard, or if that is gone by this process as far as it may.
    pub(super) fn remove(&self, filter: FilterAt) -> io::Result<()> {
        if self.order(Order::remove(filter)).is_err() {
            locked(&self.tc).remove_filter(&filter).map_err(from_errno)?;
        }
        Ok(())
    }

    fn order(&self, order: Order) -> io::Result<bool> {
        locked(&self.line).ask(order)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.order(Order::END).is_err() {
            // It is dead, or somebody has stopped it.
            // SAFETY: the id of a child that has not been waited for.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            if self.made_qdisc.load(Ordering::Relaxed) {
                // Nobody is left to hear of a failure, and what is gone already is none.
                let _ = locked(&self.tc).remove_qdisc_if_empty(self.ifindex);
            }
        }
        // SAFETY: the id of a child that nobody else waits for; no status is asked for.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL) };
    }
}

/// Forks the guard. Returns in the owner only.
fn fork(link: RawFd, tc: &mut RawTc, ifindex: u32) -> io::Result<libc::pid_t> {
    let shared = shared_mappings()?;
    // SAFETY: sets are initialised before they are read. With all signals blocked no handler of this process runs in
    // the guard. Without flags the call is that of fork, but for handlers of the C library that prepare it for
    // allocating, which the guard does not; and nobody who waits for any child is told of this one. In the child
    // `process::run` never returns.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let pid = libc::syscall(libc::SYS_clone, 0usize, 0usize, 0usize, 0usize, 0usize);
        if pid == 0 {
            process::run(link, tc, ifindex, &shared);
        }
        let failed = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        if pid < 0 { Err(failed) } else { Ok(pid as libc::pid_t) }
    }
}

/// Start and length of everything that this process has mapped and that a child would share with it: the maps of BPF
/// programs live for as long as anybody has them mapped.
fn shared_mappings() -> io::Result<Vec<(usize, usize)>> {
    Ok(parse_shared(&std::fs::read_to_string("/proc/self/maps")?))
}

fn parse_shared(maps: &str) -> Vec<(usize, usize)> {
    let shared = |line: &str| {
        let mut words = line.split(' ');
        let (from, to) = words.next()?.split_once('-')?;
        let [from, to] = [from, to].map(|at| usize::from_str_radix(at, 16).ok());
        words.next()?.ends_with('s').then_some((from?, to? - from?))
    };
    maps.lines().filter_map(shared).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_mappings_are_told_from_private_ones() {
        let maps = "55d0-55d8 r-xp 00000000 fe:01 42   /usr/bin/replica\n\
                    7f0000001000-7f0000003000 rw-s 00000000 00:0e 1055   anon_inode:bpf-map\n\
                    7ffd0000-7ffd1000 rw-p 00000000 00:00 0   [stack]\n";
        assert_eq!(parse_shared(maps), [(0x7f00_0000_1000, 0x2000)]);
    }
}
