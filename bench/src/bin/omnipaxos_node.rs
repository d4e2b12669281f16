//! `omnipaxos_node replica ...`: a replica over OmniPaxos, with the command line of `paxos-demo replica`, so that
//! whatever starts the one starts the other. Flags only; [`bench::omni`] is the node.

use std::process::ExitCode;

use bench::omni::NodeError;
use clap::Parser;
use paxos_demo::cli::{Cli, Command, EXIT_FAILED, EXIT_USAGE};

fn main() -> ExitCode {
    let Command::Replica(args) = Cli::parse().command else {
        eprintln!("error: this is a replica, and nothing else");
        return ExitCode::from(EXIT_USAGE);
    };
    match bench::omni::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if matches!(error, NodeError::Backend(_)) { EXIT_USAGE } else { EXIT_FAILED })
        }
    }
}
