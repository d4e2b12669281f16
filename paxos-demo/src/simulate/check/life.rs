//! C3, C5 and C11: lives, votes and openings, and what is on disk for them.

use electrode::types::{OpNumber, View};

use super::super::disk::Disk;
use super::witness::{Witness, values};
use super::{Checked, Checker, Order, Violation};
use crate::config::Durability;
use crate::peer::{PeerMessage, Vote};

impl Checker {
    /// A new life begins with what is on disk.
    pub(in super::super) fn born(&mut self, node: usize, life: u32, disk: &Disk) -> Checked {
        self.coverage.lives += 1;
        let before = std::mem::take(&mut self.witnesses[node]);
        let witness = &mut self.witnesses[node];
        *witness = Witness { life, whole: disk.state.is_none(), ..Witness::default() };
        let Some((_, last_normal_view)) = disk.state else { return Ok(()) };
        witness.last_normal_view = last_normal_view;
        if self.durability == Durability::Memory {
            return Ok(());
        }
        witness.whole = true;
        witness.promised = before.promised;
        let snapshot = disk.snapshot.as_ref().map_or(0, |(op, _)| op.0 as usize);
        witness.log = self.committed[..snapshot].iter().map(|op| op.value).collect();
        for entry in &disk.log {
            for (op, value) in (entry.first.0..).zip(values(&entry.payload)) {
                if op == witness.log.len() as u64 + 1 {
                    witness.log.push(value.value);
                }
            }
        }
        self.follows_order(node, "C11", last_normal_view)
    }

    /// Whether a replica has a state to vote with.
    pub(in super::super) fn is_whole(&self, node: usize) -> bool {
        self.witnesses[node].whole
    }

    /// The log is what the leader of `view` ordered, as far as it goes, and all that the view began with.
    fn follows_order(&self, node: usize, checker: &'static str, view: View) -> Checked {
        let Some(order) = self.orders.get(&view) else { return Ok(()) };
        let log = &self.witnesses[node].log;
        let differs = log.iter().zip(&order.values).position(|(held, ordered)| held != ordered);
        if differs.is_none() && log.len() <= order.values.len() && log.len() >= order.inherited {
            return Ok(());
        }
        let what = format!(
            "says that it was normal in view {view}; its log ends at op {}, the view began with {} ops and ended \
             at op {}, first difference at {differs:?}",
            log.len(),
            order.inherited,
            order.values.len()
        );
        Err(Violation::new(checker, node, what))
    }

    /// A message to another replica.
    pub(in super::super) fn says(&mut self, node: usize, message: &PeerMessage, disk: &Disk) -> Checked {
        match message {
            PeerMessage::StartViewChange { view } => self.leaves_for(node, *view, disk),
            PeerMessage::DoViewChange { view, vote } => {
                self.leaves_for(node, *view, disk)?;
                self.votes(node, *vote)
            }
            _ => Ok(()),
        }
    }

    /// D3, U5: what is promised with a view is on disk, and by somebody who has a state.
    fn leaves_for(&mut self, node: usize, view: View, disk: &Disk) -> Checked {
        let witness = &mut self.witnesses[node];
        if !witness.whole {
            let what = format!("leaves for view {view} while it recovers");
            return Err(Violation::new("C3", node, what));
        }
        if disk.state.is_none_or(|(saved, _)| saved < view) {
            let what = format!("leaves for view {view}, its disk says {:?}", disk.state);
            return Err(Violation::new("C11", node, what));
        }
        if witness.voted.is_none_or(|(voted, _)| voted < view) {
            witness.voted = Some((view, OpNumber(witness.log.len() as u64)));
        }
        Ok(())
    }

    /// C3: a vote is what its sender holds, and holds what it acknowledged.
    fn votes(&mut self, node: usize, vote: Vote) -> Checked {
        let witness = &self.witnesses[node];
        let Vote { last_normal_view, last_op, .. } = vote;
        let bad = |what: String| Err(Violation::new("C3", node, what));
        if last_normal_view != witness.last_normal_view {
            return bad(format!(
                "votes as last normal in view {last_normal_view}, it was so in view {}",
                witness.last_normal_view
            ));
        }
        if last_op.0 as usize != witness.log.len() {
            return bad(format!("votes with ops up to {last_op}, it holds {}", witness.log.len()));
        }
        let (view, op) = witness.promised;
        if view == last_normal_view && op > last_op {
            return bad(format!("votes with ops up to {last_op}; in view {view} it acknowledged op {op}"));
        }
        self.follows_order(node, "C3", last_normal_view)
    }

    /// The replica opens its gate.
    pub(in super::super) fn opens(
        &mut self,
        node: usize,
        leads: bool,
        view: View,
        last: OpNumber,
        disk: &Disk,
    ) -> Checked {
        let witness = &mut self.witnesses[node];
        if witness.log.len() as u64 != last.0 {
            let what = format!("opens at op {last}, its log ends at op {}", witness.log.len());
            let checker = if witness.whole && witness.view == View(0) && last.0 == 0 { "C11" } else { "C6" };
            return Err(Violation::new(checker, node, what));
        }
        if disk.state != Some((view, view)) {
            let what = format!("opens in view {view}, its disk says {:?}", disk.state);
            return Err(Violation::new("C11", node, what));
        }
        if witness.promised.0 == view && witness.promised.1 > last {
            let what =
                format!("opens at op {last} in view {view}, where it acknowledged op {}", witness.promised.1);
            return Err(Violation::new("C2", node, what));
        }
        (witness.view, witness.leads) = (view, leads);
        (witness.last_normal_view, witness.whole) = (view, true);
        if leads {
            self.coverage.views += 1;
            let values = witness.log.clone();
            let order = Order { leader: node, life: witness.life, inherited: values.len(), values };
            if let Some(Order { leader, life, .. }) = self.orders.insert(view, order) {
                let what = format!("leads view {view}, which replica {leader} (life {life}) has led");
                return Err(Violation::new("C5", node, what));
            }
            return Ok(());
        }
        self.follows_order(node, "C2", view)
    }
}
