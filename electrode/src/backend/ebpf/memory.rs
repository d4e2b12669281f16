//! The maps that kernel programs and this process share, mapped into memory.
//!
//! Words that both sides touch are read and written as atomics (kernel-facts.md, pitfall 9). Everything else
//! in these pages has one writer at a time, by the rule that stands at its method.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use electrode_bpf::types::{elec_config, elec_control, elec_keys, elec_round, elec_slot_hdr as SlotHeader};
use libbpf_rs::{MapCore, MapHandle};

use super::layout::SLOT_HEADER_BYTES;
use crate::auth::Key;
use crate::backend::shared::Slot;
use crate::backend::{Logged, RoundSlot};
use crate::error::{Error, Result};
use crate::types::{Epoch, OpNumber, View};

/// One mmapped array map; keeps the map alive.
pub(super) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    /// Distance between elements.
    stride: usize,
    len: u32,
    _map: MapHandle,
}

// SAFETY: the mapping is plain shared memory that does not depend on the thread that made it.
unsafe impl Send for Mapping {}

impl Mapping {
    pub(super) fn new(map: MapHandle) -> Result<Self> {
        let stride = (map.value_size() as usize).next_multiple_of(8);
        let len = map.max_entries();
        // SAFETY: sysconf has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = (stride * len as usize).next_multiple_of(page);
        // SAFETY: a fresh mapping of a map that was created with BPF_F_MMAPABLE; nothing else is at the
        // address that the kernel chooses.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Error::io("mmap of a BPF map")(io::Error::last_os_error()));
        }
        let base = NonNull::new(base.cast()).expect("mmap never returns null without MAP_FIXED");
        let mapping = Self { base, bytes, stride, len, _map: map };
        // A child that the caller forks is to share neither gate nor log with it, nor to keep the map alive.
        // SAFETY: the range that was just mapped; nothing of it changes in this process.
        if unsafe { libc::madvise(mapping.base.as_ptr().cast(), mapping.bytes, libc::MADV_DONTFORK) } != 0 {
            return Err(Error::io("madvise of a BPF map")(io::Error::last_os_error()));
        }
        Ok(mapping)
    }

    pub(super) fn element(&self, index: u32) -> *mut u8 {
        assert!(index < self.len);
        // SAFETY: index < len, so the element lies within the mapping.
        unsafe { self.base.as_ptr().add(index as usize * self.stride) }
    }

    #[cfg(feature = "simulation")]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[cfg(feature = "simulation")]
    pub(super) fn stride(&self) -> usize {
        self.stride
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that mmap returned; no reference into it outlives self.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])* pub(super) fn $name(&self) -> &AtomicU64 {
            // SAFETY: the field is aligned, inside the mapping, and only ever accessed as an atomic.
            unsafe { AtomicU64::from_ptr(&raw mut (*self.get()).$name) }
        })*
    };
}

macro_rules! peer_words {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])* pub(super) fn $name(&self, peer: usize) -> &AtomicU64 {
            assert!(peer < crate::abi::MEMBERS_MAX);
            // SAFETY: as above; the index was checked.
            unsafe { AtomicU64::from_ptr(&raw mut (*self.get()).$name[peer]) }
        })*
    };
}

/// `elec_control`: gate, doorbells, per-peer words.
pub(super) struct Control(Mapping);

// SAFETY: its methods hand out atomics only.
unsafe impl Sync for Control {}

impl Control {
    pub(super) fn new(map: MapHandle) -> Result<Self> {
        Mapping::new(map).map(Self)
    }

    fn get(&self) -> *mut elec_control {
        self.0.element(0).cast()
    }

    words! {
        gate;
        /// Slots up to here may be reused (F6).
        released;
        /// Tagged: acked by user space after fsync (F8).
        durable;
        /// Time until which the gate may be used (F2).
        lease_ns;
        /// `{valid:16, mac:48}`: what a frame for us is addressed to.
        own_mac;
        ring_at_op;
        ring_at_commit;
        ring_on_quorum;
        /// Tagged: highest commit number seen (F10).
        commit;
        /// Time of the last packet of the leader that said something new (U9).
        last_leader_ns;
        /// Tagged: highest op that it has prepared (U9).
        heard_op;
        /// Tagged: highest count of its Commits (U9).
        heard_count;
        /// Carriers that met the broadcast program.
        carriers;
    }

    peer_words! {
        /// Tagged cumulative maximum (L2).
        acked;
        /// Whose acks count (L2).
        incarnation;
        /// `{valid:16, mac:48}`.
        next_hop;
    }
}

/// `elec_config`: written only while the gate is frozen (F0).
pub(super) struct Config(Mapping);

impl Config {
    pub(super) fn new(map: MapHandle) -> Result<Self> {
        Mapping::new(map).map(Self)
    }

    /// Writes view, leader and members. The caller holds the gate frozen; a program that is still running
    /// under the old word fails its compare-and-swap, for the opening that follows has a new epoch.
    pub(super) fn write(&self, config: &elec_config) {
        let to: *mut AtomicU32 = self.0.element(0).cast();
        let from: *const u32 = ptr::from_ref(config).cast();
        for i in 0..size_of::<elec_config>() / 4 {
            // SAFETY: both are `elec_config`s of whole 32-bit words; the target is accessed as atomics.
            unsafe { (*to.add(i)).store(*from.add(i), Ordering::Relaxed) };
        }
    }
}

/// `elec_keys`: the keys that tags may be made with (F4).
pub(super) struct KeySlots(Mapping);

impl KeySlots {
    pub(super) fn new(map: MapHandle) -> Result<Self> {
        Mapping::new(map).map(Self)
    }

    /// The words of one key: whether it is valid, the secret, the number.
    fn words(&self, slot: usize) -> [&AtomicU64; 4] {
        assert!(slot < 2);
        let keys: *mut elec_keys = self.0.element(0).cast();
        // SAFETY: the fields are aligned, inside the mapping and only ever accessed as atomics; the index was
        // checked.
        unsafe {
            let key = &raw mut (*keys).key[slot];
            [
                AtomicU64::from_ptr(&raw mut (*key).valid),
                AtomicU64::from_ptr(&raw mut (*key).k0),
                AtomicU64::from_ptr(&raw mut (*key).k1),
                AtomicU64::from_ptr(&raw mut (*key).id),
            ]
        }
    }

    /// No program takes the key from now on; those that run may still have it.
    pub(super) fn invalidate(&self, slot: usize) {
        self.words(slot)[0].store(0, Ordering::SeqCst);
    }

    /// Leaves nothing of a key.
    pub(super) fn wipe(&self, slot: usize) {
        self.invalidate(slot);
        self.write(slot, None);
    }

    /// Writes a key and publishes it, or wipes its place. It is invalid, and nobody reads it any more.
    pub(super) fn write(&self, slot: usize, key: Option<&Key>) {
        let [valid, k0, k1, id] = self.words(slot);
        let [first, second] = key.map(Key::words).unwrap_or_default();
        k0.store(first, Ordering::Relaxed);
        k1.store(second, Ordering::Relaxed);
        id.store(key.map_or(0, Key::id).into(), Ordering::Relaxed);
        valid.store(key.is_some().into(), Ordering::Release);
    }
}

/// `elec_rounds`: the leader's quorum slots.
pub(super) struct Rounds(Mapping);

impl Rounds {
    pub(super) fn new(map: MapHandle) -> Result<Self> {
        Mapping::new(map).map(Self)
    }

    fn slot(&self, op: u64) -> *mut elec_round {
        self.0.element((op & u64::from(self.0.len - 1)) as u32).cast()
    }

    /// The round's vote word.
    pub(super) fn vote(&self, op: u64) -> &AtomicU64 {
        // SAFETY: aligned, inside the mapping, accessed as an atomic only.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.slot(op)).vote) }
    }

    /// Peers whose copy did not leave (L7).
    pub(super) fn missed(&self, op: u64) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.slot(op)).missed) }
    }

    /// What stands behind the vote word, which is invalid (L1).
    pub(super) fn describe(&self, round: &RoundSlot) {
        let slot = self.slot(round.op.0);
        // SAFETY: the vote word is invalid, so the programs read these fields only to find that their swap
        // fails; each is written as one aligned word.
        unsafe {
            (&raw mut (*slot).op).write_volatile(round.op.0);
            (&raw mut (*slot).view).write_volatile(round.view.0);
            (&raw mut (*slot).round_tag).write_volatile(round.tag);
            (&raw mut (*slot).voters).write_volatile(round.voters.mask());
            (&raw mut (*slot).threshold).write_volatile(round.threshold);
        }
        self.missed(round.op.0).store(0, Ordering::Relaxed);
    }

    pub(super) fn len(&self) -> u32 {
        self.0.len
    }
}

/// `elec_slots`: the follower's log.
pub(super) struct Slots(Mapping);

impl Slots {
    pub(super) fn new(map: MapHandle) -> Result<Self> {
        Mapping::new(map).map(Self)
    }

    /// Makes every slot older than any epoch, for when epochs wrap. No program writes: the gate is frozen and
    /// a grace period over.
    pub(super) fn forget_epochs(&self) {
        for i in 0..self.0.len {
            // SAFETY: an element starts with a slot header; nobody writes it now.
            unsafe { (&raw mut (*self.0.element(i).cast::<SlotHeader>()).epoch).write_volatile(0) };
        }
    }

    /// The slot of `op`, which the caller has seen published: op <= the tail of an acquired gate word and
    /// not released, so no program writes it (F6).
    pub(super) fn read(&self, op: u64) -> Slot<'_> {
        let element = self.0.element((op & u64::from(self.0.len - 1)) as u32);
        // SAFETY: the element starts with a slot header; published slots are not written (see above).
        let header = unsafe { ptr::read(element.cast::<SlotHeader>()) };
        let room = self.0.stride - SLOT_HEADER_BYTES;
        let bytes = (header.payload_bytes as usize).min(room);
        // SAFETY: within the element, and not written while it is published and unreleased; the borrow of
        // self keeps the mapping.
        let payload = unsafe { std::slice::from_raw_parts(element.add(SLOT_HEADER_BYTES), bytes) };
        let batch = Logged {
            view: View(header.view),
            first: OpNumber(header.first),
            last: OpNumber(header.last),
            round_tag: header.round_tag,
            leader_epoch: Epoch(header.leader_epoch),
            payload,
        };
        Slot { epoch: header.epoch, batch }
    }
}
