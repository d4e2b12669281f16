//! `scripts/bench --peers`: our group beside other systems ([`bench::peers`]).

use std::path::PathBuf;
use std::process::ExitCode;

use bench::peers::{self, PeerRun, PeersReport, SCHEMA, Shape, System, ratio, table};
use clap::Parser;
use paxos_demo::bench::progress::Progress;
use paxos_demo::bench::run::{self, Measured};
use paxos_demo::bench::table::one_line;
use paxos_demo::cli::{EXIT_DONE, EXIT_FAILED};
use paxos_demo::report::Batch;
use paxos_demo::stop::Stop;

/// Our group beside other systems: same namespaces, same closed-loop clients, interleaved runs.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench --peers")]
struct Args {
    /// Size of the group.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=7))]
    replicas: u8,
    /// Closed-loop clients.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: Vec<u16>,
    /// Length of a run's measured window, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Runs of each system with each number of clients.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
    /// What to compare.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "ebpf,udp,omnipaxos,omnipaxos-plain,etcd"
    )]
    systems: Vec<System>,
    /// Requests in a Prepare of our leader: 1 or auto. The others batch as they like.
    #[arg(long, default_value = "auto")]
    batch: Batch,
    /// Size of the values.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(0..=1024))]
    payload_bytes: u16,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match compare(&Args::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

type Error = Box<dyn std::error::Error>;

fn compare(args: &Args) -> Result<u8, Error> {
    electrode::fabric::available()?;
    let stop = Stop::on_signals()?;
    let mut notes: Vec<String> = Vec::new();
    let mut systems = args.systems.clone();
    systems.retain(|system| match obstacle(*system) {
        Some(reason) => {
            notes.push(format!("{} is skipped: {reason}", system.as_str()));
            false
        }
        None => true,
    });
    notes.extend(systems.iter().filter_map(|system| peers::note(*system)).map(str::to_owned));
    notes.iter().for_each(|note| println!("{note}"));

    let mut progress = Progress::new(systems.len() * args.clients.len() * usize::from(args.repeat));
    let mut ours: Vec<Measured> = Vec::new();
    let mut runs: Vec<PeerRun> = Vec::new();
    let mut checked = 0;
    for repeat in 0..usize::from(args.repeat) {
        for clients in &args.clients {
            let shape = Shape {
                replicas: args.replicas.into(),
                clients: (*clients).into(),
                payload_bytes: args.payload_bytes.into(),
                seconds: args.seconds,
                batch: args.batch,
            };
            for system in peers::turned(&systems, repeat) {
                progress.begin(&format!("{}, clients: {clients}", system.as_str()));
                let problems = if system == System::Etcd {
                    let (run, outcome) = etcd(&shape, repeat, &stop)?;
                    progress.end(&format!("{:.0} requests/s", run.throughput_rps));
                    checked += outcome.checked;
                    runs.push(run);
                    outcome.problems
                } else {
                    let spec = system.run_spec(&shape, repeat, program(system)?);
                    let measured = run::measure(&spec, &stop, &mut progress)?;
                    progress.end(&one_line(&measured.run));
                    checked += measured.checked;
                    runs.push(PeerRun::of(system, &measured.run));
                    let problems = measured.problems.clone();
                    ours.push(measured);
                    problems
                };
                problems.iter().for_each(|problem| progress.note(&format!("    wrong: {problem}")));
            }
        }
    }
    progress.finish();
    let host = paxos_demo::bench::report(&ours).host;
    let ratios = ratio::ratios(&runs);
    let report = PeersReport { schema: SCHEMA, host, notes, runs, ratios };
    println!("{}", table::comparison(&report));
    report.notes.iter().for_each(|note| println!("{note}"));
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let errors: u64 = report.runs.iter().map(|run| run.errors).sum();
    if errors > 0 {
        eprintln!("error: {errors} of {checked} answers were wrong or missing (see above)");
        return Ok(EXIT_FAILED);
    }
    println!("All {checked} answers were right.");
    Ok(EXIT_DONE)
}

/// A program that was built beside this one.
fn program(system: System) -> Result<PathBuf, Error> {
    let path = std::env::current_exe()?.with_file_name(system.program());
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is missing: cargo build --release -p paxos-demo -p bench", path.display()).into())
}

/// Why a system cannot be measured here.
#[cfg(feature = "etcd")]
fn obstacle(system: System) -> Option<String> {
    if system == System::Etcd { peers::etcd::obstacle() } else { None }
}

/// Why a system cannot be measured here.
#[cfg(not(feature = "etcd"))]
fn obstacle(system: System) -> Option<String> {
    (system == System::Etcd).then(|| "this was built without the feature `etcd`".to_owned())
}

#[cfg(feature = "etcd")]
fn etcd(shape: &Shape, repeat: usize, stop: &Stop) -> Result<(PeerRun, peers::Checked), Error> {
    Ok(peers::etcd::measure(shape, repeat, stop)?)
}

#[cfg(not(feature = "etcd"))]
fn etcd(_: &Shape, _: usize, _: &Stop) -> Result<(PeerRun, peers::Checked), Error> {
    unreachable!("it has an obstacle")
}
