//! Options of `bench`.

use std::path::PathBuf;

use clap::Args;

use super::choices::{BackendChoice, FastPathArgs, Switch};
use super::values::{client_count, log_slots, replica_count, seconds};
use crate::config::{Durability, LOG_SLOTS_DEFAULT};
use crate::report::Batch;

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Sizes of the group.
    #[arg(long, value_delimiter = ',', default_value = "3,5,7", value_parser = replica_count)]
    pub replicas: Vec<usize>,
    /// Backends to compare: ebpf, udp, udp-sendto, udp-multicast.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "udp,ebpf")]
    pub backends: Vec<BackendChoice>,
    /// Clients, each with one request under way.
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_parser = client_count)]
    pub clients: Vec<usize>,
    /// Open loop: requests arrive at these rates a second, and wait for a client if all are busy. Without: a closed loop,
    /// in which every client asks as soon as it was answered.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Vec<u32>,
    /// Requests in a Prepare: 1 or auto.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub batch: Vec<Batch>,
    /// Size of the values.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    pub payload_bytes: Vec<usize>,
    /// Without and with keys: off, on or both.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "off")]
    pub authentication: Vec<Switch>,
    /// What an acknowledgement promises: memory, process, disk or several of them.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "memory")]
    pub durability: Vec<Durability>,
    /// Slots of a replica's log, powers of two from 16 to 65536. With fewer than 4096 the quorum window, that is twice the
    /// ops that may be in flight, is as small.
    #[arg(long, value_delimiter = ',', default_values_t = [LOG_SLOTS_DEFAULT], value_parser = log_slots)]
    pub log_slots: Vec<u32>,
    /// Have ebpf run with each of the offloads alone, too.
    #[arg(long)]
    pub each_offload: bool,
    /// Fail if ebpf answers fewer requests than so many times those of udp (the median of the pairs), or if a pair is
    /// missing.
    #[arg(long, value_name = "RATIO")]
    pub at_least: Option<f64>,
    /// Length of a run's measured window.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    /// Runs of each setting and backend.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub repeat: u16,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub fast_path: FastPathArgs,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the report's pictures (SVG) into this directory.
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
}
