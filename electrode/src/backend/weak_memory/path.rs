//! The weak memory as the backend that the leader's recount asks.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::memory::Weak;
use crate::abi::Verdict;
use crate::auth::Keys;
use crate::backend::{FastPath, Heard, Logged, Opening, RoundSlot, Wake, shared};
use crate::error::Result;
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet};

/// Answers what a recount asks, and nothing else.
pub(super) struct Path(pub Arc<Weak>);

impl FastPath for Path {
    fn acked(&self, epoch: Epoch, peer: ReplicaId) -> OpNumber {
        shared::acked(&*self.0, epoch, peer)
    }

    fn votes(&self, epoch: Epoch, op: OpNumber) -> ReplicaSet {
        shared::votes(&*self.0, epoch, op)
    }

    fn appends(&self) -> bool {
        unreachable!()
    }
    fn freeze(&mut self) -> Result<()> {
        unreachable!()
    }
    fn drain(&mut self, _: OpNumber, _: &mut dyn FnMut(Logged<'_>)) -> OpNumber {
        unreachable!()
    }
    fn open(&mut self, _: &Opening) -> Result<()> {
        unreachable!()
    }
    fn tail(&self) -> OpNumber {
        unreachable!()
    }
    fn release(&mut self, _: OpNumber) {
        unreachable!()
    }
    fn durable(&mut self, _: Epoch, _: OpNumber) {
        unreachable!()
    }
    fn renew_lease(&mut self) {
        unreachable!()
    }
    fn begin_round(&mut self, _: &RoundSlot) {
        unreachable!()
    }
    fn take_missed(&mut self, _: OpNumber) -> ReplicaSet {
        unreachable!()
    }
    fn commit_seen(&self, _: Epoch) -> OpNumber {
        unreachable!()
    }
    fn last_leader_ns(&self) -> u64 {
        unreachable!()
    }
    fn heard(&self, _: Epoch) -> Heard {
        unreachable!()
    }
    fn restart_count(&mut self, _: Epoch, _: u64) {
        unreachable!()
    }
    fn expect_incarnation(&mut self, _: ReplicaId, _: u32) {
        unreachable!()
    }
    fn set_keys(&mut self, _: &Keys) -> Result<()> {
        unreachable!()
    }
    fn carrier(&self) -> Option<SocketAddr> {
        unreachable!()
    }
    fn reached(&self, _: ReplicaSet) -> ReplicaSet {
        unreachable!()
    }
    fn carriers_met(&self) -> Option<u64> {
        unreachable!()
    }
    fn arm(&mut self, _: Wake) {
        unreachable!()
    }
    fn disarm(&mut self) {
        unreachable!()
    }
    fn bell(&self) -> Option<BorrowedFd<'_>> {
        unreachable!()
    }
    fn verdicts(&self) -> Result<Vec<(Verdict, u64)>> {
        unreachable!()
    }
}
