//! What is known of one replica's log, told by those who handed it over.

use electrode::model::Kernel;
use electrode::types::{OpNumber, View};

use super::Committed;
use crate::batch::{self, BatchEntry};

/// One replica as seen from outside.
#[derive(Debug, Default)]
pub(super) struct Witness {
    pub life: u32,
    /// It has a state: it never lost one, or has found it again.
    pub whole: bool,
    /// Value of op `i + 1`, as user space holds it.
    pub log: Vec<u64>,
    /// View of the last opening, and whether it leads there.
    pub view: View,
    pub leads: bool,
    /// View of the last opening of this or an earlier life (U4).
    pub last_normal_view: View,
    /// View and op of the last ack.
    pub promised: (View, OpNumber),
    /// Highest op that kernel programs promised in this opening.
    pub promised_by_kernel: OpNumber,
    /// Last op that a drain returned in this opening.
    pub drained: OpNumber,
    /// Ops up to here were compared with what this view's leader ordered.
    pub verified: (View, OpNumber),
    /// Highest view that it left for, and the last op that it held then.
    pub voted: Option<(View, OpNumber)>,
    /// What is handed over up to here comes from the kernel's log.
    pub from_kernel: OpNumber,
    /// Last op that it took for committed.
    pub commit: OpNumber,
}

impl Witness {
    /// The value that this replica holds for `op`: in user space, or in kernel memory.
    pub fn value(&self, op: OpNumber, kernel: &Kernel) -> Option<u64> {
        if let Some(value) = self.log.get(op.0 as usize - 1) {
            return Some(*value);
        }
        let gate = kernel.gate();
        let mut at = OpNumber(self.log.len() as u64);
        while at < op && at < gate.op {
            let slot = kernel.slot(at.next());
            let next =
                slot.epoch == u64::from(gate.epoch.0) && slot.first == at.0 + 1 && slot.last >= slot.first;
            if !next {
                return None;
            }
            if OpNumber(slot.last) >= op {
                let index = (op.0 - slot.first) as usize;
                return values(&slot.payload).nth(index).map(|entry| entry.value);
            }
            at = OpNumber(slot.last);
        }
        None
    }
}

/// The ops of a batch. Its time is part of each: what replicas make of an op depends on it.
pub(super) fn values(payload: &[u8]) -> impl Iterator<Item = Committed> + '_ {
    batch::open(payload).into_iter().flat_map(|(time_ms, entries)| {
        entries.map_while(Result::ok).map(move |entry| Committed {
            value: hash(time_ms, &entry),
            client: entry.client,
            request: entry.request,
            command: entry.command.to_vec(),
            part: entry.part,
            parts: entry.parts,
        })
    })
}

fn hash(time_ms: u64, entry: &BatchEntry<'_>) -> u64 {
    let part = u64::from(entry.part) << 16 | u64::from(entry.parts);
    let words = [time_ms, entry.client, entry.request, part].into_iter().flat_map(u64::to_le_bytes);
    words.chain(entry.command.iter().copied()).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
