//! A filter on a clsact qdisc, for kernels before tcx (6.6).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use libbpf_sys::{bpf_tc_hook, bpf_tc_opts};

use super::guard::Guard;
use crate::net::{Direction, FilterAt};

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
        let mut opts = bpf_tc_opts {
            sz: size_of::<bpf_tc_opts>() as libbpf_sys::size_t,
            prog_fd: program.as_raw_fd(),
            ..Default::default()
        };
        // Nobody removes the qdisc before our filter is on it; the lock is let go before the qdisc may be.
        let mut known = qdiscs();
        let qdisc = Qdisc::of(&mut known, ifindex)?;
        // SAFETY: initialised hook and options; the kernel chooses handle and priority, which come back.
        let attached = unsafe { libbpf_sys::bpf_tc_attach(&raw const hook, &raw mut opts) };
        drop(known);
        if attached != 0 {
            return Err(io::Error::from_raw_os_error(-attached));
        }
        let at = FilterAt::new(ifindex, direction, opts.handle, opts.priority, opts.prog_id);
        let filter = Self { qdisc, at };
        // A filter that the guard cannot take goes again.
        filter.qdisc.guard().take(at)?;
        Ok(filter)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure, and a filter that is gone already is none.
        let _ = self.qdisc.guard().remove(self.at);
    }
}
