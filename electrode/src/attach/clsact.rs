//! A filter on a clsact qdisc, for kernels before tcx (6.6).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use libbpf_sys::{bpf_tc_hook, bpf_tc_opts};

use super::guard::Guard;
use crate::net::{Direction, FilterAt, QdiscLock};

/// How often attaching is tried where the qdisc, or the filter, is gone as soon as it was there: somebody removed the
/// qdisc in between who knows nothing of our lock.
const TRIES: u32 = 10;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// The qdiscs that this process uses; the lock also serialises making and removing them.
static QDISCS: Mutex<Vec<(Place, Weak<Qdisc>)>> = Mutex::new(Vec::new());

/// Inode of the network namespace, and the interface in it.
type Place = (u64, u32);

fn qdiscs() -> MutexGuard<'static, Vec<(Place, Weak<Qdisc>)>> {
    QDISCS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clsact qdisc of one interface, shared by all of our filters on it, whichever endpoint's: whoever goes
/// last removes it if the first one made it, and if nobody else uses it by then.
struct Qdisc {
    /// Lives where the interface is: the last owner may be dropped in another namespace, where the same number is
    /// another interface. Taken out when the qdisc is dropped.
    guard: Option<Guard>,
}

impl Qdisc {
    /// The qdisc of an interface in this thread's namespace.
    fn of(known: &mut Vec<(Place, Weak<Self>)>, ifindex: u32) -> io::Result<Arc<Self>> {
        let place = (std::fs::metadata("/proc/thread-self/ns/net")?.ino(), ifindex);
        known.retain(|(_, qdisc)| qdisc.strong_count() > 0);
        // Only that of this place is held for a moment: letting go of the last hold on another one here would drop it
        // under the lock that its drop takes.
        if let Some(qdisc) = known.iter().find(|(at, _)| *at == place).and_then(|(_, qdisc)| qdisc.upgrade())
        {
            return Ok(qdisc);
        }
        let qdisc = Arc::new(Self { guard: Some(Guard::start(ifindex)?) });
        known.push((place, Arc::downgrade(&qdisc)));
        Ok(qdisc)
    }

    fn guard(&self) -> &Guard {
        self.guard.as_ref().expect("until it is dropped")
    }
}

impl Drop for Qdisc {
    fn drop(&mut self) {
        let _alone = qdiscs();
        drop(self.guard.take());
    }
}

/// Our filter; dropping it removes it.
pub(crate) struct Filter {
    qdisc: Arc<Qdisc>,
    at: FilterAt,
}

impl Filter {
    pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> io::Result<Self> {
        let hook = bpf_tc_hook {
            sz: size_of::<bpf_tc_hook>() as libbpf_sys::size_t,
            ifindex: ifindex as i32,
            attach_point: match direction {
                Direction::Ingress => libbpf_sys::BPF_TC_INGRESS,
                Direction::Egress => libbpf_sys::BPF_TC_EGRESS,
            },
            ..Default::default()
        };
        let (mut tries, mut held) = (1, None);
        let (qdisc, at) = loop {
            // Nobody removes the qdisc before our filter is on it: neither this process (the list is locked) nor the
            // guard of one that was killed. Both locks are let go before the qdisc may be.
            let mut known = qdiscs();
            let alone = QdiscLock::take(ifindex);
            let qdisc = held.take().map_or_else(|| Qdisc::of(&mut known, ifindex), Ok)?;
            let attached = attach(program, &hook)
                .map(|(handle, priority, id)| FilterAt::new(ifindex, direction, handle, priority, id))
                // A look that fails is no sign that it is not there.
                .and_then(|at| if qdisc.guard().sees(at).unwrap_or(true) { Ok(at) } else { Err(gone()) });
            drop((alone, known));
            match attached {
                Ok(at) => break (qdisc, at),
                // No qdisc; which of the two depends on the kernel.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) && tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                    qdisc.guard().make_qdisc()?;
                    held = Some(qdisc);
                }
                Err(e) => return Err(e),
            }
        };
        let filter = Self { qdisc, at };
        // A filter that the guard cannot take goes again.
        filter.qdisc.guard().take(at)?;
        Ok(filter)
    }
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

/// Handle and priority, which the kernel chooses, and the program's id.
fn attach(program: BorrowedFd<'_>, hook: &bpf_tc_hook) -> io::Result<(u32, u32, u32)> {
    let mut opts = bpf_tc_opts {
        sz: size_of::<bpf_tc_opts>() as libbpf_sys::size_t,
        prog_fd: program.as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: initialised hook and options, which say how long they are.
    match unsafe { libbpf_sys::bpf_tc_attach(hook, &raw mut opts) } {
        0 => Ok((opts.handle, opts.priority, opts.prog_id)),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure, and a filter that is gone already is none.
        let _ = self.qdisc.guard().remove(self.at);
    }
}
