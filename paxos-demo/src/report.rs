//! `bench --json`: the schema, and the summary computed from the runs. No I/O.
//!
//! A noisy machine changes from minute to minute, so backends are never compared by their averages: each
//! repeat of a configuration runs them back to back, and the summary is the median of the ratios of these pairs.

mod pairs;
mod summary;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::config::{Batching, Durability, LOG_SLOTS_DEFAULT};

pub use self::pairs::{Pairs, Repeat};
pub use self::summary::{Series, Summary, name, series, summarise};

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
    /// Kernel release, only its number.
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
    /// Client sessions, each with one request under way at most.
    pub clients: usize,
    /// Requests that arrive in a second, whatever becomes of earlier ones; none: a closed loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_rps: Option<u32>,
    /// Size of the values.
    pub payload_bytes: usize,
    /// Requests in a Prepare.
    pub batch: Batch,
    /// What an acknowledgement promised.
    pub durability: Durability,
    /// The members had keys.
    #[serde(default)]
    pub authentication: bool,
    /// Slots of a replica's log.
    #[serde(default = "log_slots_default")]
    pub log_slots: u32,
}

fn log_slots_default() -> u32 {
    LOG_SLOTS_DEFAULT
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { replicas, clients, batch, payload_bytes, authentication, .. } = self;
        let s = if *clients == 1 { "" } else { "s" };
        let keys = if *authentication { ", authenticated" } else { "" };
        let rate = self.rate_rps.map(|rate| format!(" at {rate}/s")).unwrap_or_default();
        write!(
            f,
            "{replicas} replicas, {clients} client{s}{rate}, batch {batch}, {payload_bytes} bytes{keys}"
        )?;
        if self.durability != Durability::Memory {
            write!(f, ", {}", self.durability)?;
        }
        if self.log_slots != LOG_SLOTS_DEFAULT {
            write!(f, ", {} slots", self.log_slots)?;
        }
        Ok(())
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
    /// Time until the answer: in a closed loop from the first send, in an open one from when the request was to arrive.
    /// Requests without an answer at the end of the window count as [`crate::workload::Outcome::latency`] says.
    pub latency_us: Latency,
    /// Busy time of the whole machine over the requests.
    pub cpu_us_per_request: f64,
    /// CPU time of the leader's process over the requests.
    #[serde(default)]
    pub leader_cpu_us_per_request: f64,
    /// Of that, what it spent in user space.
    #[serde(default)]
    pub leader_user_us_per_request: f64,
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

impl Report {
    /// A report of these runs.
    pub fn new(host: Host, runs: Vec<Run>) -> Self {
        let summary = summarise(&runs);
        Self { schema: SCHEMA, host, runs, summary }
    }

    /// What [`Report::to_json`] wrote, or what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let report: Self =
            serde_json::from_str(text).map_err(|e| format!("no report of `bench --json`: {e}"))?;
        match report.schema {
            SCHEMA => Ok(report),
            other => Err(format!("a report of schema {other}; this program knows {SCHEMA}")),
        }
    }

    /// Wrong or missing answers of all runs.
    pub fn errors(&self) -> u64 {
        self.runs.iter().map(|run| run.errors).sum()
    }

    /// The file's text: a line for each run and each ratio, so that what changes between reports is readable.
    pub fn to_json(&self) -> String {
        let Self { schema, host, runs, summary } = self;
        let host = json(host);
        let (runs, summary) = (lines(runs), lines(summary));
        format!("{{\"schema\":{schema},\n\"host\":{host},\n\"runs\":[{runs}],\n\"summary\":[{summary}]}}\n")
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers and strings serialise")
}

fn lines(values: &[impl Serialize]) -> String {
    values.iter().map(|value| format!("\n{}", json(value))).collect::<Vec<_>>().join(",")
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
