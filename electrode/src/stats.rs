//! What an endpoint has counted.

use crate::abi::{Kind, Verdict};
use crate::net::socket::SocketStats;

/// Datagrams by what they are, one for each destination.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Prepares.
    pub prepares: u64,
    /// Acks made or read in user space.
    pub acks: u64,
    /// Commits.
    pub commits: u64,
    /// The application's, between members.
    pub messages: u64,
    /// ... to or from anybody else.
    pub outside: u64,
}

impl Traffic {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.prepares + self.acks + self.commits + self.messages + self.outside
    }

    /// Notes `n` datagrams with a member at the other end.
    pub(crate) fn note(&mut self, kind: Kind, n: u64) {
        *match kind {
            Kind::Prepare => &mut self.prepares,
            Kind::PrepareOk => &mut self.acks,
            Kind::Commit => &mut self.commits,
            Kind::Message => &mut self.messages,
        } += n;
    }
}

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
    /// Carriers that never met the broadcast program: a filter or another program kept them from it. While
    /// that goes on, broadcasts leave as single copies.
    pub carriers_lost: u64,
    /// Carriers queued, each for several peers.
    pub carriers: u64,
    /// Copies that they were to become.
    pub carried: u64,
    /// What user space queued, by destination: copies that a carrier was to become are in it.
    pub sent: Traffic,
    /// What reached user space as a datagram of some group's, whether it was believed or not.
    pub heard: Traffic,
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
