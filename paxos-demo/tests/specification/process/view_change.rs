//! View change: freeze, drain, vote; count votes; install the new view's log.

use super::{acknowledge_log, persist};
use crate::bounds::Bounds;
use crate::kernel;
use crate::network::{Offer, OfferKind, Vote};
use crate::plants::Plant;
use crate::state::{GateState, Id, Log, State, Status, View};

/// A replica leaves its view for a later one: it suspects the leader, or hears of others who do.
///
/// U3, in this order: freeze (U1; as a leader L8), drain (U2), persist the view (D3), set view and status, and
/// only then vote. One step here, because all that could come between is a crash, which is the same before or
/// after, or a program that was stopped, which the freeze defeats.
pub fn change_view(bounds: &Bounds, state: &mut State, at: Id, to: View) {
    let process = &state.at(at).process;
    let heard = state.network.votes().iter().any(|vote| vote.view == to);
    // U5: no vote while recovering.
    let may_vote = process.status != Status::Recovering || bounds.plant == Some(Plant::B3);
    if to <= process.view || !(heard || to == process.view + 1) || !may_vote {
        return;
    }
    if bounds.plant != Some(Plant::A4) {
        kernel::freeze(&mut state.at_mut(at).kernel);
    }
    kernel::drain(bounds, state, at);
    let replica = state.at_mut(at);
    if bounds.plant != Some(Plant::P3) {
        replica.disk.view = to;
    }
    replica.process.view = to;
    replica.process.status = Status::ViewChange;
    let vote = own_vote(bounds, state, at);
    state.network.send_vote(vote);
}

/// The vote of a replica as it stands. U4: the last normal view is a variable of its own.
fn own_vote(bounds: &Bounds, state: &State, at: Id) -> Vote {
    let process = &state.at(at).process;
    let of_last_entry = process.log.last().map_or(0, |value| value.view);
    let last_normal_view =
        if bounds.plant == Some(Plant::B1) { of_last_entry } else { process.last_normal_view };
    Vote { from: at, life: process.life, view: process.view, last_normal_view, log: process.log }
}

/// The votes of others with which a replica may become leader of the view that it voted for.
pub fn elections(bounds: &Bounds, state: &State, at: Id) -> Vec<Vec<Vote>> {
    let process = &state.at(at).process;
    // L11: a view counts only if it was voted for in this life, and is led once.
    let candidate = process.status == Status::ViewChange
        && state.leader(process.view) == at
        && state.network.votes().contains(&own_vote(bounds, state, at))
        && kernel::may_open(bounds, &state.at(at).kernel);
    if !candidate {
        return Vec::new();
    }
    let others: Vec<Vote> =
        state.network.votes().iter().filter(|v| v.view == process.view && v.from != at).copied().collect();
    choose(&others, state.quorum() - 1)
}

/// All ways to take `count` votes of different replicas.
fn choose(votes: &[Vote], count: usize) -> Vec<Vec<Vote>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut ways = Vec::new();
    for (index, vote) in votes.iter().enumerate() {
        for mut way in choose(&votes[index + 1..], count - 1) {
            if way.iter().all(|other| other.from != vote.from) {
                way.push(*vote);
                ways.push(way);
            }
        }
    }
    ways
}

/// A replica with a quorum of votes, its own among them, leads: with the longest log of the latest normal view.
/// What it inherits is not committed by that (L10), only by acks of the new view.
pub fn lead(bounds: &Bounds, state: &mut State, at: Id, others: &[Vote]) {
    let own = own_vote(bounds, state, at);
    let votes = others.iter().chain([&own]);
    let best = votes.max_by_key(|vote| (vote.last_normal_view, vote.log.last_op())).expect("its own vote");
    let process = &mut state.at_mut(at).process;
    process.log = best.log;
    process.last_normal_view = process.view;
    process.status = Status::Normal;
    process.opening = process.life;
    let offer =
        Offer { kind: OfferKind::Start, view: process.view, opening: process.opening, log: process.log };
    persist(bounds, state, at);
    kernel::open(bounds, state, at, GateState::Lead);
    state.network.send_offer(offer);
}

/// A replica takes over a log that the leader of a view offers: StartView or NewState.
pub fn install(bounds: &Bounds, state: &mut State, at: Id, offer: Offer) -> bool {
    let process = state.at(at).process;
    // U5: a recovering replica listens to answers only.
    let listens = state.leader(offer.view) != at && process.status != Status::Recovering;
    if !listens || !kernel::may_open(bounds, &state.at(at).kernel) {
        return false;
    }
    // U6: a higher view, or the own one while it is not normal.
    let new = offer.view > process.view || (offer.view == process.view && process.status != Status::Normal);
    let same = offer.view == process.view && process.status == Status::Normal;
    let again = match offer.kind {
        OfferKind::Start => bounds.plant == Some(Plant::P4),
        OfferKind::State => bounds.plant == Some(Plant::P5),
    };
    let append = same && offer.kind == OfferKind::State;
    if !(new || append || (same && again)) {
        return false;
    }
    kernel::freeze(&mut state.at_mut(at).kernel);
    kernel::drain(bounds, state, at);
    let own = state.at(at).process.log;
    let mut log = offer.log;
    if new && bounds.plant == Some(Plant::P7) && own.last_op() > 0 {
        let process = &mut state.at_mut(at).process;
        (process.log, process.view, process.status) = (Log::default(), offer.view, Status::ViewChange);
        return true;
    }
    if append && !again && log.last_op() <= own.last_op() {
        // A NewState of the same view only appends.
        return false;
    }
    if new && bounds.plant == Some(Plant::B2) && offer.kind == OfferKind::State {
        log = own;
        offer.log.iter().skip(own.last_op().into()).for_each(|value| log.append(value));
    }
    // U6: log, status and last normal view change together.
    let process = &mut state.at_mut(at).process;
    process.log = log;
    process.view = offer.view;
    process.last_normal_view = offer.view;
    process.opening = offer.opening;
    process.status = Status::Normal;
    if bounds.plant == Some(Plant::P6) {
        // The log waits for the next sync.
        let disk = &mut state.at_mut(at).disk;
        (disk.view, disk.last_normal_view) = (offer.view, offer.view);
        kernel::open(bounds, state, at, GateState::Follow);
        return true;
    }
    persist(bounds, state, at);
    kernel::open(bounds, state, at, GateState::Follow);
    acknowledge_log(state, at);
    true
}
