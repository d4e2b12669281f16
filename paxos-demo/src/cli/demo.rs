//! Options of `demo`.

use std::path::PathBuf;

use clap::Args;

use super::choices::BackendChoice;
use super::values::{replica_count, seconds};

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Replicas of the group.
    #[arg(long, default_value_t = 5, value_parser = replica_count)]
    pub replicas: usize,
    /// Length of each measured window.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// eBPF beside UDP where possible (auto), or one of them alone.
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendChoice,
    /// Make a key for each group: replicas believe each other by it.
    #[arg(long)]
    pub authenticated: bool,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
