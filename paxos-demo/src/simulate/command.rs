//! `paxos-demo simulate`.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use super::check::Coverage;
use super::run::{Outcome, Setting, run_seed};
use super::whole::Programs;
use crate::cli::{EXIT_DONE, EXIT_FAILED, EXIT_USAGE, SimulateArgs};
use crate::plant::{Plant, UnknownPlant};

/// Lines of the trace that are shown with a violation.
const LINES: usize = 60;
/// Shorter runs need no progress bar.
const PROGRESS_AFTER: Duration = Duration::from_secs(2);

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// `--plant` with an unknown name.
    #[error(transparent)]
    Plant(#[from] UnknownPlant),
    /// The kernel's bug is in its model.
    #[error("{0} is planted in the model of the kernel's side: bytecode is without it")]
    Modelled(Plant),
    /// Kernel programs were asked for and cannot be had.
    #[error(transparent)]
    Programs(#[from] electrode::Error),
}

/// Runs the command; the exit code says whether a rule was broken.
pub fn simulate(args: &SimulateArgs) -> Result<u8, SimulateError> {
    let mut setting = Setting {
        replicas: args.replicas.map(usize::from),
        durability: args.durability,
        programs: args.fast_path,
        storm_ms: args.storm_ms,
        ..Setting::default()
    };
    match args.plant.as_deref() {
        Some("list") => {
            list();
            return Ok(EXIT_DONE);
        }
        Some(name) => match name.parse::<Plant>() {
            Ok(plant) => setting.plants = plant.into(),
            Err(error) => {
                eprintln!("error: {error}");
                return Ok(EXIT_USAGE);
            }
        },
        None => {}
    }
    if matches!(args.fast_path, Programs::Bytecode | Programs::Compare) {
        electrode::simulation::kernel_programs()?;
        if let Some(plant) =
            Plant::ALL.iter().find(|plant| setting.plants.has(**plant) && plant.is_modelled())
        {
            return Err(SimulateError::Modelled(*plant));
        }
    }
    let begun = Instant::now();
    let first = args.seed.unwrap_or(0);
    let summary = run_seeds(first, args.seeds, &setting, args.threads);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds from {first} on in {seconds:.1} s: {} ops committed, {} requests answered, {:.0} s of virtual time",
        summary.seeds,
        summary.ops,
        summary.answers,
        summary.virtual_ns as f64 / 1e9
    );
    let Coverage { lives, views, installs, snapshots, played_back } = summary.coverage;
    println!(
        "{lives} lives, {views} views began, {installs} logs installed, {snapshots} of them from a snapshot, \
         {played_back} frames of earlier lives played back"
    );
    match summary.violation {
        None if args.trace && args.seeds == 1 => {
            let outcome = run_seed(first, &Setting { trace: true, ..setting });
            outcome.lines.iter().for_each(|line| println!("{line}"));
            Ok(EXIT_DONE)
        }
        None => {
            println!("no rule was broken");
            Ok(EXIT_DONE)
        }
        Some(outcome) => {
            report(&outcome, args, &setting);
            Ok(EXIT_FAILED)
        }
    }
}

fn list() {
    for plant in Plant::ALL {
        println!("{:<4} {:<4} {}", plant.name(), plant.rule(), plant.describe());
    }
}

/// The same seed once more, this time with its trace.
fn report(outcome: &Outcome, args: &SimulateArgs, setting: &Setting) {
    let again = run_seed(outcome.seed, &Setting { trace: true, ..*setting });
    let skip = if args.trace { 0 } else { again.lines.len().saturating_sub(LINES) };
    if skip > 0 {
        println!("... {skip} earlier lines; --trace shows them");
    }
    again.lines.iter().skip(skip).for_each(|line| println!("{line}"));
    if again.trace_hash != outcome.trace_hash {
        println!("this run was not the same as before: the simulation itself is broken");
    }
    if let Some(violation) = &outcome.violation {
        println!("seed {}: {violation}", outcome.seed);
    }
    let fast_path = args.fast_path.to_possible_value().filter(|_| args.fast_path != Programs::Stepped);
    let mut again = format!("paxos-demo simulate --seeds 1 --seed {} --trace", outcome.seed);
    for (flag, value) in [
        ("--plant", args.plant.clone()),
        ("--replicas", args.replicas.map(|n| n.to_string())),
        ("--durability", args.durability.map(|d| d.to_string())),
        ("--storm-ms", args.storm_ms.map(|ms| ms.to_string())),
        ("--fast-path", fast_path.map(|value| value.get_name().to_owned())),
    ] {
        if let Some(value) = value {
            again.push_str(&format!(" {flag} {value}"));
        }
    }
    println!("again: {again}");
}

/// What many seeds came to.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub seeds: u64,
    pub ops: u64,
    pub answers: u64,
    pub coverage: Coverage,
    pub events: u64,
    pub virtual_ns: u64,
    /// Of the lowest seed that has one.
    pub violation: Option<Outcome>,
}

/// Runs seeds on all CPUs until one breaks a rule.
pub(super) fn run_seeds(first: u64, seeds: u64, setting: &Setting, threads: Option<usize>) -> Summary {
    let threads = threads.or_else(|| thread::available_parallelism().ok().map(NonZero::get)).unwrap_or(1);
    let next = AtomicU64::new(first);
    let end = first.saturating_add(seeds);
    let stop_at = AtomicU64::new(end);
    let (sender, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // Lower seeds than one that failed are still run, so that the lowest is told.
                    if seed >= stop_at.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = run_seed(seed, setting);
                    if outcome.violation.is_some() {
                        stop_at.fetch_min(seed, Ordering::Relaxed);
                    }
                    if sender.send(outcome).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        collect(&outcomes, seeds)
    })
}

fn collect(outcomes: &mpsc::Receiver<Outcome>, seeds: u64) -> Summary {
    let begun = Instant::now();
    let bar = ProgressBar::hidden();
    bar.set_length(seeds);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut shown = false;
    let mut summary = Summary::default();
    for outcome in outcomes {
        if !shown && begun.elapsed() > PROGRESS_AFTER {
            shown = true;
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
        bar.inc(1);
        summary.seeds += 1;
        summary.ops += outcome.ops;
        summary.answers += outcome.answers;
        summary.coverage += outcome.coverage;
        summary.events += outcome.events;
        summary.virtual_ns += outcome.virtual_ns;
        let lower = summary.violation.as_ref().is_none_or(|known| outcome.seed < known.seed);
        if outcome.violation.is_some() && lower {
            summary.violation = Some(outcome);
        }
    }
    bar.finish_and_clear();
    summary
}
