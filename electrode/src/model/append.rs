//! A Prepare meets the log: F5 to F8.
//!
//! A new op takes the busy bit, fills its slot, publishes by compare-and-swap and only then is
//! acknowledged (F7). A duplicate looks at the gate once more and writes nothing (F8).

use super::ingress::{self, Next, Run};
use super::{Kernel, Slot, swap};
use crate::abi::Verdict;
use crate::rules::{self, Append, SlotTag};
use crate::types::{Epoch, OpNumber};
use crate::words::{self, GateState, GateWord};

/// Steps of the append.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    Spin {
        tries: u32,
    },
    LoadDurable,
    LoadWakeBell,
    ReloadGate,
    LoadReleased,
    ReadSlot {
        released: OpNumber,
    },
    TakeBusy,
    /// Only with [`super::Plants::shared_scratch`] or `stale_scratch`.
    StoreScratch,
    FillPayload,
    FillHeader,
    Publish,
    ClearBusy,
    LoadOpBell,
    RingOpBell {
        bell: u64,
        after: Verdict,
    },
}

impl At {
    /// Whether the step changes shared memory.
    pub(super) fn writes(&self) -> bool {
        use At::{ClearBusy, FillHeader, FillPayload, Publish, RingOpBell, StoreScratch, TakeBusy};
        matches!(
            self,
            TakeBusy | StoreScratch | FillPayload | FillHeader | Publish | ClearBusy | RingOpBell { .. }
        )
    }

    fn next(self) -> Next {
        Ok(ingress::At::Append(self))
    }
}

impl Run {
    /// F5, on the gate word as loaded at admission, or later if the log was busy then: the batch before
    /// this one may just be in the making.
    pub(super) fn decide(&mut self, kernel: &Kernel) -> Next {
        self.decide_or_spin(kernel.params.busy_tries, kernel)
    }

    fn decide_or_spin(&mut self, tries: u32, kernel: &Kernel) -> Next {
        if self.gate.busy && tries > 0 {
            return At::Spin { tries: tries - 1 }.next();
        }
        let (header, payload) = self.packet();
        let position = rules::position(self.gate.op, header.first(), header.last());
        if let Some(refusal) = position.refusal() {
            return Err(refusal);
        }
        if position == Append::Duplicate {
            let ask_durable = kernel.params.log_only && !kernel.plants.durable_ignored;
            return if ask_durable { At::LoadDurable } else { At::ReloadGate }.next();
        }
        if payload.len() > kernel.params.slot_payload_bytes as usize {
            return Err(Verdict::PassTooLarge);
        }
        At::LoadReleased.next()
    }

    pub(super) fn append(&mut self, at: At, kernel: &mut Kernel) -> Next {
        match at {
            // The configuration that admitted the batch holds for this opening only.
            At::Spin { tries } => {
                let again = kernel.gate();
                if !rules::still_open(self.gate, again) {
                    return Err(Verdict::PassRaced);
                }
                self.gate = again;
                self.decide_or_spin(tries, kernel)
            }
            At::LoadDurable => {
                let durable = words::op_in_epoch(kernel.control.durable, self.gate.epoch);
                match rules::duplicate(self.header().last(), Some(durable)) {
                    Append::Duplicate => At::ReloadGate.next(),
                    _ => At::LoadWakeBell.next(),
                }
            }
            // F8: the leader asks again for what user space has yet to make durable: wake it, wherever
            // the doorbell stands.
            At::LoadWakeBell => match kernel.control.ring_at_op {
                0 => Err(Verdict::DropNotDurable),
                bell => At::RingOpBell { bell, after: Verdict::DropNotDurable }.next(),
            },
            At::ReloadGate => {
                let open = rules::still_open(self.gate, kernel.gate()) || kernel.plants.duplicate_unchecked;
                Err(if open { Verdict::TxAckRepeated } else { Verdict::PassRaced })
            }
            At::LoadReleased => At::ReadSlot { released: OpNumber(kernel.control.released) }.next(),
            At::ReadSlot { released } => {
                let slot = kernel.slot(self.header().first());
                let tag = SlotTag { epoch: Epoch(slot.epoch as u16), last: OpNumber(slot.last) };
                let room = rules::room(self.gate.epoch, tag, released);
                match room.refusal() {
                    Some(refusal) if !kernel.plants.reuse_unreleased => Err(refusal),
                    _ if self.gate.busy => Err(Verdict::PassBusy),
                    _ => At::TakeBusy.next(),
                }
            }
            // F7, first half: from here on nobody else appends.
            At::TakeBusy => {
                let broken = kernel.plants.publish_before_fill;
                let taken = if broken { self.published_word() } else { self.busy_word() };
                match kernel.swap_gate(self.gate, taken) {
                    false => Err(Verdict::PassBusy),
                    true if kernel.plants.shared_scratch || kernel.plants.stale_scratch => {
                        At::StoreScratch.next()
                    }
                    true => At::FillPayload.next(),
                }
            }
            At::StoreScratch => {
                kernel.scratch = self.header().last.get();
                At::FillPayload.next()
            }
            At::FillPayload => {
                self.slot(kernel).payload = self.packet().1.to_vec();
                At::FillHeader.next()
            }
            At::FillHeader => {
                let header = self.header();
                let slot = self.slot(kernel);
                *slot = Slot {
                    epoch: self.gate.epoch.0.into(),
                    view: header.view.get(),
                    first: header.first.get(),
                    last: header.last.get(),
                    round_tag: header.round_tag.get(),
                    leader_epoch: header.leader_epoch.get(),
                    payload: std::mem::take(&mut slot.payload),
                };
                if kernel.plants.publish_before_fill { At::LoadOpBell.next() } else { At::Publish.next() }
            }
            At::Publish => {
                let published = kernel.swap_gate(self.busy_word(), self.published_word());
                if published { At::LoadOpBell.next() } else { At::ClearBusy.next() }
            }
            // One atomic AND: whatever else the word says now is user space's business.
            At::ClearBusy => {
                kernel.control.gate &= !(1 << crate::abi::BUSY_SHIFT);
                Err(Verdict::PassRaced)
            }
            At::LoadOpBell => {
                let later = self.header().flags & crate::abi::FLAG_ACK_LATER != 0;
                let later = later || kernel.params.log_only;
                let after = if later { Verdict::DropLogged } else { Verdict::TxAck };
                match kernel.control.ring_at_op {
                    bell if ingress::armed(bell, self.header().last()) => {
                        At::RingOpBell { bell, after }.next()
                    }
                    _ => Err(after),
                }
            }
            At::RingOpBell { bell, after } => {
                let taken = swap(&mut kernel.control.ring_at_op, bell, 0).is_ok();
                self.ring(kernel, taken);
                Err(after)
            }
        }
    }

    fn busy_word(&self) -> GateWord {
        GateWord { busy: true, ..self.gate }
    }

    fn published_word(&self) -> GateWord {
        GateWord { state: GateState::Follow, busy: false, op: self.header().last(), ..self.gate }
    }

    fn slot<'k>(&self, kernel: &'k mut Kernel) -> &'k mut Slot {
        let index = kernel.slot_index(self.header().first());
        &mut kernel.slots[index]
    }
}
