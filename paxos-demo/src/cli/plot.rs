//! Options of `plot`.

use std::path::PathBuf;

use clap::Args;

/// Options of `plot`.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Reports of `bench --json`.
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// Where the pictures (SVG) go.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
