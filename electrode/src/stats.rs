//! What an endpoint has counted.

use crate::abi::Verdict;
use crate::net::socket::SocketStats;

/// Counters since the endpoint was opened.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// The socket's.
    pub socket: SocketStats,
    /// Kernel verdicts (F11), all CPUs together; empty without kernel programs.
    pub kernel: Vec<(Verdict, u64)>,
    /// Verdicts of the user-space half that refused a packet.
    pub refused: Vec<(Verdict, u64)>,
    /// Batches that the kernel logged.
    pub logged_by_kernel: u64,
    /// Batches that user space logged.
    pub logged_by_user: u64,
    /// Times that user space took the log over (U8).
    pub taken_over: u64,
    /// Datagrams that are none of ours.
    pub malformed: u64,
    /// Early batches that found no room, or cut across what is held.
    pub dropped_early: u64,
    /// Waits for readiness, each a system call.
    pub waits: u64,
}

impl Stats {
    /// System calls made through the endpoint.
    pub fn syscalls(&self) -> u64 {
        self.socket.syscalls + self.waits
    }

    /// Count of one kernel verdict.
    pub fn kernel(&self, verdict: Verdict) -> u64 {
        self.kernel.iter().find(|(v, _)| *v == verdict).map_or(0, |(_, n)| *n)
    }

    pub(crate) fn refuse(&mut self, verdict: Verdict) {
        match self.refused.iter_mut().find(|(v, _)| *v == verdict) {
            Some((_, n)) => *n += 1,
            None => self.refused.push((verdict, 1)),
        }
    }
}
