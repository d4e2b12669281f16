//! stub
use crate::{cli::BenchArgs, cluster::ClusterError, stop::Stop};
/// stub
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// x
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}
/// stub
pub fn run(_: &BenchArgs, _: &Stop) -> Result<u8, BenchError> {
    Ok(1)
}
