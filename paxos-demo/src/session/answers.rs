//! What answers do to the request under way.

use std::time::Instant;

use super::transfer::Pull;
use super::{Group, RequestError, Session, Step};
use crate::large::RESULT_BYTES_MAX;
use crate::message::{ClientReply, Packet, ReplyStatus};

impl Session {
    /// Something arrived, possibly for somebody else or for an older request.
    pub fn on_packet(&mut self, group: &Group, packet: &Packet<'_>, now: Instant) -> Step {
        match packet {
            Packet::Reply(reply) => self.on_reply(group, reply, now),
            Packet::Have(have) if self.is_about(have.client, have.request) => {
                let Some(upload) = &mut self.upload else { return Step::Wait(self.resend_at) };
                self.heard = true;
                if !upload.advance(have.have as usize) {
                    return Step::Wait(self.resend_at);
                }
                self.progress(group, now);
                self.write_packets(group, now);
                Step::Send
            }
            Packet::Part(part) if self.is_about(part.client, part.request) => {
                let Some(pull) = &mut self.pull else { return Step::Wait(self.resend_at) };
                if !pull.add(part) {
                    return Step::Wait(self.resend_at);
                }
                if pull.is_done() {
                    if !pull.is_consistent() {
                        // Parts of two results: the timer reads again.
                        self.pull = None;
                        return Step::Wait(self.resend_at);
                    }
                    self.pulled = std::mem::take(&mut pull.result);
                    self.end();
                    return Step::Done;
                }
                pull.write(group, self.id, self.request);
                self.progress(group, now);
                Step::Send
            }
            _ => Step::Wait(self.resend_at),
        }
    }

    fn is_about(&self, client: u64, request: u64) -> bool {
        self.busy && client == self.id && request == self.request
    }

    /// A transfer goes on: the timers begin anew.
    fn progress(&mut self, group: &Group, now: Instant) {
        (self.tries, self.redirects) = (1, 0);
        self.pause = group.retry();
        self.resend_at = (now + self.pause).min(self.deadline(group)).max(now);
    }

    /// A reply arrived, possibly to somebody else or to an older request.
    pub fn on_reply(&mut self, group: &Group, reply: &ClientReply<'_>, now: Instant) -> Step {
        if !self.is_about(reply.client, reply.request) {
            return Step::Wait(self.resend_at);
        }
        if reply.status != ReplyStatus::Large {
            // Whatever it says, it is not that the result is on its way.
            self.pull = None;
        }
        match reply.status {
            ReplyStatus::Ok => {
                self.end();
                Step::Done
            }
            ReplyStatus::Large => {
                let large = reply.large().filter(|(bytes, _)| (1..=RESULT_BYTES_MAX).contains(bytes));
                if let (Some((total_bytes, checksum)), true, None) = (large, self.is_read(), &self.pull) {
                    // It is where the answer came from, which may have taken so long that another one was asked since.
                    if reply.leader.index() < group.members().len() {
                        self.turn_to(reply.leader.index());
                    }
                    let mut pull = Pull::new(total_bytes, checksum);
                    pull.write(group, self.id, self.request);
                    self.pull = Some(pull);
                    self.progress(group, now);
                    return Step::Send;
                }
                Step::Wait(self.resend_at)
            }
            ReplyStatus::NotLeader => {
                self.turn_down(reply.attempt, "no replica leads");
                let leader = reply.leader.index();
                if leader < group.members().len() && leader != self.target {
                    self.turn_to(leader);
                    self.redirects += 1;
                    // At once, but a group that sends us in circles is asked at the pace of the timer.
                    if self.redirects <= group.members().len() as u32 {
                        self.pause = group.retry();
                        return self.send(group, now);
                    }
                }
                Step::Wait(self.resend_at)
            }
            ReplyStatus::TryAgain => {
                self.turn_down(reply.attempt, "too many requests are under way, or it is still forming");
                Step::Wait(self.resend_at)
            }
            ReplyStatus::BadRequest => {
                self.end();
                Step::Failed(RequestError::Refused)
            }
            ReplyStatus::SessionUnknown => {
                if self.is_read() {
                    self.turn_down(reply.attempt, "it does not know the session");
                    return Step::Wait(self.resend_at);
                }
                self.renew();
                Step::Failed(RequestError::SessionLost)
            }
        }
    }

    fn turn_down(&mut self, attempt: u16, reason: &'static str) {
        self.heard = true;
        self.copies.turned_down(attempt);
        self.reason = reason;
    }
}
