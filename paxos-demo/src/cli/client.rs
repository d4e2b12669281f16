//! Options of `client`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Options of `client`.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The group's cluster.toml.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Give up after so long [default: request_timeout_ms of the configuration].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub timeout_ms: Option<u64>,
    /// Network namespace from which the group is reached.
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
    /// The request.
    #[command(subcommand)]
    pub request: ClientRequestArgs,
}

/// Requests of `client`.
#[derive(Debug, Subcommand)]
pub enum ClientRequestArgs {
    /// Print a key's value.
    Get {
        /// The key.
        key: String,
    },
    /// Set a key.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: String,
    },
    /// Delete a key.
    Delete {
        /// The key.
        key: String,
    },
    /// Print what every replica says of itself.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}
