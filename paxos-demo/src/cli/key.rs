//! Options of `key`.

use std::path::PathBuf;

use clap::Subcommand;

/// Steps of `key`.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyArgs {
    /// Make a key file with a new key, number 1.
    New {
        /// The file; there must be none yet.
        file: PathBuf,
    },
    /// Add a new key, which is accepted and not sent with.
    Add {
        /// The file.
        file: PathBuf,
    },
    /// Send with this key from now on.
    Send {
        /// The file.
        file: PathBuf,
        /// Number of the key.
        id: u32,
    },
    /// Remove a key that is not sent with.
    Drop {
        /// The file.
        file: PathBuf,
        /// Number of the key.
        id: u32,
    },
}
