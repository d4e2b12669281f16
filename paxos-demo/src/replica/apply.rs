//! Committed ops become state, in order, and at the leader replies.

use super::{BatchFlaw, Fatal, Replica, Role};
use crate::batch;
use crate::log::LogEntry;
use crate::message::{ClientReply, ReplyStatus};
use crate::state_machine::fitting;

impl Replica {
    /// Applies committed ops in order; a leader answers whoever waits for them.
    pub(super) fn apply_committed(&mut self) {
        while self.applied < self.commit {
            let next = self.applied.next();
            let entry = self.log.get(next).expect("only applied ops are forgotten").clone();
            if let Err(flaw) = self.apply_batch(&entry) {
                let LogEntry { view, first, last, .. } = entry;
                return self.stop(Fatal::MalformedBatch { view, first, last, flaw });
            }
        }
    }

    /// Applies what is committed and not yet applied of one batch.
    fn apply_batch(&mut self, batch: &LogEntry) -> Result<(), BatchFlaw> {
        let upto = batch.last.min(self.commit);
        let mut op = batch.first;
        let (time_ms, entries) = batch::open(&batch.payload)?;
        for entry in entries {
            let entry = entry?;
            if op > batch.last {
                return Err(BatchFlaw::Count);
            }
            if op > upto {
                break;
            }
            if op > self.applied {
                let result = self.service.apply(op, time_ms, entry);
                self.applied = op;
                self.counters.ops_applied += 1;
                if entry.is_last_part()
                    && let Role::Leader(leader) = &mut self.role
                    && let Some(to) = leader.in_flight.complete(entry.client, entry.request)
                    && let Some(result) = result
                {
                    let reply = ClientReply {
                        status: ReplyStatus::Ok,
                        leader: self.config.me,
                        view: self.view,
                        client: entry.client,
                        request: entry.request,
                        attempt: 0,
                        result: fitting(result, self.config.part_bytes_max()),
                    };
                    self.outbox.reply(to, &reply);
                }
            }
            op = op.next();
        }
        if self.applied < upto { Err(BatchFlaw::Count) } else { Ok(()) }
    }
}
