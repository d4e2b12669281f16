//! `paxos-demo bench`: backends side by side on this machine.
//!
//! A fresh group for every run. Within one repeat of one setting the backends run back to back, in turning
//! order, so that a slow minute of the machine hits both sides of a ratio ([`crate::report`]).

pub mod plot;
pub mod progress;
pub mod run;
pub mod table;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use self::progress::Progress;
use self::run::{Measured, RunSpec};
use crate::cli::{BackendChoice, BenchArgs, EXIT_DONE, EXIT_FAILED, EXIT_USAGE, PlotArgs, Switch};
use crate::cluster::ClusterError;
use crate::cluster::ready::write_atomically;
use crate::config::{ClusterConfig, OffloadChoice};
use crate::measure;
use crate::report::{BASELINE, Host, Report, Setting, Summary};
use crate::session::Group;
use crate::stop::Stop;
use crate::workload::{self, LoadError};

/// Why a comparison was not made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A group did not run.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
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
    let plan = plan(args);
    let mut progress = Progress::new(plan.len());
    let measured = match run_all(&plan, stop, &mut progress) {
        Err(BenchError::Cluster(ClusterError::Interrupted)) => {
            eprintln!("interrupted; everything that was made is removed");
            return Ok(EXIT_FAILED);
        }
        other => other?,
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
    Ok(match args.at_least.and_then(|floor| below(&report, floor)) {
        Some(text) => {
            eprintln!("error: {text}");
            EXIT_FAILED
        }
        None => code,
    })
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
        eprintln!("error: nothing was varied in these runs, so there is nothing to draw");
        return Ok(EXIT_FAILED);
    }
    Ok(EXIT_DONE)
}

fn show(pictures: &[PathBuf]) {
    pictures.iter().for_each(|path| println!("{}", path.display()));
}

/// Where ebpf with all that was asked for is less than `floor` times as fast as udp, if anywhere.
fn below(report: &Report, floor: f64) -> Option<String> {
    let ebpf = BackendChoice::Ebpf.as_str();
    let mut compared = report.summary.iter().filter(|s| s.backend == ebpf && s.vs == BASELINE).peekable();
    if compared.peek().is_none() {
        return Some(format!("--at-least {floor}: nothing was compared; it takes --backends udp,ebpf"));
    }
    let slow = compared.find(|s| s.throughput_ratio < floor)?;
    let Summary { throughput_ratio, setting, pairs, .. } = slow;
    Some(format!(
        "ebpf was {throughput_ratio} times as fast as udp, less than {floor} ({setting}; {pairs} pairs)"
    ))
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

/// All runs, in their order.
fn plan(args: &BenchArgs) -> Vec<RunSpec> {
    let settings = settings(args);
    let mut plan = Vec::new();
    for repeat in 0..usize::from(args.repeat) {
        // What is compared is neighbours.
        for setting in &settings {
            let with = |switch: &Switch| Setting { authentication: *switch == Switch::On, ..*setting };
            let mut compared: Vec<_> = args
                .authentication
                .iter()
                .map(with)
                .flat_map(|setting| {
                    let backends = args.backends.iter().flat_map(|backend| offloads(args, *backend));
                    backends.map(move |(backend, offloads)| (backend, offloads, setting))
                })
                .collect();
            // Nobody is always first on a machine that has just rested.
            if repeat % 2 == 1 {
                compared.reverse();
            }
            plan.extend(compared.into_iter().map(|(backend, offloads, setting)| RunSpec {
                backend,
                setting,
                offloads,
                hook: args.fast_path.hook,
                seconds: args.seconds,
                repeat,
                program: None,
            }));
        }
    }
    plan
}

/// Every combination of what the flags list, without keys.
fn settings(args: &BenchArgs) -> Vec<Setting> {
    let closed = [None];
    let open: Vec<_> = args.rate.iter().copied().map(Some).collect();
    let rates = if open.is_empty() { closed.as_slice() } else { &open };
    let mut settings = Vec::new();
    for &replicas in &args.replicas {
        for &clients in &args.clients {
            for &rate_rps in rates {
                for &batch in &args.batch {
                    settings.extend(args.payload_bytes.iter().map(|&payload_bytes| Setting {
                        replicas,
                        clients,
                        rate_rps,
                        payload_bytes,
                        batch,
                        durability: args.fast_path.durability,
                        authentication: false,
                    }));
                }
            }
        }
    }
    settings
}

/// A backend with the offloads that were asked for, and perhaps with each alone.
fn offloads(args: &BenchArgs, backend: BackendChoice) -> Vec<(BackendChoice, OffloadChoice)> {
    let none = OffloadChoice::NONE;
    let alone = [
        OffloadChoice { broadcast: true, ..none },
        OffloadChoice { fast_ack: true, ..none },
        OffloadChoice { quorum: true, ..none },
    ];
    let each = if args.each_offload && backend == BackendChoice::Ebpf { &alone[..] } else { &[] };
    each.iter().copied().chain([args.fast_path.offloads]).map(|offloads| (backend, offloads)).collect()
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
    let hooks = measured.iter().map(|m| m.run.hook.as_str()).find(|hook| !hook.is_empty());
    let host = Host {
        kernel: measure::kernel_release(),
        cpus: measure::cpus(),
        hook: hooks.unwrap_or_default().to_owned(),
        fabric: measured.first().map_or("", |m| m.fabric).to_owned(),
        commit: commit(),
    };
    Report::new(host, measured.iter().map(|m| m.run.clone()).collect())
}

/// Says whether all was right, and the exit code for it.
pub fn verdict(report: &Report, measured: &[Measured]) -> u8 {
    let checked: u64 = measured.iter().map(|m| m.checked).sum();
    if report.errors() > 0 {
        eprintln!("error: {} of {checked} answers were wrong or missing (see above)", report.errors());
        return EXIT_FAILED;
    }
    println!("All {checked} answers were right, and in every run all replicas ended in the same state.");
    EXIT_DONE
}

/// Writes the report.
pub fn write_json(report: &Report, path: &Path) -> Result<(), BenchError> {
    write_atomically(path, report.to_json().trim_end())
        .map_err(|source| BenchError::Write { path: path.to_owned(), source })
}

/// The commit of the source tree that was built, if it is still there.
pub fn commit() -> String {
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
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if changed { format!("{commit}-dirty") } else { commit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn args(line: &str) -> BenchArgs {
        let words = ["paxos-demo", "bench"].into_iter().chain(line.split_whitespace());
        match Cli::parse_from(words).command {
            Command::Bench(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn backends_are_interleaved_in_turning_order() {
        let plan = plan(&args("--replicas 3,5 --clients 1,16 --backends udp,ebpf --repeat 2"));
        assert_eq!(plan.len(), 2 * 2 * 2 * 2);
        for pair in plan.chunks(2) {
            assert_eq!(pair[0].setting, pair[1].setting);
            assert_eq!(pair[0].repeat, pair[1].repeat);
            assert_ne!(pair[0].backend, pair[1].backend);
        }
        assert_eq!(plan[0].backend, BackendChoice::Udp);
        assert_eq!(plan[8].backend, BackendChoice::Ebpf);
        assert_eq!(plan[8].repeat, 1);
    }

    #[test]
    fn runs_with_and_without_keys_are_neighbours() {
        let plan =
            plan(&args("--replicas 3 --clients 1,16 --backends udp,ebpf --authentication off,on --repeat 2"));
        assert_eq!(plan.len(), 2 * 2 * 2 * 2);
        for four in plan.chunks(4) {
            let with: Vec<_> = four.iter().filter(|spec| spec.setting.authentication).collect();
            assert_eq!(with.len(), 2);
            assert_ne!(with[0].backend, with[1].backend);
            assert!(four.iter().all(|spec| spec.setting.clients == four[0].setting.clients));
            assert!(four.iter().all(|spec| spec.repeat == four[0].repeat));
        }
        assert!(!plan[0].setting.authentication && plan[8].setting.authentication, "in turning order");
    }

    #[test]
    fn rates_and_single_offloads_are_runs_of_their_own() {
        let plan = plan(&args("--replicas 3 --clients 64 --rate 1000,2000 --each-offload --repeat 1"));
        let runs: Vec<_> = plan
            .iter()
            .map(|spec| (spec.setting.rate_rps, spec.backend, spec.offloads.names().len()))
            .collect();
        let (udp, ebpf) = (BackendChoice::Udp, BackendChoice::Ebpf);
        let at = |rate| [(rate, udp, 3), (rate, ebpf, 1), (rate, ebpf, 1), (rate, ebpf, 1), (rate, ebpf, 3)];
        assert_eq!(runs, [at(Some(1000)), at(Some(2000))].concat());
    }

    #[test]
    fn a_ratio_below_the_floor_is_a_failure() {
        let host = Host {
            kernel: String::new(),
            cpus: 2,
            hook: "tc".into(),
            fabric: "bridge".into(),
            commit: String::new(),
        };
        use crate::report::tests::run;
        let report = Report::new(host, vec![run("udp", 0, 100.0), run("ebpf", 0, 150.0)]);
        assert_eq!(below(&report, 1.5), None);
        assert!(below(&report, 1.6).unwrap().contains("1.5 times"));
        let report = Report::new(report.host, vec![run("ebpf", 0, 150.0)]);
        assert!(below(&report, 1.0).unwrap().contains("nothing was compared"));
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
