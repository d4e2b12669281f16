//! Linearizable reads without an entry in the log (L9).
//!
//! A read waits for the first op that was sent after it arrived. When that op has its quorum, this replica was
//! still the leader after the read arrived, and everything that was committed before is applied: reading then
//! gives the newest value. All reads that wait share one op; if no write comes along, it is a barrier, an op
//! that does nothing. An ack of anything sent earlier proves nothing.

use super::{NEVER, Replica, Role};
use crate::batch::BatchEntry;
use crate::large::RESULT_BYTES_MAX;
use crate::message::{ClientReply, ClientRequest, ReplyStatus};
use crate::state_machine::fitting;
use bytes::Bytes;
use electrode::types::OpNumber;
use std::net::SocketAddr;

/// Bytes of results that are read at once. Whatever is left is read in the next step, after what arrived meanwhile.
const BYTES_AT_ONCE: usize = 4 << 20;

/// Bytes of commands that may wait for their proof.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// A read that waits for its proof.
#[derive(Debug)]
pub(super) struct Read {
    /// The op that proves it.
    needs: OpNumber,
    to: SocketAddr,
    client: u64,
    request: u64,
    command: Bytes,
}

impl Replica {
    /// A read arrived at the leader.
    pub(super) fn lead_read(&mut self, to: SocketAddr, request: ClientRequest<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let waiting = leader.reads_bytes + request.command.len();
        if leader.reads.len() as u64 >= self.config.window_ops || waiting > WAITING_BYTES_MAX {
            self.counters.requests_try_again += 1;
            return self.answer(to, request, ReplyStatus::TryAgain);
        }
        leader.reads_bytes = waiting;
        self.counters.reads += 1;
        let command = self.payloads.copy(request.command);
        let (client, request) = (request.client, request.request);
        leader.reads.push_back(Read { needs: self.log.last_op().next(), to, client, request, command });
    }

    /// Queues an op that does nothing, if reads wait and nothing else would prove them.
    pub(super) fn barrier_for_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let waits = leader.reads.back().is_some_and(|read| read.needs > self.log.last_op());
        let room = leader.rounds.len() < self.config.pipeline_batches;
        if waits && room && leader.batcher.queued_ops() == 0 {
            self.prepare_barrier();
        }
    }

    /// Queues an op that does nothing.
    pub(super) fn prepare_barrier(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        self.counters.barriers += 1;
        leader.batcher.push(BatchEntry::NO_OP);
    }

    /// Answers the reads whose op is committed and applied, as many as do not hold up everything else.
    pub(super) fn answer_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.reads_at = NEVER;
        let mut bytes = 0;
        while leader.reads.front().is_some_and(|read| read.needs <= self.applied)
            && let Some(read) = leader.reads.pop_front()
        {
            if bytes >= BYTES_AT_ONCE {
                leader.reads.push_front(read);
                leader.reads_at = self.now;
                return;
            }
            self.read_result.clear();
            self.service.read(&read.command, &mut self.read_result);
            leader.reads_bytes -= read.command.len();
            bytes += self.read_result.len();
            let description;
            let (status, result) = if self.read_result.len() <= self.config.part_bytes_max() {
                (ReplyStatus::Ok, &self.read_result[..])
            } else {
                let result = Bytes::copy_from_slice(fitting(&self.read_result, RESULT_BYTES_MAX));
                description = ClientReply::describe_large(&result);
                leader.results.keep(self.now, read.to, read.client, read.request, result);
                (ReplyStatus::Large, &description[..])
            };
            let (leader, view) = (self.config.me, self.view);
            let Read { client, request, .. } = read;
            let reply = ClientReply { status, leader, view, client, request, attempt: 0, result };
            self.outbox.reply(read.to, &reply);
        }
    }
}
