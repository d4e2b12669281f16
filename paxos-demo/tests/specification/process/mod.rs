//! The process half: what user space does around the kernel.

pub mod normal;
pub mod recovery;
pub mod view_change;

use crate::bounds::{Bounds, Durability};
use crate::network::Ack;
use crate::state::{Id, State};

/// U7: an ack that user space sends for all of its log.
fn acknowledge_log(state: &mut State, at: Id) {
    let process = state.at(at).process;
    let op = process.log.last_op();
    if op > 0 && at != state.leader(process.view) {
        let (life, view, opening) = (process.life, process.view, process.opening);
        state.network.send_ack(Ack { from: at, life, view, opening, op, genuine: true });
    }
}

/// D3: view state is on disk before anyone hears of it; in `disk` mode the log too.
fn persist(bounds: &Bounds, state: &mut State, at: Id) {
    let replica = state.at_mut(at);
    replica.disk.view = replica.process.view;
    replica.disk.last_normal_view = replica.process.last_normal_view;
    if bounds.durability == Durability::Disk {
        replica.disk.log = replica.process.log;
    }
}
