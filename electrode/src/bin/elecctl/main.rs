//! `elecctl`: what this machine can do, what Electrode has attached, and removing what a crash left.

mod detach;
mod doctor;
mod status;
mod watch;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

type Failure = Box<dyn std::error::Error>;

/// Exit codes: 0 done, 1 failed, 2 wrong use.
const EXIT_FAILED: u8 = 1;

/// Looks at Electrode's programs in the kernel, and cleans up after crashes.
#[derive(Parser)]
#[command(name = "elecctl", version)]
struct Cli {
    /// Look at another network namespace, e.g. /proc/PID/ns/net of a replica or /run/netns/NAME.
    #[arg(long, global = true, value_name = "PATH")]
    netns: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tells what this machine can do, which backend `auto` would choose, and why.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// This interface alone.
        #[arg(long, value_name = "IF")]
        interface: Option<String>,
    },
    /// Lists what is attached now: hooks, programs, owners, gates, counters.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what the attached programs do, live, until Ctrl-C.
    Watch {
        /// As JSON, one document a line.
        #[arg(long)]
        json: bool,
        /// End after so many looks.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Time between two looks.
        #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
        interval_ms: u64,
    },
    /// Removes clsact filters that a crashed process left; never anything that is somebody's.
    Detach,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        // Whoever read the output has seen enough.
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("elecctl: {e}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    if let Some(path) = &cli.netns {
        enter(path).map_err(|e| format!("cannot enter the network namespace {}: {e}", path.display()))?;
    }
    let out = &mut io::stdout().lock();
    match cli.command {
        Command::Doctor { json, interface } => doctor::run(out, json, interface.as_deref())?,
        Command::Status { json } => status::run(out, json)?,
        Command::Watch { json, count, interval_ms } => {
            watch::run(out, json, count, std::time::Duration::from_millis(interval_ms))?;
        }
        Command::Detach => {
            if !detach::run(out)? {
                return Ok(ExitCode::from(EXIT_FAILED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Moves this process, which has one thread, into a network namespace.
fn enter(path: &Path) -> io::Result<()> {
    let namespace = File::open(path)?;
    // SAFETY: an open descriptor and no pointers.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Endpoints on hooks, or why they cannot be listed.
#[cfg(feature = "ebpf")]
fn installed() -> Result<Vec<electrode::inspect::Installed>, Failure> {
    Ok(electrode::inspect::installed()?)
}
