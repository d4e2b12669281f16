//! Pictures of reports, as SVG: one for each thing that was varied. Points are medians over the repeats, whiskers their
//! quartiles; backends keep their colours from picture to picture.

mod canvas;

use std::path::{Path, PathBuf};

use self::canvas::{Bar, Corner, Curve, Picture, Point, Scale};
use super::BenchError;
use crate::cluster::ready::write_atomically;
use crate::report::{Host, Report, Run, Series, Setting, series};

/// A thing that is varied: its number in a setting, and how to make settings equal that differ by it alone.
struct Axis {
    label: &'static str,
    value: fn(&Setting) -> Option<f64>,
    forget: fn(&mut Setting),
}

const CLIENTS: Axis = Axis { label: "clients", value: |s| Some(s.clients as f64), forget: |s| s.clients = 0 };
const REPLICAS: Axis =
    Axis { label: "replicas", value: |s| Some(s.replicas as f64), forget: |s| s.replicas = 0 };
const PAYLOAD: Axis = Axis {
    label: "bytes of a value",
    value: |s| Some(s.payload_bytes as f64),
    forget: |s| s.payload_bytes = 0,
};
const RATE: Axis = Axis {
    label: "requests that arrive in a second",
    value: |s| s.rate_rps.map(f64::from),
    forget: |s| s.rate_rps = s.rate_rps.map(|_| 0),
};

/// A figure of a run.
type Figure = fn(&Run) -> f64;
const THROUGHPUT: Figure = |run| run.throughput_rps;
const P50: Figure = |run| run.latency_us.p50;
const P99: Figure = |run| run.latency_us.p99;
const CPU: Figure = |run| run.cpu_us_per_request;

/// Draws what the reports have enough runs for; returns the files. Reports are of one machine: the first says which.
pub fn draw(reports: &[Report], directory: &Path) -> Result<Vec<PathBuf>, BenchError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BenchError::Write { path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    let Some(host) = reports.first().map(|report| &report.host) else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for (name, picture) in pictures(reports) {
        let path = directory.join(format!("{name}.svg"));
        let text =
            picture.svg(&place(host)).map_err(|reason| BenchError::Draw { path: path.clone(), reason })?;
        write_atomically(&path, &text).map_err(failed(&path))?;
        paths.push(path);
    }
    Ok(paths)
}

fn place(host: &Host) -> String {
    let Host { kernel, cpus, hook, fabric, commit } = host;
    format!("Linux {kernel}, {cpus} CPUs, {fabric}, {hook}; {commit}; medians and quartiles of repeated runs")
}

/// Every picture that there is enough for, with the name of its file.
fn pictures(reports: &[Report]) -> Vec<(String, Picture)> {
    // Repeats are numbered from 0 in each report; here only what they have in common counts.
    let runs: Vec<Run> = reports.iter().flat_map(|report| report.runs.clone()).collect();
    let mut found = Vec::new();
    let mut replicas: Vec<usize> = runs.iter().map(|run| run.setting.replicas).collect();
    replicas.sort_unstable();
    replicas.dedup();
    for count in replicas {
        let of_count: Vec<Run> = runs.iter().filter(|run| run.setting.replicas == count).cloned().collect();
        if let Some(picture) = latency_by_throughput(&of_count) {
            found.push((format!("latency-throughput-{count}"), picture));
        }
    }
    /// Name, what is varied, unit, what is drawn of each backend, scale.
    type Line<'l> = (&'l str, &'l Axis, &'l str, &'l [(&'l str, Figure)], Scale);
    let lines: [Line<'_>; 4] = [
        ("throughput-replicas", &REPLICAS, "requests/s", &[("", THROUGHPUT)], Scale::Linear),
        ("cpu-replicas", &REPLICAS, "CPU us a request, all of the machine", &[("", CPU)], Scale::Linear),
        ("throughput-payload", &PAYLOAD, "requests/s", &[("", THROUGHPUT)], Scale::Linear),
        ("latency-rate", &RATE, "latency, us", &[(" p50", P50), (" p99", P99)], Scale::Logarithmic),
    ];
    for (name, axis, label, figures, scale) in lines {
        if let Some(picture) = by_axis(&runs, axis, label, figures, scale) {
            found.push((name.to_owned(), picture));
        }
    }
    found.extend(offloads(&runs).map(|picture| ("offloads".to_owned(), picture)));
    found.extend(promises(&runs).map(|picture| ("promises".to_owned(), picture)));
    found
}

/// The runs that differ by nothing but what is varied: of all such families that with the most values of it, and of
/// those that with the most runs.
fn family(runs: &[Run], axis: &Axis) -> Option<(Setting, Vec<Run>)> {
    let key = |run: &Run| {
        let mut setting = run.setting;
        (axis.forget)(&mut setting);
        setting
    };
    let mut keys: Vec<Setting> =
        runs.iter().filter(|run| (axis.value)(&run.setting).is_some()).map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    let values = |wanted: &Setting| {
        let mut values: Vec<u64> = runs
            .iter()
            .filter(|run| key(run) == *wanted)
            .filter_map(|run| (axis.value)(&run.setting).map(|value| value as u64))
            .collect();
        values.sort_unstable();
        values.dedup();
        values.len()
    };
    let count = |wanted: &Setting| runs.iter().filter(|run| key(run) == *wanted).count();
    let best = keys.into_iter().max_by_key(|key| (values(key), count(key))).filter(|key| values(key) > 1)?;
    Some((best, runs.iter().filter(|run| key(run) == best).cloned().collect()))
}

fn point(of: &Series<'_>, runs: &[Run], x: f64, figure: Figure) -> Option<Point> {
    Some(Point {
        x,
        y: of.median(runs, figure)?,
        quartiles: [of.quantile(runs, 0.25, figure)?, of.quantile(runs, 0.75, figure)?],
    })
}

/// The names of what was compared at more than one point, in order of appearance, each with the number of its colour.
fn names(runs: &[Run]) -> Vec<(usize, String)> {
    let mut names: Vec<String> = Vec::new();
    let mut more = Vec::new();
    for of in series(runs) {
        let name = of.name();
        if !names.contains(&name) {
            names.push(name);
        } else if !more.contains(&name) {
            more.push(name);
        }
    }
    more.into_iter()
        .enumerate()
        .map(|(place, name)| (colour(&name).unwrap_or(KNOWN.len() + place), name))
        .collect()
}

/// What has the same colour in every picture.
const KNOWN: [&str; 4] = ["udp", "ebpf", "udp-sendto", "udp-multicast"];

fn colour(name: &str) -> Option<usize> {
    KNOWN.iter().position(|known| *known == name)
}

/// What is the same for all points.
fn common(setting: &Setting, axis: &Axis) -> String {
    let Setting { replicas, clients, rate_rps, payload_bytes, batch, durability, authentication } = setting;
    let mut parts = Vec::new();
    if axis.label != REPLICAS.label {
        parts.push(format!("{replicas} replicas"));
    }
    if axis.label != CLIENTS.label {
        parts.push(format!("{clients} clients"));
    }
    parts.push(if rate_rps.is_some() { "open loop" } else { "closed loop" }.to_owned());
    parts.push(format!("batch {batch}"));
    if axis.label != PAYLOAD.label {
        parts.push(format!("{payload_bytes} bytes"));
    }
    parts.push(format!("durability {durability}"));
    if *authentication {
        parts.push("keys".to_owned());
    }
    parts.join(", ")
}

fn by_axis(
    runs: &[Run],
    axis: &Axis,
    label: &str,
    figures: &[(&str, Figure)],
    scale: Scale,
) -> Option<Picture> {
    let (setting, runs) = family(runs, axis)?;
    let mut curves = Vec::new();
    for (colour, name) in names(&runs) {
        for (number, (what, figure)) in figures.iter().enumerate() {
            let mut points: Vec<Point> = series(&runs)
                .iter()
                .filter(|of| of.name() == name)
                .filter_map(|of| point(of, &runs, (axis.value)(&of.setting)?, *figure))
                .collect();
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            curves.push(Curve { name: format!("{name}{what}"), colour, thin: number > 0, points });
        }
    }
    let legend = if scale == Scale::Linear { Corner::UpperRight } else { Corner::UpperLeft };
    Some(Picture::curves(common(&setting, axis), [axis.label, label], scale, legend, curves))
}

/// The field's usual picture: each point is a number of clients.
fn latency_by_throughput(runs: &[Run]) -> Option<Picture> {
    let closed: Vec<Run> = runs.iter().filter(|run| run.setting.rate_rps.is_none()).cloned().collect();
    let (setting, runs) = family(&closed, &CLIENTS)?;
    let mut curves = Vec::new();
    for (colour, name) in names(&runs) {
        for (thin, what, figure) in [(false, "p50", P50), (true, "p99", P99)] {
            let mut of: Vec<_> = series(&runs).into_iter().filter(|of| of.name() == name).collect();
            of.sort_by_key(|of| of.setting.clients);
            let points =
                of.iter().filter_map(|of| point(of, &runs, of.median(&runs, THROUGHPUT)?, figure)).collect();
            curves.push(Curve { name: format!("{name} {what}"), colour, thin, points });
        }
    }
    let mut clients: Vec<usize> = runs.iter().map(|run| run.setting.clients).collect();
    clients.sort_unstable();
    clients.dedup();
    let clients = clients.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let title = format!("{}; points: {clients} clients", common(&setting, &CLIENTS));
    let labels = ["requests/s", "latency, us"];
    Some(Picture::curves(title, labels, Scale::Logarithmic, Corner::LowerRight, curves))
}

/// What each offload gives alone, and what all give together, as the paper shows it.
fn offloads(runs: &[Run]) -> Option<Picture> {
    let alone = series(runs).into_iter().find(|of| of.backend == "ebpf" && of.offloads.len() == 1)?;
    let bars: Vec<Bar> = series(runs)
        .iter()
        .filter(|of| of.setting == alone.setting)
        .filter_map(|of| Some(Bar { name: of.name(), point: point(of, runs, 0.0, THROUGHPUT)? }))
        .collect();
    (bars.len() > 1).then(|| Picture::bars(common(&alone.setting, &RATE), "requests/s", bars))
}

/// What authentication and a log on disk cost.
fn promises(runs: &[Run]) -> Option<Picture> {
    let with = series(runs).into_iter().find(|of| of.setting.authentication)?.setting;
    let bars: Vec<Bar> = series(runs)
        .iter()
        .filter(|of| {
            Setting { authentication: with.authentication, durability: with.durability, ..of.setting } == with
        })
        .filter_map(|of| {
            let keys = if of.setting.authentication { " + keys" } else { "" };
            let name = format!("{} {}{keys}", of.name(), of.setting.durability);
            Some(Bar { name, point: point(of, runs, 0.0, THROUGHPUT)? })
        })
        .collect();
    (bars.len() > 1).then(|| Picture::bars(common(&with, &RATE), "requests/s", bars))
}

#[cfg(test)]
mod tests;
