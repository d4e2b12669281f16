//! What must hold in every state (C1 to C8), and what must happen somewhere, or nothing was searched.

use stateright::Property;

use crate::bounds::Bounds;
use crate::network::{Ack, Vote};
use crate::specification::Specification;
use crate::state::{GateState, Kernel, Log, Op, Replica, State, Status, Value, View};

pub const C1: &str = "C1 one value per committed op";
pub const C1_KEPT: &str = "C1 what is committed is kept";
pub const C2: &str = "C2 what is acked is held";
pub const C3: &str = "C3 what was acked is in the vote";
pub const C4: &str = "C4 what is committed has a quorum";
pub const C5: &str = "C5 one leader commits in a view";
pub const C6: &str = "C6 logs have no holes";
pub const C8: &str = "C8 what was acked is in the drain";

pub const LATER_COMMIT: &str = "something is committed in the last view";
pub const INHERITED: &str = "an inherited op is committed";
pub const CUT_OFF: &str = "a freeze cuts off an append";
pub const RETURNED: &str = "a replica that crashed acks again";

/// What a search within these bounds must show.
pub fn all(bounds: &Bounds) -> Vec<Property<Specification>> {
    let mut all = vec![
        Property::always(C1, |_, state| one_value_per_committed_op(state)),
        Property::always(C1_KEPT, |_, state| committed_is_kept(state)),
        Property::always(C2, |model: &Specification, state| acked_is_held(state, model.bounds.is_disk())),
        Property::always(C3, |_, state| acked_is_in_the_vote(state)),
        Property::always(C4, |_, state| committed_has_a_quorum(state)),
        Property::always(C5, |_, state| one_leader_commits_in_a_view(state)),
        Property::always(C6, |_, state| logs_have_no_holes(state)),
        Property::always(C8, |_, state| acked_is_in_the_drain(state)),
        Property::sometimes(LATER_COMMIT, |model: &Specification, state: &State| {
            state.committed.iter().any(|commit| commit.view + 1 == model.bounds.views)
        }),
        Property::sometimes(INHERITED, |_, state: &State| {
            state.committed.iter().any(|commit| commit.view > commit.value.view)
        }),
    ];
    if bounds.cpus > 0 {
        all.push(Property::sometimes(CUT_OFF, |_, state: &State| {
            let frozen = |kernel: &Kernel| kernel.gate.state == GateState::Frozen && kernel.gate.busy;
            state.replicas.iter().any(|replica| frozen(&replica.kernel))
        }));
    }
    if bounds.restarts > 0 {
        all.push(Property::sometimes(RETURNED, |_, state: &State| {
            state.network.acks().iter().any(|ack| ack.life > 1)
        }));
    }
    all
}

fn one_value_per_committed_op(state: &State) -> bool {
    let values = |op: Op| state.committed.iter().filter(move |c| c.op == op).map(|commit| commit.value);
    state.committed.iter().all(|commit| values(commit.op).all(|value| value == commit.value))
}

/// Whoever leads a later view has it, and nobody in the same view has something else.
fn committed_is_kept(state: &State) -> bool {
    let keeps = |replica: &Replica| {
        let normal = replica.process.status == Status::Normal;
        let leads = replica.kernel.gate.state == GateState::Lead;
        state.committed.iter().all(|commit| {
            let value = replica.process.log.get(commit.op);
            let holds = value == Some(commit.value);
            let later = normal && leads && replica.process.view > commit.view;
            let same = normal && replica.process.view == commit.view;
            (!later || holds) && (!same || holds || value.is_none())
        })
    };
    state.replicas.iter().all(keeps)
}

/// As long as a replica lives in the view in which it acked, it holds what it acked.
fn acked_is_held(state: &State, disk: bool) -> bool {
    genuine(state).all(|ack| {
        let replica = state.at(ack.from);
        let there = replica.process.status == Status::Normal
            && (replica.process.view, replica.process.life) == (ack.view, ack.life);
        let held = |op| if disk { replica.disk.log.get(op) } else { held(replica, op) };
        !there || (1..=ack.op).all(|op| held(op) == ordered(state, ack, op))
    })
}

/// A vote has all that its replica acked in its last normal view; and nothing is acked in a view between that one
/// and the one voted for. Whether the ack or the vote came first does not matter.
fn acked_is_in_the_vote(state: &State) -> bool {
    let fits = |ack: &Ack, vote: &Vote| {
        if ack.from != vote.from || ack.view >= vote.view || ack.view < vote.last_normal_view {
            return true;
        }
        let has = |op| vote.log.get(op) == ordered(state, ack, op);
        ack.view == vote.last_normal_view && (1..=ack.op).all(has)
    };
    state.network.votes().iter().all(|vote| genuine(state).all(|ack| fits(ack, vote)))
}

fn committed_has_a_quorum(state: &State) -> bool {
    state.committed.iter().all(|commit| {
        let acked = |ack: &&Ack| {
            (ack.view, ack.opening) == (commit.view, commit.opening)
                && ack.op >= commit.op
                && ack.from != state.leader(commit.view)
        };
        let mut voters: Vec<_> = genuine(state).filter(acked).map(|ack| ack.from).collect();
        voters.dedup();
        voters.len() + 1 >= state.quorum()
    })
}

fn one_leader_commits_in_a_view(state: &State) -> bool {
    let opening = |view: View| state.committed.iter().find(|c| c.view == view).map(|commit| commit.opening);
    state.committed.iter().all(|commit| opening(commit.view) == Some(commit.opening))
}

fn logs_have_no_holes(state: &State) -> bool {
    let whole = |log: Log| (1..).zip(log.iter()).all(|(op, value)| value.op == op);
    state.replicas.iter().all(|replica| whole(replica.process.log))
}

/// Once a replica has frozen its gate and drained, nothing that it acked in its last normal view is missing.
fn acked_is_in_the_drain(state: &State) -> bool {
    genuine(state).all(|ack| {
        let Replica { kernel, process, .. } = state.at(ack.from);
        let drained = process.status == Status::ViewChange && kernel.gate.state == GateState::Frozen;
        let concerns = drained && process.last_normal_view == ack.view;
        !concerns || (1..=ack.op).all(|op| process.log.get(op) == ordered(state, ack, op))
    })
}

fn genuine(state: &State) -> impl Iterator<Item = &Ack> {
    state.network.acks().iter().filter(|ack| ack.genuine)
}

fn ordered(state: &State, ack: &Ack, op: Op) -> Option<Value> {
    // Nothing ordered there: the ack promises what nobody asked for, and no log can hold it.
    const NOTHING: Value = Value { op: 0, view: 0, life: 0 };
    state.network.ordered(ack.view, ack.opening, op).or(Some(NOTHING))
}

/// What a replica holds of an op, drained or not.
fn held(replica: &Replica, op: Op) -> Option<Value> {
    let in_kernel = || replica.kernel.slots.iter().flatten().map(|slot| slot.value).find(|v| v.op == op);
    replica.process.log.get(op).or_else(in_kernel)
}
