//! Options of `cluster`.

use std::path::PathBuf;

use clap::Args;

use super::choices::GroupArgs;
use super::values::replica_count;
use crate::report::Batch;

/// Options of `cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Replicas of the group.
    #[arg(long, default_value_t = 5, value_parser = replica_count)]
    pub replicas: usize,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub group: GroupArgs,
    /// Requests in a Prepare: 1 or auto.
    #[arg(long, default_value = "auto")]
    pub batch: Batch,
    /// Replica i serves Redis clients on this port plus i, on the loopback address.
    #[arg(long, value_name = "PORT", default_value_t = 7000)]
    pub resp_port: u16,
    /// Once every replica serves, write its address, pid and namespace to this file.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Start a replica that died again after so long, with its data directory.
    #[arg(long, value_name = "MS")]
    pub restart_after_ms: Option<u64>,
    /// Keep the replicas' state here [default: a temporary directory].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Make a key for the group: replicas believe each other by it.
    #[arg(long)]
    pub authenticated: bool,
    /// Run the replicas as this user; needs root. Their directories become that user's.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}
