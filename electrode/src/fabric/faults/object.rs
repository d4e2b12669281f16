//! The program that does it, and its maps.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use electrode_bpf::faults::FaultsSkelBuilder;
use electrode_bpf::faults::types::fault_link;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::{FAULT_HOSTS_MAX, FaultCounts, LinkFaults};
use crate::backend::ebpf::object::{failed, quiet_libbpf};
use crate::error::{Error, Result};

pub(super) struct Object {
    fault: OwnedFd,
    release: OwnedFd,
    links: MapHandle,
    ports: MapHandle,
    hosts: MapHandle,
    counts: MapHandle,
}

impl Object {
    /// Loads the programs; frames are held back at interface `hold`.
    pub fn load(hold: u32) -> Result<Self> {
        quiet_libbpf();
        let mut storage = MaybeUninit::uninit();
        let builder = FaultsSkelBuilder::default();
        let mut open = builder.open(&mut storage).map_err(|e| failed("open the BPF object of faults", &e))?;
        let rodata = open.maps.rodata_data.as_deref_mut();
        rodata.ok_or_else(|| Error::Config("the BPF object of faults has no .rodata".into()))?.fault_hold =
            hold;
        let skel = open.load().map_err(|e| failed("load the programs of faults", &e))?;
        let dup = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(Error::io("dup of a BPF program"));
        let map = |m: &libbpf_rs::Map<'_>| MapHandle::try_from(m).map_err(|e| failed("keep a BPF map", &e));
        let (progs, maps) = (&skel.progs, &skel.maps);
        Ok(Self {
            fault: dup(progs.elec_fault.as_fd())?,
            release: dup(progs.elec_fault_release.as_fd())?,
            links: map(&maps.fault_links)?,
            ports: map(&maps.fault_ports)?,
            hosts: map(&maps.fault_hosts)?,
            counts: map(&maps.fault_counts)?,
        })
    }

    /// The program at the switch's end of every cable.
    pub fn fault(&self) -> BorrowedFd<'_> {
        self.fault.as_fd()
    }

    /// The program where held frames come back.
    pub fn release(&self) -> BorrowedFd<'_> {
        self.release.as_fd()
    }

    /// Says which interface leads to a host.
    pub fn name_port(&self, host: usize, ifindex: u32) -> Result<()> {
        let host = host as u32;
        write(&self.ports, host, &ifindex.to_ne_bytes())?;
        write(&self.hosts, ifindex, &host.to_ne_bytes())
    }

    pub fn set_link(&self, from: usize, to: usize, faults: &LinkFaults) -> Result<()> {
        let chance = |p: f64| (p * f64::from(u32::MAX)).round() as u32;
        let link = fault_link {
            cut: u32::from(faults.cut),
            loss: chance(faults.loss),
            duplication: chance(faults.duplication),
            delay: chance(faults.delay),
        };
        let words = [link.cut, link.loss, link.duplication, link.delay];
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        write(&self.links, (from * FAULT_HOSTS_MAX + to) as u32, &bytes)
    }

    /// Sums of all CPUs.
    pub fn counts(&self) -> Result<FaultCounts> {
        let sum = |what: u32| -> Result<u64> {
            let cpus = self
                .counts
                .lookup_percpu(&what.to_ne_bytes(), MapFlags::ANY)
                .map_err(|e| failed("read the counters of faults", &e))?
                .unwrap_or_default();
            let count = |bytes: &Vec<u8>| u64::from_ne_bytes(bytes[..8].try_into().expect("eight bytes"));
            Ok(cpus.iter().map(count).sum())
        };
        // In the order of `enum fault_count`.
        Ok(FaultCounts {
            passed: sum(0)?,
            cut: sum(1)?,
            lost: sum(2)?,
            duplicated: sum(3)?,
            delayed: sum(4)?,
            released: sum(5)?,
        })
    }
}

fn write(map: &MapHandle, key: u32, value: &[u8]) -> Result<()> {
    map.update(&key.to_ne_bytes(), value, MapFlags::ANY).map_err(|e| failed("change a fault", &e))
}
