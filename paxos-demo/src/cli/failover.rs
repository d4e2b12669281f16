//! Options of `failover`.

use std::path::PathBuf;

use clap::Args;

use super::choices::GroupArgs;
use super::values::surviving_count;
use crate::config::Timeouts;

/// Options of `failover`.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    /// Replicas of the group: at least three, or there is nobody to take over.
    #[arg(long, default_value_t = 3, value_parser = surviving_count)]
    pub replicas: usize,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub group: GroupArgs,
    /// Make a key for the group: replicas believe each other by it.
    #[arg(long)]
    pub authenticated: bool,
    /// Leaders to kill.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub kills: u32,
    /// After so long a silent leader is suspected.
    #[arg(long, value_name = "MS", default_value_t = Timeouts::default().leader_timeout_ms)]
    pub leader_timeout_ms: u64,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
