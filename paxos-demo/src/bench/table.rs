//! Reports as tables for people.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::report::{BASELINE, Report, Run, Setting, Summary, median, series};

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

/// One row for each setting and backend: medians over the repeats, and ratios of pairs.
pub fn comparison(report: &Report) -> Table {
    let mut table = new_table(&[
        "replicas",
        "clients",
        "batch",
        "bytes",
        "keys",
        "backend",
        "requests/s",
        "p50 us",
        "p99 us",
        "CPU us/req",
        "leader calls/req",
        "follower calls/req",
        "x udp",
        "quartiles",
        "p50 x",
        "CPU x",
        "x without keys",
    ]);
    let mut all = series(&report.runs);
    all.sort_by_key(|of| of.setting);
    for series in all {
        let setting = series.setting;
        let of = |value: fn(&Run) -> f64| series.median(&report.runs, value);
        let text = |value: Option<f64>, write: fn(f64) -> String| value.map_or("-".to_owned(), write);
        let ratio_to = |vs: &str, keys: bool| {
            let mut summary = report.summary.iter().filter(|s| s.setting == setting);
            summary.find(|s| {
                (s.backend.as_str(), s.offloads.as_slice()) == (series.backend, series.offloads)
                    && (s.vs.as_str(), s.vs_authentication) == (vs, keys)
            })
        };
        let ratio =
            if series.backend == BASELINE { None } else { ratio_to(BASELINE, setting.authentication) };
        let to_itself = if setting.authentication { ratio_to(series.backend, false) } else { None };
        let ratio_text =
            |value: fn(&Summary) -> f64| ratio.map_or(String::new(), |s| format!("{:.2}", value(s)));
        table.add_row([
            setting.replicas.to_string(),
            setting
                .rate_rps
                .map_or(setting.clients.to_string(), |rate| format!("{} at {rate}/s", setting.clients)),
            setting.batch.to_string(),
            setting.payload_bytes.to_string(),
            if setting.authentication { "on" } else { "off" }.to_owned(),
            series.name(),
            text(of(|r| r.throughput_rps), grouped),
            text(of(|r| r.latency_us.p50), short),
            text(of(|r| r.latency_us.p99), short),
            text(of(|r| r.cpu_us_per_request), short),
            text(of(|r| r.leader_syscalls_per_request), precise),
            text(of(|r| r.follower_syscalls_per_request), precise),
            ratio_text(|s| s.throughput_ratio),
            ratio.map_or(String::new(), quartiles),
            ratio_text(|s| s.p50_ratio),
            ratio_text(|s| s.cpu_ratio),
            to_itself.map_or(String::new(), |s| format!("{:.2} ({})", s.throughput_ratio, quartiles(s))),
        ]);
    }
    align(&mut table, 6);
    table
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
    let mut table = new_table(&header);

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
            table.add_row(row);
        }
    }
    align(&mut table, 2);
    table
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// Numbers to the right.
fn align(table: &mut Table, from: usize) {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
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
