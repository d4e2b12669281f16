//! What an endpoint sends: rounds, resends, commit numbers, the application's messages, acks.

use std::mem::offset_of;
use std::net::SocketAddr;
use std::ops::Range;

use zerocopy::IntoBytes;

use super::{Endpoint, Round, role_name};
use crate::abi::{FLAG_ACK_LATER, Header};
use crate::backend::RoundSlot;
use crate::error::{Error, Result};
use crate::rules::same_address;
use crate::types::{OpNumber, ReplicaId, ReplicaSet};
use crate::wire::Batch;
use crate::words::GateState;

/// Prepares that share one ack at most: how much a lost one delays.
const BURST_MAX: usize = 16;

/// One broadcast in the socket's arena: what the carrier takes, and what leaves by itself. Either may be empty.
type Staged = [Range<usize>; 2];

/// The Prepares that are queued to leave together.
pub(super) struct Burst {
    /// The last of them, and who gets it.
    staged: Staged,
    targets: ReplicaSet,
    count: usize,
}

impl Endpoint {
    /// Sends a Prepare to `round.targets` and waits for its quorum in the background (paper section 4.1):
    /// [`Event::Quorum`](super::Event::Quorum) tells. Queued until [`Endpoint::flush`] or the next poll, so that many leave with
    /// one system call.
    pub fn elec_broadcast(&mut self, round: &Round, payload: &[u8]) -> Result<()> {
        self.check_round(round, payload)?;
        if let Some(reason) = self.leader.obstacle(round, self.config.quorum_window) {
            return Err(Error::Round { first: round.first.0, last: round.last.0, reason });
        }
        // L1: the slot is there before the packet can leave.
        self.path.begin_round(&RoundSlot {
            epoch: self.epoch,
            view: self.view,
            op: round.last,
            tag: round.tag,
            voters: round.voters,
            threshold: round.threshold,
        });
        self.leader.begin(*round);
        let header = self.prepare_header(round, payload.len());
        let staged = self.queue_to(header, payload, round.targets);
        self.join_burst(round, staged);
        Ok(())
    }

    /// What leaves together needs one ack: each Prepare of a burst but the last is acknowledged with it. Who
    /// got the earlier one must get the later one too.
    fn join_burst(&mut self, round: &Round, staged: Staged) {
        let mut count = 1;
        if let Some(before) = self.burst.take()
            && !round.independent
            && before.count < BURST_MAX
            && before.targets.difference(round.targets).is_empty()
        {
            for staged in before.staged.iter().filter(|staged| !staged.is_empty()) {
                self.socket.staged_mut(staged)[offset_of!(Header, flags)] = FLAG_ACK_LATER;
            }
            count = before.count + 1;
        }
        self.burst = Some(Burst { staged, targets: round.targets, count });
    }

    /// Sends a Prepare again, identical in what defines the op (L6), to each of `targets` by itself: through
    /// the stack, which resolves a neighbour that is unresolved or has moved.
    pub fn resend(&mut self, round: &Round, targets: ReplicaSet, payload: &[u8]) -> Result<()> {
        self.check_round(round, payload)?;
        let header = self.prepare_header(round, payload.len());
        self.queue_each(header, payload, targets.intersection(self.config.peers()));
        Ok(())
    }

    fn check_round(&self, round: &Round, payload: &[u8]) -> Result<()> {
        if self.state != GateState::Lead {
            return Err(Error::Role { what: "a Prepare", needs: "lead", is: role_name(self.state) });
        }
        if payload.len() > self.payload_bytes_max {
            return Err(Error::TooLarge { bytes: payload.len(), max: self.payload_bytes_max });
        }
        if round.first.0 == 0 || round.last < round.first || round.last.0 >> crate::abi::OP_BITS != 0 {
            return Err(Error::Round {
                first: round.first.0,
                last: round.last.0,
                reason: "ops count from 1 and fit 48 bits",
            });
        }
        Ok(())
    }

    fn prepare_header(&self, round: &Round, payload_bytes: usize) -> Header {
        let batch = Batch {
            view: self.view,
            first: round.first,
            last: round.last,
            round_tag: round.tag,
            leader_epoch: self.epoch,
        };
        self.origin.prepare(&batch, round.commit, round.targets, payload_bytes as u16)
    }

    /// Tells `targets` the commit number of an idle leader (F10).
    pub fn send_commit(&mut self, commit: OpNumber, targets: ReplicaSet) -> Result<()> {
        if self.state != GateState::Lead {
            return Err(Error::Role { what: "a Commit", needs: "lead", is: role_name(self.state) });
        }
        let header = self.origin.commit(self.view, self.epoch, commit, targets);
        let header = self.counted(header);
        self.queue_to(header, &[], targets);
        Ok(())
    }

    /// U9: Commits and messages are counted, so that whoever gets an old one again can tell.
    fn counted(&mut self, header: Header) -> Header {
        self.sent += 1;
        Header { round_tag: self.sent.into(), ..header }
    }

    /// Sends the application's own message to an address, a member's or anybody's.
    pub fn send_message(&mut self, to: SocketAddr, payload: &[u8]) -> Result<()> {
        self.check_message(payload)?;
        let targets = (0..).map(ReplicaId).zip(&self.config.members);
        let targets: ReplicaSet =
            targets.filter(|(_, home)| same_address(**home, to)).map(|(id, _)| id).collect();
        match targets.is_empty() {
            true => self.stats.sent.outside += 1,
            false => self.stats.sent.messages += 1,
        }
        let header = self.origin.message(self.view, targets, payload.len() as u16);
        let header = self.counted(header);
        let staged = self.socket.stage(&[header.as_bytes(), payload]);
        self.socket.queue_joining(&staged, to);
        Ok(())
    }

    /// Sends the application's own message to a member.
    pub fn send_to_member(&mut self, to: ReplicaId, payload: &[u8]) -> Result<()> {
        let Some(addr) = self.config.members.get(to.index()).copied() else {
            return Err(Error::Config(format!("{to} is no member")));
        };
        self.send_message(addr, payload)
    }

    /// Sends the application's own message to several members with one send.
    pub fn broadcast_message(&mut self, targets: ReplicaSet, payload: &[u8]) -> Result<()> {
        self.check_message(payload)?;
        let header = self.origin.message(self.view, targets, payload.len() as u16);
        let header = self.counted(header);
        self.queue_to(header, payload, targets);
        Ok(())
    }

    fn check_message(&self, payload: &[u8]) -> Result<()> {
        if payload.len() > self.payload_bytes_max {
            return Err(Error::TooLarge { bytes: payload.len(), max: self.payload_bytes_max });
        }
        Ok(())
    }

    /// One copy for all who can be reached by one, single ones for the rest: a peer whose neighbour is
    /// unresolved gets a unicast send, which resolves it (L7).
    fn queue_to(&mut self, header: Header, payload: &[u8], targets: ReplicaSet) -> Staged {
        let targets = targets.intersection(self.config.peers());
        // One copy needs no clone: the socket does it as well.
        let reached = Some(self.path.reached(targets)).filter(|r| r.len() > 1).unwrap_or_default();
        let (reached, carrier) = match self.path.carrier() {
            Some(to) if !reached.is_empty() && self.carriers.may_send() => (reached, Some(to)),
            _ => (ReplicaSet::EMPTY, None),
        };
        let carried = match carrier {
            Some(to) => {
                let header = Header { targets: reached.mask().into(), ..header };
                let staged = self.socket.stage(&[header.as_bytes(), payload]);
                self.socket.queue(&staged, to);
                self.stats.carriers += 1;
                self.stats.carried += reached.len() as u64;
                self.note_sent(&header, reached);
                staged
            }
            None => 0..0,
        };
        [carried, self.queue_each(header, payload, targets.difference(reached))]
    }

    /// A datagram that names those whom it is for, and a send for each of them. They share one, and so its tag:
    /// what the carrier takes names others, for the program makes a copy for each that it names.
    fn queue_each(&mut self, header: Header, payload: &[u8], targets: ReplicaSet) -> Range<usize> {
        if targets.is_empty() {
            return 0..0;
        }
        let header = Header { targets: targets.mask().into(), ..header };
        let staged = self.socket.stage(&[header.as_bytes(), payload]);
        for peer in targets.iter() {
            self.socket.queue(&staged, self.config.members[peer.index()]);
        }
        self.note_sent(&header, targets);
        staged
    }

    fn note_sent(&mut self, header: &Header, to: ReplicaSet) {
        if let Some(kind) = header.kind() {
            self.stats.sent.note(kind, to.len() as u64);
        }
    }

    /// Acknowledges ops up to `op` to the leader, for [`Acks::ByCaller`].
    pub fn acknowledge(&mut self, op: OpNumber) -> Result<()> {
        if self.state != GateState::Follow {
            return Err(Error::Role { what: "an ack", needs: "follow", is: role_name(self.state) });
        }
        let op = op.min(self.follower.held);
        if op.0 == 0 {
            return Ok(());
        }
        self.follower.make_durable(op);
        self.tell_durable();
        if !self.last_batch.is_of(self.view) {
            // Nothing of this view to echo yet. A resend will find the op durable, here or in the kernel (F8).
            return Ok(());
        }
        self.queue_ack(self.origin.prepare_ok(&self.last_batch.batch(op), Some(self.leader_id)));
        Ok(())
    }

    fn queue_ack(&mut self, header: Header) {
        let staged = self.socket.stage(&[header.as_bytes()]);
        self.socket.queue(&staged, self.config.members[self.leader_id.index()]);
        self.stats.sent.acks += 1;
    }

    /// Sends everything that is queued.
    pub fn flush(&mut self) -> Result<()> {
        self.burst = None;
        if self.socket.has_queued() {
            if let Some(keys) = &self.config.keys {
                // Here, and not where it is staged: a burst changes flags of what already waits.
                self.socket.each_staged(|datagram| keys.seal(datagram));
            }
            self.socket.flush().map_err(Error::io("sendmmsg"))?;
            if let Some(met) = self.path.carriers_met() {
                self.stats.carriers_lost += self.carriers.settle(met);
            }
        }
        Ok(())
    }

    /// Sends the acks that the follower's half has gathered (U7).
    pub(super) fn send_acks(&mut self) {
        let to = self.config.members[self.leader_id.index()];
        for header in self.follower.take_acks(self.config.me, self.config.incarnation) {
            let staged = self.socket.stage(&[header.as_bytes()]);
            self.socket.queue(&staged, to);
            self.stats.sent.acks += 1;
        }
    }
}
