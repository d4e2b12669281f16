//! A leader: the acks of four members for many rounds at a time, each sent once, by one CPU or the other; user space recounts, reuses slots while the last acks of the rounds before are still on their way, and steps down and leads again
//! in the middle. L1 to L4, L8.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Condvar, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Hook, Offloads};
use electrode::fabric::Fabric;
use electrode::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use electrode::{Endpoint, Event, Round};

use super::CPUS;
use super::common::actor::{Actor, Prepare, socket};
use super::common::group::{PORT, open};
use super::common::hosts::{DEADLINE, pass_stubs};
use super::cpus::{Counters, pin_to};
use super::sender::{self, Port};

/// Members, the leader among them.
const MEMBERS: usize = 5;
const PEERS: u64 = MEMBERS as u64 - 1;
/// Rounds that begin together; all slots that there are.
const ROUNDS: u64 = 256;
/// Votes that complete a round: one member's may still be on its way when its slot goes to another.
const THRESHOLD: u32 = 3;

/// Rounds whose acks the senders send: all members', each once.
#[derive(Copy, Clone, Debug)]
struct Wave {
    epoch: Epoch,
    first: u64,
}

struct Fire<'f> {
    fabric: &'f Fabric,
    actors: Vec<Actor>,
    /// The waves so far, in the order in which their Prepares left.
    waves: Mutex<Vec<Wave>>,
    /// There is one more, or nothing more to do.
    more: Condvar,
    /// Where the CPUs meet, so that they send at the same time.
    start: Barrier,
    /// How many waves each CPU has sent.
    done: [AtomicU64; CPUS],
    /// Who waits for that.
    owner: Thread,
    sent: AtomicU64,
    stop: AtomicBool,
}

impl Fire<'_> {
    /// The next wave; `None` at the end.
    fn wave(&self, number: usize) -> Option<Wave> {
        let nothing = |waves: &mut Vec<Wave>| waves.len() <= number && !self.stop.load(Ordering::SeqCst);
        let waves = self.more.wait_while(self.waves.lock().unwrap(), nothing).unwrap();
        waves.get(number).copied()
    }

    /// One CPU: every other ack of each wave, so that the acks of a round, and those of a member, meet on two CPUs.
    fn send(&self, cpu: usize) {
        pin_to(cpu);
        let port = Port::new(self.fabric, 0, &self.sent);
        for number in 0.. {
            let Some(Wave { epoch, first }) = self.wave(number) else { return };
            let mine = |op: u64, member: u64| (op + member + number as u64) % CPUS as u64 == cpu as u64;
            let acks = (first..first + ROUNDS)
                .flat_map(|op| (1..=PEERS).map(move |member| (op, member)))
                .filter(|(op, member)| mine(*op, *member));
            let frames: Vec<_> = acks
                .map(|(op, member)| {
                    let prepare = Prepare { leader_epoch: epoch.0, ..Prepare::op(op) };
                    let ack = self.actors[member as usize - 1].ack_datagram(&prepare, op);
                    port.frame(member as usize, &ack)
                })
                .collect();
            self.start.wait();
            for frame in frames {
                while !port.send(&frame) {
                    std::thread::yield_now();
                }
            }
            self.done[cpu].store(number as u64 + 1, Ordering::SeqCst);
            self.owner.unpark();
        }
    }

    fn launch(&self, wave: Wave) {
        self.waves.lock().unwrap().push(wave);
        self.more.notify_all();
    }

    /// Whether every ack of every wave has left.
    fn all_sent(&self) -> bool {
        let waves = self.waves.lock().unwrap().len() as u64;
        self.done.iter().all(|done| done.load(Ordering::SeqCst) == waves)
    }
}

/// Sends the CPUs home whatever becomes of the test.
struct End<'a, 'f>(&'a Fire<'f>);

impl Drop for End<'_, '_> {
    fn drop(&mut self) {
        // Under the lock, or one that is about to wait would not hear of it.
        let _waves = self.0.waves.lock();
        self.0.stop.store(true, Ordering::SeqCst);
        self.0.more.notify_all();
    }
}

/// User space, and what it knows must come.
struct Owner<'f> {
    fire: &'f Fire<'f>,
    leader: Endpoint,
    counters: Counters,
    epoch: Epoch,
    /// Last op that was begun in this opening.
    begun: u64,
    /// Ops that were told complete in it.
    complete: u64,
}

impl Owner<'_> {
    fn lead(&mut self) {
        self.epoch = self.leader.gate().lead(View(0), OpNumber(0)).unwrap();
        (self.begun, self.complete) = (0, 0);
    }

    fn begin(&mut self) -> Wave {
        let first = self.begun + 1;
        for op in first..first + ROUNDS {
            let peers = ReplicaSet::all(MEMBERS).without(ReplicaId(0));
            let round = Round {
                first: OpNumber(op),
                last: OpNumber(op),
                commit: OpNumber(op - 1),
                tag: 0,
                targets: ReplicaSet::EMPTY,
                voters: peers,
                threshold: THRESHOLD,
                independent: false,
            };
            self.leader.elec_broadcast(&round, b"").unwrap();
        }
        self.begun += ROUNDS;
        Wave { epoch: self.epoch, first }
    }

    /// Rounds complete once, in order (L4).
    fn poll(&mut self) {
        let complete = &mut self.complete;
        let event = &mut |event: Event<'_>| {
            if let Event::Quorum { last, .. } = event {
                assert_eq!(last.0, *complete + 1, "a round completed twice, or not at all");
                *complete = last.0;
            }
        };
        self.leader.elec_poll_message(1024, event).unwrap();
        assert!(self.complete <= self.begun);
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !done(self) {
            assert!(
                since.elapsed() < DEADLINE,
                "{what}: epoch {:?}, {} of {} complete: {:?}",
                self.epoch,
                self.complete,
                self.begun,
                self.leader.stats()
            );
            self.poll();
            std::thread::yield_now();
        }
    }

    /// Until every ack that was sent has been judged.
    fn settle(&mut self) {
        let since = Instant::now();
        while !self.fire.all_sent() {
            assert!(since.elapsed() < DEADLINE, "acks do not leave: {:?}", self.leader.stats());
            std::thread::park_timeout(Duration::from_millis(10));
        }
        self.until("acks are judged", |owner| {
            owner.counters.judged() == owner.fire.sent.load(Ordering::SeqCst)
        });
    }

    /// Each ack was sent once and met an open gate: every vote is there, and every member's last op.
    fn assert_no_vote_lost(&mut self) {
        self.until("every round completes", |owner| owner.complete == owner.begun);
        for member in 1..=PEERS {
            let acked = self.leader.acked(ReplicaId(member as u8)).0;
            assert_eq!(acked, self.begun, "member {member}: an ack was lost");
        }
    }

    /// A wave of its own: three votes and one too many for each round, to the last one.
    fn wave_alone(&mut self) {
        use Verdict::{DropQuorumQuiet, DropVote, DropVoteRepeated, PassContended, PassQuorum};
        self.settle();
        let classes: [&[Verdict]; 3] = [&[DropVote], &[DropQuorumQuiet, PassQuorum], &[DropVoteRepeated]];
        let count = |owner: &Self| classes.map(|class| owner.counters.count(class));
        let contended = self.counters.count(&[PassContended]);
        let before = count(self);
        let wave = self.begin();
        self.fire.launch(wave);
        // Only the recount could reuse a slot, and nothing begins before all acks are judged.
        self.settle();
        self.assert_no_vote_lost();
        let after = count(self);
        let counted = [0, 1, 2].map(|i| after[i] - before[i]);
        // What lost too many swaps went to user space, which counted it.
        if self.counters.count(&[PassContended]) == contended {
            let votes = u64::from(THRESHOLD);
            let expected = [(votes - 1) * ROUNDS, ROUNDS, (PEERS - votes) * ROUNDS];
            assert_eq!(counted, expected, "votes below, at and above the threshold of {ROUNDS} rounds");
        }
    }

    /// Waves in a row: slots go on while each round's last ack is on its way.
    fn waves_in_a_row(&mut self, waves: u64) {
        for _ in 0..waves {
            let wave = self.begin();
            self.fire.launch(wave);
            self.until("every round completes", |owner| owner.complete == owner.begun);
        }
        self.settle();
        self.assert_no_vote_lost();
    }

    /// Steps down in the middle of a wave and begins the same ops in a new opening: the acks of the old one are not
    /// enough, however many there are, before those of the new one are sent.
    fn step_down(&mut self, acks: u64) {
        let old = self.begin();
        let sent = self.fire.sent.load(Ordering::SeqCst);
        self.fire.launch(old);
        self.until("acks leave", |owner| owner.fire.sent.load(Ordering::SeqCst) >= sent + acks);
        self.leader.gate().freeze(&mut |_| {}).unwrap();
        self.lead();
        let new = self.begin();
        self.settle();
        assert_eq!(self.complete, 0, "acks of an earlier opening completed a round");
        for member in 1..=PEERS {
            let acked = self.leader.acked(ReplicaId(member as u8));
            assert_eq!(acked, OpNumber(0), "member {member}: an ack of an earlier opening counted");
        }
        self.fire.launch(new);
        self.settle();
        self.assert_no_vote_lost();
    }
}

pub fn hammer(hook: Hook, time: Duration) {
    let fabric = sender::fabric(MEMBERS);
    let _stubs = pass_stubs(&fabric);
    let actors = (1..MEMBERS).map(|i| Actor::at(socket(fabric.host(i), PORT), i)).collect();
    let leader = open(&fabric, MEMBERS, 0, &|c: &mut EndpointConfig| {
        (c.backend, c.hook, c.quorum_window) = (Backend::Ebpf, hook, ROUNDS as u32);
        c.offloads = Offloads { quorum: true, ..Offloads::NONE };
    });
    let counters = Counters::of(fabric.host(0));
    let fire = Fire {
        fabric: &fabric,
        actors,
        waves: Mutex::default(),
        more: Condvar::new(),
        start: Barrier::new(CPUS),
        owner: std::thread::current(),
        done: Default::default(),
        sent: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    let mut openings = 0;
    std::thread::scope(|scope| {
        let _stop = End(&fire);
        for cpu in 0..CPUS {
            let fire = &fire;
            scope.spawn(move || fire.send(cpu));
        }
        let mut owner = Owner { fire: &fire, leader, counters, epoch: Epoch(0), begun: 0, complete: 0 };
        owner.lead();
        let started = Instant::now();
        for turn in 0u64.. {
            if started.elapsed() > time {
                break;
            }
            for _ in 0..4 {
                owner.wave_alone();
            }
            owner.waves_in_a_row(2);
            owner.step_down(turn * 37 % (ROUNDS * PEERS));
            openings += 1;
        }
        use Verdict::{DropQuorumQuiet, DropVote, DropVoteRepeated, DropVoteStale, PassFrozen, PassQuorum};
        let counted = [DropVote, DropQuorumQuiet, PassQuorum, DropVoteRepeated];
        owner.counters.assert_parallel(CPUS, &counted);
        let count = |verdict| owner.counters.count(&[verdict]);
        assert!(count(DropVoteStale) > 0, "no ack met the slot of another round");
        println!(
            "{hook:?}: {} acks, {openings} openings, {} stale, {} frozen",
            fire.sent.load(Ordering::SeqCst),
            count(DropVoteStale),
            count(PassFrozen)
        );
    });
}
