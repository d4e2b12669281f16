//! What the programs cost the verifier: recorded in `verifier.toml`, compared with every run.
//!
//! The kernel refuses what takes it a million instructions to check, and a loader pays for them at every start. The
//! project's own bound is 50,000 on any kernel; where kernel and compiler are those of the record, a tenth more than
//! recorded is a failure too, so that nobody pays for a change without having meant to.

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;

use common::privileged;
use electrode_bpf::ElectrodeSkelBuilder;
use electrode_bpf::types::{elec_params, elec_slot_hdr};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use serde::Deserialize;

/// For any kernel and any compiler.
const INSTRUCTIONS_MAX: u32 = 50_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Kernel series, as in `6.18`.
    kernel: String,
    /// Major version of clang.
    clang: String,
    /// The dearest of all variants, a program.
    instructions: BTreeMap<String, u32>,
}

fn verified_instructions(program: BorrowedFd<'_>) -> u32 {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut bytes = size_of_val(&info) as u32;
    // SAFETY: a descriptor of a program, and room for as much as is said.
    let result =
        unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut bytes) };
    assert_eq!(result, 0, "information on a program");
    info.verified_insns
}

/// Loads the programs with these constants and notes what each took.
fn load(params: elec_params, worst: &mut BTreeMap<&'static str, u32>) {
    let mut storage = MaybeUninit::uninit();
    let mut open = ElectrodeSkelBuilder::default().open(&mut storage).unwrap();
    open.maps.rodata_data.as_deref_mut().unwrap().elec_params = params;
    open.maps.elec_slots.set_max_entries(params.slots).unwrap();
    // As for a real endpoint: what is written beyond a short slot must be refused.
    let slot_bytes = size_of::<elec_slot_hdr>() + params.slot_payload_bytes as usize + 8;
    open.maps.elec_slots.set_value_size(slot_bytes.next_multiple_of(8) as u32).unwrap();
    open.maps.elec_rounds.set_max_entries(params.window).unwrap();
    let skel = open.load().unwrap_or_else(|e| panic!("load: {e:#}"));
    for (name, program) in [
        ("elec_tx", skel.progs.elec_tx.as_fd()),
        ("elec_rx_tc", skel.progs.elec_rx_tc.as_fd()),
        ("elec_rx_xdp", skel.progs.elec_rx_xdp.as_fd()),
    ] {
        let most = worst.entry(name).or_default();
        *most = (*most).max(verified_instructions(program));
    }
}

/// Every variant that a configuration can ask for: constants decide what is pruned.
fn variants() -> Vec<elec_params> {
    let base = elec_params {
        slots: 64,
        window: 64,
        offload_broadcast: 1,
        offload_fast_ack: 1,
        offload_quorum: 1,
        ..Default::default()
    };
    let mut all = Vec::new();
    for bits in 0u8..32 {
        let flag = |bit: u8| bits >> bit & 1;
        // The longest payload, that of IPv6 on a usual link, and one that nobody would expect.
        for (members, slot_payload_bytes) in
            [(2, 1392), (32, 1392), (32, if flag(0) == 1 { 1372 } else { 257 })]
        {
            all.push(elec_params {
                members,
                slot_payload_bytes,
                ipv6: flag(0),
                log_only: flag(1),
                lease_required: flag(2),
                xdp_generic: flag(3),
                authenticated: flag(4),
                ..base
            });
        }
    }
    all
}

/// Major version of the compiler of the programs, if it is here.
fn clang() -> Option<String> {
    let output = Command::new("clang").arg("-dumpversion").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).split('.').next()?.trim().to_owned())
}

#[test]
fn verification_costs_what_it_did() {
    if !privileged("verification_costs_what_it_did") {
        return;
    }
    let mut worst = BTreeMap::new();
    variants().into_iter().for_each(|params| load(params, &mut worst));
    // Not `println`: `scripts/kernels` reads it from a test that passes.
    for (name, instructions) in &worst {
        writeln!(std::io::stderr(), "VERIFIED {name} {instructions}").unwrap();
    }

    let record: Record = toml::from_str(include_str!("verifier.toml")).unwrap();
    let (major, minor) = electrode::probe::kernel_version().expect("a kernel has a version");
    let comparable = record.kernel == format!("{major}.{minor}") && clang().as_deref() == Some(&record.clang);
    assert_eq!(worst.len(), record.instructions.len());
    for (name, instructions) in worst {
        assert!(instructions > 0, "the kernel does not tell what {name} took");
        assert!(instructions <= INSTRUCTIONS_MAX, "{name} takes {instructions}");
        let recorded = record.instructions[name];
        assert!(
            !comparable || instructions * 10 <= recorded * 11,
            "{name} takes {instructions} instructions, {recorded} are on record: make it cheaper, or write the new \
             figure and why into verifier.toml"
        );
    }
}
