//! Real clusters under real faults: processes that are killed and stopped, cables that lose, copy, delay and
//! are cut, logs that are full. Whatever happens, what clients saw must be linearizable, and every write that
//! was answered must be there when it is over.
//!
//! `ELECTRODE_FAULTS_SECONDS` is how long each run makes trouble, `ELECTRODE_FAULTS_SEED` what kind: the seed
//! decides what goes wrong and when, the machine decides the rest.

#![cfg(feature = "ebpf")]

#[path = "../common/mod.rs"]
mod common;
mod nemesis;
mod recorder;
mod site;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use electrode::abi::Verdict;
use paxos_demo::cli::BackendChoice;
use paxos_demo::cluster::Spec;
use paxos_demo::config::Durability;
use paxos_demo::linearize::number::{Answer, NumberOperation, Request};
use paxos_demo::linearize::{BUDGET, check_keys};

use self::common::signal;
use self::nemesis::{Nemesis, Trouble};
use self::recorder::{History, Recorder, decode, encode, key_name};
use self::site::Site;

/// Requests that a run must get answered; some of them are writes of keys of their own.
const ANSWERED_MIN: u64 = 110_000;
/// Operations on keys that clients share, which the history must hold.
const OPERATIONS_MIN: usize = 100_000;
/// How long trouble is made, unless the environment says otherwise.
const SECONDS: u64 = 12;

/// One cluster at a time: two would only take each other's processor.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn seconds() -> Duration {
    Duration::from_secs(number("ELECTRODE_FAULTS_SECONDS", SECONDS))
}

fn seed() -> u64 {
    let seed = number("ELECTRODE_FAULTS_SEED", 1);
    println!("ELECTRODE_FAULTS_SEED={seed}");
    seed
}

fn spec(replicas: usize, backend: BackendChoice) -> Spec {
    let mut spec = Spec::new(replicas).unwrap();
    spec.program = common::program();
    spec.backend = backend;
    spec
}

fn record(site: &Site, clients: usize, pause: Duration, seed: u64) -> Recorder {
    Recorder::start(site.cluster.client_socket().unwrap(), &site.cluster.group(), clients, pause, seed)
}

/// The end of every run: no faults, all replicas equal, every answered write there, the history in order.
fn judge(mut site: Site, recorder: Recorder) {
    site.faults.heal().unwrap();
    site.await_normal(site.replicas());
    // In steps: a slow machine takes its time, one where nothing happens does not.
    for step in 1..=10 {
        let enough = || (recorder.answered() >= ANSWERED_MIN / 10 * step).then_some(());
        common::wait_for("answers", enough);
    }
    let mut history = recorder.finish();
    site.await_agreement();
    read_all(&site, &mut history);
    site.await_agreement();
    let operations: usize = history.keys.values().map(Vec::len).sum();
    println!(
        "{} answered, {} unknown, {} refused, {} retries; {operations} operations on {} keys, {} written once; {:?}",
        history.answered,
        history.unknown,
        history.refused,
        history.retries,
        history.keys.len(),
        history.kept.len(),
        site.faults.counts().unwrap()
    );
    assert!(operations >= OPERATIONS_MIN, "{operations} operations are too few to say anything");
    let histories = history.keys.iter().map(|(key, operations)| (*key, operations.as_slice()));
    if let Err(failure) = check_keys(histories, BUDGET) {
        panic!("{failure}");
    }
}

/// Reads everything once more: what was written once must be there, the rest becomes the history's end.
fn read_all(site: &Site, history: &mut History) {
    let mut client = site.cluster.client().unwrap();
    let mut get = |name: &str| decode(&client.request(&encode(name.as_bytes(), Request::Get)).unwrap());
    for (name, number) in &history.kept {
        assert_eq!(get(name), Answer::Number(*number), "{name} was answered and is gone");
    }
    let last = history.keys.values().flatten().filter_map(|o| o.answered).map(|(at, _)| at).max();
    let end = last.unwrap_or(0) + 1;
    for (key, operations) in &mut history.keys {
        let answer = get(&key_name(*key));
        operations.push(NumberOperation {
            called: end,
            request: Request::Get,
            answered: Some((end, answer)),
        });
    }
}

fn run(spec: Spec, kinds: &'static [Trouble], first: impl FnOnce(&mut Site)) {
    let _alone = alone();
    let seed = seed();
    let mut site = Site::start(spec);
    let recorder = record(&site, 24, Duration::from_millis(2), seed);
    first(&mut site);
    Nemesis::new(kinds, seed).rage(&mut site, seconds());
    judge(site, recorder);
}

fn leaders_die(backend: BackendChoice) {
    run(spec(3, backend), &[Trouble::KillLeader, Trouble::KillLeader, Trouble::KillAny], |_| {});
}

fn everything_happens(backend: BackendChoice) {
    run(
        spec(5, backend),
        &[
            Trouble::KillLeader,
            Trouble::KillMinority,
            Trouble::PauseLeader,
            Trouble::PauseFollower,
            Trouble::MuteLeader,
            Trouble::DeafLeader,
            Trouble::Split,
            Trouble::CutOne,
            Trouble::Noise,
            Trouble::Noise,
        ],
        |_| {},
    );
}

/// Logs of a few slots and followers that do not look: the kernel's log is full all the time.
fn logs_are_full(backend: BackendChoice) {
    let mut spec = spec(3, backend);
    spec.log_slots = 64;
    let kinds = &[Trouble::PauseFollower, Trouble::PauseFollower, Trouble::Noise, Trouble::KillAny];
    run(spec, kinds, |site| {
        if backend == BackendChoice::Ebpf {
            starve_until_full(site);
        }
    });
}

/// Stops a follower, again and again, until its kernel has said that the log is full.
fn starve_until_full(site: &mut Site) {
    let since = Instant::now();
    let follower = (site.leader().expect("nothing happened yet") + 1) % site.replicas();
    let full = |site: &mut Site| {
        let status = site.statuses().swap_remove(follower);
        status.is_some_and(|status| status.node.verdicts.contains_key(Verdict::PassLogFull.name()))
    };
    while !full(site) {
        assert!(since.elapsed() < common::PATIENCE, "the log of replica {follower} does not fill");
        let pid = site.cluster.pid(follower).expect("nobody was killed yet");
        signal(pid, libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(200));
        signal(pid, libc::SIGCONT);
    }
}

/// Disk: all die at once, again and again.
fn all_die_at_once(backend: BackendChoice) {
    let _alone = alone();
    let mut spec = spec(3, backend);
    spec.durability = Durability::Disk;
    let seed = seed();
    let mut site = Site::start(spec);
    // Many at once: they share the syncs.
    let recorder = record(&site, 64, Duration::ZERO, seed);
    let (began, mut rng) = (Instant::now(), fastrand::Rng::with_seed(seed));
    while began.elapsed() < seconds() {
        std::thread::sleep(Duration::from_millis(rng.u64(300..2000)));
        for id in 0..3 {
            signal(site.cluster.pid(id).unwrap(), libc::SIGKILL);
        }
        for id in 0..3 {
            site.cluster.kill(id).unwrap();
            site.cluster.restart(id).unwrap();
        }
        site.await_normal(3);
    }
    judge(site, recorder);
}

macro_rules! on_both_backends {
    ($($run:ident: $udp:ident, $ebpf:ident;)*) => { $(
        #[test]
        fn $udp() {
            if common::privileged(stringify!($udp)) {
                $run(BackendChoice::Udp);
            }
        }

        #[test]
        fn $ebpf() {
            if common::privileged(stringify!($ebpf)) {
                $run(BackendChoice::Ebpf);
            }
        }
    )* };
}

on_both_backends! {
    leaders_die: leaders_die_over_udp, leaders_die_over_ebpf;
    everything_happens: everything_happens_over_udp, everything_happens_over_ebpf;
    logs_are_full: logs_are_full_over_udp, logs_are_full_over_ebpf;
    all_die_at_once: all_die_at_once_over_udp, all_die_at_once_over_ebpf;
}
