//! Runs that ran beside each other, and the ratios of their figures.

use super::{quantile, round};

/// What of a run tells beside which others it ran.
pub trait Repeat {
    /// Number of the repeat: runs of one repeat were interleaved.
    fn repeat(&self) -> usize;
    /// Requests answered.
    fn requests(&self) -> u64;
}

/// Pairs of neighbours.
#[derive(Debug)]
pub struct Pairs<'r, R>(Vec<(&'r R, &'r R)>);

impl<'r, R: Repeat> Pairs<'r, R> {
    /// Each of these runs with the one of `base` in the same repeat. A run without a single answer has no ratio: its
    /// pair is left out.
    pub fn of(runs: impl Iterator<Item = &'r R>, base: impl Iterator<Item = &'r R>) -> Self {
        let answered = |run: &&R| run.requests() > 0;
        let base: Vec<&R> = base.filter(answered).collect();
        let beside = |run: &R| base.iter().find(|base| base.repeat() == run.repeat()).copied();
        Self(runs.filter(answered).filter_map(|run| Some((run, beside(run)?))).collect())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The median ratio of a figure; none without pairs, or if a ratio is not finite.
    pub fn median(&self, value: fn(&R) -> f64) -> Option<f64> {
        self.quantile(0.5, value)
    }

    /// The quartiles of these ratios.
    pub fn quartiles(&self, value: fn(&R) -> f64) -> Option<[f64; 2]> {
        Some([self.quantile(0.25, value)?, self.quantile(0.75, value)?])
    }

    fn quantile(&self, q: f64, value: fn(&R) -> f64) -> Option<f64> {
        let ratios: Vec<f64> = self.0.iter().map(|(run, base)| value(run) / value(base)).collect();
        quantile(&ratios, q).map(|ratio| round(ratio, 3))
    }
}
