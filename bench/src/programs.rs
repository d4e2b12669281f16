//! The kernel programs by themselves: loaded with a state of our own and run by `BPF_PROG_TEST_RUN`.
//!
//! The kernel times its own loop over a program. It can repeat a run, but an ack overwrites the Prepare that it
//! answers, and at XDP a repeated run goes through a dispatcher that is patched in for the purpose. So every
//! run is a call of its own, with a fresh packet; what reading the clock costs is known from a program that
//! does nothing, and subtracted. Such a run also finds colder caches than a repeated one, as in traffic.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use electrode::abi::{self, Verdict};
use electrode::types::{Epoch, OpNumber, ReplicaId};
use electrode::words::{self, GateState, GateWord};
use electrode_bpf::types::{elec_config, elec_control, elec_key, elec_keys, elec_params, elec_round};
use electrode_bpf::{ElectrodeSkel, ElectrodeSkelBuilder};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags};

use crate::frames::{self, EPOCH, INCARNATION, LEADER};

/// As many slots as an endpoint has by default, so that appends meet memory as cold as in production.
const SLOTS: u32 = 16 * 1024;
const WINDOW: u32 = 16 * 1024;
/// Runs from which the cost of reading the clock is taken.
const CLOCK_RUNS: usize = 2000;

/// Which program runs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TC ingress.
    Tc,
    /// XDP.
    Xdp,
    /// TC egress.
    TcEgress,
}

impl Hook {
    /// Name of the figure.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
            Self::TcEgress => "tc-egress",
        }
    }
}

/// The programs of one member, with its gate open.
pub struct Programs {
    skel: ElectrodeSkel<'static>,
    /// Nanoseconds that a call with one run takes at TC and at XDP if the program does nothing.
    clock_ns: [f64; 2],
}

impl Programs {
    /// A follower's (`me` is not [`LEADER`]) or the leader's; of a group with or without a key.
    pub fn load(me: ReplicaId, authenticated: bool) -> io::Result<Self> {
        let other = |e: libbpf_rs::Error| io::Error::other(format!("{e:#}"));
        // One leaked object a member, for the life of a benchmark.
        let storage = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = ElectrodeSkelBuilder::default().open(storage).map_err(other)?;
        let constants = open.maps.rodata_data.as_deref_mut();
        constants.ok_or_else(|| io::Error::other("the BPF object has no .rodata"))?.elec_params =
            elec_params { authenticated: authenticated.into(), ..params(me) };
        let slot_bytes = abi::SLOT_HEADER_BYTES + abi::PAYLOAD_BYTES_MAX + 8;
        open.maps.elec_slots.set_max_entries(SLOTS).map_err(other)?;
        open.maps.elec_slots.set_value_size(slot_bytes as u32).map_err(other)?;
        open.maps.elec_rounds.set_max_entries(WINDOW).map_err(other)?;
        let skel = open.load().map_err(other)?;
        let clock_ns =
            [clock_ns(libbpf_sys::BPF_PROG_TYPE_SCHED_CLS)?, clock_ns(libbpf_sys::BPF_PROG_TYPE_XDP)?];
        let programs = Self { skel, clock_ns };
        programs.open_gate(me);
        Ok(programs)
    }

    fn open_gate(&self, me: ReplicaId) {
        let maps = &self.skel.maps;
        let mut config = elec_config { leader: LEADER.0.into(), ..Default::default() };
        for (raw, member) in config.members.iter_mut().zip(frames::members()) {
            (raw.addr, raw.port_be) = (mapped(member.ip()), member.port().to_be());
        }
        put(&maps.elec_config, 0, bytes_of(&config));
        let state = if me == LEADER { GateState::Lead } else { GateState::Follow };
        let control = elec_control {
            gate: GateWord { state, busy: false, epoch: EPOCH, op: OpNumber(0) }.pack(),
            // Nobody reads this log, so every slot may be reused at any time (F6).
            released: (1 << abi::OP_BITS) - 1,
            incarnation: [INCARNATION.into(); abi::MEMBERS_MAX],
            own_mac: words::mac_word(Some(frames::MACS[1])),
            ..Default::default()
        };
        put(&maps.elec_control, 0, bytes_of(&control));
        let [k0, k1] = [frames::SECRET[..8].try_into(), frames::SECRET[8..].try_into()]
            .map(|half| u64::from_le_bytes(half.expect("eight bytes")));
        let key = elec_key { valid: 1, k0, k1, id: 0 };
        put(&maps.elec_keys, 0, bytes_of(&elec_keys { key: [key, elec_key::default()] }));
    }

    /// L1: opens a round that waits for more votes than one.
    pub fn begin_round(&self, op: u64) {
        let round = elec_round {
            vote: words::vote_word(EPOCH, OpNumber(op)),
            op,
            voters: 0b110,
            threshold: 2,
            ..Default::default()
        };
        put(&self.skel.maps.elec_rounds, op as u32 % WINDOW, bytes_of(&round));
    }

    /// Time of `count` runs, each on a frame of its own and all ending in `verdict`. The egress program has
    /// no verdict for what is no carrier (`None`).
    pub fn run(
        &self,
        hook: Hook,
        verdict: Option<Verdict>,
        count: u64,
        next: impl Fn(&Self) -> Vec<u8>,
    ) -> Duration {
        let before = verdict.map(|verdict| self.counted(verdict));
        let run = |_| self.test_run(hook, &next(self));
        let mut runs: Vec<_> = (0..count).map(run).collect();
        for (verdict, before) in verdict.iter().zip(before) {
            assert_eq!(self.counted(*verdict) - before, count, "{verdict:?} at {hook:?}");
        }
        let each = (usual(&mut runs) - self.clock_of(hook)).max(0.0);
        Duration::from_nanos((each * count as f64) as u64)
    }

    /// What reading the clock takes in a call, by hook; subtracted already.
    pub fn clock_of(&self, hook: Hook) -> f64 {
        self.clock_ns[usize::from(hook == Hook::Xdp)]
    }

    fn test_run(&self, hook: Hook, frame: &[u8]) -> u32 {
        let program = match hook {
            Hook::Tc => self.skel.progs.elec_rx_tc.as_fd(),
            Hook::Xdp => self.skel.progs.elec_rx_xdp.as_fd(),
            Hook::TcEgress => self.skel.progs.elec_tx.as_fd(),
        };
        test_run(program, frame).unwrap_or_else(|e| panic!("BPF_PROG_TEST_RUN at {hook:?}: {e}"))
    }

    fn counted(&self, verdict: Verdict) -> u64 {
        let key = 0u32.to_ne_bytes();
        let found = self.skel.maps.elec_counters.lookup_percpu(&key, MapFlags::ANY);
        let per_cpu = found.expect("counters can be read").expect("the array has an element");
        let at = verdict as usize * 8;
        let count = |cpu: &Vec<u8>| u64::from_ne_bytes(cpu[at..at + 8].try_into().expect("eight bytes"));
        per_cpu.iter().map(count).sum()
    }
}

fn params(me: ReplicaId) -> elec_params {
    let own = frames::members()[me.index()];
    elec_params {
        group: frames::GROUP,
        slots: SLOTS,
        slot_payload_bytes: abi::PAYLOAD_BYTES_MAX as u32,
        window: WINDOW,
        incarnation: INCARNATION,
        port_be: own.port().to_be(),
        slf: me.0,
        members: frames::members().len() as u8,
        offload_broadcast: 1,
        offload_fast_ack: 1,
        offload_quorum: 1,
        addr: mapped(own.ip()),
        carrier_addr: mapped([239, 192, 69, 67].into()),
        ..Default::default()
    }
}

fn mapped(ip: std::net::IpAddr) -> [u8; 16] {
    match ip {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}

/// Nanoseconds of one run, as the kernel says.
fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<u32> {
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        repeat: 1,
        ..Default::default()
    };
    // SAFETY: an open descriptor, and options that point to a live frame of the size they state.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(options.duration) }
}

/// What the kernel reports for one run of a program that only returns.
fn clock_ns(kind: libbpf_sys::bpf_prog_type) -> io::Result<f64> {
    /// `BPF_ALU64 | BPF_MOV | BPF_K`, `BPF_JMP | BPF_EXIT`.
    const RETURN_ZERO: [u8; 2] = [0xb7, 0x95];
    let program = RETURN_ZERO.map(|code| libbpf_sys::bpf_insn { code, ..Default::default() });
    // SAFETY: names are static strings, and the instructions are as many as is said.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            kind,
            c"elec_nothing".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        )
    };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a descriptor that was just made and that nobody else owns.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let frame = frames::foreign(64);
    let run = |_| test_run(program.as_fd(), &frame);
    let mut runs = (0..CLOCK_RUNS).map(run).collect::<io::Result<Vec<_>>>()?;
    Ok(usual(&mut runs))
}

/// The mean of the middle half: interrupts do not count, and the clock's coarse steps (10 ns on some machines)
/// average out.
fn usual(ns: &mut [u32]) -> f64 {
    ns.sort_unstable();
    let middle = &ns[ns.len() / 4..ns.len() - ns.len() / 4];
    middle.iter().map(|ns| f64::from(*ns)).sum::<f64>() / middle.len() as f64
}

fn put(map: &impl MapCore, index: u32, value: &[u8]) {
    map.update(&index.to_ne_bytes(), value, MapFlags::ANY).expect("an element of an array map");
}

/// Structs of the C headers: plain integers without padding.
trait Plain: Copy {}
impl Plain for elec_control {}
impl Plain for elec_config {}
impl Plain for elec_round {}
impl Plain for elec_keys {}

fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `T` is plain integers without padding, so all of its bytes are initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

const _: () = assert!(EPOCH.0 <= Epoch::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_runs_do_not_count() {
        assert_eq!(usual(&mut [90, 100, 90, 100, 90, 100, 70, 50_000]), 95.0);
        assert_eq!(usual(&mut [80]), 80.0);
    }
}
