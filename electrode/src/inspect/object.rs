//! Programs and maps by id, as the kernel describes them. Needs CAP_SYS_ADMIN.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use electrode_bpf::types::{elec_config, elec_control, elec_params, rodata};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use libbpf_sys::bpf_prog_info;

use crate::abi::Verdict;

/// Programs that this library attaches.
const PROGRAMS: [&str; 3] = ["elec_tx", "elec_rx_tc", "elec_rx_xdp"];
/// A map that each of them uses; its id tells endpoints apart.
const CONTROL: &str = "elec_control";
const CONFIG: &str = "elec_config";
const COUNTERS: &str = "elec_counters";
/// The kernel cuts names after 15 bytes.
const CONSTANTS: &str = "electrod.rodata";
/// More maps than a program of ours has.
const MAPS_MAX: usize = 32;

/// A loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub name: String,
    pub map_ids: Vec<u32>,
}

impl Program {
    pub fn by_id(id: u32) -> io::Result<Self> {
        // SAFETY: no preconditions; the result is checked.
        let fd = unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        // SAFETY: a descriptor that was just made and that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut map_ids = [0u32; MAPS_MAX];
        // SAFETY: all-zero is a valid bpf_prog_info; older kernels insist on zero padding.
        let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
        info.nr_map_ids = MAPS_MAX as u32;
        info.map_ids = map_ids.as_mut_ptr() as u64;
        let mut bytes = size_of::<bpf_prog_info>() as u32;
        // SAFETY: info and its array of map ids are as large as stated.
        let result =
            unsafe { libbpf_sys::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut bytes) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        let name: Vec<u8> = info.name.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
        let maps = (info.nr_map_ids as usize).min(MAPS_MAX);
        Ok(Self { name: String::from_utf8_lossy(&name).into_owned(), map_ids: map_ids[..maps].to_vec() })
    }
}

/// A kind of object that the kernel gives ids to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A program.
    Program,
    /// A map.
    Map,
    /// A link.
    Link,
}

/// Which of these objects the kernel has still got. It gives an id to nothing else for a long time. An error if the
/// kernel does not say, for want of rights perhaps.
pub fn still_loaded(kind: ObjectKind, ids: impl IntoIterator<Item = u32>) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for id in ids {
        // SAFETY: takes numbers alone; a descriptor is ours to close.
        let fd = unsafe {
            match kind {
                ObjectKind::Program => libbpf_sys::bpf_prog_get_fd_by_id(id),
                ObjectKind::Map => libbpf_sys::bpf_map_get_fd_by_id(id),
                ObjectKind::Link => libbpf_sys::bpf_link_get_fd_by_id(id),
            }
        };
        if fd >= 0 {
            // SAFETY: it was just opened, and nobody else has it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            found.push(id);
        } else if fd != -libc::ENOENT {
            return Err(io::Error::from_raw_os_error(-fd));
        }
    }
    Ok(found)
}

/// Ours by name, and by the map that it uses: a name alone could be anybody's.
pub(super) fn is_electrode(program: &Program) -> bool {
    PROGRAMS.contains(&program.name.as_str()) && Maps::of(program).is_some()
}

/// Maps of one endpoint.
pub(super) struct Maps {
    /// Id of the control map.
    pub control_id: u32,
    control: MapHandle,
    config: Option<MapHandle>,
    counters: Option<MapHandle>,
    constants: Option<MapHandle>,
}

impl Maps {
    /// The maps of a program; `None` if it has no control map.
    pub fn of(program: &Program) -> Option<Self> {
        let (mut control, mut config, mut counters, mut constants) = (None, None, None, None);
        for &id in &program.map_ids {
            let Ok(map) = MapHandle::from_map_id(id) else { continue };
            match map.name().to_str() {
                Some(CONTROL) => control = Some((id, map)),
                Some(CONFIG) => config = Some(map),
                Some(COUNTERS) => counters = Some(map),
                Some(CONSTANTS) => constants = Some(map),
                _ => {}
            }
        }
        let (control_id, control) = control?;
        Some(Self { control_id, control, config, counters, constants })
    }

    /// The endpoint's constants; `None` if another version of the library laid them out.
    pub fn params(&self) -> Option<elec_params> {
        let bytes = first(self.constants.as_ref()?)?;
        (bytes.len() == size_of::<rodata>())
            // SAFETY: as many bytes as the struct has, which is integers alone.
            .then(|| unsafe { bytes.as_ptr().cast::<rodata>().read_unaligned() }.elec_params)
    }

    /// A copy of the endpoint's words.
    pub fn control(&self) -> Option<elec_control> {
        let bytes = first(&self.control)?;
        (bytes.len() == size_of::<elec_control>())
            // SAFETY: as many bytes as the struct has, which is integers alone.
            .then(|| unsafe { bytes.as_ptr().cast::<elec_control>().read_unaligned() })
    }

    /// A copy of the configuration of its last opening.
    pub fn config(&self) -> Option<elec_config> {
        let bytes = first(self.config.as_ref()?)?;
        (bytes.len() == size_of::<elec_config>())
            // SAFETY: as many bytes as the struct has, which is integers alone.
            .then(|| unsafe { bytes.as_ptr().cast::<elec_config>().read_unaligned() })
    }

    /// Counters of all verdicts, all CPUs together.
    pub fn counters(&self) -> Option<Vec<(Verdict, u64)>> {
        let counters = self.counters.as_ref()?;
        if counters.value_size() as usize != Verdict::ALL.len() * 8 {
            return None;
        }
        crate::backend::ebpf::sum_counters(counters).ok()
    }
}

fn first(map: &MapHandle) -> Option<Vec<u8>> {
    map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).ok().flatten()
}
