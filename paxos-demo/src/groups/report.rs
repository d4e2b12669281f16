//! `groups --json`, and the table by number of groups.

use comfy_table::Table;
use serde::Serialize;

use crate::bench::table::{grouped, short, table};
use crate::cli::Leaders;
use crate::report::{BASELINE, Batch, Host, Latency, Pairs, Repeat, median, round};

/// Columns of the table.
const COLUMNS: [&str; 10] = [
    "groups",
    "leaders",
    "backend",
    "requests/s",
    "p50 us",
    "p99 us",
    "CPU us/req",
    "foreign/req",
    "view changes",
    "x udp",
];

/// A whole report.
#[derive(Clone, Debug, Serialize)]
pub struct GroupsReport {
    /// 1.
    pub schema: u32,
    /// Where it was measured.
    pub host: Host,
    /// Every run, in the order in which they ran.
    pub runs: Vec<GroupsRun>,
    /// Medians over the repeats.
    pub summary: Vec<Line>,
}

/// One run of so many groups.
#[derive(Clone, Debug, Serialize)]
pub struct GroupsRun {
    /// `ebpf`, `udp` or `udp-sendto`.
    pub backend: String,
    /// Groups on the same hosts.
    pub groups: u16,
    /// Where their leaders were.
    pub leaders: Leaders,
    /// Members of each group.
    pub replicas: usize,
    /// Clients of each group.
    pub clients: usize,
    /// Requests in a Prepare.
    pub batch: Batch,
    /// Number of the repeat.
    pub repeat: usize,
    /// Requests answered within the window, all groups together.
    pub requests: u64,
    /// Wrong and missing answers, states that differ, packets of another group that were heard.
    pub errors: u64,
    /// Requests a second, all groups together.
    pub throughput_rps: f64,
    /// ... of each group.
    pub by_group_rps: Vec<f64>,
    /// Over all requests.
    pub latency_us: Latency,
    /// The whole machine's busy time over all requests.
    pub cpu_us_per_request: f64,
    /// Looks of a program at a packet that was none of its group's (`pass_foreign`), over all requests.
    pub foreign_per_request: f64,
    /// Views that replicas left during the run.
    pub view_changes: u64,
}

/// A number of groups on one backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The backend.
    pub backend: String,
    /// Groups.
    pub groups: u16,
    /// Where their leaders were.
    pub leaders: Leaders,
    /// Requests a second, all groups together.
    pub throughput_rps: f64,
    /// Median latency.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// CPU a request.
    pub cpu_us_per_request: f64,
    /// Looks at packets of other groups, a request.
    pub foreign_per_request: f64,
    /// Views that replicas left, in all repeats: figures of such runs are of failures too.
    pub view_changes: u64,
    /// Median and quartiles of the ratios to kernel UDP, pair by pair; none for that itself or if it did not run.
    pub throughput_ratio: Option<[f64; 3]>,
}

impl GroupsReport {
    /// Of these runs on this machine.
    pub fn new(host: Host, runs: Vec<GroupsRun>) -> Self {
        let summary = summarise(&runs);
        Self { schema: 1, host, runs, summary }
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings serialise")
    }

    /// For people.
    pub fn table(&self) -> Table {
        let row = |line: &Line| {
            let ratio = line.throughput_ratio;
            vec![
                line.groups.to_string(),
                format!("{:?}", line.leaders).to_lowercase(),
                line.backend.clone(),
                grouped(line.throughput_rps),
                short(line.p50_us),
                short(line.p99_us),
                short(line.cpu_us_per_request),
                short(line.foreign_per_request),
                line.view_changes.to_string(),
                ratio
                    .map_or(String::new(), |[low, middle, high]| format!("{middle:.2} ({low:.2}-{high:.2})")),
            ]
        };
        table(COLUMNS, 3, self.summary.iter().map(row).collect())
    }
}

impl Repeat for GroupsRun {
    fn repeat(&self) -> usize {
        self.repeat
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}

/// Medians of what ran alike, in the order of first appearance.
fn summarise(runs: &[GroupsRun]) -> Vec<Line> {
    let key = |run: &GroupsRun| (run.backend.clone(), run.groups, run.leaders);
    let mut seen = Vec::new();
    for run in runs {
        if !seen.contains(&key(run)) {
            seen.push(key(run));
        }
    }
    let line = |(backend, groups, leaders): (String, u16, Leaders)| {
        let alike = |backend: &str| {
            let of = (backend.to_owned(), groups, leaders);
            runs.iter().filter(|run| key(run) == of).collect::<Vec<_>>()
        };
        let own = alike(&backend);
        let of = |value: fn(&GroupsRun) -> f64| {
            round(median(&own.iter().map(|run| value(run)).collect::<Vec<_>>()).unwrap_or(0.0), 2)
        };
        let base = alike(BASELINE);
        let pairs = Pairs::of(own.iter().copied(), base.iter().copied());
        let ratio = || {
            let [low, high] = pairs.quartiles(|run| run.throughput_rps)?;
            Some([low, pairs.median(|run| run.throughput_rps)?, high])
        };
        let throughput_ratio = if backend == BASELINE { None } else { ratio() };
        Line {
            throughput_rps: of(|run| run.throughput_rps),
            p50_us: of(|run| run.latency_us.p50),
            p99_us: of(|run| run.latency_us.p99),
            cpu_us_per_request: of(|run| run.cpu_us_per_request),
            foreign_per_request: of(|run| run.foreign_per_request),
            view_changes: own.iter().map(|run| run.view_changes).sum(),
            throughput_ratio,
            backend,
            groups,
            leaders,
        }
    };
    seen.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Batching;

    fn run(backend: &str, groups: u16, repeat: usize, rps: f64) -> GroupsRun {
        GroupsRun {
            backend: backend.to_owned(),
            groups,
            leaders: Leaders::Together,
            replicas: 3,
            clients: 16,
            batch: Batch(Batching::One),
            repeat,
            requests: 100,
            errors: 0,
            throughput_rps: rps,
            by_group_rps: vec![rps],
            latency_us: Latency { p50: 1.0, p90: 2.0, p99: 3.0, p999: 4.0, max: 5.0 },
            cpu_us_per_request: 10.0,
            foreign_per_request: 0.5,
            view_changes: 0,
        }
    }

    #[test]
    fn ratios_are_of_neighbours_and_by_number_of_groups() {
        let runs = vec![
            run("udp", 1, 0, 10.0),
            run("ebpf", 1, 0, 20.0),
            run("udp", 2, 0, 12.0),
            run("ebpf", 2, 0, 36.0),
            run("udp", 1, 1, 100.0),
            run("ebpf", 1, 1, 400.0),
            // Silence has no ratio.
            GroupsRun { requests: 0, ..run("ebpf", 2, 1, 0.0) },
            run("udp", 2, 1, 12.0),
        ];
        let report = GroupsReport::new(crate::bench::host([("tc", "bridge")].into_iter()), runs);
        let ratios: Vec<_> = report.summary.iter().map(|line| line.throughput_ratio).collect();
        assert_eq!(ratios, [None, Some([2.5, 3.0, 3.5]), None, Some([3.0, 3.0, 3.0])]);
        assert_eq!(report.summary[1].throughput_rps, 210.0);
        let text = report.table().to_string();
        assert!(text.contains("3.00 (2.50-3.50)"), "{text}");
        assert!(text.contains("┆         12 ┆"), "numbers are on the right: {text}");
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["runs"][0]["leaders"], "together");
        assert_eq!((&json["host"]["hook"], &json["host"]["fabric"]), (&"tc".into(), &"bridge".into()));
    }
}
