//! Programs of other people that count every packet they see and pass it on.

use std::os::fd::{AsRawFd, OwnedFd};

use electrode::fabric::NetNs;
use libbpf_sys::{bpf_insn, bpf_tc_hook, bpf_tc_opts};

use super::foreign::{EXIT, MOV64_IMM, MOV64_REG, attach, ifindex, insn, load, owned, program_id};

/// Where it sits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Seat {
    TcxIngress,
    TcxEgress,
    /// A filter on a clsact qdisc, which must be there; it stays until the interface goes.
    ClsactIngress,
    ClsactEgress,
    XdpGeneric,
}

/// The program, and what it has counted.
pub struct Counting {
    pub seat: Seat,
    pub interface: &'static str,
    pub id: u32,
    counts: OwnedFd,
    _link: Option<OwnedFd>,
}

fn counts_and_returns(counts: &OwnedFd, value: i32) -> Vec<bpf_insn> {
    const ST_MEM_W: u8 = 0x62;
    const ADD64_IMM: u8 = 0x07;
    const LD_IMM64: u8 = 0x18;
    const PSEUDO_MAP_FD: u8 = 1;
    const CALL: u8 = 0x85;
    const MAP_LOOKUP: i32 = 1;
    const JEQ_IMM: u8 = 0x15;
    const ATOMIC_DW: u8 = 0xdb;
    let with = |mut insn: bpf_insn, to: u8, from: u8| {
        insn.set_dst_reg(to);
        insn.set_src_reg(from);
        insn
    };
    vec![
        // Key 0 on the stack, below r10.
        with(insn(ST_MEM_W, -4, 0), 10, 0),
        with(insn(MOV64_REG, 0, 0), 2, 10),
        with(insn(ADD64_IMM, 0, -4), 2, 0),
        with(insn(LD_IMM64, 0, counts.as_raw_fd()), 1, PSEUDO_MAP_FD),
        insn(0, 0, 0),
        insn(CALL, 0, MAP_LOOKUP),
        insn(JEQ_IMM, 2, 0),
        with(insn(MOV64_IMM, 0, 1), 1, 0),
        // *r0 += r1
        with(insn(ATOMIC_DW, 0, 0), 0, 1),
        insn(MOV64_IMM, 0, value),
        insn(EXIT, 0, 0),
    ]
}

impl Counting {
    pub fn attach(namespace: &NetNs, seat: Seat, interface: &'static str) -> Self {
        const XDP_PASS: i32 = 2;
        const TC_NEXT: i32 = -1;
        const SKB_MODE: u32 = 1 << 1;
        // SAFETY: a static name, sizes, no options.
        let counts = unsafe {
            let kind = libbpf_sys::BPF_MAP_TYPE_ARRAY;
            libbpf_sys::bpf_map_create(kind, c"foreign_counts".as_ptr(), 4, 8, 1, std::ptr::null())
        };
        let counts = owned(counts, "make a map");
        let (kind, value) = match seat {
            Seat::XdpGeneric => (libbpf_sys::BPF_PROG_TYPE_XDP, XDP_PASS),
            _ => (libbpf_sys::BPF_PROG_TYPE_SCHED_CLS, TC_NEXT),
        };
        let program = load(kind, &counts_and_returns(&counts, value));
        let put = || {
            let ifindex = ifindex(interface);
            match seat {
                Seat::TcxIngress => Some(attach(&program, ifindex, libbpf_sys::BPF_TCX_INGRESS, 0)),
                Seat::TcxEgress => Some(attach(&program, ifindex, libbpf_sys::BPF_TCX_EGRESS, 0)),
                Seat::XdpGeneric => Some(attach(&program, ifindex, libbpf_sys::BPF_XDP, SKB_MODE)),
                Seat::ClsactIngress => filter(&program, ifindex, libbpf_sys::BPF_TC_INGRESS),
                Seat::ClsactEgress => filter(&program, ifindex, libbpf_sys::BPF_TC_EGRESS),
            }
        };
        let link = namespace.run(put).unwrap();
        Self { seat, interface, id: program_id(&program), counts, _link: link }
    }

    /// Packets so far.
    pub fn count(&self) -> u64 {
        let (key, mut count) = (0u32, 0u64);
        // SAFETY: key and value have the sizes that the map was made with.
        let result = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.counts.as_raw_fd(),
                (&raw const key).cast(),
                (&raw mut count).cast(),
            )
        };
        assert_eq!(result, 0);
        count
    }
}

fn filter(program: &OwnedFd, ifindex: u32, attach_point: u32) -> Option<OwnedFd> {
    let hook = bpf_tc_hook {
        sz: size_of::<bpf_tc_hook>() as libbpf_sys::size_t,
        ifindex: ifindex as i32,
        attach_point,
        ..Default::default()
    };
    let mut opts = bpf_tc_opts {
        sz: size_of::<bpf_tc_opts>() as libbpf_sys::size_t,
        prog_fd: program.as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: initialised hook and options.
    let result = unsafe { libbpf_sys::bpf_tc_attach(&raw const hook, &raw mut opts) };
    assert_eq!(result, 0, "attach a foreign filter: {}", std::io::Error::from_raw_os_error(-result));
    None
}
