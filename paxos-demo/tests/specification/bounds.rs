//! How large a world to search, and what can happen in it.

use crate::plants::Plant;

/// What an ack survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The kernel acks what it logged. A crash loses the log; the replica comes back through recovery.
    Memory,
    /// The kernel only logs; the process acks what it has synced. A crash loses what was not synced.
    Disk,
}

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub replicas: u8,
    /// Ops are 1..=ops.
    pub ops: u8,
    /// Views are 0..views.
    pub views: u8,
    pub durability: Durability,
    /// How often any replica may crash and come back.
    pub restarts: u8,
    /// Slots of a kernel log. As many as ops: draining changes nothing that anyone sees before the gate is
    /// frozen, and needs no step of its own.
    pub slots: usize,
    /// CPUs that run programs which stop between any two steps; 0: programs run through.
    pub cpus: usize,
    /// Processes append passed-up Prepares themselves (U8).
    pub slow_path: bool,
    /// Leaders offer their log (NewState).
    pub state_transfer: bool,
    /// The rule that is broken.
    pub plant: Option<Plant>,
}

impl Bounds {
    /// Three replicas, two ops, two views, and nothing but the network goes wrong.
    pub const SMALL: Self = Self {
        replicas: 3,
        ops: 2,
        views: 2,
        durability: Durability::Memory,
        restarts: 0,
        slots: 2,
        cpus: 0,
        slow_path: false,
        state_transfer: false,
        plant: None,
    };

    /// A third view, and every way to get a log: fast path, slow path, StartView, state transfer.
    pub const LOGS: Self = Self { views: 3, slow_path: true, state_transfer: true, ..Self::SMALL };

    /// A kernel log that is too short: one slot.
    pub const ONE_SLOT: Self = Self { slots: 1, slow_path: true, ..Self::SMALL };

    /// Programs on two CPUs of each replica, stopped between any two steps.
    pub const STEPS: Self = Self { cpus: 2, ..Self::SMALL };

    /// A crash that loses memory.
    pub const CRASHES: Self = Self { restarts: 1, ..Self::SMALL };

    /// Two crashes, of one replica or of two, that lose what was not synced.
    pub const DISK: Self = Self { durability: Durability::Disk, restarts: 2, ..Self::SMALL };

    /// Five replicas.
    pub const FIVE: Self = Self { replicas: 5, ..Self::SMALL };

    pub const fn is_disk(&self) -> bool {
        matches!(self.durability, Durability::Disk)
    }
}
