//! The simulation with the bytecode as its fast path: the same seeds, the same checkers, and the same to the last
//! event as with the model of the programs.
//!
//! `paxos-demo simulate --fast-path compare` is the longer run of the same.
#![cfg(feature = "ebpf")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use common::privileged;
use electrode::abi::Verdict;
use paxos_demo::plant::Plant;
use paxos_demo::simulate::{Coverage, Outcome, Programs, Setting, run_seed};

const SEEDS: u64 = 200;
const THREADS: usize = 2;
/// Loading takes half of the time, a life of a replica one load: shorter runs, not fewer seeds.
const STORM_MS: u64 = 1000;
/// Seeds within which a bug of user space has to be noticed.
const PLANT_SEEDS: u64 = 40;

/// What programs must have come to. Nobody is beside them, no batch exceeds its slot and none overlaps: those
/// verdicts are the fixtures'.
const REACHED: [Verdict; 19] = [
    Verdict::PassMessage,
    Verdict::PassFrozen,
    Verdict::PassViewNew,
    Verdict::PassGap,
    Verdict::PassLogFull,
    Verdict::DropChecksum,
    Verdict::DropViewOld,
    Verdict::DropSource,
    Verdict::DropTag,
    Verdict::DropKey,
    Verdict::DropNotDurable,
    Verdict::DropLogged,
    Verdict::DropCommit,
    Verdict::DropVote,
    Verdict::DropVoteStale,
    Verdict::DropQuorumQuiet,
    Verdict::PassQuorum,
    Verdict::TxAck,
    Verdict::TxAckRepeated,
];

/// One test at a time: each counts what this process holds.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs seeds until one breaks a rule, and hands out the others.
fn run(seeds: u64, setting: impl Fn(u64) -> Setting + Sync) -> (Vec<Outcome>, Option<Outcome>) {
    let next = AtomicU64::new(0);
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = run_seed(seed, &setting(seed));
                    if outcome.violation.is_some() {
                        next.store(seeds, Ordering::Relaxed);
                    }
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let (broken, clean) = outcomes.into_inner().unwrap().into_iter().partition(|o| o.violation.is_some());
    let broken: Vec<_> = broken;
    (clean, broken.into_iter().min_by_key(|outcome| outcome.seed))
}

/// Descriptors of programs and maps, and mapped maps, that this process holds.
fn objects() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let open = targets.filter(|target| target.to_string_lossy().contains("bpf")).count();
    let mapped = std::fs::read_to_string("/proc/self/maps").unwrap();
    open + mapped.lines().filter(|line| line.contains("bpf")).count()
}

#[test]
fn the_same_seed_gives_the_same_with_model_and_bytecode() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !privileged("bytecode in the simulation") {
        return;
    }
    assert_eq!(objects(), 0, "nothing is loaded yet");
    // The seeds' own mix of sizes, and in one of four each size in turn.
    let replicas = |seed: u64| (seed % 4 == 3).then_some(2 + seed as usize / 4 % 6);
    let (clean, broken) = run(SEEDS, |seed| Setting {
        replicas: replicas(seed),
        programs: Programs::Compare,
        storm_ms: Some(STORM_MS),
        ..Setting::default()
    });
    if let Some(outcome) = broken {
        let size = replicas(outcome.seed).map(|n| format!(" --replicas {n}")).unwrap_or_default();
        panic!(
            "seed {}{size} --storm-ms {STORM_MS}: {}",
            outcome.seed,
            outcome.violation.expect("it has one")
        );
    }
    let mut coverage = Coverage::default();
    clean.iter().for_each(|outcome| coverage += outcome.coverage);
    assert_eq!(clean.len() as u64, SEEDS);
    let verdicts: BTreeSet<_> = clean.iter().flat_map(|outcome| outcome.verdicts.keys().copied()).collect();
    let missing: Vec<_> = REACHED.iter().filter(|verdict| !verdicts.contains(verdict)).collect();
    assert!(missing.is_empty(), "never came to {missing:?}");
    assert!(coverage.lives > 5 * SEEDS && coverage.views > SEEDS, "too little happened: {coverage:?}");
    assert_eq!(objects(), 0, "programs and maps go with their lives");
}

#[test]
fn bugs_of_user_space_are_noticed_over_bytecode() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !privileged("planted bugs over bytecode") {
        return;
    }
    // Two in the endpoint, one in the replica.
    for plant in [Plant::A5, Plant::A6, Plant::B1] {
        let setting = Setting { plants: plant.into(), programs: Programs::Bytecode, ..Setting::default() };
        let (_, broken) = run(PLANT_SEEDS, |_| setting);
        let outcome = broken.unwrap_or_else(|| panic!("{plant} went unnoticed in {PLANT_SEEDS} seeds"));
        println!("{plant}: seed {}: {}", outcome.seed, outcome.violation.expect("it has one"));
    }
    assert_eq!(objects(), 0, "also where a run ends early");
}
