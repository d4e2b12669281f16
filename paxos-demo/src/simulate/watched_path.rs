//! The fast path as an endpoint is given it: whichever it is, checkers and trace see what passes through.
//!
//! Where programs run whole, so do the calls of the fast path: whatever happens to a process happens before a
//! call, and what the call left in kernel memory goes into the trace.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use electrode::Result;
use electrode::abi::Verdict;
use electrode::auth::Keys;
use electrode::simulation::{FastPath, Heard, Logged, Opening, RoundSlot, Wake};
use electrode::types::{Epoch, OpNumber, ReplicaId, ReplicaSet};

use super::effect::effect;
use super::world::{Shared, World, lock};

pub(super) struct WatchedPath {
    pub shared: Shared,
    pub node: usize,
    pub inner: Box<dyn FastPath>,
    /// Whether its calls are whole: nothing happens within them.
    pub whole: bool,
}

impl WatchedPath {
    /// One call that may change kernel memory.
    fn call<T>(&mut self, what: &'static str, call: impl FnOnce(&mut dyn FastPath) -> T) -> T {
        if self.whole {
            effect(&self.shared, self.node, what);
        }
        let result = call(&mut *self.inner);
        if self.whole {
            lock(&self.shared).trace_memory(self.node);
        }
        result
    }
}

impl FastPath for WatchedPath {
    fn appends(&self) -> bool {
        self.inner.appends()
    }

    fn freeze(&mut self) -> Result<()> {
        self.call("freezing", |path| path.freeze())
    }

    fn drain(&mut self, from: OpNumber, sink: &mut dyn FnMut(Logged<'_>)) -> OpNumber {
        let (shared, node) = (self.shared.clone(), self.node);
        self.call("draining", |path| {
            path.drain(from, &mut |logged| {
                lock(&shared).checker.drained(node, logged.last);
                sink(logged);
            })
        })
    }

    fn open(&mut self, opening: &Opening) -> Result<()> {
        let (shared, node) = (self.shared.clone(), self.node);
        self.call("opening", |path| {
            {
                let mut world = lock(&shared);
                let checked = world.checker.opening(node, opening);
                world.violate(checked);
            }
            path.open(opening)?;
            let mut world = lock(&shared);
            let World { now, trace, .. } = &mut *world;
            trace.line(*now, |line| line.push_str(&format!("r{node} opens {opening:?}")));
            Ok(())
        })
    }

    fn set_keys(&mut self, keys: &Keys) -> Result<()> {
        self.call("changing keys", |path| path.set_keys(keys))
    }

    fn tail(&self) -> OpNumber {
        self.inner.tail()
    }

    fn release(&mut self, op: OpNumber) {
        self.call("releasing", |path| path.release(op));
    }

    fn durable(&mut self, epoch: Epoch, op: OpNumber) {
        self.call("telling what is durable", |path| path.durable(epoch, op));
    }

    fn renew_lease(&mut self) {
        self.inner.renew_lease();
    }

    fn begin_round(&mut self, round: &RoundSlot) {
        self.call("beginning a round", |path| path.begin_round(round));
    }

    fn acked(&self, epoch: Epoch, peer: ReplicaId) -> OpNumber {
        self.inner.acked(epoch, peer)
    }

    fn votes(&self, epoch: Epoch, op: OpNumber) -> ReplicaSet {
        self.inner.votes(epoch, op)
    }

    fn take_missed(&mut self, op: OpNumber) -> ReplicaSet {
        self.inner.take_missed(op)
    }

    fn commit_seen(&self, epoch: Epoch) -> OpNumber {
        self.inner.commit_seen(epoch)
    }

    fn heard(&self, epoch: Epoch) -> Heard {
        self.inner.heard(epoch)
    }

    fn restart_count(&mut self, epoch: Epoch, count: u64) {
        self.call("restarting the leader's count", |path| path.restart_count(epoch, count));
    }

    fn last_leader_ns(&self) -> u64 {
        self.inner.last_leader_ns()
    }

    fn earlier_life_ends_ns(&self) -> u64 {
        self.inner.earlier_life_ends_ns()
    }

    fn expect_incarnation(&mut self, peer: ReplicaId, incarnation: u32) {
        self.call("expecting a life", |path| path.expect_incarnation(peer, incarnation));
    }

    fn carrier(&self) -> Option<SocketAddr> {
        self.inner.carrier()
    }

    fn reached(&self, targets: ReplicaSet) -> ReplicaSet {
        self.inner.reached(targets)
    }

    fn carriers_met(&self) -> Option<u64> {
        self.inner.carriers_met()
    }

    fn arm(&mut self, wake: Wake) {
        self.call("arming", |path| path.arm(wake));
        let mut world = lock(&self.shared);
        let machine = &mut world.nodes[self.node];
        machine.armed = wake != Wake::default();
        machine.rang = false;
    }

    fn disarm(&mut self) {
        self.call("disarming", |path| path.disarm());
        let mut world = lock(&self.shared);
        let machine = &mut world.nodes[self.node];
        machine.armed = false;
        machine.rang = false;
    }

    fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.inner.bell()
    }

    fn verdicts(&self) -> Result<Vec<(Verdict, u64)>> {
        self.inner.verdicts()
    }
}
