//! Pictures of reports, as SVG: one for each thing that was varied, each from one report, whose runs were beside each
//! other. Points are medians over the repeats, whiskers their quartiles; backends keep their colours from picture to
//! picture.

mod canvas;
mod promises;

use std::path::{Path, PathBuf};

use self::canvas::{Bar, Curve, Picture, Point, Scale};
use super::BenchError;
use crate::cluster::ready::write_atomically;
use crate::config::LOG_SLOTS_DEFAULT;
use crate::report::{Host, Report, Run, Series, Setting, median, series};

/// A thing that is varied: its number in a setting, and how to make settings equal that differ by it alone.
struct Axis {
    label: &'static str,
    /// What else whoever looks at the picture must know.
    note: &'static str,
    value: fn(&Setting) -> Option<f64>,
    forget: fn(&mut Setting),
}

/// Of a closed loop: in an open one they are only room.
const CLIENTS: Axis = Axis {
    label: "clients",
    note: "",
    value: |s| s.rate_rps.is_none().then_some(s.clients as f64),
    forget: |s| s.clients = 0,
};
const REPLICAS: Axis =
    Axis { label: "replicas", note: "", value: |s| Some(s.replicas as f64), forget: |s| s.replicas = 0 };
const PAYLOAD: Axis = Axis {
    label: "bytes of a value",
    note: "",
    value: |s| Some(s.payload_bytes as f64),
    forget: |s| s.payload_bytes = 0,
};
const RATE: Axis = Axis {
    label: "requests that arrive in a second",
    note: "curves end where less than 98 % was answered",
    value: |s| s.rate_rps.map(f64::from),
    forget: |s| s.rate_rps = s.rate_rps.map(|_| 0),
};
const LOG_SLOTS: Axis = Axis {
    label: "slots of a replica's log",
    note: "quorum window: 4096, or as many as slots",
    value: |s| Some(f64::from(s.log_slots)),
    forget: |s| s.log_slots = 0,
};
/// Below this share of the requests that were to arrive the latency is that of a queue that grows with the window.
const KEEPS_UP: f64 = 0.98;
/// Reports whose windows differ by less are of one length.
const SAME_LENGTH: f64 = 0.05;

/// A figure of a run.
type Figure = fn(&Run) -> f64;
const THROUGHPUT: Figure = |run| run.throughput_rps;
const P50: Figure = |run| run.latency_us.p50;
const P99: Figure = |run| run.latency_us.p99;
const CPU: Figure = |run| run.cpu_us_per_request;

/// Draws what the reports have enough runs for; returns the files. All must be of one machine, commit and length of runs.
pub fn draw(reports: &[Report], directory: &Path) -> Result<Vec<PathBuf>, BenchError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BenchError::Write { path, source }
    };
    // Each with every other: a report without a hook agrees with any, and small differences in length add up.
    let mut pairs =
        reports.iter().enumerate().flat_map(|(i, one)| reports[..i].iter().map(move |before| (before, one)));
    if let Some(reason) = pairs.find_map(|(before, one)| difference(before, one)) {
        return Err(BenchError::Apart { reason });
    }
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    let hosts = || reports.iter().map(|report| &report.host);
    let Some(host) = hosts().find(|host| !host.hook.is_empty()).or(hosts().next()) else {
        return Ok(Vec::new());
    };
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

/// Why two reports are not of one series of runs.
fn difference(one: &Report, other: &Report) -> Option<String> {
    let differ = |what: &str, a: String, b: String| (a != b).then(|| format!("{what} differs ({a}, {b})"));
    let (a, b) = (&one.host, &other.host);
    let hooks = || {
        let both = !a.hook.is_empty() && !b.hook.is_empty();
        if both { differ("the hook", a.hook.clone(), b.hook.clone()) } else { None }
    };
    let lengths = || {
        let length = |report: &Report| median(&report.runs.iter().map(|run| run.seconds).collect::<Vec<_>>());
        let (a, b) = (length(one)?, length(other)?);
        ((a - b).abs() > SAME_LENGTH * a.max(b))
            .then(|| format!("the length of the runs differs ({a:.1} s, {b:.1} s)"))
    };
    differ("the kernel", a.kernel.clone(), b.kernel.clone())
        .or_else(|| differ("the number of CPUs", a.cpus.to_string(), b.cpus.to_string()))
        .or_else(|| differ("the network", a.fabric.clone(), b.fabric.clone()))
        .or_else(|| differ("the commit", a.commit.clone(), b.commit.clone()))
        .or_else(hooks)
        .or_else(lengths)
}

fn place(host: &Host) -> String {
    let Host { kernel, cpus, hook, fabric, commit } = host;
    format!("Linux {kernel}, {cpus} CPUs, {fabric}, {hook}; {commit}; medians and quartiles of repeated runs")
}

/// Every picture that there is enough for, with the name of its file.
fn pictures(reports: &[Report]) -> Vec<(String, Picture)> {
    let mut found = Vec::new();
    let mut replicas: Vec<usize> =
        reports.iter().flat_map(|report| &report.runs).map(|run| run.setting.replicas).collect();
    replicas.sort_unstable();
    replicas.dedup();
    for count in replicas {
        let picture = latency_by_throughput(reports, count);
        found.extend(picture.map(|picture| (format!("latency-throughput-{count}"), picture)));
    }
    /// Name, what is varied, unit, what is drawn of each backend, scale.
    type Line<'l> = (&'l str, &'l Axis, &'l str, &'l [(&'l str, Figure)], Scale);
    let lines: [Line<'_>; 5] = [
        ("throughput-replicas", &REPLICAS, "requests/s", &[("", THROUGHPUT)], Scale::Linear),
        ("cpu-replicas", &REPLICAS, "CPU us a request, all of the machine", &[("", CPU)], Scale::Linear),
        ("throughput-payload", &PAYLOAD, "requests/s", &[("", THROUGHPUT)], Scale::Linear),
        ("throughput-slots", &LOG_SLOTS, "requests/s", &[("", THROUGHPUT)], Scale::Linear),
        ("latency-rate", &RATE, "latency, us", &[(" p50", P50), (" p99", P99)], Scale::Logarithmic),
    ];
    for (name, axis, label, figures, scale) in lines {
        if let Some(picture) = by_axis(reports, axis, label, figures, scale) {
            found.push((name.to_owned(), picture));
        }
    }
    found.extend(with_most_bars(reports, offloads).map(|picture| ("offloads".to_owned(), picture)));
    found.extend(with_most_bars(reports, promises::draw).map(|picture| ("promises".to_owned(), picture)));
    found
}

/// Of the pictures that the reports give that with the most bars, of equals the first.
fn with_most_bars(reports: &[Report], draw: fn(&[Run]) -> Option<Picture>) -> Option<Picture> {
    let drawn = reports.iter().filter_map(|report| draw(&report.runs));
    drawn.reduce(|best, next| if next.bars_drawn().len() > best.bars_drawn().len() { next } else { best })
}

/// The runs of one report that differ by nothing but what is varied: of all such families that with the most values of
/// it, and of those that with the most runs.
fn family(reports: &[Report], axis: &Axis, wanted: impl Fn(&Setting) -> bool) -> Option<(Setting, Vec<Run>)> {
    let key = |run: &Run| {
        let mut setting = run.setting;
        (axis.forget)(&mut setting);
        setting
    };
    let mut families: Vec<(usize, Setting, Vec<Run>)> = Vec::new();
    for report in reports {
        let varied = |run: &&Run| wanted(&run.setting) && (axis.value)(&run.setting).is_some();
        let runs: Vec<&Run> = report.runs.iter().filter(varied).collect();
        let mut keys: Vec<Setting> = runs.iter().map(|run| key(run)).collect();
        keys.sort_unstable();
        keys.dedup();
        for setting in keys {
            let family: Vec<Run> =
                runs.iter().filter(|run| key(run) == setting).map(|run| (*run).clone()).collect();
            let mut values: Vec<u64> = family
                .iter()
                .filter_map(|run| (axis.value)(&run.setting))
                .map(|value| value as u64)
                .collect();
            values.sort_unstable();
            values.dedup();
            families.push((values.len(), setting, family));
        }
    }
    let best = families.into_iter().max_by_key(|(values, _, runs)| (*values, runs.len()));
    best.filter(|(values, ..)| *values > 1).map(|(_, setting, runs)| (setting, runs))
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
    colours(&more).into_iter().zip(more.iter().cloned()).collect()
}

/// What has the same colour in every picture.
const KNOWN: [&str; 4] = ["udp", "ebpf", "udp-sendto", "udp-multicast"];

/// The number of each name's colour.
fn colours<S: AsRef<str>>(names: &[S]) -> Vec<usize> {
    let mut others = KNOWN.len()..;
    let known = |name: &S| KNOWN.iter().position(|known| *known == name.as_ref());
    names.iter().map(|name| known(name).or_else(|| others.next()).unwrap_or_default()).collect()
}

/// What is the same for all points, that is, all but `varied`.
fn common(setting: &Setting, varied: &str) -> String {
    let Setting { replicas, clients, rate_rps, payload_bytes, batch, durability, authentication, log_slots } =
        setting;
    let mut parts = Vec::new();
    if varied != REPLICAS.label {
        parts.push(format!("{replicas} replicas"));
    }
    if varied != CLIENTS.label {
        parts.push(format!("{clients} clients"));
    }
    parts.push(if rate_rps.is_some() { "open loop" } else { "closed loop" }.to_owned());
    parts.push(format!("batch {batch}"));
    if varied != PAYLOAD.label {
        parts.push(format!("{payload_bytes} bytes"));
    }
    if varied != LOG_SLOTS.label && *log_slots != LOG_SLOTS_DEFAULT {
        parts.push(format!("{log_slots} slots"));
    }
    if varied != promises::VARIED {
        parts.push(format!("durability {durability}"));
        parts.extend(authentication.then(|| "keys".to_owned()));
    }
    parts.join(", ")
}

fn by_axis(
    reports: &[Report],
    axis: &Axis,
    label: &str,
    figures: &[(&str, Figure)],
    scale: Scale,
) -> Option<Picture> {
    let (setting, runs) = family(reports, axis, |_| true)?;
    let mut curves = Vec::new();
    for (colour, name) in names(&runs) {
        let mut of: Vec<_> = series(&runs).into_iter().filter(|of| of.name() == name).collect();
        of.sort_by_key(|of| of.setting);
        let to = of.iter().position(|of| !keeps_up(of, &runs)).unwrap_or(of.len());
        if to == 0 {
            // Without a line, but not without a word.
            let name = format!("{name}: below 98 % at the lowest rate");
            curves.push(Curve { name, colour, thin: false, points: Vec::new() });
        }
        for (number, (what, figure)) in figures.iter().enumerate() {
            let points: Vec<Point> = of[..to]
                .iter()
                .filter_map(|of| point(of, &runs, (axis.value)(&of.setting)?, *figure))
                .collect();
            if !points.is_empty() {
                curves.push(Curve { name: format!("{name}{what}"), colour, thin: number > 0, points });
            }
        }
    }
    let title = common(&setting, axis.label);
    let some = curves.iter().any(|curve| !curve.points.is_empty());
    some.then(|| Picture::curves(title, [axis.label, label], scale, curves).with_note(axis.note))
}

/// Whether what was to arrive was answered; in a closed loop that is so by itself.
fn keeps_up(of: &Series<'_>, runs: &[Run]) -> bool {
    let Some(rate) = of.setting.rate_rps else { return true };
    of.median(runs, THROUGHPUT).is_some_and(|answered| answered >= KEEPS_UP * f64::from(rate))
}

/// The field's usual picture: each point is a number of clients.
fn latency_by_throughput(reports: &[Report], replicas: usize) -> Option<Picture> {
    let (setting, runs) = family(reports, &CLIENTS, |setting| setting.replicas == replicas)?;
    let mut curves = Vec::new();
    for (colour, name) in names(&runs) {
        let mut of: Vec<_> = series(&runs).into_iter().filter(|of| of.name() == name).collect();
        of.sort_by_key(|of| of.setting);
        for (thin, what, figure) in [(false, "p50", P50), (true, "p99", P99)] {
            let points =
                of.iter().filter_map(|of| point(of, &runs, of.median(&runs, THROUGHPUT)?, figure)).collect();
            curves.push(Curve { name: format!("{name} {what}"), colour, thin, points });
        }
    }
    let mut clients: Vec<usize> = runs.iter().map(|run| run.setting.clients).collect();
    clients.sort_unstable();
    clients.dedup();
    let clients = clients.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let title = format!("{}; points: {clients} clients", common(&setting, CLIENTS.label));
    Some(Picture::curves(title, ["requests/s", "latency, us"], Scale::Logarithmic, curves))
}

/// What each offload gives alone, and what all give together, as the paper shows it.
fn offloads(runs: &[Run]) -> Option<Picture> {
    let alone = series(runs).into_iter().find(|of| of.backend == "ebpf" && of.offloads.len() == 1)?;
    let compared: Vec<_> = series(runs).into_iter().filter(|of| of.setting == alone.setting).collect();
    let names: Vec<String> = compared.iter().map(Series::name).collect();
    let bars: Vec<Bar> = compared
        .iter()
        .zip(colours(&names))
        .filter_map(|(of, colour)| {
            Some(Bar { name: of.name(), colour, point: point(of, runs, 0.0, THROUGHPUT)? })
        })
        .collect();
    (bars.len() > 1).then(|| Picture::bars(common(&alone.setting, "offloads"), "requests/s", bars))
}

#[cfg(test)]
mod tests;
