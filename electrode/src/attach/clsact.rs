//! A filter on a clsact qdisc, for kernels before tcx (6.6).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_sys::{bpf_tc_hook, bpf_tc_opts};
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};

use super::Direction;
use crate::net::Netlink;

/// Our filter; dropping it removes it, and the qdisc too if we made it and nobody else uses it.
pub(crate) struct Filter {
    hook: bpf_tc_hook,
    opts: bpf_tc_opts,
    made_qdisc: bool,
}

// SAFETY: the structs are plain numbers and null pointers.
unsafe impl Send for Filter {}

fn hook(ifindex: u32, point: u32) -> bpf_tc_hook {
    bpf_tc_hook {
        sz: size_of::<bpf_tc_hook>() as libbpf_sys::size_t,
        ifindex: ifindex as i32,
        attach_point: point,
        ..Default::default()
    }
}

impl Filter {
    pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> io::Result<Self> {
        let point = match direction {
            Direction::Ingress => libbpf_sys::BPF_TC_INGRESS,
            Direction::Egress => libbpf_sys::BPF_TC_EGRESS,
        };
        let mut hook = hook(ifindex, point);
        // SAFETY: an initialised hook.
        let created = unsafe { libbpf_sys::bpf_tc_hook_create(&raw mut hook) };
        if created != 0 && created != -libc::EEXIST {
            return Err(io::Error::from_raw_os_error(-created));
        }
        let mut filter = Self { hook, opts: bpf_tc_opts::default(), made_qdisc: created == 0 };
        filter.opts.sz = size_of::<bpf_tc_opts>() as libbpf_sys::size_t;
        filter.opts.prog_fd = program.as_raw_fd();
        // SAFETY: initialised hook and options; the kernel chooses handle and priority, which come back.
        let attached = unsafe { libbpf_sys::bpf_tc_attach(&raw const filter.hook, &raw mut filter.opts) };
        if attached != 0 {
            let error = io::Error::from_raw_os_error(-attached);
            filter.opts.handle = 0;
            return Err(error);
        }
        // What detaching wants: handle and priority alone.
        filter.opts.prog_fd = 0;
        filter.opts.prog_id = 0;
        filter.opts.flags = 0;
        Ok(filter)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if self.opts.handle != 0 {
            // SAFETY: hook and options as attached; a filter that is gone already is an error to ignore.
            unsafe { libbpf_sys::bpf_tc_detach(&raw const self.hook, &raw const self.opts) };
        }
        if self.made_qdisc && filters(self.hook.ifindex).is_ok_and(|n| n == 0) {
            let mut whole =
                hook(self.hook.ifindex as u32, libbpf_sys::BPF_TC_INGRESS | libbpf_sys::BPF_TC_EGRESS);
            // SAFETY: an initialised hook; both directions together mean the qdisc.
            unsafe { libbpf_sys::bpf_tc_hook_destroy(&raw mut whole) };
        }
    }
}

/// Filters on the interface's clsact qdisc, anybody's.
fn filters(ifindex: i32) -> io::Result<usize> {
    let mut netlink = Netlink::open()?;
    let mut count = 0;
    // TC_H_CLSACT with minor TC_H_MIN_INGRESS and TC_H_MIN_EGRESS.
    for minor in [0xfff2, 0xfff3] {
        let mut message = TcMessage::with_index(ifindex);
        message.header.parent = TcHandle { major: 0xffff, minor };
        count += netlink.request(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)?.len();
    }
    Ok(count)
}
