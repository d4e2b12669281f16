//! The public handle: one replica of one group behind one UDP address.
//!
//! Data takes one way: `elec_broadcast` queues a round, `flush` (or the next poll) sends, packets that no
//! kernel program took are judged here by the same rules ([`crate::rules`]), and `elec_poll_message` hands
//! over what was logged, what completed and what is the application's own.

mod follower;
mod leader;
mod open;
mod wait;

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use zerocopy::IntoBytes;

pub use self::leader::Round;
pub use self::open::Choice;
pub use self::wait::Patience;

use self::follower::{Arrival, Follower, LastBatch};
use self::leader::Leader;
use crate::abi::{Header, Kind};
use crate::backend::{FastPath, Logged, Opening, RoundSlot};
use crate::config::EndpointConfig;
use crate::error::{Error, Result};
use crate::net::socket::{BatchSocket, Ring};
use crate::rules;
use crate::stats::Stats;
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use crate::wire::{self, Batch, Origin};
use crate::words::GateState;

/// What [`Endpoint::elec_poll_message`] hands over.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Follower: the next batch, contiguous and in order; acknowledged by the time it is seen, unless the
    /// configuration leaves that to the caller.
    Logged {
        /// View in which the leader ordered it.
        view: View,
        /// First op.
        first: OpNumber,
        /// Last op.
        last: OpNumber,
        /// The batch, as the leader sent it.
        payload: &'a [u8],
    },
    /// Follower: the leader's commit number grew (F10).
    Commit {
        /// View.
        view: View,
        /// Every op up to here is committed. What was not logged yet is not here yet: apply
        /// `min(commit, last op logged)`.
        commit: OpNumber,
    },
    /// Follower: ops `have + 1 ..= missing` did not come, later ones did; ask the leader (L6).
    Gap {
        /// Last contiguous op.
        have: OpNumber,
        /// Last op that is missing.
        missing: OpNumber,
    },
    /// Leader: a round has its quorum, recounted (L4).
    Quorum {
        /// First op of the round.
        first: OpNumber,
        /// Last op of the round.
        last: OpNumber,
        /// Tag of the round.
        tag: u64,
    },
    /// A protocol packet of a higher view than ours (F3).
    NewerView {
        /// The view.
        view: View,
        /// Who is in it.
        sender: ReplicaId,
    },
    /// The application's own.
    Message {
        /// Where it came from.
        from: SocketAddr,
        /// Member that it claims to be and whose address it came from; `None` for everybody else.
        sender: Option<ReplicaId>,
        /// Life of the sender.
        incarnation: u32,
        /// The message.
        payload: &'a [u8],
    },
    /// A member has another group or configuration; its packets are not heard (F1).
    Misconfigured {
        /// Where it came from.
        from: SocketAddr,
        /// Its configuration hash.
        config_hash: u64,
    },
}

/// One replica of one group.
pub struct Endpoint {
    config: EndpointConfig,
    payload_bytes_max: usize,
    origin: Origin,
    socket: BatchSocket,
    /// `udp-multicast` only: where the group's packets arrive.
    group_socket: Option<BatchSocket>,
    path: Box<dyn FastPath>,
    choice: Choice,
    wait: OwnedFd,
    state: GateState,
    view: View,
    leader_id: ReplicaId,
    epoch: Epoch,
    follower: Follower,
    leader: Leader,
    last_batch: LastBatch,
    incarnations: [u32; crate::abi::MEMBERS_MAX],
    commit_told: OpNumber,
    last_leader_ns: u64,
    stats: Stats,
}

impl Endpoint {
    /// Largest payload in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// The endpoint's own address.
    pub fn local_addr(&self) -> SocketAddr {
        self.config.addr()
    }

    /// Which backend runs, on which hook, and why.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Opens the gate as leader of `view`, holding ops up to `last_op` (U6, L8: a new epoch, no votes).
    pub fn lead(&mut self, view: View, last_op: OpNumber) -> Result<Epoch> {
        self.open_gate(GateState::Lead, view, self.config.me, last_op)
    }

    /// Opens the gate as follower of `leader` in `view`, holding ops up to `last_op` (U6).
    pub fn follow(&mut self, view: View, leader: ReplicaId, last_op: OpNumber) -> Result<Epoch> {
        self.open_gate(GateState::Follow, view, leader, last_op)
    }

    fn open_gate(
        &mut self,
        state: GateState,
        view: View,
        leader: ReplicaId,
        last_op: OpNumber,
    ) -> Result<Epoch> {
        if leader.index() >= self.config.members.len() {
            return Err(Error::Config(format!("leader {leader} is no member")));
        }
        self.path.freeze()?;
        (self.state, self.view, self.leader_id) = (state, view, leader);
        self.leader.restart(self.epoch.next());
        self.follower.restart(last_op);
        self.commit_told = OpNumber(0);
        self.reopen(true)?;
        Ok(self.epoch)
    }

    fn reopen(&mut self, fresh: bool) -> Result<()> {
        self.epoch = self.epoch.next();
        self.path.open(&Opening {
            state: self.state,
            epoch: self.epoch,
            view: self.view,
            leader: self.leader_id,
            tail: self.follower.held,
            fresh,
        })?;
        self.tell_durable();
        Ok(())
    }

    /// Freezes the gate (U1) and hands over everything that was acknowledged (U2). Afterwards the endpoint
    /// acknowledges and counts nothing until [`Endpoint::lead`] or [`Endpoint::follow`].
    pub fn freeze(&mut self, f: &mut dyn FnMut(Event<'_>)) -> Result<OpNumber> {
        self.path.freeze()?;
        self.drain(f);
        self.state = GateState::Frozen;
        Ok(self.follower.held)
    }

    /// Last op that was handed over in [`Event::Logged`].
    pub fn held(&self) -> OpNumber {
        self.follower.held
    }

    /// Acks of this life of a peer count; zero: none do (L2).
    pub fn expect_incarnation(&mut self, peer: ReplicaId, incarnation: u32) {
        self.incarnations[peer.index()] = incarnation;
        self.path.expect_incarnation(peer, incarnation);
    }

    /// Highest op that `peer` has acknowledged in this opening.
    pub fn acked(&self, peer: ReplicaId) -> OpNumber {
        self.leader.acked(&*self.path, peer)
    }

    /// Sends a Prepare to `round.targets` and waits for its quorum in the background (paper section 4.1):
    /// [`Event::Quorum`] tells. Queued until [`Endpoint::flush`] or the next poll, so that many leave with
    /// one system call.
    pub fn elec_broadcast(&mut self, round: &Round, payload: &[u8]) -> Result<()> {
        self.check_round(round, payload)?;
        if !self.leader.has_room(round.last, self.config.quorum_window) {
            return Err(Error::Round {
                first: round.first.0,
                last: round.last.0,
                reason: "the quorum window is full: wait for rounds to complete, or raise `quorum_window`",
            });
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
        self.queue_to(header, payload, round.targets);
        Ok(())
    }

    /// Sends a Prepare again, identical in what defines the op (L6), to each of `targets` by itself: through
    /// the stack, which resolves a neighbour that is unresolved or has moved.
    pub fn resend(&mut self, round: &Round, targets: ReplicaSet, payload: &[u8]) -> Result<()> {
        self.check_round(round, payload)?;
        let header = self.prepare_header(round, payload.len());
        let staged = self.socket.stage(&[header.as_bytes(), payload]);
        for peer in targets.intersection(self.config.peers()).iter() {
            self.socket.queue(&staged, self.config.members[peer.index()]);
        }
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
        self.queue_to(header, &[], targets);
        Ok(())
    }

    /// Sends the application's own message to an address.
    pub fn send_message(&mut self, to: SocketAddr, payload: &[u8]) -> Result<()> {
        self.check_message(payload)?;
        let header = self.origin.message(self.view, ReplicaSet::EMPTY, payload.len() as u16);
        let staged = self.socket.stage(&[header.as_bytes(), payload]);
        self.socket.queue(&staged, to);
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
    fn queue_to(&mut self, header: Header, payload: &[u8], targets: ReplicaSet) {
        let targets = targets.intersection(self.config.peers());
        let (carrier, reached) = match self.path.carrier(targets) {
            Some((to, reached)) => (Some(to), reached),
            None => (None, ReplicaSet::EMPTY),
        };
        let header = Header { targets: reached.mask().into(), ..header };
        let staged = self.socket.stage(&[header.as_bytes(), payload]);
        if let Some(to) = carrier {
            self.socket.queue(&staged, to);
        }
        for peer in targets.difference(reached).iter() {
            self.socket.queue(&staged, self.config.members[peer.index()]);
        }
    }

    /// Peers that one carrier reaches now: those whose next hop is known. Empty without the offload.
    pub fn reached_by_carrier(&self) -> ReplicaSet {
        self.path.carrier(self.config.peers()).map_or(ReplicaSet::EMPTY, |(_, reached)| reached)
    }

    /// L7: peers that the carrier of the round ending in `op` did not reach; each is told once.
    pub fn take_missed(&mut self, op: OpNumber) -> ReplicaSet {
        self.path.take_missed(op)
    }

    /// Acknowledges ops up to `op` to the leader, for [`Acks::ByCaller`](crate::config::Acks::ByCaller).
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
        let prepare = self.origin.prepare(&self.last_batch.batch(op), OpNumber(0), ReplicaSet::EMPTY, 0);
        self.queue_ack(wire::prepare_ok(&prepare, self.config.me, self.config.incarnation, op));
        Ok(())
    }

    /// F8: what is durable is tagged with the epoch, so every opening is told anew.
    fn tell_durable(&mut self) {
        if let Some(op) = self.follower.durable().filter(|op| op.0 > 0) {
            self.path.durable(self.epoch, op);
        }
    }

    fn queue_ack(&mut self, header: Header) {
        let staged = self.socket.stage(&[header.as_bytes()]);
        self.socket.queue(&staged, self.config.members[self.leader_id.index()]);
    }

    /// Sends everything that is queued.
    pub fn flush(&mut self) -> Result<()> {
        if self.socket.has_queued() {
            self.socket.flush().map_err(Error::io("sendmmsg"))?;
        }
        Ok(())
    }

    /// Hands over what has happened, without waiting: at most `budget` datagrams, and everything that the
    /// kernel logged and counted (paper section 4.4). Returns the number of events.
    pub fn elec_poll_message(&mut self, budget: usize, f: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let mut events = 0;
        let mut f = |event: Event<'_>| {
            events += 1;
            f(event);
        };
        self.flush()?;
        self.path.renew_lease();
        self.drain(&mut f);
        let mut taken = 0;
        let mut held_over = false;
        while taken < budget {
            let n = self.receive(&mut f, &mut held_over)?;
            taken += n;
            if n < crate::net::socket::BATCH {
                break;
            }
        }
        self.close_gap(&mut f, &mut held_over)?;
        if held_over {
            // U8: the socket is empty; what comes after the opening is the kernel's again, and what came
            // just before it is in the socket for the next poll.
            self.reopen(false)?;
        }
        self.send_acks();
        self.tell(&mut f);
        self.flush()?;
        Ok(events)
    }

    /// Hands over the kernel's log (U2) and lets it reuse the slots.
    fn drain(&mut self, f: &mut dyn FnMut(Event<'_>)) {
        if self.state != GateState::Follow || !self.path.appends() {
            return;
        }
        let from = self.follower.held;
        let (last_batch, stats) = (&mut self.last_batch, &mut self.stats);
        let held = self.path.drain(from, &mut |logged: Logged<'_>| {
            last_batch.note(logged.view, logged.round_tag, logged.leader_epoch);
            stats.logged_by_kernel += 1;
            let Logged { view, first, last, payload, .. } = logged;
            f(Event::Logged { view, first, last, payload });
        });
        if held != from {
            self.follower.held = held;
            self.path.release(held);
        }
    }

    /// Takes one batch of datagrams. `held_over`: the log was taken over from the kernel and is ours until
    /// the gate is opened again.
    fn receive(&mut self, f: &mut dyn FnMut(Event<'_>), held_over: &mut bool) -> Result<usize> {
        let n = self.socket.receive().map_err(Error::io("recvmmsg"))?;
        if n > 0 {
            let ring = self.socket.take_ring();
            let result = self.on_ring(&ring, n, false, f, held_over);
            self.socket.put_ring(ring);
            result?;
        }
        let Some(group) = &mut self.group_socket else { return Ok(n) };
        let m = group.receive().map_err(Error::io("recvmmsg"))?;
        let ring = group.take_ring();
        let result = self.on_ring(&ring, m, true, f, held_over);
        if let Some(group) = &mut self.group_socket {
            group.put_ring(ring);
        }
        result?;
        Ok(n.max(m))
    }

    /// `targeted`: the datagrams went to a group, and only those whose targets name us are for us.
    fn on_ring(
        &mut self,
        ring: &Ring,
        n: usize,
        targeted: bool,
        f: &mut dyn FnMut(Event<'_>),
        held_over: &mut bool,
    ) -> Result<()> {
        for i in 0..n {
            let (bytes, from) = ring.datagram(i);
            match wire::parse(bytes) {
                Ok((header, _))
                    if targeted && !ReplicaSet::from_mask(header.targets.get()).contains(self.config.me) => {}
                Ok((header, payload)) => self.on_datagram(header, payload, from, f, held_over)?,
                Err(_) => self.stats.malformed += 1,
            }
        }
        Ok(())
    }

    fn on_datagram(
        &mut self,
        header: &Header,
        payload: &[u8],
        from: SocketAddr,
        f: &mut dyn FnMut(Event<'_>),
        held_over: &mut bool,
    ) -> Result<()> {
        if let Err(verdict) = rules::admit_config(header, self.config.group, self.config.config_hash) {
            self.stats.refuse(verdict);
            f(Event::Misconfigured { from, config_hash: header.config_hash.get() });
            return Ok(());
        }
        let Some(kind) = header.kind() else { return Ok(()) };
        if kind == Kind::Message {
            let sender = header.sender().filter(|s| {
                self.config.members.get(s.index()).is_some_and(|home| rules::same_address(*home, from))
            });
            f(Event::Message { from, sender, incarnation: header.incarnation.get(), payload });
            return Ok(());
        }
        if let Err(verdict) = self.admit(kind, header, from, f) {
            self.stats.refuse(verdict);
            return Ok(());
        }
        match kind {
            Kind::PrepareOk => self.leader.on_ack(ReplicaId(header.sender), header),
            Kind::Prepare => self.on_prepare(header, payload, f, held_over)?,
            Kind::Commit | Kind::Message => {}
        }
        Ok(())
    }

    /// F2 to F4 and L2 for what reached user space; notes what every packet of the leader tells.
    fn admit(
        &mut self,
        kind: Kind,
        header: &Header,
        from: SocketAddr,
        f: &mut dyn FnMut(Event<'_>),
    ) -> std::result::Result<(), crate::abi::Verdict> {
        if let Err(verdict) = rules::admit_view(self.view, header.view()) {
            if verdict == crate::abi::Verdict::PassViewNew
                && let Some(sender) = header.sender()
            {
                f(Event::NewerView { view: header.view(), sender });
            }
            return Err(verdict);
        }
        rules::admit_gate(kind, self.state)?;
        let members = &self.config.members;
        if kind == Kind::PrepareOk {
            let expected = |peer: ReplicaId| self.incarnations[peer.index()];
            rules::admit_voter(self.config.me, members, expected, header, from)?;
            if !self.leader.is_for_us(self.view, header) {
                return Err(crate::abi::Verdict::DropVoteStale);
            }
        } else {
            rules::admit_leader(self.leader_id, members, header.sender, from)?;
            self.follower.commit = self.follower.commit.max(header.commit());
            self.last_leader_ns = crate::clock::monotonic_ns();
        }
        Ok(())
    }

    fn on_prepare(
        &mut self,
        header: &Header,
        payload: &[u8],
        f: &mut dyn FnMut(Event<'_>),
        held_over: &mut bool,
    ) -> Result<()> {
        self.drain(f);
        if self.follower.arrive(header, payload) == Arrival::Next {
            self.take_over(f, held_over)?;
            // The kernel may have logged it between the look and the freeze.
            if self.follower.arrive(header, payload) == Arrival::Next {
                self.append(header, payload, f);
            }
        }
        Ok(())
    }

    /// U8: two appenders never overlap. Freezes and drains, unless that was done in this poll.
    fn take_over(&mut self, f: &mut dyn FnMut(Event<'_>), held_over: &mut bool) -> Result<()> {
        if self.path.appends() && !*held_over {
            self.path.freeze()?;
            self.drain(f);
            *held_over = true;
            self.stats.taken_over += 1;
        }
        Ok(())
    }

    fn append(&mut self, header: &Header, payload: &[u8], f: &mut dyn FnMut(Event<'_>)) {
        self.last_batch.note(header.view(), header.round_tag.get(), header.leader_epoch());
        self.stats.logged_by_user += 1;
        f(Event::Logged { view: header.view(), first: header.first(), last: header.last(), payload });
        self.follower.take(header);
    }

    /// Appends early batches whose turn has come.
    fn close_gap(&mut self, f: &mut dyn FnMut(Event<'_>), held_over: &mut bool) -> Result<()> {
        if !self.follower.waits_for_gap() {
            return Ok(());
        }
        self.drain(f);
        while let Some((header, payload)) = self.follower.next_early() {
            self.take_over(f, held_over)?;
            if header.first() == self.follower.held.next() {
                self.append(&header, &payload, f);
            }
        }
        Ok(())
    }

    fn send_acks(&mut self) {
        let to = self.config.members[self.leader_id.index()];
        for header in self.follower.take_acks(self.config.me, self.config.incarnation) {
            let staged = self.socket.stage(&[header.as_bytes()]);
            self.socket.queue(&staged, to);
        }
    }

    /// Tells what follows from words rather than packets: quorums, commit numbers, gaps.
    fn tell(&mut self, f: &mut dyn FnMut(Event<'_>)) {
        match self.state {
            GateState::Lead => {
                let members = self.config.members.len();
                self.leader.recount(&*self.path, members, |done| {
                    f(Event::Quorum { first: done.first, last: done.last, tag: done.tag });
                });
            }
            GateState::Follow => {
                // F10: in this opening of the gate.
                let commit = self.follower.commit.max(self.path.commit_seen(self.epoch));
                self.follower.commit = commit;
                if commit > self.commit_told {
                    self.commit_told = commit;
                    f(Event::Commit { view: self.view, commit });
                }
                if let Some((have, missing)) = self.follower.take_gap() {
                    f(Event::Gap { have, missing });
                }
            }
            GateState::Frozen => {}
        }
    }

    /// U9: CLOCK_MONOTONIC nanoseconds of the last valid packet of the leader, whoever absorbed it.
    pub fn last_leader_ns(&self) -> u64 {
        self.last_leader_ns.max(self.path.last_leader_ns())
    }

    /// Rounds that wait for their quorum.
    pub fn rounds_in_flight(&self) -> usize {
        self.leader.in_flight()
    }

    /// Readiness: becomes readable when a datagram arrives or an armed doorbell rings.
    pub fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.wait)
    }

    /// Counters of socket, user space and kernel.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = self.stats.clone();
        stats.socket = self.socket.stats();
        stats.dropped_early = self.follower.dropped;
        stats.kernel = self.path.verdicts()?;
        Ok(stats)
    }
}

fn role_name(state: GateState) -> &'static str {
    match state {
        GateState::Frozen => "frozen",
        GateState::Follow => "following",
        GateState::Lead => "leading",
    }
}
