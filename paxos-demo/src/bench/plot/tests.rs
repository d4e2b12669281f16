use super::*;
use crate::config::{Batching, Durability, QUORUM_WINDOW_DEFAULT};
use crate::report::Batch;
use crate::report::tests::run;

fn host() -> Host {
    Host { kernel: "6.18.44".into(), cpus: 2, hook: "tc".into(), fabric: "bridge".into(), commit: "c".into() }
}

fn varied(change: impl Fn(&mut Run, usize)) -> Vec<Run> {
    let mut runs = Vec::new();
    for repeat in 0..3 {
        for step in 1..4 {
            for (backend, factor) in [("udp", 1.0), ("ebpf", 2.5)] {
                let mut run = run(backend, repeat, factor * 1000.0 * (step + repeat) as f64);
                change(&mut run, step);
                runs.push(run);
            }
        }
    }
    runs
}

fn drawn(runs: Vec<Run>) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let paths = draw(&[Report::new(host(), runs)], &dir.path().join("plots")).unwrap();
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn what_was_varied_is_drawn_and_nothing_else() {
    let names = |runs| drawn(runs).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let clients = varied(|run, step| run.setting.clients = step * 4);
    assert_eq!(names(clients), ["latency-throughput-5"]);
    let replicas = varied(|run, step| run.setting.replicas = 2 * step + 1);
    assert_eq!(names(replicas), ["throughput-replicas", "cpu-replicas"]);
    assert_eq!(names(varied(|run, step| run.setting.payload_bytes = step * 100)), ["throughput-payload"]);
    assert_eq!(names(varied(|run, step| run.setting.rate_rps = Some(step as u32 * 100))), ["latency-rate"]);
    assert_eq!(names(varied(|_, _| {})), [""; 0]);
    let keys = varied(|run, step| run.setting.authentication = step == 1);
    assert_eq!(names(keys), ["promises"]);
    assert_eq!(names(varied(|run, step| run.setting.log_slots = 1024 << step)), ["throughput-slots"]);
    let offloads = varied(|run, step| {
        if run.backend == "ebpf" {
            run.offloads =
                ["broadcast", "fast_ack", "quorum"][..step].iter().map(|s| (*s).to_owned()).collect();
        }
    });
    assert_eq!(names(offloads), ["offloads"]);
}

/// Axes, units, what was the same, where, and every backend.
#[test]
fn a_picture_says_what_it_shows() {
    let (_, svg) = drawn(varied(|run, step| run.setting.replicas = 2 * step + 1)).swap_remove(0);
    for text in [
        "requests/s",
        "replicas",
        "16 clients",
        "batch 1",
        "64 bytes",
        "udp",
        "ebpf",
        "Linux 6.18.44,",
        "quartiles",
    ] {
        assert!(svg.contains(text), "{text}: {svg}");
    }
}

#[test]
fn points_are_medians_with_their_quartiles() {
    let runs = varied(|run, step| run.setting.replicas = 2 * step + 1);
    let of = series(&runs)[0];
    let point = point(&of, &runs, 3.0, THROUGHPUT).unwrap();
    assert_eq!((point.y, point.quartiles), (2000.0, [1500.0, 2500.0]));
}

#[test]
fn the_family_with_the_most_values_is_drawn() {
    let mut runs = varied(|run, step| run.setting.replicas = 2 * step + 1);
    let mut other = run("udp", 0, 1.0);
    other.setting.payload_bytes = 9;
    runs.insert(0, other);
    let (setting, found) = family(&[Report::new(host(), runs)], &REPLICAS, |_| true).unwrap();
    assert_eq!((setting.payload_bytes, found.len()), (64, 18));
}

#[test]
fn runs_of_two_reports_are_never_one_curve() {
    let runs = || varied(|run, step| run.setting.replicas = 2 * step + 1);
    let more = [runs(), runs().into_iter().filter(|run| run.backend == "udp").collect()].concat();
    let reports = [Report::new(host(), runs()), Report::new(host(), more)];
    let (_, found) = family(&reports, &REPLICAS, |_| true).unwrap();
    assert_eq!(found.len(), 27, "the larger of the two");
    // Each of them has one value only: together they would have two.
    let of = |replicas| varied(|run, _| run.setting.replicas = replicas);
    let reports = [3, 5].map(|replicas| Report::new(host(), of(replicas)));
    assert!(family(&reports, &REPLICAS, |_| true).is_none());
}

#[test]
fn reports_of_several_series_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let report = |change: fn(&mut Report)| {
        let mut report = Report::new(host(), varied(|run, step| run.setting.clients = step));
        change(&mut report);
        report
    };
    let said = |change| draw(&[report(|_| ()), report(change)], dir.path()).map_err(|e| e.to_string());
    assert!(said(|report| report.host.hook.clear()).is_ok(), "without an ebpf run there is no hook");
    assert!(said(|report| report.runs.iter_mut().for_each(|run| run.seconds = 5.1)).is_ok());
    type Case = (&'static str, fn(&mut Report));
    let cases: [Case; 6] = [
        ("kernel", |report| report.host.kernel = "6.1".into()),
        ("CPUs", |report| report.host.cpus = 4),
        ("network", |report| report.host.fabric = "loopback".into()),
        ("commit", |report| report.host.commit = "d".into()),
        ("hook", |report| report.host.hook = "xdp".into()),
        ("length of the runs differs (5.0 s, 0.5 s)", |report| {
            report.runs.iter_mut().for_each(|run| run.seconds = 0.5);
        }),
    ];
    for (what, change) in cases {
        let text = said(change).unwrap_err();
        assert!(text.contains(what) && text.contains("cannot be drawn together"), "{text}");
    }
    // One between them that agrees with both hides nothing.
    let between =
        |changes: [fn(&mut Report); 3]| draw(&changes.map(report), dir.path()).unwrap_err().to_string();
    let text = between([|_| (), |report| report.host.hook.clear(), |report| report.host.hook = "xdp".into()]);
    assert!(text.contains("the hook differs (tc, xdp)"), "{text}");
    let text = between([
        |_| (),
        |report| report.runs.iter_mut().for_each(|run| run.seconds = 5.2),
        |report| report.runs.iter_mut().for_each(|run| run.seconds = 5.4),
    ]);
    assert!(text.contains("the length of the runs differs (5.0 s, 5.4 s)"), "{text}");
}

#[test]
fn a_curve_ends_where_not_everything_was_answered() {
    // udp answers 2000 of 2000, then 2000 of 4000 and 6000.
    let mut runs = varied(|run, step| {
        run.setting.rate_rps = Some(step as u32 * 2000);
        run.throughput_rps = if run.backend == "udp" { 2000.0 } else { step as f64 * 1970.0 };
    });
    let points = |runs: &[Run]| {
        let of = |name| {
            let picture =
                by_axis(&[Report::new(host(), runs.to_vec())], &RATE, "us", &[("", P50)], Scale::Linear);
            picture.unwrap().curve(name).map(|curve| curve.points.iter().map(|p| p.x).collect::<Vec<_>>())
        };
        ["udp", "ebpf"].map(of)
    };
    assert_eq!(points(&runs), [Some(vec![2000.0]), Some(vec![2000.0, 4000.0, 6000.0])]);
    // Once it is too much, what is answered later by luck is not shown either.
    runs.iter_mut()
        .filter(|run| run.setting.rate_rps == Some(2000))
        .for_each(|run| run.throughput_rps = 1950.0);
    runs.iter_mut().filter(|run| run.backend == "udp").for_each(|run| run.throughput_rps = 9000.0);
    assert_eq!(points(&runs), [Some(vec![2000.0, 4000.0, 6000.0]), None]);
    // What is too slow from the start has no curve, but its name stands there.
    runs.iter_mut().filter(|run| run.backend == "udp").for_each(|run| run.throughput_rps = 1.0);
    let picture = by_axis(&[Report::new(host(), runs.clone())], &RATE, "us", &[("", P50)], Scale::Linear);
    assert!(picture.is_none(), "no curve at all: {picture:?}");
    let ebpf = runs.iter_mut().filter(|run| run.backend == "ebpf");
    ebpf.for_each(|run| run.throughput_rps = run.setting.rate_rps.map_or(0.0, f64::from));
    let (_, svg) = drawn(runs).swap_remove(0);
    assert_eq!(svg.matches("udp: below 98 % at the lowest rate").count(), 1, "{svg}");
    assert!(!svg.contains("udp p50") && !svg.contains("ebpf: below"), "{svg}");
    assert!(svg.contains("curves end where less than 98 % was answered"), "{svg}");
}

#[test]
fn promises_are_shown_beside_the_same_without() {
    let mut runs = vec![run("udp-sendto", 0, 5.0), run("udp", 0, 10.0), run("ebpf", 0, 20.0)];
    for (backend, keys, durability) in [
        ("udp", true, Durability::Memory),
        ("ebpf", false, Durability::Disk),
        ("ebpf", true, Durability::Disk),
        ("udp-multicast", true, Durability::Memory),
    ] {
        let mut run = run(backend, 0, 3.0);
        (run.setting.authentication, run.setting.durability) = (keys, durability);
        runs.push(run);
    }
    let picture = promises::draw(&runs).unwrap();
    let bars: Vec<_> = picture.bars_drawn().iter().map(|bar| (bar.name.as_str(), bar.colour)).collect();
    let (udp, ebpf) = (0, 1);
    let expected = [
        ("udp", udp),
        ("udp\n+ keys", udp),
        ("ebpf", ebpf),
        ("ebpf\n+ disk", ebpf),
        ("ebpf\n+ disk\n+ keys", ebpf),
    ];
    assert_eq!(bars, expected);
    assert_eq!(promises::draw(&runs[..3]), None);
}

#[test]
fn bars_have_the_colours_of_curves() {
    let mut alone = run("ebpf", 0, 15.0);
    alone.offloads = vec!["quorum".into()];
    let picture = offloads(&[run("udp", 0, 10.0), alone, run("ebpf", 0, 20.0)]).unwrap();
    let bars: Vec<_> = picture.bars_drawn().iter().map(|bar| (bar.name.as_str(), bar.colour)).collect();
    assert_eq!(bars, [("udp", 0), ("ebpf (quorum)", KNOWN.len()), ("ebpf", 1)]);
}

/// Names stand above the plot, not in it.
#[test]
fn the_legend_hides_no_point() {
    let (_, svg) = drawn(varied(|run, step| run.setting.clients = step)).swap_remove(0);
    let y = |line: &str| line.split(" y=\"").nth(1)?.split('"').next()?.parse::<f64>().ok();
    let lines: Vec<&str> = svg.lines().collect();
    let named: Vec<f64> = (1..lines.len())
        .filter(|i| lines[*i].starts_with("ebpf p"))
        .filter_map(|i| y(lines[i - 1]))
        .collect();
    let whiskers = lines.iter().filter(|line| line.starts_with("<circle"));
    let top = whiskers.filter_map(|line| line.split(" cy=\"").nth(1)?.split('"').next()?.parse::<f64>().ok());
    let top = top.fold(f64::MAX, f64::min);
    assert!(named.len() == 2 && named.iter().all(|y| *y < top), "{named:?} {top} {svg}");
}

/// As many runs in both, but fewer of them are beside the same without a promise; then as many bars.
#[test]
fn promises_are_those_of_the_report_with_the_most_bars_and_the_first_of_equals() {
    let report = |keys: bool, settings: [(Batching, Durability); 3]| {
        let runs = settings.map(|(batch, durability)| {
            let mut run = run("ebpf", 0, 5.0);
            (run.setting.batch, run.setting.durability) = (Batch(batch), durability);
            run.setting.authentication = keys && durability != Durability::Memory;
            run
        });
        Report::new(host(), runs.to_vec())
    };
    let (one, auto) = (Batching::One, Batching::Auto);
    let (memory, process, disk) = (Durability::Memory, Durability::Process, Durability::Disk);
    let three = report(false, [(one, memory), (one, process), (one, disk)]);
    let with_keys = report(true, [(one, memory), (one, process), (one, disk)]);
    let two = report(false, [(one, memory), (one, disk), (auto, disk)]);
    let chosen = |reports: [&Report; 2]| {
        with_most_bars(&reports.map(Clone::clone), promises::draw)
            .map(|picture| picture.bars_drawn().to_vec())
    };
    let bars = |report: &Report| promises::draw(&report.runs).map(|picture| picture.bars_drawn().to_vec());
    assert_eq!(chosen([&three, &two]), bars(&three));
    assert_eq!(chosen([&two, &three]), bars(&three));
    assert_eq!(chosen([&three, &with_keys]), bars(&three));
    assert_eq!(chosen([&with_keys, &three]), bars(&with_keys));
}

#[test]
fn slots_are_shown_with_the_window_that_they_allow() {
    let (_, svg) = drawn(varied(|run, step| run.setting.log_slots = 1024 << step)).swap_remove(0);
    assert!(svg.contains("quorum window: 4096, or as many as slots"), "{svg}");
    assert!(LOG_SLOTS.note.contains(&QUORUM_WINDOW_DEFAULT.to_string()));
}
