//! What the kernel's ingress programs do, in plain Rust: oracle of tests and simulation.
//!
//! A [`Kernel`] is the memory that kernel and user space share; a [`Run`] is one program working on one
//! frame. A run is a step machine: [`Run::step`] makes at most one access to the shared memory, so a test
//! can put another run, or user space, between any two of them. [`Kernel::process`] runs to the end.
//!
//! A packet's way is `ingress`, where `admission` decides whether it is believed, then `append` for a Prepare or
//! `vote` for a PrepareOk. The decisions themselves are those of [`crate::rules`]; here is only their order and what
//! they read and write. [`frame`] reads and builds whole Ethernet frames, [`params`] is the memory.

mod admission;
mod append;
#[cfg(test)]
mod explorer;
pub mod frame;
mod ingress;
pub mod params;
#[cfg(test)]
mod tests;
mod vote;

pub use ingress::{Run, Step};
pub use params::{Config, Control, Params, Round, Slot};

use crate::abi::Verdict;
use crate::auth::Key;
use crate::types::{Epoch, OpNumber};
use crate::words::GateWord;

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It goes on to the stack, byte-identical (C7).
    Pass,
    /// It ends here.
    Drop,
    /// It is turned round: this frame leaves instead.
    Reply(Vec<u8>),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// The counter that it raised (F11).
    pub verdict: Verdict,
    /// What becomes of the frame.
    pub action: Action,
    /// A doorbell was rung on the way.
    pub rang: bool,
}

/// Rules broken on purpose, to prove that checkers notice (rules.md, "Planted bugs"). All off by default.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plants {
    /// A1, F7: the tail is raised before the slot is filled.
    pub publish_before_fill: bool,
    /// A2: a duplicate is answered from a cell that only new ops set.
    pub stale_scratch: bool,
    /// A2, A3: the op to acknowledge waits in one cell for all CPUs, which duplicates never set.
    pub shared_scratch: bool,
    /// A7: neither leader nor voter is checked against its address.
    pub source_unchecked: bool,
    /// F4: a tag is taken for right.
    pub tag_unchecked: bool,
    /// A8, P13: votes are set by a plain OR.
    pub vote_by_or: bool,
    /// A11: a slot is reused whatever it holds.
    pub reuse_unreleased: bool,
    /// P13: a peer's maximum carries no epoch, so that any opening may count it.
    pub untagged_maxima: bool,
    /// P8, F0: a duplicate is acknowledged without a second look at the gate.
    pub duplicate_unchecked: bool,
    /// P8, F0: the gate word that decides is read after the configuration, so that the two may belong to
    /// different openings.
    pub torn_gate: bool,
    /// P10, F8: in `disk` mode duplicates above `durable` are acknowledged.
    pub durable_ignored: bool,
}

/// The memory of one endpoint. Tests play user space on its fields.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Load-time constants.
    pub params: Params,
    /// View, leader and members.
    pub config: Config,
    /// Keys that tags may be made with, by their place (`elec_keys`, F4); none: refused.
    pub keys: [Option<Key>; 2],
    /// The words.
    pub control: Control,
    /// Quorum rounds.
    pub rounds: Vec<Round>,
    /// The log.
    pub slots: Vec<Slot>,
    /// One counter a verdict (F11).
    pub counters: [u64; Verdict::ALL.len()],
    /// Rules broken on purpose.
    pub plants: Plants,
    /// Fault: the packet cannot be made into an ack (`DropAckFailed`).
    pub ack_fails: bool,
    /// [`Plants::shared_scratch`], [`Plants::stale_scratch`]: the op to acknowledge.
    scratch: u64,
}

impl Kernel {
    /// Fresh memory: everything zero, so everything is refused (D1).
    ///
    /// # Panics
    /// If `slots` or `window` is not a power of two.
    pub fn new(params: Params) -> Self {
        assert!(params.slots.is_power_of_two() && params.window.is_power_of_two());
        Self {
            config: Config::default(),
            keys: [None, None],
            control: Control::default(),
            rounds: vec![Round::default(); params.window as usize],
            slots: vec![Slot::default(); params.slots as usize],
            counters: [0; Verdict::ALL.len()],
            plants: Plants::default(),
            ack_fails: false,
            scratch: 0,
            params,
        }
    }

    /// Runs one frame to its end without interruption.
    pub fn process(&mut self, frame: &[u8]) -> Outcome {
        let mut run = Run::new(frame, 0);
        loop {
            if let Step::Done(outcome) = run.step(self) {
                return outcome;
            }
        }
    }

    /// The gate word.
    pub fn gate(&self) -> GateWord {
        GateWord::unpack(self.control.gate)
    }

    /// Compare-and-swap of the gate word.
    pub fn swap_gate(&mut self, expected: GateWord, new: GateWord) -> bool {
        swap(&mut self.control.gate, expected.pack(), new.pack()).is_ok()
    }

    /// The counter of a verdict.
    pub fn counter(&self, verdict: Verdict) -> u64 {
        self.counters[verdict as usize]
    }

    /// The slot of the batch that begins with `first`.
    pub fn slot(&self, first: OpNumber) -> &Slot {
        &self.slots[self.slot_index(first)]
    }

    /// The round of the batch that ends with `last`.
    pub fn round_mut(&mut self, last: OpNumber) -> &mut Round {
        let index = self.round_index(last);
        &mut self.rounds[index]
    }

    fn slot_index(&self, first: OpNumber) -> usize {
        (first.0 & u64::from(self.params.slots - 1)) as usize
    }

    fn round_index(&self, last: OpNumber) -> usize {
        (last.0 & u64::from(self.params.window - 1)) as usize
    }

    fn count(&mut self, verdict: Verdict) {
        self.counters[verdict as usize] += 1;
    }
}

/// Compare-and-swap: `Err` is the word that was found instead.
fn swap(word: &mut u64, expected: u64, new: u64) -> Result<(), u64> {
    if *word == expected {
        *word = new;
        Ok(())
    } else {
        Err(*word)
    }
}

impl Slot {
    /// Whether this is the batch from `first` on, written in `epoch` (U2: what a drain verifies).
    pub fn is_batch(&self, epoch: Epoch, view: u64, first: OpNumber) -> bool {
        self.epoch == u64::from(epoch.0) && self.view == view && self.first == first.0 && self.last >= first.0
    }
}
