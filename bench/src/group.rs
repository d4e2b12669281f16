//! One consensus group whose members are all driven by the calling thread.

use std::hint::black_box;
use std::time::{Duration, Instant};

use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Offloads};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::{Endpoint, Event, Round};

use crate::Site;

/// Far beyond what any step takes: a packet is lost, or an ack.
const DEADLINE: Duration = Duration::from_secs(20);
/// Ops after which a follower whose kernel acknowledges looks into its log, as one that sleeps with
/// `Patience::Batch` does.
const DRAIN_EVERY: u64 = 64;
/// Polls of a leader that waits before the followers are looked after out of turn.
const LEADER_POLLS: u32 = 256;
const LOG_SLOTS: u32 = 1024;

/// What a group is opened with.
#[derive(Copy, Clone, Debug)]
pub struct GroupConfig {
    /// Members, the leader included.
    pub members: usize,
    /// Who runs the fast path.
    pub backend: Backend,
    /// Which jobs the kernel takes, if it takes any.
    pub offloads: Offloads,
    /// Payload of each Prepare.
    pub payload_bytes: usize,
}

/// A leader (member 0) and its followers, gates open in view 0.
pub struct Group {
    config: GroupConfig,
    endpoints: Vec<Endpoint>,
    payload: Vec<u8>,
    /// Last op sent.
    op: u64,
    /// Last op that has its quorum.
    done: u64,
    /// Last op that each follower was handed, by member.
    logged: Vec<u64>,
}

impl Group {
    /// Opens all members on their hosts.
    ///
    /// # Panics
    /// If that fails: [`Site::backends`] says what works.
    pub fn open(site: &Site, config: GroupConfig) -> Self {
        let addresses = site.members();
        assert_eq!(addresses.len(), config.members, "a site of its own for every group size");
        let open = |member| {
            let mut endpoint = EndpointConfig::new(addresses.clone(), ReplicaId(member as u8));
            endpoint.backend = config.backend;
            endpoint.offloads = config.offloads;
            endpoint.log_slots = LOG_SLOTS;
            endpoint.quorum_window = LOG_SLOTS;
            site.open(endpoint).unwrap_or_else(|e| panic!("member {member} of {config:?}: {e}"))
        };
        let mut endpoints: Vec<_> = (0..config.members).map(open).collect();
        endpoints[0].gate().lead(View(0), OpNumber(0)).expect("a fresh leader leads");
        for follower in &mut endpoints[1..] {
            follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).expect("a fresh follower follows");
        }
        let logged = vec![0; config.members];
        Self { config, endpoints, payload: vec![0xa5; config.payload_bytes], op: 0, done: 0, logged }
    }

    /// Queues the next Prepare to all followers, complete with a majority.
    pub fn queue(&mut self) {
        self.op += 1;
        let peers = ReplicaSet::all(self.config.members).without(ReplicaId(0));
        let round = Round {
            first: OpNumber(self.op),
            last: OpNumber(self.op),
            commit: OpNumber(self.done),
            tag: 0,
            targets: peers,
            voters: peers,
            threshold: (self.config.members / 2) as u32,
            independent: false,
        };
        self.endpoints[0].elec_broadcast(&round, &self.payload).expect("a round in the window");
    }

    /// Sends what is queued.
    pub fn flush(&mut self) {
        self.endpoints[0].flush().expect("the leader's socket works");
    }

    /// Lets the leader see what came.
    pub fn poll_leader(&mut self) {
        let done = &mut self.done;
        let mut on_event = |event: Event<'_>| {
            if let Event::Quorum { last, .. } = event {
                *done = last.0;
            }
        };
        self.endpoints[0].elec_poll_message(1024, &mut on_event).expect("the leader's socket works");
    }

    /// Lets a follower see, and answer, what came; returns the last op that it holds.
    pub fn poll_follower(&mut self, member: usize) -> u64 {
        let logged = &mut self.logged[member];
        let mut on_event = |event: Event<'_>| {
            if let Event::Logged { first, last, payload, .. } = event {
                assert_eq!(first.0, *logged + 1, "ops are handed over in order, once");
                *logged = last.0;
                black_box(payload.first());
            }
        };
        self.endpoints[member].elec_poll_message(1024, &mut on_event).expect("a follower's socket works");
        *logged
    }

    /// Polls a follower until it holds the last op.
    pub fn until_logged(&mut self, member: usize) {
        let mut waiting = Waiting::default();
        while self.poll_follower(member) < self.op {
            waiting.poll(|| format!("member {member} does not hold op {}", self.op), self);
        }
    }

    /// Polls whoever takes part until the last op has its quorum.
    pub fn until_quorum(&mut self) {
        let followers_answer = !self.kernel_acknowledges();
        let mut waiting = Waiting::default();
        while self.done < self.op {
            if followers_answer || waiting.polls % LEADER_POLLS == LEADER_POLLS - 1 {
                self.poll_followers();
            }
            self.poll_leader();
            waiting.poll(|| format!("op {} has no quorum", self.op), self);
        }
        if !followers_answer && self.op.is_multiple_of(DRAIN_EVERY) {
            self.poll_followers();
        }
    }

    /// So many rounds, one at a time, each to its quorum; how long they took together.
    pub fn rounds(&mut self, count: u64) -> Duration {
        let since = Instant::now();
        for _ in 0..count {
            self.queue();
            self.flush();
            self.until_quorum();
        }
        since.elapsed()
    }

    /// Polls everybody until nothing is under way: all followers hold all ops, and the leader knows.
    pub fn settle(&mut self) {
        let mut waiting = Waiting::default();
        while !self.is_settled() {
            self.poll_followers();
            self.poll_leader();
            waiting.poll(|| format!("not everybody holds op {}: {:?}", self.op, self.logged), self);
        }
    }

    /// Whether the kernel answers in the followers' place.
    fn kernel_acknowledges(&self) -> bool {
        self.config.backend == Backend::Ebpf && self.config.offloads.fast_ack
    }

    fn is_settled(&self) -> bool {
        let acked = |member| self.endpoints[0].acked(ReplicaId(member as u8)).0;
        self.done == self.op
            && (1..self.config.members).all(|f| self.logged[f] == self.op && acked(f) == self.op)
    }

    fn poll_followers(&mut self) {
        for member in 1..self.config.members {
            self.poll_follower(member);
        }
    }

    /// Confirms that who was measured did the work. To be called once the group is settled.
    ///
    /// # Panics
    /// If the kernel left more than a tenth of its part to user space, or user space did nothing.
    pub fn verify(&self) {
        let mostly = |what: &str, count: u64, of: u64| {
            assert!(count * 10 >= of * 9, "{what}: {count} of {of} in {:?}", self.config);
        };
        let stats = |member: usize| self.endpoints[member].stats().expect("counters can be read");
        let (leader, peers) = (stats(0), self.config.members as u64 - 1);
        let offloads = match self.config.backend {
            Backend::Ebpf => self.config.offloads,
            _ => Offloads::NONE,
        };
        if offloads.broadcast && peers > 1 {
            mostly("copies by the kernel", leader.kernel(Verdict::CloneSent), self.op * peers);
        }
        if offloads.quorum {
            let votes = [Verdict::DropVote, Verdict::DropQuorumQuiet, Verdict::PassQuorum];
            let counted: u64 = votes.iter().map(|verdict| leader.kernel(*verdict)).sum();
            mostly("votes in the kernel", counted, self.op * (self.config.members as u64 / 2));
        }
        for follower in 1..self.config.members {
            let stats = stats(follower);
            if offloads.fast_ack {
                mostly("acks by the kernel", stats.kernel(Verdict::TxAck), self.op);
                mostly("batches logged by the kernel", stats.logged_by_kernel, self.op);
            } else {
                assert_eq!(stats.logged_by_user, self.op, "{:?}", self.config);
            }
        }
    }

    /// The leader's application message to each follower by itself, which is no carrier.
    pub fn send_messages(&mut self, count: usize) {
        for _ in 0..count {
            for member in 1..self.config.members {
                self.endpoints[0].send_to_member(ReplicaId(member as u8), &[0; 64]).expect("a member");
            }
            self.flush();
            self.poll_followers();
        }
    }
}

/// Waiting without sleeping, but not for ever.
#[derive(Default)]
struct Waiting {
    polls: u32,
    since: Option<Instant>,
}

impl Waiting {
    /// Called after each look. The first few cost nothing: normally one is enough.
    fn poll(&mut self, what: impl Fn() -> String, group: &Group) {
        self.polls += 1;
        if self.polls < 16 {
            return;
        }
        // Interrupt work may have been left to a kernel thread that waits for this processor.
        std::thread::yield_now();
        let since = *self.since.get_or_insert_with(Instant::now);
        assert!(since.elapsed() < DEADLINE, "{} after {DEADLINE:?}; {:?}", what(), group.config);
    }
}
