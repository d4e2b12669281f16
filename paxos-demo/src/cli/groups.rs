//! Options of `groups`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::choices::BackendChoice;
use super::values::{client_count, group_count, replica_count, seconds};
use crate::report::Batch;

/// Where the leaders of several groups are.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leaders {
    /// All on one host.
    #[default]
    Together,
    /// On the hosts in turns.
    Spread,
}

/// Options of `groups`.
#[derive(Clone, Debug, Args)]
pub struct GroupsArgs {
    /// How many groups at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8", value_parser = group_count)]
    pub groups: Vec<u16>,
    /// Where their leaders are: together, spread.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "together")]
    pub leaders: Vec<Leaders>,
    /// Replicas of each group.
    #[arg(long, default_value_t = 3, value_parser = replica_count)]
    pub replicas: usize,
    /// Clients of each group, each with one request under way.
    #[arg(long, default_value_t = 16, value_parser = client_count)]
    pub clients: usize,
    /// Backends to compare: ebpf, udp, udp-sendto.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "udp,ebpf")]
    pub backends: Vec<BackendChoice>,
    /// Requests in a Prepare: 1 or auto.
    #[arg(long, default_value = "1")]
    pub batch: Batch,
    /// Length of a run's measured window.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    /// Runs of each number of groups and backend.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub repeat: u16,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
