//! Normal operation: proposing, draining, appending by hand, syncing, counting.

use super::acknowledge_log;
use crate::bounds::{Bounds, Durability};
use crate::kernel;
use crate::network::{Offer, OfferKind, Prepare};
use crate::plants::Plant;
use crate::state::{Commit, GateState, Id, Op, State, Status, Value};

pub fn leads(state: &State, at: Id) -> bool {
    let replica = state.at(at);
    replica.process.status == Status::Normal && replica.kernel.gate.state == GateState::Lead
}

fn follows(state: &State, at: Id) -> bool {
    let replica = state.at(at);
    replica.process.status == Status::Normal && replica.kernel.gate.state == GateState::Follow
}

/// The leader gives the next op a value. (The barrier with which a new leader begins is such an op.)
pub fn propose(bounds: &Bounds, state: &mut State, at: Id) {
    let process = state.at(at).process;
    let op = process.log.last_op() + 1;
    if !leads(state, at) || op > bounds.ops {
        return;
    }
    let (view, opening) = (process.view, process.opening);
    let value = Value { op, view, life: process.life };
    state.at_mut(at).process.log.append(value);
    state.network.send_prepare(Prepare { from: at, view, opening, op, value });
    if bounds.state_transfer {
        let log = state.at(at).process.log;
        state.network.send_offer(Offer { kind: OfferKind::State, view, opening, log });
    }
}

/// The process looks at the kernel's log and releases what it took.
pub fn drain(bounds: &Bounds, state: &mut State, at: Id) {
    kernel::drain(bounds, state, at);
}

/// U8: a Prepare that the kernel passed up. The log is taken over (freeze, drain), appended to and reopened, so
/// that there is one appender at a time.
pub fn take_over(bounds: &Bounds, state: &mut State, at: Id, prepare: Prepare) -> bool {
    let process = &state.at(at).process;
    let ours = (prepare.from, prepare.view) == (state.leader(process.view), process.view);
    if !follows(state, at) || !ours || !kernel::may_open(bounds, &state.at(at).kernel) {
        return false;
    }
    if bounds.plant != Some(Plant::A5) {
        kernel::freeze(&mut state.at_mut(at).kernel);
        kernel::drain(bounds, state, at);
    }
    let log = &mut state.at_mut(at).process.log;
    if prepare.op != log.last_op() + 1 {
        return false;
    }
    log.append(prepare.value);
    if bounds.plant != Some(Plant::A5) {
        kernel::open(bounds, state, at, GateState::Follow);
    }
    if bounds.durability == Durability::Memory {
        acknowledge_log(state, at);
    }
    true
}

/// `disk` mode: drain, sync, and one ack for all of it.
pub fn sync(bounds: &Bounds, state: &mut State, at: Id) {
    if state.at(at).process.status != Status::Normal {
        return;
    }
    kernel::drain(bounds, state, at);
    let replica = state.at_mut(at);
    replica.disk.log = replica.process.log;
    acknowledge_log(state, at);
}

/// L4: what a leader can commit now. It happens as soon as it can, as part of the step that made it possible:
/// no message depends on it, so a leader that counts later commits nothing that this one does not.
pub fn commit(bounds: &Bounds, state: &mut State) {
    for leader in state.ids() {
        if !leads(state, leader) {
            continue;
        }
        let replica = *state.at(leader);
        let (view, opening) = (replica.process.view, replica.process.opening);
        let log = replica.process.log;
        for (op, value) in (1..).zip(log.iter()) {
            let own = bounds.durability == Durability::Memory || replica.disk.log.last_op() >= op;
            let votes = usize::from(own) + voters(bounds, state, leader, op);
            let enough = if bounds.plant == Some(Plant::A6) { 2 } else { state.quorum() };
            let commit = Commit { op, value, view, opening };
            if votes >= enough
                && let Err(place) = state.committed.binary_search(&commit)
            {
                state.committed.insert(place, commit);
            }
        }
    }
}

/// L2: other members whose acks count, each once.
fn voters(bounds: &Bounds, state: &State, leader: Id, op: Op) -> usize {
    let process = &state.at(leader).process;
    let mut voters: Vec<Id> = state
        .network
        .acks()
        .iter()
        .filter(|ack| (ack.view, ack.opening) == (process.view, process.opening) && ack.op >= op)
        .filter(|ack| ack.from != leader && ack.life >= state.fence(leader, ack.from))
        .filter(|ack| bounds.plant == Some(Plant::A7) || (ack.genuine && ack.from < state.size()))
        .map(|ack| ack.from)
        .collect();
    voters.dedup();
    voters.len()
}
