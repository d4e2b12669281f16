//! Flags only.

use std::process::ExitCode;

use clap::Parser;
use paxos_demo::cli::{Cli, EXIT_FAILED};
use paxos_demo::commands;

fn main() -> ExitCode {
    match commands::run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
