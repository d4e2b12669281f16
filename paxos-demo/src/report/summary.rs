//! What runs have in common, and the ratios of those that ran beside each other.

use serde::{Deserialize, Serialize};

use super::{BASELINE, Pairs, Repeat, Run, Setting, quantile};
use crate::cli::BackendChoice;
use crate::config::{Durability, OffloadChoice};

impl Repeat for Run {
    fn repeat(&self) -> usize {
        self.repeat
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}

/// What repeats of a run have in common.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Series<'r> {
    /// The backend.
    pub backend: &'r str,
    /// Offloads that were on.
    pub offloads: &'r [String],
    /// What makes runs comparable.
    pub setting: Setting,
}

impl<'r> Series<'r> {
    /// That of a run.
    pub fn of(run: &'r Run) -> Self {
        Self { backend: &run.backend, offloads: &run.offloads, setting: run.setting }
    }

    /// Its runs.
    pub fn runs<'a>(&self, runs: &'a [Run]) -> impl Iterator<Item = &'a Run> {
        runs.iter().filter(move |run| Series::of(run) == *self)
    }

    /// The median of a figure over its runs.
    pub fn median(&self, runs: &[Run], value: impl Fn(&Run) -> f64) -> Option<f64> {
        self.quantile(runs, 0.5, value)
    }

    /// A quantile of a figure over its runs.
    pub fn quantile(&self, runs: &[Run], q: f64, value: impl Fn(&Run) -> f64) -> Option<f64> {
        quantile(&self.runs(runs).map(value).collect::<Vec<_>>(), q)
    }

    /// See [`name`].
    pub fn name(&self) -> String {
        name(self.backend, self.offloads)
    }
}

/// The backend, and with it the offloads if there could be more of them.
pub fn name(backend: &str, offloads: &[String]) -> String {
    if backend != BackendChoice::Ebpf.as_str() || offloads.len() == OffloadChoice::ALL.names().len() {
        backend.to_owned()
    } else if offloads.is_empty() {
        format!("{backend} (no offloads)")
    } else {
        format!("{backend} ({})", offloads.join(", "))
    }
}

/// All there are, in order of first appearance.
pub fn series(runs: &[Run]) -> Vec<Series<'_>> {
    let mut found: Vec<Series<'_>> = Vec::new();
    for run in runs {
        if !found.contains(&Series::of(run)) {
            found.push(Series::of(run));
        }
    }
    found
}

/// Ratios of one backend to the baseline in one setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The backend.
    pub backend: String,
    /// Offloads that were on.
    #[serde(default)]
    pub offloads: Vec<String>,
    /// What it is compared with: [`BASELINE`] in the same setting, or the same backend without keys.
    pub vs: String,
    /// Whether that had keys.
    #[serde(default)]
    pub vs_authentication: bool,
    /// What an acknowledgement promised there.
    #[serde(default)]
    pub vs_durability: Durability,
    /// What the runs had in common.
    #[serde(flatten)]
    pub setting: Setting,
    /// Repeats that have both.
    pub pairs: usize,
    /// Median ratio of requests a second; above 1 is better.
    pub throughput_ratio: f64,
    /// Its quartiles.
    pub throughput_ratio_quartiles: [f64; 2],
    /// Median ratio of the median latencies; below 1 is better.
    pub p50_ratio: f64,
    /// Median ratio of the 99th percentiles.
    pub p99_ratio: f64,
    /// Median ratio of CPU a request.
    pub cpu_ratio: f64,
}

/// Median ratios, pair by pair, in the order of first appearance: of every backend to [`BASELINE`] in the same
/// setting, then of every backend with keys to itself without, and with a log on disk to itself without. A run without
/// a single answer has no ratio: its pair is left out, and `pairs` shows it.
pub fn summarise(runs: &[Run]) -> Vec<Summary> {
    let all = series(runs);
    let baseline = |of: &Series<'_>| Series { backend: BASELINE, offloads: &[], setting: of.setting };
    let to_baseline = all.iter().filter(|of| of.backend != BASELINE);
    let to_baseline = to_baseline.filter_map(|of| compare(runs, *of, baseline(of)));
    let without_keys = |of: &Series<'_>| Setting { authentication: false, ..of.setting };
    let in_memory = |of: &Series<'_>| Setting { durability: Durability::Memory, ..of.setting };
    let to_itself = |without: fn(&Series<'_>) -> Setting| {
        let promising = all.iter().filter(move |of| without(of) != of.setting);
        promising.filter_map(move |of| compare(runs, *of, Series { setting: without(of), ..*of }))
    };
    to_baseline.chain(to_itself(without_keys)).chain(to_itself(in_memory)).collect()
}

/// One series, and what it is compared with.
fn compare(runs: &[Run], of: Series<'_>, vs: Series<'_>) -> Option<Summary> {
    let pairs = Pairs::of(of.runs(runs), vs.runs(runs));
    Some(Summary {
        backend: of.backend.to_owned(),
        offloads: of.offloads.to_vec(),
        vs: vs.backend.to_owned(),
        vs_authentication: vs.setting.authentication,
        vs_durability: vs.setting.durability,
        setting: of.setting,
        pairs: pairs.count(),
        throughput_ratio: pairs.median(|run| run.throughput_rps)?,
        throughput_ratio_quartiles: pairs.quartiles(|run| run.throughput_rps)?,
        p50_ratio: pairs.median(|run| run.latency_us.p50)?,
        p99_ratio: pairs.median(|run| run.latency_us.p99)?,
        cpu_ratio: pairs.median(|run| run.cpu_us_per_request)?,
    })
}
