//! C1 to C8 and C11: logs, acks, votes, commits.

use electrode::model::Kernel;
use electrode::simulation::Opening;
use electrode::types::{OpNumber, View};
use electrode::words::GateState;

use super::witness::values;
use super::{Checker, Committed, Order, Promise, Violation, Witness};
use crate::config::Durability;
use crate::peer::PeerMessage;

type Checked = Result<(), Violation>;

impl Checker {
    /// A new life begins; what it has of the log is told by what follows.
    pub(in super::super) fn born(&mut self, node: usize, life: u32) {
        self.witnesses[node] = Witness { life, ..Witness::default() };
    }

    /// Value of an op that is in a log for the first time.
    fn learn(&mut self, payload: &[u8]) -> Vec<u64> {
        let known: Vec<_> = values(payload).collect();
        let hashes = known.iter().map(|entry| entry.value).collect();
        for entry in known {
            self.contents.entry(entry.value).or_insert(entry);
        }
        hashes
    }

    /// A follower is handed a batch: it goes into its log.
    pub(in super::super) fn logged(
        &mut self,
        node: usize,
        first: OpNumber,
        last: OpNumber,
        payload: &[u8],
        gate: GateState,
    ) -> Checked {
        let hashes = self.learn(payload);
        let witness = &mut self.witnesses[node];
        let bad = |what: String| Err(Violation::new("C6", node, what));
        if first.0 != witness.log.len() as u64 + 1 || hashes.len() as u64 != last.0 + 1 - first.0 {
            return bad(format!(
                "ops {first}..={last} ({} values) are handed over to a log that ends at op {}",
                hashes.len(),
                witness.log.len()
            ));
        }
        // U8: what did not come from the kernel's log was appended by user space.
        if last > witness.from_kernel && gate != GateState::Frozen {
            return bad(format!("user space appends ops {first}..={last} while the kernel may"));
        }
        witness.log.extend(hashes);
        Ok(())
    }

    /// A drain returned everything up to `op`.
    pub(in super::super) fn drained(&mut self, node: usize, op: OpNumber) {
        let witness = &mut self.witnesses[node];
        witness.drained = witness.drained.max(op);
        witness.from_kernel = op;
    }

    /// A leader orders a batch.
    pub(in super::super) fn prepared(&mut self, node: usize, first: OpNumber, payload: &[u8]) -> Checked {
        let hashes = self.learn(payload);
        let witness = &mut self.witnesses[node];
        let view = witness.view;
        if !witness.leads || first.0 != witness.log.len() as u64 + 1 {
            return Err(Violation::new(
                "C6",
                node,
                format!("prepares op {first}, its log ends at op {}", witness.log.len()),
            ));
        }
        witness.log.extend(&hashes);
        let order = self.orders.get_mut(&view).expect("made at the opening");
        if (order.leader, order.life) != (node, witness.life) {
            let Order { leader, life, .. } = order;
            let what =
                format!("orders op {first} in view {view}, which replica {leader} (life {life}) leads");
            return Err(Violation::new("C5", node, what));
        }
        order.values.extend(hashes);
        Ok(())
    }

    /// The replica opens its gate.
    pub(in super::super) fn opens(
        &mut self,
        node: usize,
        leads: bool,
        view: View,
        last: OpNumber,
    ) -> Checked {
        let witness = &mut self.witnesses[node];
        if witness.log.len() as u64 != last.0 {
            let what = format!("opens at op {last}, its log ends at op {}", witness.log.len());
            return Err(Violation::new("C6", node, what));
        }
        (witness.view, witness.leads) = (view, leads);
        if leads {
            let order = Order { leader: node, life: witness.life, values: witness.log.clone() };
            if let Some(Order { leader, life, .. }) = self.orders.insert(view, order) {
                let what = format!("leads view {view}, which replica {leader} (life {life}) has led");
                return Err(Violation::new("C5", node, what));
            }
        }
        Ok(())
    }

    /// The library opens the gate for the kernel.
    pub(in super::super) fn opening(&mut self, node: usize, opening: &Opening) -> Checked {
        let witness = &mut self.witnesses[node];
        let (promised, drained) = (witness.promised_by_kernel, witness.drained);
        (witness.promised_by_kernel, witness.drained) = (OpNumber(0), OpNumber(0));
        if promised > drained {
            let what = format!(
                "the drain before epoch {} returned ops up to {drained}, op {promised} was acknowledged",
                opening.epoch
            );
            return Err(Violation::new("C8", node, what));
        }
        Ok(())
    }

    /// C2: an ack is promised.
    pub(in super::super) fn promised(&mut self, node: usize, promise: Promise, kernel: &Kernel) -> Checked {
        let Promise { view, op, .. } = promise;
        let Some(order) = self.orders.get(&view) else {
            let what = format!("acknowledges op {op} in view {view}, which nobody leads");
            return Err(Violation::new("C2", node, what));
        };
        let witness = &mut self.witnesses[node];
        if let Some((voted, last)) = witness.voted
            && view < voted
            && op > last
        {
            let what = format!(
                "acknowledges op {op} in view {view} after a vote for view {voted} with ops up to {last}"
            );
            return Err(Violation::new("C3", node, what));
        }
        let from = if witness.verified.0 == view { witness.verified.1.0 } else { 0 };
        for at in (from + 1..=op.0).map(OpNumber) {
            let ordered = order.values.get(at.0 as usize - 1).copied();
            let held = witness.value(at, kernel);
            if ordered.is_none() || held != ordered {
                let what = format!(
                    "acknowledges op {op} in view {view}, but for op {at} it holds {held:x?}, and the leader \
                     ordered {ordered:x?}"
                );
                return Err(Violation::new("C2", node, what));
            }
        }
        if op.0 > from {
            witness.verified = (view, op);
        }
        witness.promised = witness.promised.max((view, op));
        if op.0 > witness.log.len() as u64 {
            witness.promised_by_kernel = witness.promised_by_kernel.max(op);
        }
        Ok(())
    }

    /// An ack leaves. What it says was checked.
    pub(in super::super) fn acked(&mut self, node: usize, promise: Promise, log_only: bool) -> Checked {
        let members = self.members;
        let acks = self.acks.entry(promise.view).or_insert_with(|| vec![OpNumber(0); members]);
        acks[node] = acks[node].max(promise.op);
        let _ = log_only;
        Ok(())
    }

    /// The library tells a leader that ops up to `op` have their quorum.
    pub(in super::super) fn quorum(&mut self, node: usize, op: OpNumber) -> Checked {
        let view = self.witnesses[node].view;
        let acks = self.acks.get(&view);
        let others =
            (0..self.members).filter(|m| *m != node && acks.is_some_and(|acks| acks[*m] >= op)).count();
        if 2 * (others + 1) <= self.members {
            let what = format!("op {op} commits in view {view} with {others} acks of others: {acks:?}");
            return Err(Violation::new("C4", node, what));
        }
        self.committed(node, op)
    }

    /// C1: a replica takes ops up to `op` for committed.
    pub(in super::super) fn committed(&mut self, node: usize, op: OpNumber) -> Checked {
        let witness = &mut self.witnesses[node];
        let from = witness.commit.0;
        if op.0 as usize > witness.log.len() {
            let what = format!("commits op {op}, its log ends at op {}", witness.log.len());
            return Err(Violation::new("C1", node, what));
        }
        for at in from as usize..op.0 as usize {
            let value = witness.log[at];
            match self.committed.get(at) {
                Some(known) if known.value == value => {}
                Some(known) => {
                    let what =
                        format!("commits {value:x} as op {}, {:x} was committed there", at + 1, known.value);
                    return Err(Violation::new("C1", node, what));
                }
                None => self.committed.push(self.contents[&value].clone()),
            }
        }
        witness.commit = witness.commit.max(op);
        Ok(())
    }

    /// A follower's commit number: what no leader committed cannot be committed.
    pub(in super::super) fn follows_commit(&mut self, node: usize, op: OpNumber) -> Checked {
        if op.0 as usize > self.committed.len() {
            let what =
                format!("takes op {op} for committed, the group committed {} ops", self.committed.len());
            return Err(Violation::new("C4", node, what));
        }
        self.committed(node, op)
    }

    /// A message to another replica leaves.
    pub(in super::super) fn said(&mut self, _node: usize, _message: &PeerMessage) -> Checked {
        let _ = self.durability == Durability::Disk;
        Ok(())
    }

    /// Committed ops, for the replay.
    pub(in super::super) fn committed_ops(&self) -> &[Committed] {
        &self.committed
    }
}
