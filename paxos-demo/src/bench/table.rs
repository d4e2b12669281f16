//! Reports as tables for people.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::config::{Durability, LOG_SLOTS_DEFAULT};
use crate::report::{BASELINE, Report, Run, Series, Setting, Summary, median, series};

/// A run in a few words.
pub fn one_line(run: &Run) -> String {
    let mut line = format!(
        "{} requests/s, p50 {} us, p99 {} us, {} us CPU a request",
        grouped(run.throughput_rps),
        short(run.latency_us.p50),
        short(run.latency_us.p99),
        short(run.cpu_us_per_request)
    );
    if run.errors > 0 {
        line.push_str(&format!(", {} ERRORS", run.errors));
    }
    line
}

/// Columns of [`comparison`]. One in which nothing is said is left out.
const COLUMNS: [&str; 22] = [
    "replicas",
    "clients",
    "batch",
    "bytes",
    "keys",
    "durability",
    "log slots",
    "backend",
    "requests/s",
    "p50 us",
    "p99 us",
    "CPU us/req",
    "leader us/req",
    "in user space",
    "leader calls/req",
    "follower calls/req",
    "x udp",
    "quartiles",
    "p50 x",
    "CPU x",
    "x without keys",
    "x in memory",
];

/// One row for each setting and backend: medians over the repeats, and ratios of pairs.
pub fn comparison(report: &Report) -> Table {
    let mut all = series(&report.runs);
    all.sort_by_key(|of| of.setting);
    let settings: Vec<Setting> = all.iter().map(|of| of.setting).collect();
    let rows: Vec<Vec<String>> = all.iter().map(|of| row(report, of, &settings)).collect();
    let said = |column: &usize| rows.iter().any(|row| !row[*column].is_empty());
    let shown: Vec<usize> = (0..COLUMNS.len()).filter(said).collect();
    let numbers = shown.iter().take_while(|column| COLUMNS[**column] != "requests/s").count();
    let rows = rows.iter().map(|row| shown.iter().map(|column| row[*column].clone()).collect()).collect();
    table(shown.iter().map(|column| COLUMNS[*column]), numbers, rows)
}

fn row(report: &Report, series: &Series<'_>, settings: &[Setting]) -> Vec<String> {
    let setting = series.setting;
    let Setting { replicas, clients, rate_rps, payload_bytes, batch, durability, authentication, log_slots } =
        setting;
    // What is usual is not said unless something else is in the table, too.
    let unless_all = |usual: fn(&Setting) -> bool, text: String| {
        if settings.iter().all(usual) { String::new() } else { text }
    };
    let of = |value: fn(&Run) -> f64, write: fn(f64) -> String| {
        series.median(&report.runs, value).map_or("-".to_owned(), write)
    };
    let summary = |vs: &str, without: Setting| {
        report.summary.iter().find(|s| {
            (s.setting, s.backend.as_str(), s.offloads.as_slice())
                == (setting, series.backend, series.offloads)
                && (s.vs.as_str(), s.vs_authentication, s.vs_durability)
                    == (vs, without.authentication, without.durability)
        })
    };
    let ratio = if series.backend == BASELINE { None } else { summary(BASELINE, setting) };
    let ratio_text = |value: fn(&Summary) -> f64| ratio.map_or(String::new(), |s| format!("{:.2}", value(s)));
    let to_itself = |without: Setting| {
        let ratio = if without == setting { None } else { summary(series.backend, without) };
        ratio.map_or(String::new(), |s| format!("{:.2} ({})", s.throughput_ratio, quartiles(s)))
    };
    vec![
        replicas.to_string(),
        rate_rps.map_or(clients.to_string(), |rate| format!("{clients} at {rate}/s")),
        batch.to_string(),
        payload_bytes.to_string(),
        unless_all(|s| !s.authentication, if authentication { "on" } else { "off" }.to_owned()),
        unless_all(|s| s.durability == Durability::Memory, durability.to_string()),
        unless_all(|s| s.log_slots == LOG_SLOTS_DEFAULT, log_slots.to_string()),
        series.name(),
        of(|r| r.throughput_rps, grouped),
        of(|r| r.latency_us.p50, short),
        of(|r| r.latency_us.p99, short),
        of(|r| r.cpu_us_per_request, short),
        of(|r| r.leader_cpu_us_per_request, short),
        of(|r| r.leader_user_us_per_request, short),
        of(|r| r.leader_syscalls_per_request, precise),
        of(|r| r.follower_syscalls_per_request, precise),
        ratio_text(|s| s.throughput_ratio),
        ratio.map_or(String::new(), quartiles),
        ratio_text(|s| s.p50_ratio),
        ratio_text(|s| s.cpu_ratio),
        to_itself(Setting { authentication: false, ..setting }),
        to_itself(Setting { durability: Durability::Memory, ..setting }),
    ]
}

fn quartiles(summary: &Summary) -> String {
    let [low, high] = summary.throughput_ratio_quartiles;
    format!("{low:.2}-{high:.2}")
}

/// eBPF beside kernel UDP, one block for each setting; one column if only one backend ran.
pub fn side_by_side(report: &Report) -> Table {
    let mut backends: Vec<&str> = Vec::new();
    for run in &report.runs {
        if !backends.contains(&run.backend.as_str()) {
            backends.push(&run.backend);
        }
    }
    let mut header = vec!["setting", ""];
    header.extend(backends.iter().map(|backend| match *backend {
        "ebpf" => "eBPF",
        BASELINE => "kernel UDP",
        other => other,
    }));
    let compared = backends.contains(&"ebpf") && backends.contains(&BASELINE);
    if compared {
        header.push("ratio");
    }
    let mut rows = Vec::new();
    type Line = (&'static str, fn(&Run) -> f64, fn(f64) -> String);
    let lines: [Line; 6] = [
        ("requests/s", |r| r.throughput_rps, grouped),
        ("p50 latency, us", |r| r.latency_us.p50, short),
        ("p99 latency, us", |r| r.latency_us.p99, short),
        ("CPU a request, us", |r| r.cpu_us_per_request, short),
        ("syscalls a request, leader", |r| r.leader_syscalls_per_request, precise),
        ("syscalls a request, follower", |r| r.follower_syscalls_per_request, precise),
    ];
    let mut settings: Vec<Setting> = Vec::new();
    for run in &report.runs {
        if !settings.contains(&run.setting) {
            settings.push(run.setting);
        }
    }
    for setting in settings {
        for (i, (name, value, write)) in lines.into_iter().enumerate() {
            let of = |backend: &str| {
                median(&select(&report.runs, backend, setting).iter().map(|r| value(r)).collect::<Vec<_>>())
            };
            let title = if i == 0 { setting.to_string() } else { String::new() };
            let mut row = vec![title, name.to_owned()];
            row.extend(backends.iter().map(|backend| of(backend).map_or("-".to_owned(), write)));
            if compared {
                row.push(match (of("ebpf"), of(BASELINE)) {
                    (Some(ebpf), Some(udp)) if udp > 0.0 => format!("x{:.2}", ebpf / udp),
                    _ => String::new(),
                });
            }
            rows.push(row);
        }
    }
    table(header, 2, rows)
}

/// A table of these rows, with numbers to the right: what is in the columns from `numbers` on.
pub fn table<'h>(header: impl IntoIterator<Item = &'h str>, numbers: usize, rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn select<'r>(runs: &'r [Run], backend: &str, setting: Setting) -> Vec<&'r Run> {
    runs.iter().filter(|run| run.backend == backend && run.setting == setting).collect()
}

/// A large number with its thousands apart.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number with about three digits.
pub fn short(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn precise(value: f64) -> String {
    format!("{value:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Host, tests::run};

    fn report() -> Report {
        let host = Host {
            kernel: "6.18".into(),
            cpus: 2,
            hook: "tc".into(),
            fabric: "bridge".into(),
            commit: String::new(),
        };
        let runs = vec![run("udp", 0, 10_000.0), run("ebpf", 0, 25_000.0), run("udp", 1, 10_000.0)];
        Report::new(host, runs)
    }

    #[test]
    fn the_comparison_has_a_row_for_each_backend() {
        let text = comparison(&report()).to_string();
        assert!(text.contains("25 000") && text.contains("10 000"), "{text}");
        assert!(text.contains("2.50"), "the ratio: {text}");
        assert_eq!(text.lines().filter(|line| line.contains(" udp ") && line.contains("10 000")).count(), 1);
    }

    #[test]
    fn what_is_usual_needs_no_column() {
        let head = |report: &Report| {
            comparison(report).header().unwrap().cell_iter().map(|c| c.content()).collect::<Vec<_>>()
        };
        let usual = head(&report());
        assert!(usual.iter().any(|name| name == "in user space"), "{usual:?}");
        for name in ["keys", "durability", "log slots", "x without keys", "x in memory"] {
            assert!(!usual.iter().any(|shown| shown == name), "{name}");
        }
        let mut on_disk = run("ebpf", 0, 5_000.0);
        on_disk.setting.durability = Durability::Disk;
        let mut small = run("udp", 0, 9_000.0);
        small.setting.log_slots = 1024;
        let Report { host, runs, .. } = report();
        let report = Report::new(host, [runs, vec![on_disk, small]].concat());
        let unusual = head(&report);
        for name in ["durability", "log slots", "x in memory"] {
            assert!(unusual.iter().any(|shown| shown == name), "{name}");
        }
        let text = comparison(&report).to_string();
        assert!(text.contains("0.20 (0.20-0.20)"), "5 000 by 25 000: {text}");
    }

    #[test]
    fn side_by_side_shows_the_ratio() {
        let text = side_by_side(&report()).to_string();
        assert!(text.contains("eBPF") && text.contains("kernel UDP"), "{text}");
        assert!(text.contains("x2.50") && text.contains("x0.40"), "{text}");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(1234567.4), "1 234 567");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(short(12.34), "12.3");
        assert_eq!(short(1234.5), "1234");
    }
}
