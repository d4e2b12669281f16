//! What the model remembers: three small replicas, each a kernel half and a process half, and a network.

use crate::network::Network;

/// A replica: 0, 1, 2 ...
pub type Id = u8;
/// A view; replica `view mod n` leads it.
pub type View = u8;
/// An op number, from 1.
pub type Op = u8;
/// A replica's incarnation, from 1.
pub type Life = u8;

/// Room in a [`Log`]: the two ops of the model, and one that only a planted bug writes.
const LOG_MAX: usize = 3;

/// What an op says. What clients asked for does not matter, so a value is named by who first proposed it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    pub op: Op,
    pub view: View,
    pub life: Life,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "op {} of view {}", self.op, self.view)?;
        if self.life == 1 { Ok(()) } else { write!(f, " by life {}", self.life) }
    }
}

/// A log without holes: ops 1..=len.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Log([Option<Value>; LOG_MAX]);

impl Log {
    pub fn last_op(&self) -> Op {
        self.iter().count() as Op
    }

    pub fn get(&self, op: Op) -> Option<Value> {
        self.0[op as usize - 1]
    }

    pub fn last(&self) -> Option<Value> {
        self.iter().last()
    }

    pub fn append(&mut self, value: Value) {
        let end = self.last_op() as usize;
        if let Some(free) = self.0.get_mut(end) {
            *free = Some(value);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value> {
        self.0.iter().map_while(|value| *value)
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The switch that user space holds over the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GateState {
    /// The zero value (D1).
    #[default]
    Frozen,
    Follow,
    Lead,
}

/// The gate word, which kernel and user space change only by compare-and-swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gate {
    pub state: GateState,
    pub busy: bool,
    /// Number of this opening. Only a program that was stopped half way can tell openings apart, so it counts
    /// only where programs can be stopped.
    pub epoch: u8,
    /// Last contiguous op in the kernel's log.
    pub tail: Op,
}

/// One slot of the kernel's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    pub epoch: u8,
    pub value: Value,
}

/// The kernel half of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kernel {
    pub gate: Gate,
    /// Configuration, changed only while the gate is frozen.
    pub view: View,
    pub life: Life,
    /// Ops above the process's log; a slot is empty again once its op has been drained.
    pub slots: [Option<Slot>; LOG_MAX],
    /// Programs that are under way, one a CPU.
    pub programs: [Option<crate::kernel::Program>; 2],
    /// A cell that only the planted bugs A2 and A3 use.
    pub scratch: Op,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Normal,
    ViewChange,
    Recovering,
}

/// The process half of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub status: Status,
    pub view: View,
    /// The stored variable of U4.
    pub last_normal_view: View,
    pub life: Life,
    /// Which life of the leader opened the view: its leader epoch, which acks echo (F9, L2).
    pub opening: Life,
    /// What has been drained from the kernel, or was installed.
    pub log: Log,
}

/// What a crash leaves (D3). The log only in `disk` mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    pub view: View,
    pub last_normal_view: View,
    pub life: Life,
    pub log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    pub kernel: Kernel,
    pub process: Process,
    pub disk: Disk,
}

/// An op became committed. The model keeps it outside of the replicas, which may forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commit {
    pub op: Op,
    pub value: Value,
    pub view: View,
    pub opening: Life,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub replicas: Vec<Replica>,
    pub network: Network,
    /// Sorted, so that equal histories are equal states.
    pub committed: Vec<Commit>,
    pub restarts_left: u8,
}

impl State {
    /// View 0, as formed: replica 0 leads, the others follow, all logs are empty.
    pub fn formed(replicas: u8, restarts: u8) -> Self {
        let replica = |id| {
            let state = if id == 0 { GateState::Lead } else { GateState::Follow };
            Replica {
                kernel: Kernel { gate: Gate { state, ..Gate::default() }, life: 1, ..Kernel::default() },
                process: Process {
                    status: Status::Normal,
                    view: 0,
                    last_normal_view: 0,
                    life: 1,
                    opening: 1,
                    log: Log::default(),
                },
                disk: Disk { view: 0, last_normal_view: 0, life: 1, log: Log::default() },
            }
        };
        Self {
            replicas: (0..replicas).map(replica).collect(),
            network: Network::with_forgeries(),
            committed: Vec::new(),
            restarts_left: restarts,
        }
    }

    pub fn leader(&self, view: View) -> Id {
        view % self.size()
    }

    pub fn size(&self) -> u8 {
        self.replicas.len() as u8
    }

    pub fn quorum(&self) -> usize {
        self.replicas.len() / 2 + 1
    }

    pub fn ids(&self) -> std::ops::Range<Id> {
        0..self.size()
    }

    pub fn at(&self, id: Id) -> &Replica {
        &self.replicas[id as usize]
    }

    pub fn at_mut(&mut self, id: Id) -> &mut Replica {
        &mut self.replicas[id as usize]
    }
}
