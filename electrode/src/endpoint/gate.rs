//! The gate: freeze, drain, open (U1, U2, U6).

use super::{Endpoint, Event, role_name};
use crate::backend::Opening;
use crate::error::{Error, Result};
use crate::types::{Epoch, OpNumber, ReplicaId, View};
use crate::words::GateState;

/// The switch over the kernel's fast path; from [`Endpoint::gate`].
///
/// A view change freezes first. What the freeze hands over is all that this replica ever acknowledged; only
/// then may it vote, and only with a new opening is anything acknowledged or counted again.
pub struct Gate<'a>(pub(super) &'a mut Endpoint);

impl Gate<'_> {
    /// What the gate lets the kernel do.
    pub fn state(&self) -> GateState {
        self.0.state
    }

    /// Number of the last opening.
    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    /// Ends appends (U1) and hands over everything that was acknowledged (U2). Returns the last op held.
    pub fn freeze(&mut self, f: &mut dyn FnMut(Event<'_>)) -> Result<OpNumber> {
        let endpoint = &mut *self.0;
        endpoint.path.freeze()?;
        endpoint.drain(f);
        endpoint.keep_words();
        endpoint.state = GateState::Frozen;
        Ok(endpoint.follower.held)
    }

    /// Opens as leader of `view`, holding ops up to `last_op` (U6, L8: a new epoch, no votes).
    pub fn lead(&mut self, view: View, last_op: OpNumber) -> Result<Epoch> {
        let me = self.0.config.me;
        self.open(GateState::Lead, view, me, last_op)
    }

    /// Opens as follower of `leader` in `view`, holding ops up to `last_op` (U6).
    pub fn follow(&mut self, view: View, leader: ReplicaId, last_op: OpNumber) -> Result<Epoch> {
        self.open(GateState::Follow, view, leader, last_op)
    }

    fn open(&mut self, state: GateState, view: View, leader: ReplicaId, last_op: OpNumber) -> Result<Epoch> {
        let endpoint = &mut *self.0;
        if endpoint.state != GateState::Frozen {
            // Opening over an open gate would lose what was acknowledged and not yet drained.
            let is = role_name(endpoint.state);
            return Err(Error::Role { what: "opening the gate", needs: "be frozen", is });
        }
        if leader.index() >= endpoint.config.members.len() {
            return Err(Error::Config(format!("leader {leader} is no member")));
        }
        // U9: an opening in the same view makes nothing new of what was heard in it before.
        let same_view = endpoint.epoch != Epoch(0) && (endpoint.view, endpoint.leader_id) == (view, leader);
        endpoint.hearing.open(same_view, leader, last_op);
        (endpoint.state, endpoint.view, endpoint.leader_id) = (state, view, leader);
        endpoint.leader.restart(endpoint.next_epoch());
        endpoint.follower.restart(last_op);
        endpoint.commit_told = OpNumber(0);
        if let Err(e) = endpoint.reopen(true) {
            endpoint.state = GateState::Frozen;
            return Err(e);
        }
        Ok(endpoint.epoch)
    }
}

impl Endpoint {
    /// A new opening at the op that is held. `fresh`: as something else than before.
    pub(super) fn reopen(&mut self, fresh: bool) -> Result<()> {
        if !fresh {
            self.keep_words();
        }
        self.epoch = self.next_epoch();
        self.path.open(&Opening {
            state: self.state,
            epoch: self.epoch,
            view: self.view,
            leader: self.leader_id,
            tail: self.follower.held,
            fresh,
            heard: self.hearing.leader(),
        })?;
        self.tell_durable();
        Ok(())
    }

    fn next_epoch(&self) -> Epoch {
        let again = self.plants.same_epoch && self.epoch != Epoch(0);
        if again { self.epoch } else { self.epoch.next() }
    }

    /// F8: what is durable is tagged with the epoch too.
    pub(super) fn tell_durable(&mut self) {
        if let Some(durable) = self.follower.durable().filter(|op| op.0 > 0) {
            self.path.durable(self.epoch, durable);
        }
    }

    /// F10, U9: what the kernel has heard is tagged with the epoch and would end with it.
    fn keep_words(&mut self) {
        self.follower.commit = self.follower.commit.max(self.path.commit_seen(self.epoch));
        self.hearing.keep(self.path.heard(self.epoch));
    }
}
