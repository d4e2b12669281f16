//! Who is on the tcx hooks of an interface.

use std::io;

use libbpf_sys::bpf_prog_query_opts;

use crate::net::Direction;

/// The kernel allows 64 programs a hook.
const PROGRAMS_MAX: usize = 64;

/// Ids in the order in which the programs run.
pub(super) fn programs(ifindex: u32, direction: Direction) -> io::Result<Vec<u32>> {
    let hook = match direction {
        Direction::Ingress => libbpf_sys::BPF_TCX_INGRESS,
        Direction::Egress => libbpf_sys::BPF_TCX_EGRESS,
    };
    let mut ids = [0u32; PROGRAMS_MAX];
    let mut opts = bpf_prog_query_opts {
        sz: size_of::<bpf_prog_query_opts>() as libbpf_sys::size_t,
        prog_ids: ids.as_mut_ptr(),
        ..Default::default()
    };
    opts.__bindgen_anon_1.count = PROGRAMS_MAX as u32;
    // SAFETY: initialised options whose array has as many elements as they state.
    let result = unsafe { libbpf_sys::bpf_prog_query_opts(ifindex as i32, hook, &raw mut opts) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: both fields of the union are the same number.
    let count = unsafe { opts.__bindgen_anon_1.count } as usize;
    Ok(ids[..count.min(PROGRAMS_MAX)].to_vec())
}
