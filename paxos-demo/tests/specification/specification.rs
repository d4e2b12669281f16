//! The transition system: which steps there are in a state.

use stateright::{Model, Property};

use crate::bounds::Bounds;
use crate::network::{Answer, Offer, Prepare, Vote};
use crate::process::{normal, recovery, view_change};
use crate::state::{Id, State, View};
use crate::{kernel, properties};

pub struct Specification {
    pub bounds: Bounds,
}

/// One step of one half of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Kernel: a Prepare arrives.
    Arrive { at: Id, prepare: Prepare },
    /// Kernel: a stopped program goes on.
    Run { at: Id, cpu: usize },
    /// Leader: gives the next op a value.
    Propose { at: Id },
    /// Process: drains the kernel's log.
    Drain { at: Id },
    /// Process: takes the log over and appends a Prepare itself.
    TakeOver { at: Id, prepare: Prepare },
    /// Process: drains, syncs, acks.
    Sync { at: Id },
    /// Process: freezes, drains and votes.
    ChangeView { at: Id, to: View },
    /// Process: has the votes and leads.
    Lead { at: Id, with: Vec<Vote> },
    /// Process: installs a log.
    Install { at: Id, offer: Offer },
    /// Dies and comes back.
    Restart { at: Id },
    /// Process: answers one that recovers.
    Answer { from: Id, to: Id },
    /// Process: has the answers and is normal again.
    Recover { at: Id, answer: Answer },
}

impl Model for Specification {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::formed(self.bounds.replicas, self.bounds.restarts)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let bounds = &self.bounds;
        for at in state.ids() {
            for &prepare in state.network.prepares() {
                actions.push(Action::Arrive { at, prepare });
                if bounds.slow_path {
                    actions.push(Action::TakeOver { at, prepare });
                }
            }
            actions.extend((0..bounds.cpus).map(|cpu| Action::Run { at, cpu }));
            actions.push(Action::Propose { at });
            if bounds.slots < bounds.ops.into() {
                actions.push(Action::Drain { at });
            }
            if bounds.is_disk() {
                actions.push(Action::Sync { at });
            }
            actions.extend((1..bounds.views).map(|to| Action::ChangeView { at, to }));
            let elections = view_change::elections(bounds, state, at);
            actions.extend(elections.into_iter().map(|with| Action::Lead { at, with }));
            actions.extend(state.network.offers().iter().map(|&offer| Action::Install { at, offer }));
            if state.restarts_left > 0 {
                actions.push(Action::Restart { at });
            }
            if bounds.restarts > 0 && !bounds.is_disk() {
                actions.extend(state.ids().map(|to| Action::Answer { from: at, to }));
                let answers = state.network.answers().iter();
                actions.extend(answers.map(|&answer| Action::Recover { at, answer }));
            }
        }
    }

    /// The step, if it changes anything.
    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let bounds = &self.bounds;
        let mut state = last.clone();
        match action {
            Action::Arrive { at, prepare } => kernel::arrive(bounds, &mut state, at, prepare),
            Action::Run { at, cpu } => kernel::run(bounds, &mut state, at, cpu),
            Action::Propose { at } => normal::propose(bounds, &mut state, at),
            Action::Drain { at } => normal::drain(bounds, &mut state, at),
            Action::TakeOver { at, prepare } => {
                if !normal::take_over(bounds, &mut state, at, prepare) {
                    return None;
                }
            }
            Action::Sync { at } => normal::sync(bounds, &mut state, at),
            Action::ChangeView { at, to } => view_change::change_view(bounds, &mut state, at, to),
            Action::Lead { at, with } => view_change::lead(bounds, &mut state, at, &with),
            Action::Install { at, offer } => {
                if !view_change::install(bounds, &mut state, at, offer) {
                    return None;
                }
            }
            Action::Restart { at } => recovery::restart(bounds, &mut state, at),
            Action::Answer { from, to } => recovery::answer(&mut state, from, to),
            Action::Recover { at, answer } => recovery::recover(bounds, &mut state, at, answer),
        }
        normal::commit(bounds, &mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(&self.bounds)
    }
}
