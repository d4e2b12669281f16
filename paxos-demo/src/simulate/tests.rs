//! The simulation tested: it replays, it is clean, and it notices.
//!
//! `paxos-demo simulate --seeds N` is the longer run of the same.

use super::command::run_seeds;
use super::run::{Setting, run_seed};
use crate::plant::Plant;

/// Seeds that are clean in every run of the tests.
const SEEDS: u64 = 2000;
/// Seeds within which each planted bug has to be noticed.
const PLANT_SEEDS: u64 = 1000;

#[test]
fn a_seed_replays_to_the_last_event() {
    for seed in 0..6 {
        let setting = Setting::default();
        let (one, two) = (run_seed(seed, &setting), run_seed(seed, &setting));
        assert_eq!((one.trace_hash, one.events), (two.trace_hash, two.events), "seed {seed}");
        assert!(one.ops > 0, "seed {seed} did something");
    }
}

#[test]
fn no_rule_is_broken() {
    let summary = run_seeds(0, SEEDS, &Setting::default(), None);
    if let Some(outcome) = summary.violation {
        panic!("seed {}: {}", outcome.seed, outcome.violation.expect("it has one"));
    }
    let coverage = summary.coverage;
    let enough =
        [coverage.views, coverage.snapshots, coverage.played_back].iter().all(|times| *times > SEEDS);
    assert!(enough, "too little happened: {coverage:?}");
}

#[test]
fn planted_bugs_are_noticed() {
    for plant in Plant::ALL {
        let setting = Setting { plants: (*plant).into(), ..Setting::default() };
        let summary = run_seeds(0, PLANT_SEEDS, &setting, None);
        let outcome = summary.violation.unwrap_or_else(|| {
            panic!("{plant} ({}) went unnoticed in {PLANT_SEEDS} seeds", plant.describe())
        });
        println!("{plant}: seed {}: {}", outcome.seed, outcome.violation.expect("it has one"));
    }
}
