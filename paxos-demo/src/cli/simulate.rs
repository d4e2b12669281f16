//! Options of `simulate`.

use clap::Args;

use crate::config::Durability;
use crate::simulate::Programs;

/// `simulate`.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Breaks one rule on purpose; `list` names them.
    #[arg(long, value_name = "BUG")]
    pub plant: Option<String>,
    /// Replicas of each group; each seed draws 3 or 5 otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub replicas: Option<u8>,
    /// Durability; each seed draws one otherwise.
    #[arg(long, value_enum)]
    pub durability: Option<Durability>,
    /// Faults end after so long at most, in virtual time; each seed draws 1 to 6 seconds.
    #[arg(long, value_name = "MS")]
    pub storm_ms: Option<u64>,
    /// How kernel programs run.
    #[arg(long, value_enum, default_value_t)]
    pub fast_path: Programs,
    /// Shows the whole trace of a violation, or of a single seed.
    #[arg(long)]
    pub trace: bool,
    /// Seeds at a time; as many as there are CPUs otherwise.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}
