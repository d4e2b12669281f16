//! Other people's programs on our interfaces, in a few instructions each.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Output;

use electrode::fabric::NetNs;
use libbpf_sys::bpf_insn;

/// What a program does to the packets that it matches; all others go on to the next program.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Place {
    TcxIngress,
    TcxEgress,
    Xdp,
    XdpGeneric,
}

/// A program of somebody else; dropping it takes it off.
pub struct Foreign {
    link: OwnedFd,
    pub id: u32,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // At once, even if another test is just starting a process, which holds the descriptor for a moment.
        // SAFETY: takes the descriptor of a link.
        unsafe { libbpf_sys::bpf_link_detach(self.link.as_raw_fd()) };
    }
}

/// An instruction; those here that write a register write r0.
pub(super) fn insn(code: u8, off: i16, imm: i32) -> bpf_insn {
    bpf_insn { code, off, imm, ..Default::default() }
}

pub(super) const MOV64_IMM: u8 = 0xb7;
pub(super) const MOV64_REG: u8 = 0xbf;
pub(super) const EXIT: u8 = 0x95;

/// `return value`.
fn always(value: i32) -> Vec<bpf_insn> {
    vec![insn(MOV64_IMM, 0, value), insn(EXIT, 0, 0)]
}

/// Drops IPv4 datagrams to one address and port, passes everything else on: for TC.
fn drops(to: SocketAddr) -> Vec<bpf_insn> {
    const LD_ABS_W: u8 = 0x20;
    const LD_ABS_H: u8 = 0x28;
    const JNE_IMM: u8 = 0x55;
    const TC_ACT_SHOT: i32 = 2;
    const TCX_NEXT: i32 = -1;
    let IpAddr::V4(ip) = to.ip() else { panic!("IPv4 only") };
    // r6 = r1: there the packet loads look for the context.
    let mut keep_context = insn(MOV64_REG, 0, 0);
    keep_context.set_dst_reg(6);
    keep_context.set_src_reg(1);
    vec![
        keep_context,
        insn(LD_ABS_W, 0, 30),
        insn(JNE_IMM, 4, u32::from(ip) as i32),
        insn(LD_ABS_H, 0, 36),
        insn(JNE_IMM, 2, to.port().into()),
        insn(MOV64_IMM, 0, TC_ACT_SHOT),
        insn(EXIT, 0, 0),
        insn(MOV64_IMM, 0, TCX_NEXT),
        insn(EXIT, 0, 0),
    ]
}

pub(super) fn owned(fd: i32, what: &str) -> OwnedFd {
    assert!(fd >= 0, "{what}: {}", io::Error::from_raw_os_error(-fd));
    // SAFETY: a descriptor that was just made and that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(super) fn load(kind: u32, program: &[bpf_insn]) -> OwnedFd {
    // SAFETY: static strings, instructions and their number; no options.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            kind,
            c"foreign".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        )
    };
    owned(fd, "load a foreign program")
}

pub(super) fn attach(program: &OwnedFd, ifindex: u32, kind: u32, flags: u32) -> OwnedFd {
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags,
        ..Default::default()
    };
    // SAFETY: a program's descriptor and options of the size that they state.
    let fd =
        unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex as i32, kind, &raw const opts) };
    owned(fd, "attach a foreign program")
}

impl Foreign {
    /// Drops datagrams to `to` at TC, behind the programs that are there already.
    pub fn dropping(namespace: &NetNs, place: Place, to: SocketAddr) -> Self {
        let kind = match place {
            Place::TcxIngress => libbpf_sys::BPF_TCX_INGRESS,
            Place::TcxEgress => libbpf_sys::BPF_TCX_EGRESS,
            _ => panic!("{place:?} is not TC"),
        };
        let program = load(libbpf_sys::BPF_PROG_TYPE_SCHED_CLS, &drops(to));
        Self::put(namespace, &program, kind, 0)
    }

    /// Passes everything at XDP.
    pub fn passing(namespace: &NetNs, place: Place) -> Self {
        const XDP_PASS: i32 = 2;
        let flags = match place {
            Place::Xdp => 1 << 2,
            Place::XdpGeneric => 1 << 1,
            _ => panic!("{place:?} is not XDP"),
        };
        let program = load(libbpf_sys::BPF_PROG_TYPE_XDP, &always(XDP_PASS));
        Self::put(namespace, &program, libbpf_sys::BPF_XDP, flags)
    }

    fn put(namespace: &NetNs, program: &OwnedFd, kind: u32, flags: u32) -> Self {
        let link = namespace.run(|| attach(program, ifindex("eth0"), kind, flags)).unwrap();
        Self { link, id: program_id(program) }
    }
}

/// Index of an interface of this thread's namespace.
pub fn ifindex(name: &str) -> u32 {
    let found = electrode::Interface::all().unwrap().into_iter().find(|i| i.name == name);
    found.unwrap_or_else(|| panic!("no {name}")).index
}

pub(super) fn program_id(program: &OwnedFd) -> u32 {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut bytes = size_of_val(&info) as u32;
    // SAFETY: zeroed information of the size that is stated asks for no arrays.
    let result =
        unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut bytes) };
    assert_eq!(result, 0);
    info.id
}

/// Ids of the programs on a TC hook of `eth0`, in the order in which they run; none where there is no tcx.
pub fn tcx_programs(namespace: &NetNs, place: Place) -> Vec<u32> {
    if !super::tcx() {
        return Vec::new();
    }
    let kind =
        if place == Place::TcxEgress { libbpf_sys::BPF_TCX_EGRESS } else { libbpf_sys::BPF_TCX_INGRESS };
    let query = || {
        let mut ids = [0u32; 32];
        let mut opts = libbpf_sys::bpf_prog_query_opts {
            sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as libbpf_sys::size_t,
            prog_ids: ids.as_mut_ptr(),
            ..Default::default()
        };
        opts.__bindgen_anon_1.prog_cnt = ids.len() as u32;
        // SAFETY: options of the size that they state, with room for as many ids as they say.
        let result = unsafe { libbpf_sys::bpf_prog_query_opts(ifindex("eth0") as i32, kind, &raw mut opts) };
        assert!(result == 0, "query: {}", io::Error::from_raw_os_error(-result));
        // SAFETY: the count is what the kernel filled in.
        let count = unsafe { opts.__bindgen_anon_1.prog_cnt };
        ids[..count as usize].to_vec()
    };
    namespace.run(query).unwrap()
}

/// Runs a program of iproute2 in a namespace and returns what it prints.
pub fn command(namespace: &NetNs, line: &str) -> String {
    let mut words = line.split_whitespace();
    let Output { status, stdout, stderr } = namespace
        .command(words.next().unwrap())
        .args(words)
        .output()
        .unwrap_or_else(|e| panic!("{line}: {e}"));
    assert!(status.success(), "{line}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// A classic BPF filter on clsact that drops IPv4 datagrams to one address and port, until it is deleted.
pub fn clsact_drop(namespace: &NetNs, direction: &str, to: SocketAddr) {
    let IpAddr::V4(ip) = to.ip() else { panic!("IPv4 only") };
    // ld [30]; jne ip; ldh [36]; jne port; ret TC_ACT_SHOT; ret TC_ACT_UNSPEC
    let code = format!(
        "6,32 0 0 30,21 0 3 {},40 0 0 36,21 0 1 {},6 0 0 2,6 0 0 4294967295",
        u32::from(ip),
        to.port()
    );
    let arguments = ["filter", "add", "dev", "eth0", direction, "bpf", "da", "bytecode", &code];
    let output = namespace.command("tc").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
