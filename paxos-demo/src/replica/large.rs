//! The leader's side of what does not fit a datagram ([`crate::large`]): requests that arrive in parts, and
//! results that are pulled in parts. Both live and die with the leadership, and nothing depends on them: a
//! client that finds them gone begins again.

use super::{Replica, Role};
use crate::large::Added;
use crate::message::{ClientRequest, Have, PART_HEADER_BYTES, Part, ReplyStatus, window};
use crate::session::READ;
use std::net::SocketAddr;

impl Replica {
    /// A part of a client's request arrived. Only the last of a window is answered; the whole is treated like any
    /// other request.
    pub fn on_part(&mut self, now: u64, from: SocketAddr, part: Part<'_>) {
        self.advance(now);
        let Part { client, request: number, attempt, total_bytes, asks, .. } = part;
        let request = ClientRequest { client, request: number, attempt, command: &[] };
        if !self.is_leading() {
            if asks {
                self.counters.requests += 1;
                self.turn_down(from, request);
            }
            return;
        }
        if total_bytes as usize > self.config.command_bytes_max() {
            if asks {
                self.counters.requests_bad += 1;
                self.answer(from, request, ReplyStatus::BadRequest);
            }
            return;
        }
        // A copy of what is in flight or done already is not put together again.
        let known = asks && number & READ == 0 && !self.is_new(from, request);
        let Role::Leader(leader) = &mut self.role else { return };
        if known {
            return leader.assemblies.forget(client, number);
        }
        match leader.assemblies.add(self.now, &part) {
            Added::Have(have) if asks => {
                let have = Have { client, request: number, have };
                self.outbox.message(from, size_of::<Have>(), |out| have.encode(out));
            }
            Added::Have(_) => {}
            Added::Whole(command) => {
                self.counters.requests += 1;
                let request = ClientRequest { command: &command, ..request };
                if self.lead_request(from, request)
                    && let Role::Leader(leader) = &mut self.role
                {
                    leader.assemblies.put_back(self.now, client, number, command);
                }
            }
        }
    }

    /// A client has so much of a result and asks for more.
    pub fn on_have(&mut self, now: u64, from: SocketAddr, have: Have) {
        self.advance(now);
        let Have { client, request: number, have } = have;
        let request = ClientRequest { client, request: number, attempt: 0, command: &[] };
        let Role::Leader(leader) = &mut self.role else { return self.turn_down(from, request) };
        let Some(result) = leader.results.get(self.now, from, client, number) else {
            // Gone, or not for that address: the client reads again.
            return self.answer(from, request, ReplyStatus::TryAgain);
        };
        for part in window(client, number, 0, &result, have as usize, self.config.payload_bytes_max) {
            let bytes_max = PART_HEADER_BYTES + part.bytes.len();
            self.outbox.message(from, bytes_max, |out| part.encode(out));
        }
    }
}
