//! The comparison as a table for people.

use comfy_table::Table;
use paxos_demo::bench::table::{grouped, short, table};
use paxos_demo::report::median;

use super::{PeerRun, PeersReport, System};

/// One row for each number of clients and system: medians over the repeats, and eBPF over each.
pub fn comparison(report: &PeersReport) -> Table {
    let header = [
        "clients",
        "system",
        "batch",
        "requests/s",
        "p50 us",
        "p99 us",
        "CPU us/req",
        "ebpf / it",
        "quartiles",
        "p50 x",
        "p99 x",
        "CPU x",
    ];
    let mut groups: Vec<(usize, System)> = Vec::new();
    for run in &report.runs {
        if !groups.contains(&(run.clients, run.system)) {
            groups.push((run.clients, run.system));
        }
    }
    groups.sort_by_key(|(clients, system)| (*clients, *system as u8));
    let row = |(clients, system): (usize, System)| {
        let runs: Vec<&PeerRun> =
            report.runs.iter().filter(|run| run.clients == clients && run.system == system).collect();
        let text = |value: fn(&PeerRun) -> f64, write: fn(f64) -> String| {
            median(&runs.iter().map(|run| value(run)).collect::<Vec<_>>()).map_or("-".to_owned(), write)
        };
        let ratio = report.ratios.iter().find(|ratio| ratio.clients == clients && ratio.to == system);
        let times = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
        vec![
            clients.to_string(),
            system.as_str().to_owned(),
            runs[0].batch.to_string(),
            text(|run| run.throughput_rps, grouped),
            text(|run| run.latency_us.p50, short),
            text(|run| run.latency_us.p99, short),
            text(|run| run.cpu_us_per_request, short),
            times(ratio.map(|ratio| ratio.throughput)),
            ratio.map_or(String::new(), |ratio| {
                let [low, high] = ratio.throughput_quartiles;
                format!("{low:.2}-{high:.2}")
            }),
            times(ratio.map(|ratio| ratio.p50)),
            times(ratio.map(|ratio| ratio.p99)),
            times(ratio.map(|ratio| ratio.cpu)),
        ]
    };
    table(header, 3, groups.into_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::ratio::{ratios, tests::run};
    use paxos_demo::report::Host;

    #[test]
    fn each_system_has_a_row_with_what_ebpf_is_beside_it() {
        let runs = vec![
            run(System::Etcd, 16, 0, 2_000.0),
            run(System::Ebpf, 16, 0, 50_000.0),
            run(System::Ebpf, 1, 0, 9_000.0),
        ];
        let host = Host {
            kernel: "6.18".into(),
            cpus: 2,
            hook: "tc".into(),
            fabric: "bridge".into(),
            commit: String::new(),
        };
        let ratios = ratios(&runs);
        let report = PeersReport { schema: super::super::SCHEMA, host, notes: Vec::new(), runs, ratios };
        let text = comparison(&report).to_string();
        let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned();
        assert!(line("etcd").contains("25.00") && line("etcd").contains("2 000"), "{text}");
        assert!(line("9 000").contains("ebpf"), "{text}");
        assert_eq!(
            text.lines().filter(|line| line.contains(" ebpf ")).count(),
            2 + 1,
            "rows and the header: {text}"
        );
    }
}
