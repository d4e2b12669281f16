use super::*;
use crate::config::OffloadChoice;
use proptest::prelude::*;
use serde_json::json;

fn setting() -> Setting {
    Setting {
        replicas: 5,
        clients: 16,
        rate_rps: None,
        payload_bytes: 64,
        batch: Batch(Batching::One),
        durability: Durability::Memory,
        authentication: false,
        log_slots: LOG_SLOTS_DEFAULT,
    }
}

pub(crate) fn run(backend: &str, repeat: usize, rps: f64) -> Run {
    Run {
        backend: backend.to_owned(),
        offloads: if backend == "ebpf" { OffloadChoice::ALL.names() } else { vec![] },
        hook: String::new(),
        setting: setting(),
        repeat,
        seconds: 5.0,
        requests: (rps * 5.0) as u64,
        errors: 0,
        retries: 0,
        throughput_rps: rps,
        latency_us: Latency {
            p50: 1e6 / rps,
            p90: 2e6 / rps,
            p99: 3e6 / rps,
            p999: 4e6 / rps,
            max: 5e6 / rps,
        },
        cpu_us_per_request: 2e6 / rps,
        leader_cpu_us_per_request: 0.0,
        leader_user_us_per_request: 0.0,
        follower_cpu_us_per_request: 0.0,
        leader_syscalls_per_request: 3.0,
        follower_syscalls_per_request: 0.5,
    }
}

pub(crate) fn host() -> Host {
    Host {
        kernel: "6.18.0".into(),
        cpus: 2,
        hook: "tc".into(),
        fabric: "bridge".into(),
        commit: "abc1234".into(),
    }
}

#[test]
fn the_contract_of_interfaces_md_is_readable_as_it_stands() {
    let text = r#"{"schema":1,
 "host":{"kernel":"6.18.44","cpus":2,"hook":"tc","fabric":"bridge","commit":"abc1234"},
 "runs":[{"backend":"ebpf","offloads":["broadcast","fast_ack","quorum"],"replicas":5,"clients":16,
   "payload_bytes":64,"batch":1,"durability":"memory","repeat":0,"seconds":5.0,"requests":250000,"errors":0,"throughput_rps":50000.0,
   "latency_us":{"p50":300.0,"p90":390.0,"p99":480.0,"p999":900.0,"max":2100.0},
   "cpu_us_per_request":20.0,"leader_syscalls_per_request":3.1,"follower_syscalls_per_request":0.02}],
 "summary":[{"backend":"ebpf","vs":"udp","replicas":5,"clients":16,"payload_bytes":64,"batch":1,
   "durability":"memory","pairs":5,"throughput_ratio":2.7,"throughput_ratio_quartiles":[2.5,2.9],
   "p50_ratio":0.4,"p99_ratio":0.4,"cpu_ratio":0.35}]}"#;
    let report: Report = serde_json::from_str(text).unwrap();
    assert_eq!(report.runs[0].setting, setting());
    // Every key of the contract is written back with the same name and value.
    let written: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    let contract: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_contains(&written, &contract);
}

#[test]
fn a_report_has_a_line_for_each_run_and_ratio() {
    let report = Report::new(host(), vec![run("udp", 0, 10.0), run("ebpf", 0, 20.0)]);
    let text = report.to_json();
    assert_eq!(text.lines().filter(|line| line.contains("throughput_rps")).count(), 2);
    assert!(text.lines().all(|line| line.len() < 1000), "{text}");
    assert_eq!(Report::from_json(&text).unwrap(), report);
    let empty = Report::new(host(), vec![]);
    assert_eq!(Report::from_json(&empty.to_json()).unwrap(), empty);
}

fn assert_contains(written: &serde_json::Value, contract: &serde_json::Value) {
    match contract {
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| assert_contains(&written[key], value));
        }
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| assert_contains(&written[i], value));
        }
        value => assert_eq!(written, value),
    }
}

#[test]
fn batch_is_the_number_one_or_the_word_auto() {
    assert_eq!(serde_json::to_value(Batch(Batching::One)).unwrap(), json!(1));
    assert_eq!(serde_json::to_value(Batch(Batching::Auto)).unwrap(), json!("auto"));
    assert_eq!(serde_json::from_value::<Batch>(json!("auto")).unwrap(), Batch(Batching::Auto));
    assert!(serde_json::from_value::<Batch>(json!(2)).is_err());
    assert!("2".parse::<Batch>().is_err());
}

#[test]
fn ratios_are_medians_over_pairs_not_ratios_of_medians() {
    // A slow minute in repeat 1 halves both: the ratio stays 2. Ratio of medians would be 1.5.
    let runs = [
        run("udp", 0, 100.0),
        run("ebpf", 0, 200.0),
        run("udp", 1, 50.0),
        run("ebpf", 1, 100.0),
        run("udp", 2, 100.0),
        run("ebpf", 2, 150.0),
    ];
    let summary = &summarise(&runs)[0];
    assert_eq!((summary.pairs, summary.throughput_ratio), (3, 2.0));
    assert_eq!(summary.throughput_ratio_quartiles, [1.75, 2.0]);
    assert_eq!(summary.p50_ratio, 0.5);
    assert_eq!(summary.cpu_ratio, 0.5);
}

#[test]
fn only_runs_of_the_same_repeat_and_setting_are_paired() {
    let mut other = run("udp", 0, 10.0);
    other.setting.clients = 1;
    let runs = [other, run("ebpf", 0, 200.0), run("udp", 1, 100.0), run("ebpf", 2, 300.0)];
    assert_eq!(summarise(&runs), []);
    let runs = [runs.as_slice(), &[run("udp", 2, 100.0)]].concat();
    let summary = &summarise(&runs)[0];
    assert_eq!((summary.pairs, summary.throughput_ratio), (1, 3.0));
}

#[test]
fn what_a_key_costs_is_a_ratio_of_its_own() {
    let with_keys = |backend, repeat, rps| {
        let run = run(backend, repeat, rps);
        Run { setting: Setting { authentication: true, ..run.setting }, ..run }
    };
    let runs =
        [run("udp", 0, 100.0), run("ebpf", 0, 200.0), with_keys("ebpf", 0, 180.0), with_keys("udp", 0, 90.0)];
    let ratio = |summary: &Summary| {
        let Summary { backend, vs, vs_authentication, setting, throughput_ratio, .. } = summary;
        (backend.clone(), setting.authentication, vs.clone(), *vs_authentication, *throughput_ratio)
    };
    let ratios: Vec<_> = summarise(&runs).iter().map(ratio).collect();
    let expected = [
        ("ebpf", false, "udp", false, 2.0),
        ("ebpf", true, "udp", true, 2.0),
        ("ebpf", true, "ebpf", false, 0.9),
        ("udp", true, "udp", false, 0.9),
    ];
    let expected =
        expected.map(|(of, keys, vs, vs_keys, ratio)| (of.to_owned(), keys, vs.to_owned(), vs_keys, ratio));
    assert_eq!(ratios, expected);
}

#[test]
fn what_a_disk_costs_is_a_ratio_of_its_own() {
    let on_disk = |backend, rps| {
        let run = run(backend, 0, rps);
        Run { setting: Setting { durability: Durability::Disk, ..run.setting }, ..run }
    };
    let runs = [run("udp", 0, 100.0), run("ebpf", 0, 200.0), on_disk("ebpf", 60.0), on_disk("udp", 40.0)];
    let ratio = |s: &Summary| (s.backend.clone(), s.vs.clone(), s.vs_durability, s.throughput_ratio);
    let ratios: Vec<_> = summarise(&runs).iter().map(ratio).collect();
    let (memory, disk) = (Durability::Memory, Durability::Disk);
    let expected = [
        ("ebpf", "udp", memory, 2.0),
        ("ebpf", "udp", disk, 1.5),
        ("ebpf", "ebpf", memory, 0.3),
        ("udp", "udp", memory, 0.4),
    ];
    assert_eq!(ratios, expected.map(|(of, vs, kept, ratio)| (of.to_owned(), vs.to_owned(), kept, ratio)));
}

#[test]
fn a_name_tells_which_offloads_are_missing() {
    let named = |backend, offloads: OffloadChoice| name(backend, &offloads.names());
    let fast_ack = OffloadChoice { fast_ack: true, ..OffloadChoice::NONE };
    assert_eq!(named("ebpf", OffloadChoice::ALL), "ebpf");
    assert_eq!(named("ebpf", fast_ack), "ebpf (fast_ack)");
    assert_eq!(named("ebpf", OffloadChoice::NONE), "ebpf (no offloads)");
    assert_eq!(named("udp", OffloadChoice::NONE), "udp");
}

#[test]
fn a_setting_names_what_is_not_usual() {
    let usual = setting().to_string();
    assert_eq!(usual, "5 replicas, 16 clients, batch 1, 64 bytes");
    let other = Setting { durability: Durability::Disk, log_slots: 1024, ..setting() };
    assert_eq!(other.to_string(), usual + ", disk, 1024 slots");
}

#[test]
fn a_run_without_an_answer_has_no_ratio() {
    let runs = [run("udp", 0, 0.0), run("ebpf", 0, 5.0), run("udp", 1, 10.0), run("ebpf", 1, 20.0)];
    let summary = &summarise(&runs)[0];
    assert_eq!((summary.pairs, summary.throughput_ratio), (1, 2.0));
}

#[test]
fn every_backend_is_compared_with_the_baseline_only() {
    let runs = [run("udp", 0, 10.0), run("udp-sendto", 0, 5.0), run("ebpf", 0, 20.0)];
    let summary = Report::new(host(), runs.to_vec()).summary;
    let ratios: Vec<_> = summary.iter().map(|s| (s.backend.as_str(), s.throughput_ratio)).collect();
    assert_eq!(ratios, [("udp-sendto", 0.5), ("ebpf", 2.0)]);
}

#[test]
fn quantiles_of_known_values() {
    let values = [4.0, 1.0, 3.0, 2.0];
    assert_eq!(median(&values), Some(2.5));
    assert_eq!(quantile(&values, 0.25), Some(1.75));
    assert_eq!(quantile(&values, 0.75), Some(3.25));
    assert_eq!(quantile(&values, 0.0), Some(1.0));
    assert_eq!(quantile(&values, 1.0), Some(4.0));
    assert_eq!(median(&[7.0]), Some(7.0));
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[1.0, f64::NAN]), None);
    assert_eq!(median(&[1.0, f64::INFINITY]), None);
}

#[test]
fn percentiles_are_microseconds_of_nanoseconds() {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    (1..=1000u64).for_each(|us| histogram.record(us * 1000).unwrap());
    let latency = Latency::of(&histogram);
    for (value, expected) in
        [(latency.p50, 500.0), (latency.p90, 900.0), (latency.p99, 990.0), (latency.max, 1000.0)]
    {
        assert!((value / expected - 1.0f64).abs() < 0.002, "{value} is not {expected}");
    }
}

proptest! {
    #[test]
    fn quantiles_lie_between_extremes_and_grow(
        values in prop::collection::vec(-1e6f64..1e6, 1..40), a in 0.0f64..=1.0, b in 0.0f64..=1.0,
    ) {
        let (low, high) = (a.min(b), a.max(b));
        let (at_low, at_high) = (quantile(&values, low).unwrap(), quantile(&values, high).unwrap());
        prop_assert!(at_low <= at_high + 1e-6);
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        prop_assert!(at_low >= min - 1e-6 && at_high <= max + 1e-6);
        let half = values.iter().filter(|v| **v <= median(&values).unwrap() + 1e-9).count();
        prop_assert!(half * 2 >= values.len());
    }
}
