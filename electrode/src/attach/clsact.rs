//! A filter on a clsact qdisc, for kernels before tcx (6.6).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use libbpf_sys::{bpf_tc_hook, bpf_tc_opts};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::Direction;
use crate::net::Netlink;

/// Where filters hang: TC_H_CLSACT with minor TC_H_MIN_INGRESS or TC_H_MIN_EGRESS.
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0xfff2 };
const EGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0xfff3 };
/// The qdisc itself.
const CLSACT: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };
const CLSACT_HANDLE: TcHandle = TcHandle { major: 0xffff, minor: 0 };

/// The qdiscs that this process uses; also serialises making and removing them.
static QDISCS: Mutex<Vec<Weak<Qdisc>>> = Mutex::new(Vec::new());

fn qdiscs() -> MutexGuard<'static, Vec<Weak<Qdisc>>> {
    QDISCS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clsact qdisc of one interface, shared by all of our filters on it, whichever endpoint's: whoever goes
/// last removes it if the first one made it, and if nobody else uses it by then.
struct Qdisc {
    /// Opened where the interface is: the last owner may be dropped in another namespace, where the same
    /// number is another interface.
    netlink: Mutex<Netlink>,
    /// Inode of the network namespace, and the interface in it.
    place: (u64, i32),
    made: bool,
}

impl Qdisc {
    /// The qdisc of an interface in this thread's namespace.
    fn of(known: &mut Vec<Weak<Self>>, ifindex: i32) -> io::Result<Arc<Self>> {
        let place = (std::fs::metadata("/proc/thread-self/ns/net")?.ino(), ifindex);
        known.retain(|qdisc| qdisc.strong_count() > 0);
        if let Some(qdisc) = known.iter().filter_map(Weak::upgrade).find(|q| q.place == place) {
            return Ok(qdisc);
        }
        let netlink = Mutex::new(Netlink::open()?);
        let mut hook = hook(ifindex, libbpf_sys::BPF_TC_INGRESS | libbpf_sys::BPF_TC_EGRESS);
        // SAFETY: an initialised hook.
        let created = unsafe { libbpf_sys::bpf_tc_hook_create(&raw mut hook) };
        if created != 0 && created != -libc::EEXIST {
            return Err(io::Error::from_raw_os_error(-created));
        }
        let qdisc = Arc::new(Self { netlink, place, made: created == 0 });
        known.push(Arc::downgrade(&qdisc));
        Ok(qdisc)
    }

    fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.netlink.lock().unwrap_or_else(PoisonError::into_inner).request(message, flags)
    }

    fn message(&self, parent: TcHandle, kind: &str) -> TcMessage {
        let mut message = TcMessage::with_index(self.place.1);
        message.header.parent = parent;
        message.attributes.push(TcAttribute::Kind(kind.into()));
        message
    }

    /// Whether anybody has a filter here.
    fn is_used(&self) -> io::Result<bool> {
        for parent in [INGRESS, EGRESS] {
            let mut message = TcMessage::with_index(self.place.1);
            message.header.parent = parent;
            if !self.request(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Drop for Qdisc {
    fn drop(&mut self) {
        let _alone = qdiscs();
        if self.made && self.is_used().is_ok_and(|used| !used) {
            let mut message = self.message(CLSACT, "clsact");
            message.header.handle = CLSACT_HANDLE;
            // One that somebody else removed meanwhile is gone all the same.
            let _ = self.request(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK);
        }
    }
}

/// Our filter; dropping it removes it.
pub(crate) struct Filter {
    qdisc: Arc<Qdisc>,
    parent: TcHandle,
    handle: u32,
    priority: u32,
}

fn hook(ifindex: i32, point: u32) -> bpf_tc_hook {
    bpf_tc_hook {
        sz: size_of::<bpf_tc_hook>() as libbpf_sys::size_t,
        ifindex,
        attach_point: point,
        ..Default::default()
    }
}

impl Filter {
    pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> io::Result<Self> {
        let (point, parent) = match direction {
            Direction::Ingress => (libbpf_sys::BPF_TC_INGRESS, INGRESS),
            Direction::Egress => (libbpf_sys::BPF_TC_EGRESS, EGRESS),
        };
        let ifindex = ifindex as i32;
        let hook = hook(ifindex, point);
        let mut opts = bpf_tc_opts {
            sz: size_of::<bpf_tc_opts>() as libbpf_sys::size_t,
            prog_fd: program.as_raw_fd(),
            ..Default::default()
        };
        // Nobody removes the qdisc before our filter is on it. The lock is let go before the qdisc may be.
        let mut known = qdiscs();
        let qdisc = Qdisc::of(&mut known, ifindex)?;
        // SAFETY: initialised hook and options; the kernel chooses handle and priority, which come back.
        let attached = unsafe { libbpf_sys::bpf_tc_attach(&raw const hook, &raw mut opts) };
        drop(known);
        if attached != 0 {
            return Err(io::Error::from_raw_os_error(-attached));
        }
        Ok(Self { qdisc, parent, handle: opts.handle, priority: opts.priority })
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let mut message = self.qdisc.message(self.parent, "bpf");
        message.header.handle = self.handle.into();
        message.header.info = self.priority << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
        // A filter that is gone already is gone all the same.
        let _ = self.qdisc.request(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK);
    }
}
