//! A command or a result on its way in parts, as the session sees it.

use super::Group;
use crate::large;
use crate::message::{ClientRequest, Have, Part};

/// A command that goes to the leader in parts.
#[derive(Debug)]
pub(super) struct Upload {
    command: Vec<u8>,
    /// The leader has everything before.
    base: usize,
    /// Since the leader last said what it has, it may have lost it, or there is another leader.
    resumed: bool,
}

impl Upload {
    pub(super) fn new(command: &[u8]) -> Self {
        Self { command: command.to_vec(), base: 0, resumed: false }
    }

    /// Whether the end of the command is in the next window.
    pub(super) fn is_last_window(&self, group: &Group) -> bool {
        group.is_last_window(&self.command, self.base)
    }

    /// Writes the datagrams of the next window.
    pub(super) fn write(&self, group: &Group, id: (u64, u64), attempt: u16, out: &mut Vec<u8>) {
        let (client, request) = id;
        let request = ClientRequest { client, request, attempt, command: &self.command };
        group.encode_window(&request, self.base, out);
    }

    /// The leader has so much: whether the window that begins there is to be sent. One that says the same
    /// again, or less, is the echo of an older window, unless that was asked for.
    pub(super) fn advance(&mut self, have: usize) -> bool {
        if have >= self.command.len() || have == self.base || (have < self.base && !self.resumed) {
            return false;
        }
        (self.base, self.resumed) = (have, false);
        true
    }

    /// The same window is sent again, and the answer counts whatever it is.
    pub(super) fn resume(&mut self) {
        self.resumed = true;
    }

    /// The first window is next.
    pub(super) fn begin_again(&mut self) {
        self.base = 0;
    }
}

/// A result that comes from the leader in parts.
#[derive(Debug)]
pub(super) struct Pull {
    total_bytes: usize,
    checksum: u64,
    pub(super) result: Vec<u8>,
    /// The question for what is missing.
    pub(super) packet: Vec<u8>,
    /// It asks for what begins here.
    asked: usize,
    asked_again: bool,
}

impl Pull {
    pub(super) fn new(total_bytes: usize, checksum: u64) -> Self {
        Self { total_bytes, checksum, result: Vec::new(), packet: Vec::new(), asked: 0, asked_again: false }
    }

    pub(super) fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// Writes the question for what is missing.
    pub(super) fn write(&mut self, group: &Group, client: u64, request: u64) {
        self.asked = self.result.len();
        group.encode_have(&Have { client, request, have: self.asked as u32 }, &mut self.packet);
    }

    /// A part arrived: whether it is time to ask for more, or all is there.
    pub(super) fn add(&mut self, part: &Part<'_>) -> bool {
        if part.total_bytes as usize != self.total_bytes {
            return false;
        }
        if part.offset as usize == self.result.len() {
            if self.result.capacity() == 0 {
                self.result.reserve_exact(self.total_bytes);
            }
            self.result.extend_from_slice(part.bytes);
            self.asked_again = false;
        }
        // At the end of a window that brought something. If something of it was lost, it is asked for here too.
        self.is_done() || (part.asks && self.result.len() > self.asked)
    }

    pub(super) fn is_done(&self) -> bool {
        self.result.len() == self.total_bytes
    }

    pub(super) fn is_consistent(&self) -> bool {
        large::checksum(&self.result) == self.checksum
    }

    /// Nothing came. The question for what is missing now, but not more than twice.
    pub(super) fn ask_again(&mut self, group: &Group, client: u64, request: u64) -> bool {
        let again = !std::mem::replace(&mut self.asked_again, true);
        if again {
            self.write(group, client, request);
        }
        again
    }
}
