//! A short soak: the books of a real group balance, and a packet that is lost without a counter makes a difference.
#![cfg(feature = "ebpf")]

mod common;

use std::process;
use std::time::Duration;

use clap::Parser;
use common::{alive, children, privileged, program, signal, wait_for};
use electrode::fabric::LinkFaults;
use electrode::inspect::{ObjectKind, still_loaded};
use paxos_demo::bench::progress::Progress;
use paxos_demo::cli::{BackendChoice, Cli, Command, SoakArgs};
use paxos_demo::cluster::{Cluster, Spec};
use paxos_demo::measure::process_cpu;
use paxos_demo::report::Host;
use paxos_demo::soak;
use paxos_demo::soak::cut::Cut;
use paxos_demo::soak::ledger::{Equation, balance};
use paxos_demo::soak::leftovers::Traces;
use paxos_demo::soak::sample::Holding;
use paxos_demo::stop::Stop;

/// Runs the command, which must find nothing; its report.
fn soaked(options: &[&str]) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("soak.json");
    let output = process::Command::new(program())
        .args(["soak", "--replicas", "3", "--clients", "16", "--json"])
        .arg(&json)
        .args(options)
        .env("ELECTRODE_COMMIT", "abcdef")
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{text}");
    serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
}

#[test]
fn a_short_soak_finds_nothing() {
    if !privileged("a_short_soak_finds_nothing") {
        return;
    }
    for (options, equations) in [
        (&["--backend", "ebpf", "--seconds", "2"][..], 3 * 6 + 5),
        (&["--backend", "ebpf", "--batch", "1", "--authentication", "on", "--seconds", "2"], 3 * 6 + 5),
        (&["--backend", "udp", "--seconds", "0.1"], 3 * 2 + 5),
    ] {
        let report = soaked(options);
        assert_eq!(report["backend"], options[1]);
        assert_eq!(report["findings"], serde_json::json!([]));
        assert_eq!((&report["host"]["fabric"], &report["memory_judged"]), (&"bridge".into(), &false.into()));
        assert_eq!(report["host"]["commit"], "abcdef");
        assert!(report["requests"].as_u64().unwrap() > 0);
        assert_eq!(report["equations"].as_array().unwrap().len(), equations);
        let held = report["held"].as_array().unwrap();
        assert!(held.len() == 3 && held.iter().all(|of| of.as_array().unwrap().len() > 1), "{held:?}");
    }
}

/// The books of a group whose cable from one host to another lost ten packets or more, and no counter says so.
fn with_a_bad_cable(backend: BackendChoice, from: usize, to: usize) -> Vec<Equation> {
    let stop = Stop::default();
    let spec = Spec { backend, program: program(), ..Spec::new(3).unwrap() };
    let mut cluster = soak::start(spec, &stop).unwrap();
    let faults = cluster.fabric().unwrap().faults().unwrap();
    let before = Cut::take(&cluster, &stop).unwrap();
    faults.set(from, to, &LinkFaults { loss: 0.01, ..LinkFaults::default() }).unwrap();
    let mut progress = Progress::new(1);
    for _ in 0..60 {
        soak::load(&mut cluster, 16, Duration::from_secs(1), &stop, &mut progress).unwrap();
        if faults.counts().unwrap().lost >= 10 {
            break;
        }
    }
    assert!(faults.counts().unwrap().lost >= 10, "or there is nothing to find");
    faults.heal().unwrap();
    let after = Cut::take(&cluster, &stop).unwrap();
    balance(&before, &after)
}

fn wrong(equations: &[Equation]) -> Vec<&str> {
    equations.iter().filter(|equation| !equation.holds).map(|equation| equation.name.as_str()).collect()
}

#[test]
fn a_packet_that_nobody_counted_is_found() {
    if !privileged("a_packet_that_nobody_counted_is_found") {
        return;
    }
    let prepares = "every Prepare and Commit was judged once by a follower";
    let acks = "every ack was judged once by the leader";
    for backend in [BackendChoice::Ebpf, BackendChoice::Udp] {
        // What else is lost on the cable may be a message between members, and then that is named as well.
        let equations = with_a_bad_cable(backend, 0, 1);
        let found = wrong(&equations);
        assert!(found.contains(&prepares) && !found.contains(&acks), "{backend}: {found:?}");
        let equations = with_a_bad_cable(backend, 2, 0);
        let found = wrong(&equations);
        assert!(found.contains(&acks) && !found.contains(&prepares), "{backend}: {found:?}");
    }
}

/// A group after its load.
struct Soaked {
    cluster: Cluster,
    before: Cut,
    loaded: soak::Loaded,
    about: (String, Host),
    args: SoakArgs,
}

impl Soaked {
    /// For so many seconds, or until what is done `meanwhile` to the last replica ends it.
    fn of(seconds: f64, meanwhile: impl FnOnce(u32) + Send) -> Self {
        let line = format!("paxos-demo soak --replicas 3 --clients 4 --backend udp --seconds {seconds}");
        let Command::Soak(args) = Cli::parse_from(line.split_whitespace()).command else { panic!() };
        let stop = Stop::default();
        let spec = Spec { program: program(), ..soak::spec(&args).unwrap() };
        let mut cluster = soak::start(spec, &stop).unwrap();
        let about = soak::backend(&cluster, BackendChoice::Udp).unwrap();
        let before = Cut::take(&cluster, &stop).unwrap();
        let (pid, length) = (cluster.pid(2).unwrap(), Duration::from_secs_f64(args.seconds));
        let loaded = std::thread::scope(|scope| {
            scope.spawn(move || meanwhile(pid));
            soak::load(&mut cluster, args.clients, length, &stop, &mut Progress::new(1)).unwrap()
        });
        Self { cluster, before, loaded, about, args }
    }

    /// The report, which must say that the last replica is dead.
    fn report(self) -> soak::SoakReport {
        let Self { cluster, before, loaded, about, args } = self;
        let report = soak::close(cluster, &before, loaded, about, &args, &Stop::default()).unwrap();
        let dead = "the books cannot be closed: replica 2 ended with signal: 9";
        assert!(report.findings.iter().any(|text| text.starts_with(dead)), "{report:?}");
        report
    }
}

#[test]
fn samples_are_kept_when_the_books_cannot_be_closed() {
    if !privileged("samples_are_kept_when_the_books_cannot_be_closed") {
        return;
    }
    let mut soaked = Soaked::of(0.2, |_| {});
    signal(soaked.cluster.pid(2).unwrap(), libc::SIGKILL);
    wait_for("the replica's end", || soaked.cluster.has_ended(2).then_some(()));
    assert!(soaked.report().held.iter().all(|held| !held.is_empty()));
}

#[test]
fn samples_are_kept_when_a_replica_dies_under_load() {
    if !privileged("samples_are_kept_when_a_replica_dies_under_load") {
        return;
    }
    // How soon the first sample is taken is the machine's affair: the replica lives for longer from time to time.
    // It dies between two samples, which are a second apart.
    for seconds in [2.5, 4.5, 8.5, 16.5, 32.5] {
        let soaked = Soaked::of(600.0, move |pid| {
            std::thread::sleep(Duration::from_secs_f64(seconds));
            signal(pid, libc::SIGKILL);
        });
        let report = soaked.report();
        assert!(report.seconds < 600.0 && report.requests > 0, "{report:?}");
        if report.held.iter().all(|held| !held.is_empty()) {
            return;
        }
    }
    panic!("no sample was kept");
}

#[test]
fn an_interrupted_soak_leaves_nothing_and_says_so() {
    if !privileged("an_interrupted_soak_leaves_nothing_and_says_so") {
        return;
    }
    // While it starts, and when a replica has worked for a while.
    for worked in [Duration::ZERO, Duration::from_millis(700)] {
        let temp = tempfile::tempdir().unwrap();
        let json = temp.path().join("soak.json");
        let soak = process::Command::new(program())
            .args(["soak", "--replicas", "3", "--seconds", "600", "--json"])
            .arg(&json)
            .env("TMPDIR", temp.path())
            .stdout(process::Stdio::null())
            .stderr(process::Stdio::piped())
            .spawn()
            .unwrap();
        let replicas = wait_for("work", || {
            let replicas = children(soak.id());
            let busy = |pid: &u32| process_cpu(*pid).is_ok_and(|cpu| cpu.total() >= worked);
            (replicas.len() == 3 && replicas.iter().all(busy)).then_some(replicas)
        });
        let held: Vec<_> = replicas.iter().filter_map(|pid| Holding::read(*pid).ok()).collect();
        assert!(worked.is_zero() || held.iter().all(|held| !held.maps.is_empty()), "{held:?}");
        signal(soak.id(), libc::SIGINT);
        let output = soak.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("interrupted; everything that was made is removed"), "{said}");
        assert!(replicas.iter().all(|pid| !alive(*pid)));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "files, and no report of a part");
        wait_for("the end of their maps", || {
            let maps = held.iter().flat_map(|held| held.maps.iter().copied());
            still_loaded(ObjectKind::Map, maps).unwrap().is_empty().then_some(())
        });
    }
}

#[test]
fn what_a_group_leaves_would_be_named() {
    if !privileged("what_a_group_leaves_would_be_named") {
        return;
    }
    let spec = Spec { backend: BackendChoice::Ebpf, program: program(), ..Spec::new(3).unwrap() };
    let cluster = soak::start(spec, &Stop::default()).unwrap();
    let held: Vec<_> = (0..3).map(|id| Holding::read(cluster.pid(id).unwrap()).unwrap()).collect();
    for held in &held {
        assert!(!held.maps.is_empty() && !held.programs.is_empty() && held.descriptors > 3, "{held:?}");
    }
    let traces = Traces::of(&cluster, held.iter()).unwrap();
    let left = traces.left_now().unwrap();
    for what in ["process", "directory", "namespace", "BPF program", "BPF map", "BPF link"] {
        assert!(left.iter().any(|text| text.contains(what)), "{what}: {left:?}");
    }
    drop(cluster);
    assert_eq!(traces.left().unwrap(), [""; 0]);
}
