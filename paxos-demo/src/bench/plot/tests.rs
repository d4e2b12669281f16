use super::*;
use crate::report::tests::run;

fn host() -> Host {
    Host { kernel: "k".into(), cpus: 2, hook: "tc".into(), fabric: "bridge".into(), commit: "c".into() }
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
    assert_eq!(names(varied(|run, step| run.setting.rate_rps = Some(step as u32 * 1000))), ["latency-rate"]);
    assert_eq!(names(varied(|_, _| {})), [""; 0]);
    let keys = varied(|run, step| run.setting.authentication = step == 1);
    assert_eq!(names(keys), ["promises"]);
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
    for text in
        ["requests/s", "replicas", "16 clients", "batch 1", "64 bytes", "udp", "ebpf", "Linux k", "quartiles"]
    {
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
    let (setting, found) = family(&runs, &REPLICAS).unwrap();
    assert_eq!((setting.payload_bytes, found.len()), (64, 18));
}
