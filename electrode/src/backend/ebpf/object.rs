//! Loading the programs for one endpoint: constants and map sizes in, descriptors out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Once;

use electrode_bpf::{ElectrodeSkel, ElectrodeSkelBuilder, types::elec_params};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapHandle, PrintLevel};

use super::layout::SLOT_HEADER_BYTES;
use crate::error::{Error, Result};

/// Programs and maps of one endpoint. Dropping it frees both, unless a link still holds a program.
pub(crate) struct Object {
    pub tx: OwnedFd,
    pub rx_tc: OwnedFd,
    pub rx_xdp: OwnedFd,
    pub maps: Maps,
}

/// What programs and process share.
pub(crate) struct Maps {
    pub control: MapHandle,
    pub config: MapHandle,
    pub keys: MapHandle,
    pub rounds: MapHandle,
    pub slots: MapHandle,
    pub counters: MapHandle,
    pub bell: MapHandle,
}

/// IPv4 addresses are kept mapped, so that one layout serves both families.
pub(crate) fn address_bytes(addr: &SocketAddr) -> [u8; 16] {
    match addr {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    }
}

thread_local! {
    /// The last lines that libbpf printed on this thread: the verifier's reasons are nowhere else.
    static PRINTED: RefCell<VecDeque<String>> = const { RefCell::new(VecDeque::new()) };
}

const PRINTED_LINES_MAX: usize = 12;

/// libbpf's last line of what the verifier said.
const VERIFIER_LOG: &str = "END PROG LOAD LOG";

fn keep(_: PrintLevel, text: String) {
    PRINTED.with_borrow_mut(|printed| {
        for line in text.lines() {
            if printed.len() == PRINTED_LINES_MAX {
                printed.pop_front();
            }
            printed.push_back(line.to_owned());
        }
    });
}

/// Keeps libbpf's messages for errors instead of printing them.
pub(crate) fn quiet_libbpf() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        libbpf_rs::set_print(Some((PrintLevel::Warn, keep)));
    });
}

/// An error with what libbpf printed on this thread.
pub(crate) fn failed(what: &str, error: &libbpf_rs::Error) -> Error {
    let printed = PRINTED.with_borrow_mut(|lines| lines.drain(..).collect::<Vec<_>>().join("\n  "));
    let reason = if printed.is_empty() { format!("{error:#}") } else { format!("{error:#}\n  {printed}\n ") };
    let hint = match error.kind() {
        // The verifier's refusal has the number of a missing permission, and is none.
        _ if printed.contains(VERIFIER_LOG) => {
            "this kernel's verifier refuses the programs, which is a mistake of theirs: please report it with these \
             lines; backend `udp` needs none of it"
        }
        libbpf_rs::ErrorKind::PermissionDenied => {
            "run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; `elecctl doctor` tells what is missing"
        }
        _ => "`elecctl doctor` tells what this kernel can do; backend `udp` needs none of it",
    };
    Error::Kernel { what: what.into(), reason, hint: hint.into() }
}

/// Loads nothing but the program that passes everything.
pub(crate) fn load_pass_stub() -> Result<OwnedFd> {
    const WHAT: &str = "load the XDP pass stub";
    quiet_libbpf();
    PRINTED.with_borrow_mut(VecDeque::clear);
    let mut storage = MaybeUninit::uninit();
    let mut open = ElectrodeSkelBuilder::default().open(&mut storage).map_err(|e| failed(WHAT, &e))?;
    let object = open.open_object_mut();
    for mut program in object.progs_mut() {
        program.set_autoload(false);
    }
    for mut map in object.maps_mut() {
        map.set_autocreate(false).map_err(|e| failed(WHAT, &e))?;
    }
    open.progs.elec_xdp_pass.set_autoload(true);
    let skel = open.load().map_err(|e| failed(WHAT, &e))?;
    skel.progs.elec_xdp_pass.as_fd().try_clone_to_owned().map_err(Error::io("dup of a BPF program"))
}

impl Object {
    /// Loads all programs. Fails with what the verifier or the kernel said.
    pub(crate) fn load(params: &elec_params) -> Result<Self> {
        load_chosen(params, &["elec_tx", "elec_rx_tc", "elec_rx_xdp"], |skel| {
            let progs = &skel.progs;
            Ok(Self {
                tx: dup(progs.elec_tx.as_fd())?,
                rx_tc: dup(progs.elec_rx_tc.as_fd())?,
                rx_xdp: dup(progs.elec_rx_xdp.as_fd())?,
                maps: Maps::of(skel)?,
            })
        })
    }

    /// Loads one ingress program alone: most of the time goes into verifying them.
    #[cfg(feature = "simulation")]
    pub(crate) fn load_ingress(params: &elec_params, program: &str) -> Result<(OwnedFd, Maps)> {
        load_chosen(params, &[program], |skel| {
            let (tc, xdp) = (&skel.progs.elec_rx_tc, &skel.progs.elec_rx_xdp);
            let chosen = if program == "elec_rx_tc" { tc } else { xdp };
            Ok((dup(chosen.as_fd())?, Maps::of(skel)?))
        })
    }
}

impl Maps {
    fn of(skel: &ElectrodeSkel<'_>) -> Result<Self> {
        let map = |m: &libbpf_rs::Map<'_>| MapHandle::try_from(m).map_err(|e| failed("keep a BPF map", &e));
        let maps = &skel.maps;
        Ok(Self {
            control: map(&maps.elec_control)?,
            config: map(&maps.elec_config)?,
            keys: map(&maps.elec_keys)?,
            rounds: map(&maps.elec_rounds)?,
            slots: map(&maps.elec_slots)?,
            counters: map(&maps.elec_counters)?,
            bell: map(&maps.elec_bell)?,
        })
    }
}

fn dup(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().map_err(Error::io("dup of a BPF program"))
}

/// Loads these programs and hands over what is to be kept of them.
fn load_chosen<T>(
    params: &elec_params,
    programs: &[&str],
    keep: impl FnOnce(&ElectrodeSkel<'_>) -> Result<T>,
) -> Result<T> {
    quiet_libbpf();
    PRINTED.with_borrow_mut(VecDeque::clear);
    let mut storage = MaybeUninit::uninit();
    let builder = ElectrodeSkelBuilder::default();
    let mut open = builder.open(&mut storage).map_err(|e| failed("open the BPF object", &e))?;
    open.maps
        .rodata_data
        .as_deref_mut()
        .ok_or_else(|| Error::Config("the BPF object has no .rodata".into()))?
        .elec_params = *params;
    for mut program in open.open_object_mut().progs_mut() {
        let chosen = programs.iter().any(|name| program.name() == *name);
        program.set_autoload(chosen);
    }
    let sizes = |e: libbpf_rs::Error| failed("size the BPF maps", &e);
    open.maps.elec_slots.set_max_entries(params.slots).map_err(sizes)?;
    // 8 bytes more than the payload: room for padding, and whole words.
    let slot_bytes = (SLOT_HEADER_BYTES + params.slot_payload_bytes as usize + 8).next_multiple_of(8);
    open.maps.elec_slots.set_value_size(slot_bytes as u32).map_err(sizes)?;
    open.maps.elec_rounds.set_max_entries(params.window).map_err(sizes)?;

    let skel = open.load().map_err(|e| failed("load the BPF programs", &e))?;
    keep(&skel)
}
