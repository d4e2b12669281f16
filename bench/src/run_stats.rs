//! What attached programs cost in traffic, by the kernel's own accounting (`BPF_ENABLE_STATS`).
//!
//! `BPF_PROG_TEST_RUN` cannot run the broadcast program on a carrier: that one is known by its socket, which
//! TEST_RUN makes up anew for each call. Its figure, and a cross-check of the others, comes from here. The
//! accounting itself costs every program two clock readings a run, which are part of the figure.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use electrode::Interface;
use electrode::fabric::Host;

/// The accounting, on for all programs of the machine while this lives.
pub struct RunStats {
    _on: OwnedFd,
}

impl RunStats {
    /// Switches it on.
    pub fn enable() -> io::Result<Self> {
        // SAFETY: takes a number.
        let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
        Ok(Self { _on: owned(fd)? })
    }
}

/// Which of a host's programs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    /// At TC ingress.
    Ingress,
    /// At TC egress.
    Egress,
}

/// A program at its hook.
pub struct Attached(OwnedFd);

/// What a program has done since it was loaded, as far as it was accounted for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// How often it ran.
    pub count: u64,
    /// How long in all.
    pub ns: u64,
}

impl Runs {
    /// From `before` until now.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, ns: self.ns - before.ns }
    }

    /// Of one run on average.
    pub fn ns_each(self) -> f64 {
        self.ns as f64 / self.count.max(1) as f64
    }
}

impl Attached {
    /// The only program on that side of a host's interface; tcx only.
    pub fn find(host: &Host, direction: Direction) -> io::Result<Self> {
        let side = match direction {
            Direction::Ingress => libbpf_sys::BPF_TCX_INGRESS,
            Direction::Egress => libbpf_sys::BPF_TCX_EGRESS,
        };
        let id = host.netns().run(|| {
            let interface = Interface::find(host.addr(), None).map_err(io::Error::other)?;
            only_program(interface.index, side)
        });
        let id = id.map_err(io::Error::other)??;
        // SAFETY: takes a number.
        owned(unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) }).map(Self)
    }

    /// Counters as of now.
    pub fn runs(&self) -> io::Result<Runs> {
        let mut info = libbpf_sys::bpf_prog_info::default();
        let mut bytes = size_of_val(&info) as u32;
        // SAFETY: an open descriptor, and room of the size that is stated.
        let result =
            unsafe { libbpf_sys::bpf_prog_get_info_by_fd(self.0.as_raw_fd(), &raw mut info, &raw mut bytes) };
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        Ok(Runs { count: info.run_cnt, ns: info.run_time_ns })
    }
}

fn only_program(interface: u32, side: libbpf_sys::bpf_attach_type) -> io::Result<u32> {
    let mut ids = [0u32; 8];
    let mut options = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as libbpf_sys::size_t,
        prog_ids: ids.as_mut_ptr(),
        ..Default::default()
    };
    options.__bindgen_anon_1.count = ids.len() as u32;
    // SAFETY: options of the size that they state, with room for as many ids as they say.
    let result = unsafe { libbpf_sys::bpf_prog_query_opts(interface as i32, side, &raw mut options) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: both variants of the union are the same number.
    match unsafe { options.__bindgen_anon_1.count } {
        1 => Ok(ids[0]),
        n => Err(io::Error::other(format!("{n} programs where there should be one"))),
    }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a descriptor that the caller just got and that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
