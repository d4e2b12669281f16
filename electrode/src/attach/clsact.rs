//! A filter on a clsact qdisc, for kernels before tcx (6.6).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_sys::{bpf_tc_hook, bpf_tc_opts};

use crate::net::{Direction, Netlink, remove_clsact_filter, remove_clsact_if_empty};

/// Our filter; dropping it removes it, and the qdisc too if we made it and nobody else uses it.
pub(crate) struct Filter {
    /// Opened where the filter was attached: interface numbers mean something else in the namespace of
    /// whoever drops this.
    netlink: Netlink,
    ifindex: u32,
    direction: Direction,
    /// Handle and priority.
    place: Option<(u32, u32)>,
    made_qdisc: bool,
}

impl Filter {
    pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> io::Result<Self> {
        let netlink = Netlink::open()?;
        let mut hook = bpf_tc_hook {
            sz: size_of::<bpf_tc_hook>() as libbpf_sys::size_t,
            ifindex: ifindex as i32,
            attach_point: match direction {
                Direction::Ingress => libbpf_sys::BPF_TC_INGRESS,
                Direction::Egress => libbpf_sys::BPF_TC_EGRESS,
            },
            ..Default::default()
        };
        // SAFETY: an initialised hook.
        let created = unsafe { libbpf_sys::bpf_tc_hook_create(&raw mut hook) };
        if created != 0 && created != -libc::EEXIST {
            return Err(io::Error::from_raw_os_error(-created));
        }
        let mut filter = Self { netlink, ifindex, direction, place: None, made_qdisc: created == 0 };
        let mut opts = bpf_tc_opts {
            sz: size_of::<bpf_tc_opts>() as libbpf_sys::size_t,
            prog_fd: program.as_raw_fd(),
            ..Default::default()
        };
        // SAFETY: initialised hook and options; the kernel chooses handle and priority, which come back.
        let attached = unsafe { libbpf_sys::bpf_tc_attach(&raw const hook, &raw mut opts) };
        if attached != 0 {
            return Err(io::Error::from_raw_os_error(-attached));
        }
        filter.place = Some((opts.handle, opts.priority));
        Ok(filter)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure, and a filter that is gone already is none.
        if let Some((handle, priority)) = self.place {
            let _ = remove_clsact_filter(&mut self.netlink, self.ifindex, self.direction, handle, priority);
        }
        if self.made_qdisc {
            let _ = remove_clsact_if_empty(&mut self.netlink, self.ifindex);
        }
    }
}
