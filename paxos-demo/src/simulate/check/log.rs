//! C1 to C8 and C11: logs, acks, votes, commits.

use electrode::model::Kernel;
use electrode::simulation::Opening;
use electrode::types::{OpNumber, View};
use electrode::words::GateState;

use super::witness::values;
use super::{Checked, Checker, Committed, Order, Promise, Violation};
use crate::config::Durability;
use crate::log::LogEntry;

impl Checker {
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

    /// Another log takes the place of what was behind `keep`.
    pub(in super::super) fn installs(
        &mut self,
        node: usize,
        keep: OpNumber,
        snapshot: Option<OpNumber>,
        entries: &[LogEntry],
    ) -> Checked {
        self.coverage.installs += 1;
        self.coverage.snapshots += u64::from(snapshot.is_some());
        let mut log = self.witnesses[node].log.clone();
        match snapshot {
            // A snapshot holds committed ops only.
            Some(op) => match self.committed.get(..op.0 as usize) {
                Some(committed) => log = committed.iter().map(|op| op.value).collect(),
                None => {
                    let what =
                        format!("installs a snapshot of op {op}; {} are committed", self.committed.len());
                    return Err(Violation::new("C1", node, what));
                }
            },
            None => log.truncate(keep.0 as usize),
        }
        let kept = snapshot.unwrap_or(keep);
        for entry in entries {
            if entry.first.0 != log.len() as u64 + 1 {
                let what = format!("installs op {} behind op {}", entry.first, log.len());
                return Err(Violation::new("C6", node, what));
            }
            log.extend(self.learn(&entry.payload));
        }
        let witness = &mut self.witnesses[node];
        let committed = &self.committed[..witness.commit.0 as usize];
        if log.len() < committed.len() || log.iter().zip(committed).any(|(new, old)| *new != old.value) {
            let what = format!("installs a log of {} ops without committed ops", log.len());
            return Err(Violation::new("C1", node, what));
        }
        if snapshot.is_none() {
            witness.verified.1 = witness.verified.1.min(kept);
        } else {
            witness.verified.1 = OpNumber(0);
        }
        witness.log = log;
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

    /// An ack leaves. What it says was checked; `durable` is what the disk holds, where that is promised.
    pub(in super::super) fn acked(
        &mut self,
        node: usize,
        promise: Promise,
        durable: Option<OpNumber>,
    ) -> Checked {
        let members = self.members;
        if durable.is_some_and(|durable| promise.op > durable) {
            let what = format!("acknowledges op {}, its disk holds {durable:?}", promise.op);
            return Err(Violation::new("C11", node, what));
        }
        let acks = self.acks.entry(promise.view).or_insert_with(|| vec![OpNumber(0); members]);
        acks[node] = acks[node].max(promise.op);
        Ok(())
    }

    /// Members other than `node` that acknowledged `op` in `view`.
    fn others(&self, node: usize, view: View, op: OpNumber) -> usize {
        let acks = self.acks.get(&view);
        (0..self.members).filter(|m| *m != node && acks.is_some_and(|acks| acks[*m] >= op)).count()
    }

    /// C4: the library tells a leader that ops up to `op` have their quorum.
    pub(in super::super) fn has_quorum(&mut self, node: usize, op: OpNumber) -> Checked {
        let view = self.witnesses[node].view;
        let others = self.others(node, view, op);
        if 2 * (others + 1) <= self.members {
            let acks = self.acks.get(&view);
            let what =
                format!("op {op} has its quorum in view {view} with {others} acks of others: {acks:?}");
            return Err(Violation::new("C4", node, what));
        }
        Ok(())
    }

    /// C4, C1: a replica takes everything up to `op` for committed. `leads`: it leads, and this is on its disk.
    pub(in super::super) fn commits(
        &mut self,
        node: usize,
        op: OpNumber,
        leads: Option<OpNumber>,
    ) -> Checked {
        if op.0 as usize > self.committed.len() {
            let view = self.witnesses[node].view;
            let Some(durable) = leads else {
                let what =
                    format!("takes op {op} for committed, the group committed {}", self.committed.len());
                return Err(Violation::new("C4", node, what));
            };
            let own = self.durability == Durability::Memory || durable >= op;
            let others = self.others(node, view, op);
            if 2 * (others + usize::from(own)) <= self.members {
                let what =
                    format!("commits op {op} in view {view} with {others} acks of others, own vote: {own}");
                return Err(Violation::new("C4", node, what));
            }
        }
        self.committed(node, op)
    }

    /// C1: a replica takes ops up to `op` for committed.
    fn committed(&mut self, node: usize, op: OpNumber) -> Checked {
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

    /// Whether a replica holds a request of this session, in user space or in kernel memory.
    pub(in super::super) fn holds(&self, node: usize, client: u64, kernel: &Kernel) -> bool {
        let values = (1..).map_while(|op| self.witnesses[node].value(OpNumber(op), kernel));
        values.filter_map(|value| self.contents.get(&value)).any(|op| op.client == client)
    }

    /// Committed ops, for the replay.
    pub(in super::super) fn committed_ops(&self) -> &[Committed] {
        &self.committed
    }
}
