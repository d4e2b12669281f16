//! Sleeping until something happens: arm, look once more, wait, disarm.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::Endpoint;
use crate::backend::Wake;
use crate::clock::gave_way;
use crate::error::{Error, Result};
use crate::words::GateState;

/// Events since the last sleep that still are a dialogue, where one follows the other. Measured: with 1 a leader with 16
/// clients that batches was a fifth slower, with 20 sockets with 64 clients a tenth.
const QUIET_EVENTS: usize = 4;

/// What a sleeping follower wants to be woken for. Datagrams always wake.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As soon as the kernel logs or learns anything.
    Eager,
    /// Once this many ops have been logged; commits and single ops wait for the timeout.
    Batch(u64),
}

impl Endpoint {
    /// Makes [`Endpoint::wait`] return when `fd` is readable, too. It must stay open as long as the endpoint.
    pub fn wake_on(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        let Some(wait) = &self.wait else { return Ok(()) };
        super::open::watch(wait, fd).map_err(Error::io("epoll_ctl"))
    }

    /// Arms the doorbells, for those who wait on [`Endpoint::fd`] themselves. `false`: there is something to
    /// poll already, and nothing was armed.
    pub fn arm(&mut self, patience: Patience) -> bool {
        let wake = match self.state {
            GateState::Lead => Wake { on_quorum: self.leader.in_flight() > 0, ..Wake::default() },
            GateState::Follow if self.path.appends() => {
                let next = self.follower.held.next();
                match patience {
                    Patience::Eager => Wake {
                        at_op: Some(next),
                        at_commit: Some(self.follower.commit.next()),
                        on_quorum: false,
                    },
                    // A hole in the log is what the early batches wait for.
                    Patience::Batch(_) if self.follower.waits_for_gap() => {
                        Wake { at_op: Some(next), ..Wake::default() }
                    }
                    Patience::Batch(ops) => {
                        let at = crate::types::OpNumber(self.follower.held.0 + ops);
                        Wake { at_op: Some(at), ..Wake::default() }
                    }
                }
            }
            _ => return true,
        };
        if wake == Wake::default() {
            return true;
        }
        self.path.arm(wake);
        // What happened before the bell was armed did not ring it.
        let due = match self.state {
            GateState::Lead => self.leader.would_complete(&*self.path),
            _ => {
                let tail = self.path.tail();
                wake.at_op.is_some_and(|op| tail >= op)
                    || wake.at_commit.is_some_and(|op| self.path.commit_seen(self.epoch) >= op)
            }
        };
        if due {
            self.path.disarm();
        }
        !due
    }

    /// Disarms the doorbells that [`Endpoint::arm`] armed.
    pub fn disarm(&mut self) {
        self.path.disarm();
    }

    /// Looks for `time` without sleeping; whether there is something to poll. For a `quiet` dialogue only
    /// ([`QUIET_EVENTS`]): under load a nap gathers more for the next poll. Gives way to whoever
    /// else wants the CPU.
    fn look(&mut self, quiet: bool, time: Duration) -> bool {
        if time.is_zero() || !quiet || self.state == GateState::Follow {
            return false;
        }
        let fd = self.fd().as_raw_fd();
        let since = Instant::now();
        loop {
            if self.state == GateState::Lead && self.leader.would_complete(&*self.path) {
                return true;
            }
            self.stats.waits += 1;
            if epoll_wait(fd, Duration::ZERO).is_ok_and(|ready| ready > 0) {
                return true;
            }
            // Somebody else had work for this CPU: looking on would take it away from them.
            if gave_way() || since.elapsed() >= time {
                return false;
            }
        }
    }

    /// Sends what is queued and sleeps until there is something to poll, or the timeout is over.
    pub fn wait(&mut self, timeout: Duration, patience: Patience) -> Result<()> {
        self.flush()?;
        if self.wait.is_none() {
            return Ok(());
        }
        let quiet = (1..=QUIET_EVENTS).contains(&std::mem::take(&mut self.events_since_wait));
        if self.look(quiet, timeout.min(self.config.busy_poll)) || !self.arm(patience) {
            return Ok(());
        }
        let fd = self.fd().as_raw_fd();
        let result = epoll_wait(fd, timeout);
        self.stats.waits += 1;
        self.path.disarm();
        match result {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(Error::io("epoll_wait")(e)),
            _ => Ok(()),
        }
    }
}

fn epoll_wait(fd: i32, timeout: Duration) -> io::Result<usize> {
    // SAFETY: all-zero is a valid epoll_event.
    let mut events: [libc::epoll_event; 4] = unsafe { std::mem::zeroed() };
    let spec = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    };
    // epoll_pwait2 has nanoseconds (Linux 5.11); older kernels round up to milliseconds.
    // SAFETY: pointers to initialised values, no signal mask.
    let n = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            fd,
            events.as_mut_ptr(),
            events.len() as libc::c_int,
            &raw const spec,
            std::ptr::null::<libc::sigset_t>(),
            0usize,
        )
    };
    if n >= 0 {
        return Ok(n as usize);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return Err(error);
    }
    let ms = timeout.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
    // SAFETY: as above.
    let n = unsafe { libc::epoll_wait(fd, events.as_mut_ptr(), events.len() as i32, ms) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}
