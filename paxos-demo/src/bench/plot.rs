//! Pictures of a report: bars as SVG, drawn by hand.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::BenchError;
use crate::cluster::ready::write_atomically;
use crate::report::{Report, Run, Setting, median};

const WIDTH: f64 = 720.0;
const ROW: f64 = 22.0;
const LEFT: f64 = 250.0;
const TOP: f64 = 48.0;
const COLOURS: [&str; 5] = ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d"];

/// Draws throughput, median latency and CPU a request; returns the files.
pub fn draw(report: &Report, directory: &Path) -> Result<Vec<PathBuf>, BenchError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BenchError::Write { path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    type Picture = (&'static str, &'static str, fn(&Run) -> f64);
    let pictures: [Picture; 3] = [
        ("throughput.svg", "requests/s (more is better)", |r| r.throughput_rps),
        ("latency-p50.svg", "median latency, us (less is better)", |r| r.latency_us.p50),
        ("cpu.svg", "CPU a request of the whole machine, us (less is better)", |r| r.cpu_us_per_request),
    ];
    let mut paths = Vec::new();
    for (name, title, value) in pictures {
        let path = directory.join(name);
        write_atomically(&path, &bars(report, title, value)).map_err(failed(&path))?;
        paths.push(path);
    }
    Ok(paths)
}

fn bars(report: &Report, title: &str, value: fn(&Run) -> f64) -> String {
    let mut settings: Vec<Setting> = report.runs.iter().map(|run| run.setting).collect();
    settings.sort();
    settings.dedup();
    let mut backends: Vec<&str> = report.runs.iter().map(|run| run.backend.as_str()).collect();
    backends.sort_unstable();
    backends.dedup();

    let of = |backend: &str, setting: Setting| {
        let matching = report.runs.iter().filter(|run| run.backend == backend && run.setting == setting);
        median(&matching.map(value).collect::<Vec<_>>())
    };
    let all = settings.iter().flat_map(|s| backends.iter().filter_map(|b| of(b, *s)));
    let max = all.fold(0.0, f64::max).max(f64::MIN_POSITIVE);

    let mut body = String::new();
    let mut y = TOP;
    for setting in settings {
        let Setting { replicas, clients, batch, payload_bytes, authentication, .. } = setting;
        let keys = if authentication { ", keys" } else { "" };
        let label = format!("{replicas} replicas, {clients} clients, batch {batch}, {payload_bytes} B{keys}");
        let _ = writeln!(body, r#"<text x="8" y="{:.0}">{label}</text>"#, y + 15.0);
        for (i, backend) in backends.iter().enumerate() {
            let Some(value) = of(backend, setting) else { continue };
            let width = (value / max * (WIDTH - LEFT - 170.0)).max(1.0);
            let colour = COLOURS[i % COLOURS.len()];
            let _ = writeln!(
                body,
                r#"<rect x="{LEFT}" y="{:.0}" width="{width:.1}" height="{:.0}" fill="{colour}"/><text x="{:.1}" y="{:.0}">{backend} {value:.0}</text>"#,
                y + 2.0,
                ROW - 4.0,
                LEFT + width + 6.0,
                y + 15.0,
            );
            y += ROW;
        }
        y += 10.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"24\" font-size=\"15\">{title}</text>\n\
         <text x=\"8\" y=\"40\" fill=\"#666\">medians; kernel {}, {} CPUs, {} {}</text>\n{body}</svg>",
        report.host.kernel, report.host.cpus, report.host.fabric, report.host.commit,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Host, tests::run};

    #[test]
    fn bars_are_as_long_as_their_values() {
        let host = Host {
            kernel: "k".into(),
            cpus: 2,
            hook: "tc".into(),
            fabric: "bridge".into(),
            commit: "c".into(),
        };
        let report = Report::new(host, vec![run("udp", 0, 100.0), run("ebpf", 0, 200.0)]);
        let dir = tempfile::tempdir().unwrap();
        let paths = draw(&report, &dir.path().join("plots")).unwrap();
        assert_eq!(paths.len(), 3);
        let svg = std::fs::read_to_string(&paths[0]).unwrap();
        let widths: Vec<f64> = svg
            .split("width=\"")
            .skip(3) // the picture and its background
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths.len(), 2, "{svg}");
        assert!((widths[0] / widths[1] - 2.0).abs() < 0.02, "ebpf first: {widths:?}");
    }
}
