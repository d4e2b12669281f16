//! Options of `soak`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::choices::{BackendChoice, HookChoice, Switch};
use super::values::{client_count, replica_count, seconds};
use crate::report::Batch;

/// Backends whose packets are all counted by destination.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SoakBackend {
    /// The kernel fast path.
    #[default]
    Ebpf,
    /// Kernel UDP.
    Udp,
}

impl From<SoakBackend> for BackendChoice {
    fn from(backend: SoakBackend) -> Self {
        match backend {
            SoakBackend::Ebpf => Self::Ebpf,
            SoakBackend::Udp => Self::Udp,
        }
    }
}

/// Options of `soak`.
#[derive(Clone, Debug, Args)]
pub struct SoakArgs {
    /// Replicas of the group.
    #[arg(long, default_value_t = 5, value_parser = replica_count)]
    pub replicas: usize,
    /// Clients, each with one request under way.
    #[arg(long, default_value_t = 64, value_parser = client_count)]
    pub clients: usize,
    /// Length of the load.
    #[arg(long, default_value_t = 600.0, value_parser = seconds)]
    pub seconds: f64,
    /// How packets are sent and handled.
    #[arg(long, value_enum, default_value_t)]
    pub backend: SoakBackend,
    /// Where the ingress programs are attached.
    #[arg(long, value_enum, default_value_t)]
    pub hook: HookChoice,
    /// Requests in a Prepare: 1 or auto.
    #[arg(long, default_value = "auto")]
    pub batch: Batch,
    /// Without or with keys.
    #[arg(long, value_enum, default_value = "off")]
    pub authentication: Switch,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
