//! Crash, restart and recovery (D4).

use super::{acknowledge_log, persist};
use crate::bounds::{Bounds, Durability};
use crate::kernel;
use crate::network::Answer;
use crate::plants::Plant;
use crate::state::{GateState, Id, Kernel, Life, Log, Process, State, Status};

/// A replica dies and comes back as its next life. One step: a dead replica does nothing, and so does one that
/// is not scheduled. The kernel's programs die with the process; programs that outlive it for a moment are those
/// of a process that is not scheduled either, as long as the next life waits for their end (D4).
pub fn restart(bounds: &Bounds, state: &mut State, at: Id) {
    if state.restarts_left == 0 {
        return;
    }
    state.restarts_left -= 1;
    let leader = state.leader(state.at(at).disk.view) == at;
    let replica = state.at_mut(at);
    replica.disk.life += 1;
    if bounds.plant != Some(Plant::P9) {
        replica.kernel = Kernel::default();
    }
    let disk = replica.disk;
    let entered = disk.view == disk.last_normal_view;
    let resumes = match bounds.plant {
        Some(Plant::A17) => true,
        Some(Plant::P11) => leader,
        // `disk` mode loses nothing that was acked: a follower goes on. L11: a leader does not.
        _ => bounds.durability == Durability::Disk && entered && !leader,
    };
    let status = match bounds.durability {
        _ if resumes => Status::Normal,
        Durability::Disk => Status::ViewChange,
        Durability::Memory => Status::Recovering,
    };
    let log = match bounds.durability {
        Durability::Disk => disk.log,
        Durability::Memory => Log::default(),
    };
    let opening = if leader { disk.life } else { replica.process.opening };
    replica.process = Process {
        status,
        view: disk.view,
        last_normal_view: disk.last_normal_view,
        life: disk.life,
        opening,
        log,
    };
    if resumes {
        kernel::open(bounds, state, at, if leader { GateState::Lead } else { GateState::Follow });
    }
}

/// A normal replica answers one that recovers. From then on it counts acks of the new life only, see
/// [`State::fence`]. (Everybody is asked again and again: the question is no message of the model.)
pub fn answer(state: &mut State, from: Id, to: Id) {
    let (process, asker) = (state.at(from).process, state.at(to).process);
    if process.status != Status::Normal || asker.status != Status::Recovering || from == to {
        return;
    }
    let leads = state.leader(process.view) == from;
    let answer = Answer {
        from,
        to,
        life: asker.life,
        view: process.view,
        opening: process.opening,
        log: leads.then_some(process.log),
    };
    state.network.send_answer(answer);
}

/// Recovery ends with answers of f+1 replicas, among them the leader of the highest view that they name, which
/// is at least the persisted one.
pub fn recover(bounds: &Bounds, state: &mut State, at: Id, answer: Answer) {
    let replica = state.at(at);
    let ours = |other: &&Answer| (other.to, other.life) == (at, replica.process.life);
    let Some(log) = answer.log.filter(|_| ours(&&answer)) else { return };
    if replica.process.status != Status::Recovering || answer.view < replica.disk.view {
        return;
    }
    let mut others: Vec<Id> = state
        .network
        .answers()
        .iter()
        .filter(ours)
        .filter(|other| other.from != answer.from && other.view <= answer.view)
        .map(|other| other.from)
        .collect();
    others.dedup();
    if others.len() + 1 < state.quorum() {
        return;
    }
    let process = &mut state.at_mut(at).process;
    process.log = log;
    process.view = answer.view;
    process.last_normal_view = answer.view;
    process.opening = answer.opening;
    process.status = Status::Normal;
    persist(bounds, state, at);
    kernel::open(bounds, state, at, GateState::Follow);
    acknowledge_log(state, at);
}

impl State {
    /// The life from which on a leader counts a replica's acks: it has answered this one's Recovery (D4).
    pub fn fence(&self, leader: Id, replica: Id) -> Life {
        let answers = self.network.answers().iter();
        answers.filter(|a| (a.from, a.to) == (leader, replica)).map(|a| a.life).max().unwrap_or(1)
    }
}
