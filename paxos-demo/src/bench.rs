//! `paxos-demo bench`: backends side by side on this machine.
//!
//! A fresh group for every run. Within one repeat of one setting the backends run back to back, in turning
//! order, so that a slow minute of the machine hits both sides of a ratio ([`crate::report`]).

pub(crate) mod plan;
pub mod plot;
pub mod progress;
pub mod run;
pub mod table;
pub mod under_load;
mod verdict;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use self::progress::Progress;
use self::run::{Measured, RunSpec};
pub use self::verdict::verdict;
use crate::cli::{BackendChoice, BenchArgs, EXIT_DONE, EXIT_FAILED, EXIT_USAGE, PlotArgs};
use crate::cluster::ClusterError;
use crate::cluster::ready::write_atomically;
use crate::config::ClusterConfig;
use crate::measure;
use crate::report::{Host, Report};
use crate::session::Group;
use crate::stop::Stop;
use crate::workload::{self, LoadError};

/// Why a comparison was not made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A group did not run.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// One of several groups did not run.
    #[error("group {group}: {source}")]
    InGroup {
        /// Its number, from 1.
        group: usize,
        /// Why.
        source: ClusterError,
    },
    /// The load generator failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Another backend than the one asked for runs.
    #[error("the {asked} backend was asked for, and replica {id} runs {got}: {reason}")]
    WrongBackend {
        /// Asked for.
        asked: BackendChoice,
        /// The replica.
        id: usize,
        /// What it runs.
        got: String,
        /// What it says about that.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is no report.
    #[error("{}: {reason}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The reports are not of one series of runs.
    #[error("these reports cannot be drawn together: {reason}; draw each series of runs by itself")]
    Apart {
        /// What differs.
        reason: String,
    },
    /// A picture cannot be drawn.
    #[error("cannot draw {}: {reason}", path.display())]
    Draw {
        /// The file.
        path: PathBuf,
        /// What the library said.
        reason: String,
    },
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs the comparison; the exit code tells whether every answer was right.
pub fn run(args: &BenchArgs, stop: &Stop) -> Result<u8, BenchError> {
    if let Some(reason) = wrong_use(args) {
        eprintln!("error: {reason}");
        return Ok(EXIT_USAGE);
    }
    let plan = plan::plan(args);
    let mut progress = Progress::new(plan.len());
    let measured = match run_all(&plan, stop, &mut progress) {
        Err(error) => return interrupted(error),
        Ok(measured) => measured,
    };
    progress.finish();
    let report = report(&measured);
    println!("{}", table::comparison(&report));
    if let Some(path) = &args.json {
        write_json(&report, path)?;
    }
    if let Some(directory) = &args.plot {
        show(&plot::draw(std::slice::from_ref(&report), directory)?);
    }
    let code = verdict(&report, &measured);
    Ok(match args.at_least.and_then(|floor| verdict::below(&report, floor, args.repeat.into())) {
        Some(text) => {
            eprintln!("error: {text}");
            EXIT_FAILED
        }
        None => code,
    })
}

/// Who stops it with a signal learns what is left: nothing.
pub(crate) fn interrupted(error: BenchError) -> Result<u8, BenchError> {
    match error {
        BenchError::Cluster(ClusterError::Interrupted) => {
            eprintln!("interrupted; everything that was made is removed");
            Ok(EXIT_FAILED)
        }
        other => Err(other),
    }
}

/// Draws reports that were written before.
pub fn draw(args: &PlotArgs) -> Result<u8, BenchError> {
    let mut reports = Vec::new();
    for path in &args.reports {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BenchError::Read { path: path.clone(), source })?;
        reports.push(
            Report::from_json(&text).map_err(|reason| BenchError::Report { path: path.clone(), reason })?,
        );
    }
    let pictures = plot::draw(&reports, &args.out)?;
    show(&pictures);
    if pictures.is_empty() {
        eprintln!("nothing was varied in these runs, so there is nothing to draw");
    }
    Ok(EXIT_DONE)
}

fn show(pictures: &[PathBuf]) {
    pictures.iter().for_each(|path| println!("{}", path.display()));
}

/// What the flags ask for but cannot be.
fn wrong_use(args: &BenchArgs) -> Option<String> {
    if args.backends.contains(&BackendChoice::Auto) {
        return Some("--backends auto: name the backends to compare".to_owned());
    }
    if args.at_least.is_some() && args.each_offload {
        return Some("--at-least judges ebpf as a whole: leave --each-offload out".to_owned());
    }
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 1).into();
    let max = workload::payload_bytes_max(&Group::new(&ClusterConfig::new(1, vec![any])));
    let too_long = args.payload_bytes.iter().find(|bytes| **bytes > max)?;
    Some(format!("--payload-bytes {too_long}: one datagram holds values of up to {max} bytes"))
}

/// Makes the runs one after the other; stops at the first that cannot be made.
pub fn run_all(plan: &[RunSpec], stop: &Stop, progress: &mut Progress) -> Result<Vec<Measured>, BenchError> {
    plan.iter()
        .map(|spec| {
            progress.begin(&spec.title());
            let measured = run::measure(spec, stop, progress)?;
            progress.end(&table::one_line(&measured.run));
            for problem in &measured.problems {
                progress.note(&format!("    wrong: {problem}"));
            }
            Ok(measured)
        })
        .collect()
}

/// The report of these runs.
pub fn report(measured: &[Measured]) -> Report {
    let host = host(measured.iter().map(|m| (m.run.hook.as_str(), m.fabric)));
    Report::new(host, measured.iter().map(|m| m.run.clone()).collect())
}

/// This machine, of whose runs each had a hook, empty without eBPF, and a fabric.
pub(crate) fn host<'r>(mut runs: impl Iterator<Item = (&'r str, &'r str)> + Clone) -> Host {
    Host {
        kernel: measure::kernel_release(),
        cpus: measure::cpus(),
        fabric: runs.clone().next().map_or("", |(_, fabric)| fabric).to_owned(),
        hook: runs.find(|(hook, _)| !hook.is_empty()).map_or("", |(hook, _)| hook).to_owned(),
        commit: commit(),
    }
}

/// Writes the report.
pub fn write_json(report: &Report, path: &Path) -> Result<(), BenchError> {
    write_atomically(path, report.to_json().trim_end())
        .map_err(|source| BenchError::Write { path: path.to_owned(), source })
}

/// Names the commit that is measured; `scripts/bench` sets it before it builds.
const COMMIT_VARIABLE: &str = "ELECTRODE_COMMIT";

/// The commit that is measured: what [`COMMIT_VARIABLE`] says, for the source tree may change while a series of
/// comparisons runs; without it that of the tree that was built, if it is still there.
pub fn commit() -> String {
    said_or(std::env::var(COMMIT_VARIABLE).ok(), commit_of_tree)
}

fn said_or(said: Option<String>, tree: impl FnOnce() -> String) -> String {
    said.filter(|commit| !commit.is_empty()).unwrap_or_else(tree)
}

fn commit_of_tree() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR")])
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return String::new() };
    // Reports that are written meanwhile are no change of what is measured.
    let tree =
        ["status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude)bench/results"];
    let changed = git(&tree).is_some_and(|text| !text.is_empty());
    if changed { format!("{commit}-dirty") } else { commit }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    pub fn args(line: &str) -> BenchArgs {
        let words = ["paxos-demo", "bench"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).command {
            Command::Bench(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_commit_that_is_said_counts_more_than_that_of_the_tree() {
        let of = |said: Option<&str>| said_or(said.map(str::to_owned), || "tree".to_owned());
        assert_eq!([of(Some("abc")), of(Some("")), of(None)], ["abc", "tree", "tree"]);
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_starts() {
        assert_eq!(wrong_use(&args("")), None);
        assert!(wrong_use(&args("--backends udp,auto")).unwrap().contains("name the backends"));
        let text = wrong_use(&args("--payload-bytes 64,1400")).unwrap();
        assert!(text.contains("--payload-bytes 1400"), "{text}");
        assert_eq!(wrong_use(&args("--payload-bytes 0,1300")), None);
    }
}
