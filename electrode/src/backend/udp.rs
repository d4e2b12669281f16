//! No help from the kernel: sockets, and the endpoint's user-space half does everything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use super::{FastPath, Heard, Logged, Opening, RoundSlot, Wake};
use crate::abi::Verdict;
use crate::auth::Keys;
use crate::error::Result;
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet};

/// The group that `udp-multicast` sends to; its port is the members' own.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 69, 76);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x454c, 0x4543);

/// The multicast group of an address family.
pub(crate) fn multicast_group(family_of: IpAddr) -> IpAddr {
    if family_of.is_ipv4() { GROUP_V4.into() } else { GROUP_V6.into() }
}

/// A fast path that takes nothing.
pub(crate) struct Udp {
    /// Where a broadcast goes if it is sent by IP multicast.
    pub(crate) multicast: Option<SocketAddr>,
}

impl FastPath for Udp {
    fn appends(&self) -> bool {
        false
    }

    fn freeze(&mut self) -> Result<()> {
        Ok(())
    }

    fn drain(&mut self, from: OpNumber, _: &mut dyn FnMut(Logged<'_>)) -> OpNumber {
        from
    }

    fn open(&mut self, _: &Opening) -> Result<()> {
        Ok(())
    }

    fn tail(&self) -> OpNumber {
        OpNumber(0)
    }

    fn release(&mut self, _: OpNumber) {}

    fn durable(&mut self, _: Epoch, _: OpNumber) {}

    fn renew_lease(&mut self) {}

    fn begin_round(&mut self, _: &RoundSlot) {}

    fn acked(&self, _: Epoch, _: ReplicaId) -> OpNumber {
        OpNumber(0)
    }

    fn votes(&self, _: Epoch, _: OpNumber) -> ReplicaSet {
        ReplicaSet::EMPTY
    }

    fn take_missed(&mut self, _: OpNumber) -> ReplicaSet {
        ReplicaSet::EMPTY
    }

    fn commit_seen(&self, _: Epoch) -> OpNumber {
        OpNumber(0)
    }

    fn last_leader_ns(&self) -> u64 {
        0
    }

    fn heard(&self, _: Epoch) -> Heard {
        Heard::default()
    }

    fn restart_count(&mut self, _: Epoch, _: u64) {}

    fn expect_incarnation(&mut self, _: ReplicaId, _: u32) {}

    fn set_keys(&mut self, _: &Keys) -> Result<()> {
        Ok(())
    }

    fn carrier(&self) -> Option<SocketAddr> {
        self.multicast
    }

    fn reached(&self, targets: ReplicaSet) -> ReplicaSet {
        if self.multicast.is_some() { targets } else { ReplicaSet::EMPTY }
    }

    fn carriers_met(&self) -> Option<u64> {
        None
    }

    fn arm(&mut self, _: Wake) {}

    fn disarm(&mut self) {}

    fn bell(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn verdicts(&self) -> Result<Vec<(Verdict, u64)>> {
        Ok(Vec::new())
    }
}
