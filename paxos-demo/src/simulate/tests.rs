//! The simulation tested: it replays, it is clean, and it notices.

use super::command::run_seeds;
use super::run::{Setting, run_seed};
use crate::plant::Plant;

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
    let summary = run_seeds(0, 200, &Setting::default(), None);
    if let Some(outcome) = summary.violation {
        panic!("seed {}: {}", outcome.seed, outcome.violation.unwrap());
    }
}

#[test]
fn planted_bugs_are_noticed() {
    for plant in [Plant::A1, Plant::A7] {
        let setting = Setting { plants: plant.into(), ..Setting::default() };
        let summary = run_seeds(0, 1000, &setting, None);
        assert!(summary.violation.is_some(), "{plant} ({}) went unnoticed", plant.describe());
    }
}
