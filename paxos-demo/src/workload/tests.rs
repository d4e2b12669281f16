use super::*;
use crate::config::ClusterConfig;
use crate::message::{Packet, ReplyStatus};
use crate::state_machine::KvStore;
use electrode::types::{ReplicaId, ReplicaSet, View};
use electrode::wire::Origin;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zerocopy::IntoBytes;

/// What a fake replica does with the n-th request that it gets.
enum Act {
    Serve,
    Ignore,
    ServeTwice,
    TurnDown(ReplyStatus, u8),
    /// Answers, but the store does not change.
    Forget,
}

struct FakeReplica {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl FakeReplica {
    fn start(socket: UdpSocket, config: &ClusterConfig, act: impl Fn(u64) -> Act + Send + 'static) -> Self {
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let group = Group::new(config);
        let origin = Origin {
            group: config.group,
            config_hash: config.config_hash(),
            sender: Some(ReplicaId(0)),
            incarnation: 1,
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut store = KvStore::default();
            // Exactly once, as a client table does it.
            let mut answered: HashMap<u64, (u64, Vec<u8>)> = HashMap::new();
            let mut buffer = [0; 2048];
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let Some(Packet::Request(request)) = group.parse(&buffer[..length]) else { continue };
                let act = act(count);
                count += 1;
                let (status, leader, times) = match act {
                    Act::Ignore => continue,
                    Act::Serve | Act::Forget => (ReplyStatus::Ok, 0, 1),
                    Act::ServeTwice => (ReplyStatus::Ok, 0, 2),
                    Act::TurnDown(status, leader) => (status, leader, 1),
                };
                let mut result = Vec::new();
                if status == ReplyStatus::Ok {
                    match answered.get(&request.client) {
                        Some((number, old)) if *number == request.request => result.clone_from(old),
                        _ if matches!(act, Act::Forget) => store.clone().apply(request.command, &mut result),
                        _ => store.apply(request.command, &mut result),
                    }
                    answered.insert(request.client, (request.request, result.clone()));
                }
                let reply = ClientReply {
                    status,
                    leader: ReplicaId(leader),
                    view: View(0),
                    client: request.client,
                    request: request.request,
                    attempt: request.attempt,
                    result: &result,
                };
                let mut datagram = origin
                    .message(View(0), ReplicaSet::EMPTY, reply.encoded_bytes() as u16)
                    .as_bytes()
                    .to_vec();
                reply.encode(&mut datagram);
                for _ in 0..times {
                    let _ = socket.send_to(&datagram, from);
                }
            }
            count
        });
        Self { address, stop, thread: Some(thread) }
    }

    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

fn sockets<const N: usize>() -> ([UdpSocket; N], ClusterConfig) {
    let sockets = [(); N].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut config = ClusterConfig::new(3, sockets.iter().map(|s| s.local_addr().unwrap()).collect());
    config.timeouts.client_retry_ms = 20;
    config.timeouts.request_timeout_ms = 1000;
    (sockets, config)
}

/// Drives `clients` sessions until `answers` answers came, then drains.
fn drive(config: &ClusterConfig, clients: usize, answers: u64) -> Outcome {
    drive_load(config, Load { clients, payload_bytes: 64, rate: None }, answers)
}

fn drive_load(config: &ClusterConfig, load: Load, answers: u64) -> Outcome {
    let group = Group::new(config);
    let control = Control::default();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| run(socket, &group, load, &control));
        for (phase, until) in [(Phase::Measure, answers / 2), (Phase::Drain, answers)] {
            while control.answered() < until && !run.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            control.enter(phase);
        }
        run.join().unwrap().unwrap()
    })
}

#[test]
fn a_correct_service_is_found_correct() {
    let ([socket], config) = sockets();
    let replica = FakeReplica::start(socket, &config, |_| Act::Serve);
    let outcome = drive(&config, 16, 2000);
    assert_eq!((outcome.errors, outcome.error_samples), (0, vec![]));
    assert!(outcome.checked >= 2000 + 16 * 4, "the keys are read once more: {}", outcome.checked);
    assert!(outcome.requests > 0 && outcome.requests <= outcome.checked);
    // A session that waited for longer than all answers when the window ended has none.
    assert!((outcome.requests..=outcome.requests + 16).contains(&outcome.latency.len()));
    assert!(outcome.seconds > 0.0);
    assert!(replica.stop() >= outcome.checked);
}

/// What one lost request holds up counts, too: a closed loop would have asked for nothing meanwhile.
#[test]
fn an_open_loop_omits_no_wait() {
    let lost = |n| if n == 700 { Act::Ignore } else { Act::Serve };
    let slow = |rate| {
        let ([socket], mut config) = sockets();
        config.timeouts.client_retry_ms = 100;
        let replica = FakeReplica::start(socket, &config, lost);
        let outcome = drive_load(&config, Load { clients: 1, payload_bytes: 64, rate }, 1000);
        assert_eq!((outcome.errors, outcome.error_samples), (0, vec![]));
        replica.stop();
        outcome.latency.count_between(50_000_000, u64::MAX)
    };
    // Of the 500 that arrive while the session waits 100 ms, half wait longer than 50 ms.
    assert!(slow(Some(5000.0)) >= 250);
    // Unless the machine itself is slow.
    assert!(slow(None) < 250);
}

/// A run in its window, with what each of three sessions asked so long ago, and the answers' times.
fn window_end(rate: Option<f64>, asked_ms: [u64; 3], answers_ms: &[u64]) -> Outcome {
    let ([socket], config) = sockets();
    let (group, control) = (Group::new(&config), Control::default());
    let load = Load { clients: 4, payload_bytes: 8, rate };
    let mut run = Run::new(socket, &group, load, &control).unwrap();
    let start = Instant::now();
    run.window_start = Some(start);
    let now = start + Duration::from_secs(1);
    for (client, ms) in run.clients.iter_mut().zip(asked_ms) {
        client.session.begin(&group, b"x", start);
        client.arrived = now - Duration::from_millis(ms);
    }
    answers_ms.iter().for_each(|ms| run.outcome.latency.record(ms * 1_000_000).unwrap());
    run.phase = Phase::Measure;
    control.enter(Phase::Drain);
    run.follow_phase(now);
    run.outcome
}

#[test]
fn who_has_no_answer_when_the_window_ends_counts() {
    let milliseconds = |outcome: &Outcome| {
        let values = outcome.latency.iter_recorded();
        values.map(|at| (at.value_iterated_to() as f64 / 1e6).round() as u64).collect::<Vec<_>>()
    };
    let open = window_end(Some(0.001), [1, 7, 30], &[2, 9]);
    assert_eq!(milliseconds(&open), [1, 2, 7, 9, 30]);
    let closed = window_end(None, [1, 7, 30], &[2, 9]);
    assert_eq!(milliseconds(&closed), [2, 9, 30], "the others have merely just asked");
    let stuck = window_end(None, [900, 900, 900], &[]);
    assert_eq!((stuck.latency.len(), stuck.requests, stuck.seconds), (3, 0, 1.0));
}

/// What was received when the phase changes was answered in the window, and in it the session asks again.
#[test]
fn what_came_before_the_end_of_the_window_is_measured() {
    let ([socket], mut config) = sockets();
    // The generator waits for the answer, however slow this machine is.
    config.timeouts.client_retry_ms = 40_000;
    config.timeouts.request_timeout_ms = 60_000;
    let (group, control) = (Group::new(&config), Control::default());
    let replica = FakeReplica::start(socket, &config, |_| Act::Serve);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut run =
        Run::new(client, &group, Load { clients: 1, payload_bytes: 8, rate: None }, &control).unwrap();
    run.phase = Phase::Measure;
    run.window_start = Some(Instant::now());
    // Already over when the first answer comes.
    control.enter(Phase::Drain);
    run.work().unwrap();
    assert_eq!((run.outcome.requests, run.outcome.latency.len()), (1, 1));
    replica.stop();
}

#[test]
fn only_a_session_that_is_alone_looks_before_it_sleeps() {
    let looks = |clients, rate| Load { clients, payload_bytes: 8, rate }.is_dialogue();
    assert!(looks(1, None));
    assert!(!looks(2, None) && !looks(1, Some(10.0)));
}

#[test]
fn lost_and_doubled_packets_are_healed() {
    let ([socket], config) = sockets();
    let replica = FakeReplica::start(socket, &config, |n| match n % 11 {
        3 => Act::Ignore,
        5 => Act::ServeTwice,
        7 => Act::TurnDown(ReplyStatus::TryAgain, 0),
        _ => Act::Serve,
    });
    let outcome = drive(&config, 4, 300);
    assert_eq!((outcome.errors, outcome.error_samples), (0, vec![]));
    assert!(outcome.retries >= 300 / 11, "{}", outcome.retries);
    replica.stop();
}

#[test]
fn a_forgotten_write_is_an_error_and_the_run_goes_on() {
    let ([socket], config) = sockets();
    // Of 4 x 8 requests all writes of a while are forgotten, so some session reads a key that should be there.
    let replica =
        FakeReplica::start(socket, &config, |n| if (20..60).contains(&n) { Act::Forget } else { Act::Serve });
    let outcome = drive(&config, 4, 1000);
    assert!(outcome.errors > 0);
    assert!(outcome.error_samples[0].contains("expected"), "{:?}", outcome.error_samples);
    assert!(outcome.checked > 1000);
    replica.stop();
}

#[test]
fn hints_lead_to_the_leader() {
    let ([first, second], config) = sockets();
    let wrong = FakeReplica::start(first, &config, |_| Act::TurnDown(ReplyStatus::NotLeader, 1));
    let leader = FakeReplica::start(second, &config, |_| Act::Serve);
    assert_eq!(leader.address, config.replicas[1]);
    let outcome = drive(&config, 8, 500);
    assert_eq!((outcome.errors, outcome.error_samples), (0, vec![]));
    assert!(wrong.stop() <= 8 * 2, "nobody goes on asking");
    assert!(leader.stop() >= 500);
}

#[test]
fn a_group_that_is_silent_is_counted_and_ends() {
    let ([socket], mut config) = sockets();
    config.timeouts.request_timeout_ms = 100;
    let replica = FakeReplica::start(socket, &config, |_| Act::Ignore);
    let group = Group::new(&config);
    let control = Control::default();
    control.enter(Phase::Drain);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let outcome = run(client, &group, Load { clients: 2, payload_bytes: 8, rate: None }, &control).unwrap();
    assert!(outcome.errors >= 2);
    assert!(outcome.error_samples[0].contains("may have been applied or not"));
    replica.stop();
}

#[test]
fn values_that_fit_no_datagram_are_refused() {
    let ([socket], config) = sockets();
    let group = Group::new(&config);
    let max = payload_bytes_max(&group);
    let control = Control::default();
    control.enter(Phase::Abort);
    let try_size = |payload_bytes| {
        run(socket.try_clone().unwrap(), &group, Load { clients: 1, payload_bytes, rate: None }, &control)
    };
    assert!(try_size(max).is_ok());
    assert!(matches!(try_size(max + 1), Err(LoadError::TooLong(_))));
}

/// How fast the generator is: `cargo test --release -p paxos-demo --lib generator_speed -- --ignored --nocapture`
#[test]
#[ignore = "a figure, not a test"]
fn generator_speed() {
    // Time on a CPU of the calling thread: the fake replica is not to be counted.
    let cpu_ns = || -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    };
    for clients in [1, 16, 64] {
        let ([socket], config) = sockets();
        let replica = FakeReplica::start(socket, &config, |_| Act::Serve);
        let (group, control) = (Group::new(&config), Control::default());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ns = std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                let outcome =
                    run(socket, &group, Load { clients, payload_bytes: 64, rate: None }, &control).unwrap();
                cpu_ns() / outcome.checked
            });
            std::thread::sleep(Duration::from_secs(2));
            control.enter(Phase::Drain);
            run.join().unwrap()
        });
        replica.stop();
        eprintln!("{clients} clients: {ns} ns of CPU a request, sockets included");
    }
}
