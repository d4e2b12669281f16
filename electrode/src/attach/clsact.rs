//! A filter on a clsact qdisc, for kernels before tcx (6.6).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::net::{Direction, clsact_filters};
use libbpf_sys::{bpf_tc_hook, bpf_tc_opts};

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

fn point(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => libbpf_sys::BPF_TC_INGRESS,
        Direction::Egress => libbpf_sys::BPF_TC_EGRESS,
    }
}

/// Removes one filter by its place; the caller knows whose it is.
pub(crate) fn remove(ifindex: u32, direction: Direction, handle: u32, priority: u32) -> io::Result<()> {
    let hook = hook(ifindex, point(direction));
    let opts = bpf_tc_opts {
        sz: size_of::<bpf_tc_opts>() as libbpf_sys::size_t,
        handle,
        priority,
        ..Default::default()
    };
    // SAFETY: initialised hook and options.
    match unsafe { libbpf_sys::bpf_tc_detach(&raw const hook, &raw const opts) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// Removes the interface's clsact qdisc if no filter is left on it, anybody's.
pub(crate) fn remove_empty_qdisc(ifindex: u32) -> io::Result<bool> {
    if !clsact_filters(ifindex)?.is_empty() {
        return Ok(false);
    }
    let mut whole = hook(ifindex, libbpf_sys::BPF_TC_INGRESS | libbpf_sys::BPF_TC_EGRESS);
    // SAFETY: an initialised hook; both directions together mean the qdisc.
    match unsafe { libbpf_sys::bpf_tc_hook_destroy(&raw mut whole) } {
        0 => Ok(true),
        // There is none, or a qdisc of another kind in its place.
        error if [-libc::ENOENT, -libc::EINVAL].contains(&error) => Ok(false),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

impl Filter {
    pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> io::Result<Self> {
        let mut hook = hook(ifindex, point(direction));
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
        if self.made_qdisc {
            // Nobody is left to hear of a failure.
            let _ = remove_empty_qdisc(self.hook.ifindex as u32);
        }
    }
}
