//! The programs' memory, read as the model's. Nobody writes meanwhile: programs run within test runs only, and
//! those who call them and those who are user space take turns.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use electrode_bpf::types::{
    elec_config, elec_control, elec_key, elec_keys, elec_round, elec_slot_hdr as SlotHeader,
};
use libbpf_rs::MapHandle;

use super::super::layout::SLOT_HEADER_BYTES;
use super::super::memory::Mapping;
use super::super::object::Maps;
use crate::abi::{MEMBERS_MAX, Verdict};
use crate::auth::Key;
use crate::error::{Error, Result};
use crate::model::frame::Mac;
use crate::model::{Control, Kernel, Round, Slot};
use crate::types::{OpNumber, View as ViewNumber};
use crate::words::mac_word;

/// A valid next hop; nothing reads the address.
const RESOLVED: u64 = 1 << 48;

impl From<&elec_control> for Control {
    fn from(raw: &elec_control) -> Self {
        Self {
            gate: raw.gate,
            released: raw.released,
            durable: raw.durable,
            lease_ns: raw.lease_ns,
            virtual_now_ns: raw.virtual_now_ns,
            own_mac: raw.own_mac,
            ring_at_op: raw.ring_at_op,
            ring_at_commit: raw.ring_at_commit,
            ring_on_quorum: raw.ring_on_quorum,
            commit: raw.commit,
            last_leader_ns: raw.last_leader_ns,
            heard_op: raw.heard_op,
            heard_count: raw.heard_count,
            acked: raw.acked,
            incarnation: raw.incarnation,
        }
    }
}

impl From<&elec_round> for Round {
    fn from(raw: &elec_round) -> Self {
        Self {
            vote: raw.vote,
            op: raw.op,
            view: raw.view,
            round_tag: raw.round_tag,
            voters: raw.voters,
            threshold: raw.threshold,
        }
    }
}

impl Slot {
    /// The slot that begins with this header, with as much of what follows as it says.
    pub fn read(raw: &SlotHeader, behind: &[u8]) -> Self {
        let mut slot = Self::default();
        slot.become_of(raw, behind);
        slot
    }

    /// The same into a slot that may hold it already.
    fn become_of(&mut self, raw: &SlotHeader, behind: &[u8]) {
        let payload = &behind[..behind.len().min(raw.payload_bytes as usize)];
        let mut kept = std::mem::take(&mut self.payload);
        if kept != payload {
            kept.clear();
            kept.extend_from_slice(payload);
        }
        *self = Self {
            epoch: raw.epoch,
            view: raw.view,
            first: raw.first,
            last: raw.last,
            round_tag: raw.round_tag,
            leader_epoch: raw.leader_epoch,
            payload: kept,
        };
    }
}

/// The key in a place, if there is one.
fn key_of(raw: &elec_key) -> Option<Key> {
    let [first, second] = [raw.k0, raw.k1].map(u64::to_le_bytes);
    let secret: Vec<u8> = [first, second].concat();
    let secret = secret.try_into().expect("two words of eight bytes");
    (raw.valid != 0).then(|| Key::new(raw.id as u32, secret).expect("what was given was a key"))
}

/// A second mapping of every map.
pub(super) struct View {
    control: Mapping,
    config: Mapping,
    keys: Mapping,
    rounds: Mapping,
    slots: Mapping,
    counters: MapHandle,
    per_cpu: Vec<u64>,
}

/// # Safety
/// `at` is aligned for a `T` of plain integers, and nobody writes there during the call.
unsafe fn read<T: Copy>(at: *const u8) -> T {
    debug_assert!(at.cast::<T>().is_aligned());
    // SAFETY: the caller's promise; any bytes make a `T` of plain integers.
    unsafe { ptr::read(at.cast()) }
}

impl View {
    pub(super) fn new(maps: &Maps) -> Result<Self> {
        let mapping = |map: &MapHandle| Mapping::new(again(map)?);
        let cpus = libbpf_rs::num_possible_cpus()
            .map_err(|e| Error::io("counting CPUs")(io::Error::other(e.to_string())))?;
        Ok(Self {
            control: mapping(&maps.control)?,
            config: mapping(&maps.config)?,
            keys: mapping(&maps.keys)?,
            rounds: mapping(&maps.rounds)?,
            slots: mapping(&maps.slots)?,
            counters: again(&maps.counters)?,
            per_cpu: vec![0; Verdict::ALL.len() * cpus],
        })
    }

    fn control(&self) -> *mut elec_control {
        self.control.element(0).cast()
    }

    pub(super) fn set_now(&self, now_ns: u64) {
        // SAFETY: aligned, inside the mapping; no reference to it is about.
        unsafe { (&raw mut (*self.control()).virtual_now_ns).write_volatile(now_ns) };
    }

    /// As if every neighbour were known.
    pub(super) fn resolve_all(&self) {
        for peer in 0..MEMBERS_MAX {
            // SAFETY: as above; the index is inside the array.
            unsafe { (&raw mut (*self.control()).next_hop[peer]).write_volatile(RESOLVED) };
        }
    }

    pub(super) fn set_own_mac(&self, mac: Mac) {
        // SAFETY: aligned, inside the mapping; no reference to it is about.
        unsafe { (&raw mut (*self.control()).own_mac).write_volatile(mac_word(Some(mac))) };
    }

    pub(super) fn meet_carrier(&self) {
        // SAFETY: aligned, inside the mapping, and accessed as an atomic by user space.
        let carriers = unsafe { AtomicU64::from_ptr(&raw mut (*self.control()).carriers) };
        carriers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn miss(&self, op: OpNumber, view: ViewNumber, peer: usize) {
        let index = (op.0 & u64::from(self.rounds.len() - 1)) as u32;
        let round: *mut elec_round = self.rounds.element(index).cast();
        // SAFETY: aligned, inside the mapping, and nobody writes now.
        let now: elec_round = unsafe { read(round.cast()) };
        if (now.op, now.view) == (op.0, view.0) {
            // SAFETY: aligned, inside the mapping, and accessed as an atomic by user space.
            let missed = unsafe { AtomicU32::from_ptr(&raw mut (*round).missed) };
            missed.fetch_or(1 << peer, Ordering::Relaxed);
        }
    }

    /// Everything but the counters and what only egress and user space use.
    pub(super) fn fetch(&self, kernel: &mut Kernel) {
        // SAFETY: the map's one element, and nobody writes now.
        let raw: elec_control = unsafe { read(self.control.element(0)) };
        kernel.control = (&raw).into();
        // SAFETY: as above.
        let raw: elec_config = unsafe { read(self.config.element(0)) };
        (kernel.config.view, kernel.config.leader) = (raw.view, raw.leader);
        // SAFETY: as above.
        let raw: elec_keys = unsafe { read(self.keys.element(0)) };
        kernel.keys = raw.key.map(|key| key_of(&key));
        for (round, index) in kernel.rounds.iter_mut().zip(0..) {
            // SAFETY: an element, which is as large as a round, and nobody writes now.
            let raw: elec_round = unsafe { read(self.rounds.element(index)) };
            *round = (&raw).into();
        }
        for (slot, index) in kernel.slots.iter_mut().zip(0..) {
            self.fetch_slot(slot, index);
        }
    }

    fn fetch_slot(&self, slot: &mut Slot, index: u32) {
        let element = self.slots.element(index);
        // SAFETY: an element begins with a slot header, and nobody writes now.
        let raw: SlotHeader = unsafe { read(element) };
        let bytes = (raw.payload_bytes as usize).min(self.slots.stride() - SLOT_HEADER_BYTES);
        // SAFETY: within the element; nobody writes while this borrow of the memory lasts, which is this function.
        let behind = unsafe { std::slice::from_raw_parts(element.add(SLOT_HEADER_BYTES), bytes) };
        slot.become_of(&raw, behind);
    }

    pub(super) fn fetch_counters(&mut self, kernel: &mut Kernel) -> io::Result<()> {
        let fd = self.counters.as_fd().as_raw_fd();
        let key = 0u32;
        // SAFETY: the key is a u32, and the buffer holds one value, a multiple of eight bytes, for every possible
        // CPU, as the kernel fills it in.
        let result = unsafe {
            libbpf_sys::bpf_map_lookup_elem(fd, (&raw const key).cast(), self.per_cpu.as_mut_ptr().cast())
        };
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        kernel.counters = [0; Verdict::ALL.len()];
        for cpu in self.per_cpu.chunks_exact(Verdict::ALL.len()) {
            for (total, count) in kernel.counters.iter_mut().zip(cpu) {
                *total += count;
            }
        }
        Ok(())
    }
}

/// One more descriptor of a map.
fn again(map: &MapHandle) -> Result<MapHandle> {
    MapHandle::try_from(map).map_err(|e| Error::io("dup of a BPF map")(io::Error::other(e.to_string())))
}
