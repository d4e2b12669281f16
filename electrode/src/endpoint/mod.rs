//! The public handle: one replica of one group behind one UDP address.
//!
//! Data takes one way: `elec_broadcast` queues a round, `flush` (or the next poll) sends, packets that no
//! kernel program took are judged here by the same rules ([`crate::rules`]), and `elec_poll_message` hands
//! over what was logged, what completed and what is the application's own.

mod carriers;
mod follower;
mod gate;
mod hearing;
pub(crate) mod leader;
mod open;
mod receive;
mod send;
#[cfg(feature = "simulation")]
mod simulated;
mod wait;

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

pub use self::gate::Gate;
pub use self::leader::Round;
pub use self::open::Choice;
pub use self::wait::Patience;

use self::carriers::Carriers;
use self::follower::{Follower, LastBatch};
use self::hearing::Hearing;
use self::leader::Leader;
use self::send::Burst;
use crate::auth::Keys;
use crate::backend::FastPath;
use crate::clock::Clock;
use crate::config::EndpointConfig;
use crate::error::{Error, Result};
use crate::net::socket::BatchSocket;
use crate::stats::Stats;
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use crate::wire::Origin;
use crate::words::GateState;

/// What [`Endpoint::elec_poll_message`] hands over.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Follower: the next batch, contiguous and in order; acknowledged by the time it is seen, unless the
    /// configuration leaves that to the caller.
    Logged {
        /// View in which the leader ordered it.
        view: View,
        /// First op.
        first: OpNumber,
        /// Last op.
        last: OpNumber,
        /// The batch, as the leader sent it.
        payload: &'a [u8],
    },
    /// Follower: the leader's commit number grew (F10).
    Commit {
        /// View.
        view: View,
        /// Every op up to here is committed. What was not logged yet is not here yet: apply
        /// `min(commit, last op logged)`.
        commit: OpNumber,
    },
    /// Follower: ops `have + 1 ..= missing` did not come, later ones did; ask the leader (L6).
    Gap {
        /// Last contiguous op.
        have: OpNumber,
        /// Last op that is missing.
        missing: OpNumber,
    },
    /// Leader: a round has its quorum, recounted (L4).
    Quorum {
        /// First op of the round.
        first: OpNumber,
        /// Last op of the round.
        last: OpNumber,
        /// Tag of the round.
        tag: u64,
    },
    /// A protocol packet of a higher view than ours (F3).
    NewerView {
        /// The view.
        view: View,
        /// Who is in it.
        sender: ReplicaId,
    },
    /// The application's own.
    Message {
        /// Where it came from.
        from: SocketAddr,
        /// Member that it claims to be and whose address it came from; `None` for everybody else.
        sender: Option<ReplicaId>,
        /// Life of the sender.
        incarnation: u32,
        /// A member says this for the first time (U9): it is not an old message that somebody sends again, nor one
        /// that was overtaken. In the life that is expected, or in a later one of which nothing else is known: whether
        /// that one is alive it does not say.
        fresh: bool,
        /// The message.
        payload: &'a [u8],
    },
    /// A member has another group or configuration; its packets are not heard (F1).
    Misconfigured {
        /// Where it came from.
        from: SocketAddr,
        /// Its configuration hash, as on the wire.
        config_hash: u64,
        /// Nothing differs but that one of the two has keys and the other has none.
        keys_differ: bool,
    },
}

/// Rules of the user-space half broken on purpose, to prove that checkers notice (rules.md, "Planted bugs"). All
/// off; only a simulation can switch one on.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plants {
    /// A5, U8: user space appends while the kernel may.
    pub append_beside_kernel: bool,
    /// A6, L4: one vote completes a round.
    pub single_vote_commits: bool,
    /// A8, L4: rounds are counted by their bits, not by the maxima.
    pub count_by_bits: bool,
    /// A9, L5: rounds are recounted only when an ack got through to user space.
    pub no_scan: bool,
    /// P2, U6: the gate is opened with the epoch of the opening before.
    pub same_epoch: bool,
}

/// One replica of one group.
pub struct Endpoint {
    config: EndpointConfig,
    payload_bytes_max: usize,
    origin: Origin,
    socket: BatchSocket,
    /// `udp-multicast` only: where the group's packets arrive.
    group_socket: Option<BatchSocket>,
    path: Box<dyn FastPath>,
    choice: Choice,
    /// What [`Endpoint::wait`] waits for; nothing in a simulation.
    wait: Option<OwnedFd>,
    clock: Clock,
    /// Rules broken on purpose; none but in a simulation.
    plants: Plants,
    carriers: Carriers,
    burst: Option<Burst>,
    state: GateState,
    view: View,
    leader_id: ReplicaId,
    epoch: Epoch,
    follower: Follower,
    leader: Leader,
    last_batch: LastBatch,
    incarnations: [u32; crate::abi::MEMBERS_MAX],
    commit_told: OpNumber,
    /// Commits and messages sent, in this life (U9).
    sent: u64,
    hearing: Hearing,
    /// Events of the polls since the last wait: plain sockets take many polls for what batches bring at once.
    events_since_wait: usize,
    last_leader_ns: u64,
    /// D4: when filters run out that were on this machine's interfaces at the opening, and may be an earlier life's.
    earlier_filters_end_ns: u64,
    stats: Stats,
}

impl Endpoint {
    /// Largest payload in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// The endpoint's own address.
    pub fn local_addr(&self) -> SocketAddr {
        self.config.addr()
    }

    /// Which backend runs, on which hook, and why.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The switch that this process holds over the kernel's fast path.
    pub fn gate(&mut self) -> Gate<'_> {
        Gate(self)
    }

    /// Last op that was handed over in [`Event::Logged`].
    pub fn held(&self) -> OpNumber {
        self.follower.held
    }

    /// Other keys than before: what leaves from now on is sent with the one, and both are accepted
    /// ([`crate::auth`] says in which order a group changes its keys). Refused where the endpoint was opened
    /// without keys, for the members must agree on that.
    pub fn set_keys(&mut self, keys: &Keys) -> Result<()> {
        if self.config.keys.is_none() {
            return Err(Error::Config(
                "keys for an endpoint that was opened without: give all members a key and start them again"
                    .into(),
            ));
        }
        // What is queued was made under the old keys' rule; it leaves with the key that everybody knows.
        self.flush()?;
        self.path.set_keys(keys)?;
        self.config.keys = Some(keys.clone());
        Ok(())
    }

    /// Acks of this life of a peer count; zero: none do (L2).
    pub fn expect_incarnation(&mut self, peer: ReplicaId, incarnation: u32) {
        let before = std::mem::replace(&mut self.incarnations[peer.index()], incarnation);
        self.path.expect_incarnation(peer, incarnation);
        if before != incarnation {
            // It counts from 1 again.
            let leads = peer == self.leader_id;
            self.hearing.introduce(peer, incarnation, leads);
            if leads && self.state == GateState::Follow {
                self.path.restart_count(self.epoch, self.hearing.leader().count);
            }
        }
    }

    /// Highest op that `peer` has acknowledged in this opening.
    pub fn acked(&self, peer: ReplicaId) -> OpNumber {
        self.leader.acked(&*self.path, peer)
    }

    /// Whether the kernel takes a follower's Prepares into a log, where they wait for a poll. If not they arrive at the
    /// socket, which wakes.
    pub fn logs_in_kernel(&self) -> bool {
        self.path.appends()
    }

    /// Peers that one carrier reaches now: those whose next hop is known. Empty without the offload.
    pub fn reached_by_carrier(&self) -> ReplicaSet {
        self.path.reached(self.config.peers())
    }

    /// L7: peers that the carrier of the round ending in `op` did not reach; each is told once.
    pub fn take_missed(&mut self, op: OpNumber) -> ReplicaSet {
        self.path.take_missed(op)
    }

    /// Hands over what has happened, without waiting: datagrams until there are `budget` of them (what one system call
    /// brings is taken whole), and everything that the kernel logged and counted (paper section 4.4). Returns the number of events.
    pub fn elec_poll_message(&mut self, budget: usize, f: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let mut events = 0;
        let mut f = |event: Event<'_>| {
            events += 1;
            f(event);
        };
        self.flush()?;
        self.path.renew_lease();
        self.drain(&mut f);
        let mut taken = 0;
        let mut held_over = false;
        while taken < budget {
            let received = self.receive(&mut f, &mut held_over)?;
            taken += received.datagrams;
            // U8: while the log is ours, until the socket is empty; what came meanwhile is in it.
            if received.datagrams == 0 || !(received.more || held_over) {
                break;
            }
        }
        self.close_gap(&mut f, &mut held_over)?;
        if held_over {
            // U8: the socket is empty, or the budget is used up; what comes after the opening is the kernel's again, and what
            // came before it is in the socket for the next poll.
            self.reopen(false)?;
        }
        self.send_acks();
        self.tell(&mut f);
        self.flush()?;
        self.events_since_wait += events;
        Ok(events)
    }

    /// Tells what follows from words rather than packets: quorums, commit numbers, gaps.
    fn tell(&mut self, f: &mut dyn FnMut(Event<'_>)) {
        match self.state {
            GateState::Lead => {
                let members = self.config.members.len();
                if self.plants.no_scan && !self.leader.take_ack_arrived() {
                    return;
                }
                self.leader.recount(&*self.path, members, self.plants, |done| {
                    f(Event::Quorum { first: done.first, last: done.last, tag: done.tag });
                });
            }
            GateState::Follow => {
                // F10: in this opening of the gate.
                let commit = self.follower.commit.max(self.path.commit_seen(self.epoch));
                self.follower.commit = commit;
                if commit > self.commit_told {
                    self.commit_told = commit;
                    f(Event::Commit { view: self.view, commit });
                }
                if let Some((have, missing)) = self.follower.take_gap() {
                    f(Event::Gap { have, missing });
                }
            }
            GateState::Frozen => {}
        }
    }

    /// U9: CLOCK_MONOTONIC nanoseconds of the last valid packet of the leader that said something new, whoever
    /// absorbed it: ops beyond all that it had prepared, or one Commit more. Packets that somebody sends again do
    /// not count.
    pub fn last_leader_ns(&self) -> u64 {
        self.last_leader_ns.max(self.path.last_leader_ns())
    }

    /// D4: when nothing that an earlier process of this member attached can acknowledge any more; a member that
    /// lost its log must not ask the others for it before. CLOCK_MONOTONIC nanoseconds. The earlier process
    /// must have ended, which is for the caller to see to.
    pub fn earlier_life_ends_ns(&self) -> u64 {
        self.path.earlier_life_ends_ns().max(self.earlier_filters_end_ns)
    }

    /// Rounds that wait for their quorum.
    pub fn rounds_in_flight(&self) -> usize {
        self.leader.in_flight()
    }

    /// Readiness: becomes readable when a datagram arrives or an armed doorbell rings.
    ///
    /// # Panics
    /// In a simulation, which has no descriptors.
    pub fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(self.wait.as_ref().expect("a simulated endpoint has no descriptor"))
    }

    /// The time on the endpoint's clock: CLOCK_MONOTONIC, but in a simulation.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// The time of day in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    /// Counters of socket, user space and kernel.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = self.stats.clone();
        stats.socket = self.socket.stats();
        stats.dropped_early = self.follower.dropped;
        stats.kernel = self.path.verdicts()?;
        Ok(stats)
    }
}

fn role_name(state: GateState) -> &'static str {
    match state {
        GateState::Frozen => "frozen",
        GateState::Follow => "following",
        GateState::Lead => "leading",
    }
}
