//! Two ways to run the fast path under one trait: in the kernel ([`ebpf`]), or not at all ([`udp`]).
//!
//! The endpoint holds the user-space half of every rule (follower.rs, leader.rs) and works without any
//! help; a fast path takes packets off it. `udp` takes none.

#[cfg(feature = "ebpf")]
pub(crate) mod ebpf;
#[cfg(any(feature = "ebpf", test))]
mod shared;
pub(crate) mod udp;
#[cfg(test)]
mod weak_memory;

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use crate::abi::Verdict;
use crate::auth::Keys;
use crate::error::Result;
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use crate::words::GateState;

/// How the gate is opened (U6).
#[derive(Copy, Clone, Debug)]
#[cfg_attr(
    not(any(feature = "ebpf", feature = "simulation", test)),
    expect(dead_code, reason = "sockets need nothing of it")
)]
pub struct Opening {
    /// As what.
    pub state: GateState,
    /// Number of this opening.
    pub epoch: Epoch,
    /// In which view.
    pub view: View,
    /// Its leader.
    pub leader: ReplicaId,
    /// Last op that user space holds: the kernel's tail.
    pub tail: OpNumber,
    /// Anything but the tail differs from the opening before: configuration and rounds are written anew.
    pub fresh: bool,
    /// What has been heard of the leader.
    pub heard: Heard,
}

/// U9: how far the leader of a view has been heard: what is not beyond it is no sign of life.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Highest op that it has prepared.
    pub op: OpNumber,
    /// Highest count of its Commits.
    pub count: u64,
}

/// A batch that the kernel logged.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    /// View in which the leader ordered it.
    pub view: View,
    /// First op.
    pub first: OpNumber,
    /// Last op.
    pub last: OpNumber,
    /// Round tag, for an ack by the caller.
    pub round_tag: u64,
    /// Leader epoch, likewise.
    pub leader_epoch: Epoch,
    /// The batch.
    pub payload: &'a [u8],
}

/// A round as the kernel counts it (L1).
#[derive(Copy, Clone, Debug)]
#[cfg_attr(
    not(any(feature = "ebpf", feature = "simulation", test)),
    expect(dead_code, reason = "sockets need nothing of it")
)]
pub struct RoundSlot {
    /// The leader's opening.
    pub epoch: Epoch,
    /// Its view.
    pub view: View,
    /// Last op of the round.
    pub op: OpNumber,
    /// The caller's tag.
    pub tag: u64,
    /// Whose votes count.
    pub voters: ReplicaSet,
    /// How many complete it.
    pub threshold: u32,
}

/// What to be woken for; nothing by default.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// When this op, or a later one, is logged.
    pub at_op: Option<OpNumber>,
    /// When a commit number of at least this is seen.
    pub at_commit: Option<OpNumber>,
    /// When a round completes.
    pub on_quorum: bool,
}

/// What runs the fast path.
pub trait FastPath: Send {
    /// Whether the kernel appends while the gate is in `Follow`; if not, freezing costs nothing.
    fn appends(&self) -> bool;

    /// U1: ends appends. Idempotent.
    fn freeze(&mut self) -> Result<()>;

    /// U2: hands over what was logged after `from` in this epoch, in order; returns the last op.
    fn drain(&mut self, from: OpNumber, sink: &mut dyn FnMut(Logged<'_>)) -> OpNumber;

    /// U6: opens a frozen gate.
    fn open(&mut self, opening: &Opening) -> Result<()>;

    /// Tail of the kernel's log in this epoch, 0 where there is none.
    fn tail(&self) -> OpNumber;

    /// F6: slots of ops up to here may be reused.
    fn release(&mut self, op: OpNumber);

    /// F8: tells what is durable.
    fn durable(&mut self, epoch: Epoch, op: OpNumber);

    /// F2: renews the gate lease where there is one.
    fn renew_lease(&mut self);

    /// L1: prepares a round's slot, before its Prepare leaves.
    fn begin_round(&mut self, round: &RoundSlot);

    /// Highest op that the kernel saw a peer acknowledge in `epoch`.
    fn acked(&self, epoch: Epoch, peer: ReplicaId) -> OpNumber;

    /// Votes that the kernel counted in a round.
    fn votes(&self, epoch: Epoch, op: OpNumber) -> ReplicaSet;

    /// L7: peers that the carrier of this round missed; cleared by reading.
    fn take_missed(&mut self, op: OpNumber) -> ReplicaSet;

    /// F10: highest commit number that the kernel saw in `epoch`.
    fn commit_seen(&self, epoch: Epoch) -> OpNumber;

    /// U9: CLOCK_MONOTONIC nanoseconds of the leader's last packet that the kernel saw and that said something
    /// new, 0 if none.
    fn last_leader_ns(&self) -> u64;

    /// U9: how far the kernel has heard the leader in `epoch`.
    fn heard(&self, epoch: Epoch) -> Heard;

    /// U9: the leader lives another life, which counts its Commits anew; this one it has reached.
    fn restart_count(&mut self, epoch: Epoch, count: u64);

    /// D4: CLOCK_MONOTONIC nanoseconds from when on programs of an earlier process that worked as this one does can no
    /// longer acknowledge.
    fn earlier_life_ends_ns(&self) -> u64 {
        0
    }

    /// L2: whose acks count.
    fn expect_incarnation(&mut self, peer: ReplicaId, incarnation: u32);

    /// F4: the keys that are accepted from now on. Called only where there were keys at the opening.
    fn set_keys(&mut self, keys: &Keys) -> Result<()>;

    /// Where one packet goes that reaches several peers, if there is such a thing.
    fn carrier(&self) -> Option<SocketAddr>;

    /// Which of `targets` the carrier reaches now.
    fn reached(&self, targets: ReplicaSet) -> ReplicaSet;

    /// Carriers that the program which makes copies of them has met; `None` if there is no such program.
    fn carriers_met(&self) -> Option<u64>;

    /// Arms the doorbells; the caller looks once more before it sleeps.
    fn arm(&mut self, wake: Wake);

    /// Disarms them and takes what rang.
    fn disarm(&mut self);

    /// Descriptor that becomes readable when a doorbell rings.
    fn bell(&self) -> Option<BorrowedFd<'_>>;

    /// Verdict counters, all CPUs together.
    fn verdicts(&self) -> Result<Vec<(Verdict, u64)>>;
}
