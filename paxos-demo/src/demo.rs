//! stub
use crate::{bench::BenchError, cli::DemoArgs, stop::Stop};
/// stub
pub fn run(_: &DemoArgs, _: &Stop) -> Result<u8, BenchError> {
    Ok(1)
}
