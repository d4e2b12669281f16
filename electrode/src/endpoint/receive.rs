//! What an endpoint makes of packets that no kernel program took, by the same rules ([`crate::rules`]).

use std::net::SocketAddr;

use super::follower::Arrival;
use super::{Endpoint, Event};
use crate::abi::{Header, Kind, OP_BITS, Verdict};
use crate::auth;
use crate::backend::Logged;
use crate::error::{Error, Result};
use crate::net::socket::{Received, Ring};
use crate::rules;
use crate::types::{ReplicaId, ReplicaSet};
use crate::wire;
use crate::words::GateState;

impl Endpoint {
    /// Hands over the kernel's log (U2) and lets it reuse the slots.
    pub(super) fn drain(&mut self, f: &mut dyn FnMut(Event<'_>)) {
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
    pub(super) fn receive(&mut self, f: &mut dyn FnMut(Event<'_>), held_over: &mut bool) -> Result<Received> {
        let received = self.socket.receive().map_err(Error::io("recvmmsg"))?;
        if received.datagrams > 0 {
            let ring = self.socket.take_ring();
            let result = self.on_ring(&ring, false, f, held_over);
            self.socket.put_ring(ring);
            result?;
        }
        let Some(group) = &mut self.group_socket else { return Ok(received) };
        let of_group = group.receive().map_err(Error::io("recvmmsg"))?;
        if of_group.datagrams > 0 {
            let ring = group.take_ring();
            let result = self.on_ring(&ring, true, f, held_over);
            if let Some(group) = &mut self.group_socket {
                group.put_ring(ring);
            }
            result?;
        }
        Ok(Received {
            datagrams: received.datagrams + of_group.datagrams,
            more: received.more || of_group.more,
        })
    }

    /// `targeted`: the datagrams went to a group, and only those whose targets name us are for us.
    fn on_ring(
        &mut self,
        ring: &Ring,
        targeted: bool,
        f: &mut dyn FnMut(Event<'_>),
        held_over: &mut bool,
    ) -> Result<()> {
        for i in 0..ring.len() {
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
        self.note_heard(header);
        let ours = self.config.wire_hash();
        if let Err(verdict) = rules::admit_config(header, self.config.group, ours) {
            self.stats.refuse(verdict);
            let config_hash = header.config_hash.get();
            let keys_differ = auth::differ_by_keys(config_hash, ours);
            f(Event::Misconfigured { from, config_hash, keys_differ });
            return Ok(());
        }
        let Some(kind) = header.kind() else { return Ok(()) };
        if let Err(verdict) = self.admit_name(header, payload) {
            self.stats.refuse(verdict);
            return Ok(());
        }
        if kind == Kind::Message {
            let sender = header.sender().filter(|sender| self.lives_at(*sender, from));
            let (incarnation, count) = (header.incarnation.get(), header.round_tag.get());
            if sender.is_some() && count >> OP_BITS != 0 {
                // Commits are counted along with messages, and in a tagged word (U9).
                self.stats.refuse(Verdict::PassMalformed);
                return Ok(());
            }
            let fresh = sender.is_some_and(|sender| {
                let expected = self.incarnations[sender.index()];
                if rules::incarnation_counts(expected, incarnation) {
                    self.hearing.is_new_message(sender, count)
                } else {
                    incarnation > expected && self.hearing.is_new_of_stranger(sender, incarnation, count)
                }
            });
            f(Event::Message { from, sender, incarnation, fresh, payload });
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

    /// By its word: a member's name may be a stranger's, and is counted as a member's.
    fn note_heard(&mut self, header: &Header) {
        match header.kind() {
            Some(Kind::Message) if usize::from(header.sender) >= self.config.members.len() => {
                self.stats.heard.outside += 1;
            }
            Some(kind) => self.stats.heard.note(kind, 1),
            None => {}
        }
    }

    fn lives_at(&self, member: ReplicaId, from: SocketAddr) -> bool {
        self.config.members.get(member.index()).is_some_and(|home| rules::same_address(*home, from))
    }

    /// F4 for whatever claims to be a member's: it is not our own come back, and with keys its tag is right.
    fn admit_name(&self, header: &Header, payload: &[u8]) -> std::result::Result<(), Verdict> {
        if usize::from(header.sender) >= self.config.members.len() {
            return Ok(());
        }
        if header.sender == self.config.me.0 {
            return Err(Verdict::DropSource);
        }
        self.config.keys.as_ref().map_or(Ok(()), |keys| keys.admit(self.config.me, header, payload))
    }

    /// F2 to F4 and L2 for what reached user space; notes what every packet of the leader tells.
    fn admit(
        &mut self,
        kind: Kind,
        header: &Header,
        from: SocketAddr,
        f: &mut dyn FnMut(Event<'_>),
    ) -> std::result::Result<(), Verdict> {
        if let Err(verdict) = rules::admit_view(self.view, header.view()) {
            // A member's word, from a member's address and the life that it has now: otherwise a stranger, or what was
            // kept of an earlier founding of the group, could keep us asking.
            if verdict == Verdict::PassViewNew
                && let Some(sender) = header.sender()
                && self.lives_at(sender, from)
                && rules::incarnation_counts(self.incarnations[sender.index()], header.incarnation.get())
            {
                f(Event::NewerView { view: header.view(), sender });
            }
            return Err(verdict);
        }
        rules::admit_gate(kind, self.state)?;
        let members = &self.config.members;
        let expected = |peer: ReplicaId| self.incarnations[peer.index()];
        if kind == Kind::PrepareOk {
            rules::admit_voter(self.config.me, members, expected, header, from)?;
            if !self.leader.is_for_us(self.view, header) {
                return Err(Verdict::DropVoteStale);
            }
        } else {
            rules::admit_leader(self.leader_id, members, expected, header, from)?;
            self.follower.commit = self.follower.commit.max(header.commit());
            self.hearing.keep(self.path.heard(self.epoch));
            if self.hearing.is_new_of_leader(header) {
                self.last_leader_ns = self.clock.now_ns();
            }
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
        if self.path.appends() && !*held_over && !self.plants.append_beside_kernel {
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
    pub(super) fn close_gap(&mut self, f: &mut dyn FnMut(Event<'_>), held_over: &mut bool) -> Result<()> {
        // What waits since before the gate was frozen belongs to a view that this replica has left: logged and
        // acknowledged now it would be missing in the vote (U1, C3).
        if self.state != GateState::Follow || !self.follower.waits_for_gap() {
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
}
