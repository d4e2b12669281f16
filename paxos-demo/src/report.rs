//! `bench --json`: the schema, and the summary computed from the runs. No I/O.
//!
//! A noisy machine changes from minute to minute, so backends are never compared by their averages: each
//! repeat of a configuration runs them back to back, and the summary is the median of the ratios of these pairs.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::config::{Batching, Durability};

/// Version of the schema.
pub const SCHEMA: u32 = 1;
/// The backend that the others are compared with.
pub const BASELINE: &str = "udp";

/// A whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Where it was measured.
    pub host: Host,
    /// Every run, in the order in which they ran.
    pub runs: Vec<Run>,
    /// Ratios over the runs.
    pub summary: Vec<Summary>,
}

/// Where a report was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// CPUs of the machine.
    pub cpus: usize,
    /// Ingress hook of the eBPF runs; empty if there were none.
    pub hook: String,
    /// What carries the packets: `bridge` or `loopback`.
    pub fabric: String,
    /// Commit that was measured, `-dirty` behind it if the tree had changes; empty if unknown.
    pub commit: String,
}

/// Requests in a Prepare: 1 or "auto".
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch(pub Batching);

impl std::fmt::Display for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self.0 {
            Batching::One => "1",
            Batching::Auto => "auto",
        })
    }
}

impl std::str::FromStr for Batch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1" | "one" => Ok(Self(Batching::One)),
            "auto" => Ok(Self(Batching::Auto)),
            _ => Err(format!("'{text}' is no way of batching: use 1 or auto")),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum BatchWire {
    Number(u8),
    Word(String),
}

impl Serialize for Batch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Batching::One => BatchWire::Number(1),
            Batching::Auto => BatchWire::Word("auto".to_owned()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match BatchWire::deserialize(deserializer)? {
            BatchWire::Number(1) => Ok(Self(Batching::One)),
            BatchWire::Word(word) if word == "auto" => Ok(Self(Batching::Auto)),
            _ => Err(serde::de::Error::custom("batch must be 1 or \"auto\"")),
        }
    }
}

/// What makes two runs comparable.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Setting {
    /// Members of the group.
    pub replicas: usize,
    /// Closed-loop client sessions.
    pub clients: usize,
    /// Size of the values.
    pub payload_bytes: usize,
    /// Requests in a Prepare.
    pub batch: Batch,
    /// What an acknowledgement promised.
    pub durability: Durability,
    /// The members had keys.
    #[serde(default)]
    pub authentication: bool,
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { replicas, clients, batch, payload_bytes, authentication, .. } = self;
        let s = if *clients == 1 { "" } else { "s" };
        let keys = if *authentication { ", authenticated" } else { "" };
        write!(f, "{replicas} replicas, {clients} client{s}, batch {batch}, {payload_bytes} bytes{keys}")
    }
}

/// One run of one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `ebpf`, `udp`, `udp-sendto` or `udp-multicast`.
    pub backend: String,
    /// Offloads that were on; empty on the UDP backends.
    pub offloads: Vec<String>,
    /// Ingress hook that was used; empty on the UDP backends.
    #[serde(default)]
    pub hook: String,
    /// What makes runs comparable.
    #[serde(flatten)]
    pub setting: Setting,
    /// Number of the repeat, from 0: runs of one repeat were interleaved.
    pub repeat: usize,
    /// Length of the measured window.
    pub seconds: f64,
    /// Requests answered within it.
    pub requests: u64,
    /// Wrong or missing answers.
    pub errors: u64,
    /// Requests sent again because no answer came in time.
    #[serde(default)]
    pub retries: u64,
    /// Requests a second.
    pub throughput_rps: f64,
    /// Time from the first send to the answer.
    pub latency_us: Latency,
    /// Busy time of the whole machine over the requests.
    pub cpu_us_per_request: f64,
    /// CPU time of the leader's process over the requests.
    #[serde(default)]
    pub leader_cpu_us_per_request: f64,
    /// Mean CPU time of a follower's process over the requests.
    #[serde(default)]
    pub follower_cpu_us_per_request: f64,
    /// System calls of the leader over the requests.
    pub leader_syscalls_per_request: f64,
    /// Mean system calls of a follower over the requests.
    pub follower_syscalls_per_request: f64,
}

/// Percentiles in microseconds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90 of 100 are faster.
    pub p90: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// 999 of 1000 are faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// Percentiles of a histogram of nanoseconds.
    pub fn of(nanoseconds: &Histogram<u64>) -> Self {
        let at = |q: f64| round(nanoseconds.value_at_quantile(q) as f64 / 1000.0, 1);
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: round(nanoseconds.max() as f64 / 1000.0, 1),
        }
    }
}

/// Ratios of one backend to the baseline in one setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The backend.
    pub backend: String,
    /// What it is compared with: [`BASELINE`] in the same setting, or the same backend without keys.
    pub vs: String,
    /// Whether that had keys.
    #[serde(default)]
    pub vs_authentication: bool,
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

impl Report {
    /// A report of these runs.
    pub fn new(host: Host, runs: Vec<Run>) -> Self {
        let summary = summarise(&runs);
        Self { schema: SCHEMA, host, runs, summary }
    }

    /// Wrong or missing answers of all runs.
    pub fn errors(&self) -> u64 {
        self.runs.iter().map(|run| run.errors).sum()
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("numbers and strings serialise");
        text.push('\n');
        text
    }
}

/// Median ratios, pair by pair, in the order of first appearance: of every backend to [`BASELINE`] in the same
/// setting, then of every backend with keys to itself without. A run without a single answer has no ratio: its
/// pair is left out, and `pairs` shows it.
pub fn summarise(runs: &[Run]) -> Vec<Summary> {
    let mut groups: Vec<(&str, Setting)> = Vec::new();
    for run in runs {
        if !groups.contains(&(&run.backend, run.setting)) {
            groups.push((&run.backend, run.setting));
        }
    }
    let to_baseline = groups
        .iter()
        .filter(|(backend, _)| *backend != BASELINE)
        .filter_map(|(backend, setting)| compare(runs, backend, *setting, BASELINE, *setting));
    let to_itself =
        groups.iter().filter(|(_, setting)| setting.authentication).filter_map(|(backend, setting)| {
            compare(runs, backend, *setting, backend, Setting { authentication: false, ..*setting })
        });
    to_baseline.chain(to_itself).collect()
}

/// One backend in one setting, and what it is compared with.
fn compare(runs: &[Run], backend: &str, setting: Setting, vs: &str, vs_setting: Setting) -> Option<Summary> {
    let is = |run: &Run, backend: &str, setting: Setting| {
        run.backend == backend && run.setting == setting && run.requests > 0
    };
    let base = |repeat: usize| runs.iter().find(|run| is(run, vs, vs_setting) && run.repeat == repeat);
    let compared = runs.iter().filter(|run| is(run, backend, setting));
    let pairs: Vec<(&Run, &Run)> = compared.filter_map(|run| Some((run, base(run.repeat)?))).collect();
    let ratios =
        |value: fn(&Run) -> f64| pairs.iter().map(|(run, base)| value(run) / value(base)).collect::<Vec<_>>();
    let throughput = ratios(|run| run.throughput_rps);
    Some(Summary {
        backend: backend.to_owned(),
        vs: vs.to_owned(),
        vs_authentication: vs_setting.authentication,
        setting,
        pairs: pairs.len(),
        throughput_ratio: round(median(&throughput)?, 3),
        throughput_ratio_quartiles: [
            round(quantile(&throughput, 0.25)?, 3),
            round(quantile(&throughput, 0.75)?, 3),
        ],
        p50_ratio: round(median(&ratios(|run| run.latency_us.p50))?, 3),
        p99_ratio: round(median(&ratios(|run| run.latency_us.p99))?, 3),
        cpu_ratio: round(median(&ratios(|run| run.cpu_us_per_request))?, 3),
    })
}

/// The median; none of no values, or if one is not finite (a ratio to zero says nothing).
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The quantile `q` in 0..=1 by linear interpolation between the closest ranks.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    Some(low + (high - low) * rank.fract())
}

/// Rounded to so many decimals: a report is read by people too.
pub fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
pub(crate) mod tests;
