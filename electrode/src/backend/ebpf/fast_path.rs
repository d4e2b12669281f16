//! What an endpoint asks of the kernel: each call as accesses to the programs' memory.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Ebpf, LEASE_NS, sum_counters};
use crate::abi::Verdict;
use crate::auth::Keys;
use crate::backend::{FastPath, Heard, Logged, Opening, RoundSlot, Wake, shared};
use crate::error::Result;
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet};
use crate::words::{self, GateState};

impl FastPath for Ebpf {
    fn appends(&self) -> bool {
        self.fast_ack
    }

    fn freeze(&mut self) -> Result<()> {
        shared::freeze(self);
        Ok(())
    }

    fn drain(&mut self, from: OpNumber, sink: &mut dyn FnMut(Logged<'_>)) -> OpNumber {
        shared::drain(self, from, sink)
    }

    fn open(&mut self, opening: &Opening) -> Result<()> {
        let frozen = self.gate();
        assert_eq!(frozen.state, GateState::Frozen, "the gate is opened only after a freeze (U6)");
        self.wait_for_writers()?;
        if opening.epoch < frozen.epoch {
            // The epoch wrapped: nothing that still runs may carry a number that comes again.
            self.grace.period()?;
            self.slots.forget_epochs();
        }
        self.renew_lease();
        shared::open(self, frozen, opening);
        Ok(())
    }

    fn tail(&self) -> OpNumber {
        self.gate().op
    }

    fn release(&mut self, op: OpNumber) {
        shared::release(self, op);
    }

    fn durable(&mut self, epoch: Epoch, op: OpNumber) {
        self.control.durable().store(words::tagged(epoch, op), Ordering::Release);
    }

    fn renew_lease(&mut self) {
        if self.leased {
            self.control.lease_ns().store(crate::clock::monotonic_ns() + LEASE_NS, Ordering::Release);
        }
    }

    fn begin_round(&mut self, round: &RoundSlot) {
        shared::begin_round(self, round);
    }

    fn acked(&self, epoch: Epoch, peer: ReplicaId) -> OpNumber {
        shared::acked(self, epoch, peer)
    }

    fn votes(&self, epoch: Epoch, op: OpNumber) -> ReplicaSet {
        shared::votes(self, epoch, op)
    }

    fn take_missed(&mut self, op: OpNumber) -> ReplicaSet {
        let missed = self.rounds.missed(op.0);
        if missed.load(Ordering::Relaxed) == 0 {
            return ReplicaSet::EMPTY;
        }
        ReplicaSet::from_mask(missed.swap(0, Ordering::AcqRel))
    }

    fn commit_seen(&self, epoch: Epoch) -> OpNumber {
        words::op_in_epoch(self.control.commit().load(Ordering::Acquire), epoch)
    }

    fn last_leader_ns(&self) -> u64 {
        self.control.last_leader_ns().load(Ordering::Relaxed)
    }

    fn heard(&self, epoch: Epoch) -> Heard {
        let of_epoch = |word: &AtomicU64| words::op_in_epoch(word.load(Ordering::Acquire), epoch);
        Heard { op: of_epoch(self.control.heard_op()), count: of_epoch(self.control.heard_count()).0 }
    }

    fn restart_count(&mut self, epoch: Epoch, count: u64) {
        self.control.heard_count().store(words::tagged(epoch, OpNumber(count)), Ordering::Release);
    }

    fn earlier_life_ends_ns(&self) -> u64 {
        // Links end with their process; a filter on a clsact qdisc stays until its lease is over.
        if self.leased { self.opened_ns + LEASE_NS } else { self.opened_ns }
    }

    fn expect_incarnation(&mut self, peer: ReplicaId, incarnation: u32) {
        self.control.incarnation(peer.index()).store(incarnation.into(), Ordering::Release);
    }

    fn set_keys(&mut self, keys: &Keys) -> Result<()> {
        let changed: Vec<_> = (0..2).filter(|slot| self.key(*slot) != keys.in_slot(*slot)).collect();
        changed.iter().for_each(|slot| self.key_slots.invalidate(*slot));
        // A program that has seen the key valid reads it until it has run out; half of one and half of another
        // would be a key that nobody gave. Which key sends is not the programs' business.
        let waited = if changed.is_empty() { Ok(()) } else { self.grace.period() };
        if waited.is_ok() {
            self.keys = Some(keys.clone());
        }
        // As it was if the wait failed.
        changed.iter().for_each(|slot| self.key_slots.write(*slot, self.key(*slot)));
        waited
    }

    fn carrier(&self) -> Option<SocketAddr> {
        self.broadcast.then_some(self.carrier)
    }

    fn reached(&self, targets: ReplicaSet) -> ReplicaSet {
        if !self.broadcast {
            return ReplicaSet::EMPTY;
        }
        targets.iter().filter(|p| self.control.next_hop(p.index()).load(Ordering::Relaxed) != 0).collect()
    }

    fn carriers_met(&self) -> Option<u64> {
        self.broadcast.then(|| self.control.carriers().load(Ordering::Relaxed))
    }

    fn arm(&mut self, wake: Wake) {
        // What rang before is looked for by the caller; left in the ring it would wake for ever. The ring is
        // mapped: no system call.
        let _ = self.bell.consume_raw();
        shared::arm(self, wake);
        self.armed = wake != Wake::default();
    }

    fn disarm(&mut self) {
        if self.armed {
            self.arm(Wake::default());
        }
        // A program may have taken the bell before it was disarmed and ring only now.
        let _ = self.bell.consume_raw();
    }

    fn bell(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the ring buffer's epoll descriptor lives as long as self.
        Some(unsafe { BorrowedFd::borrow_raw(self.bell.epoll_fd()) })
    }

    fn verdicts(&self) -> Result<Vec<(Verdict, u64)>> {
        sum_counters(&self.counters)
    }
}
