//! The program as scripts see it: exit codes, files, and what is left when it has ended.

mod common;

use common::{alive, children, free_ports, loopback, privileged, program, signal, start, wait_for};
use paxos_demo::cluster::ready::ReadyFile;
use paxos_demo::config::Durability;
use paxos_demo::message;
use paxos_demo::report::{Report, Run, Summary};
use paxos_demo::state_machine::COMMAND_HEADER_BYTES;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Ends the child if a test fails half way.
struct Guard(Child);

impl Guard {
    fn start(arguments: &[&str], temp: &Path) -> Self {
        let mut command = Command::new(program());
        command.args(arguments).env("TMPDIR", temp).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// A group of three on kernel UDP, and the path of its ready file.
    fn cluster(more: &[&str], temp: &Path) -> (Self, PathBuf) {
        let file = temp.join("ready.json");
        let port = free_ports(3).to_string();
        let of_all = ["cluster", "--replicas", "3", "--backend", "udp", "--resp-port", &port, "--ready-file"];
        (Self::start(&[&of_all[..], &[file.to_str().unwrap()], more].concat(), temp), file)
    }

    fn exit_code(mut self) -> Option<i32> {
        wait_for("the program's end", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn wrong_use_is_2_and_failure_is_1_with_a_reason() {
    for arguments in [&["bench", "--batch", "7"][..], &["replica"], &["nonsense"], &[]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = run(&["bench", "--payload-bytes", "5000"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--payload-bytes 5000"), "{}", stderr(&output));

    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("cluster.toml");
    std::fs::write(&config, "group = 1\nspeed = 9\n").unwrap();
    let config = config.to_str().unwrap();
    for arguments in
        [&["client", "--config", config, "get", "k"][..], &["replica", "--config", config, "--id", "0"]]
    {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("line 2: unknown field `speed`"), "{}", stderr(&output));
    }
}

#[test]
fn a_client_reads_its_writes_and_a_dead_group_is_an_error() {
    let mut cluster = start(loopback(3));
    let config = cluster.config_path();
    let config = config.to_str().unwrap();
    let client = |arguments: &[&str]| {
        run(&[&["client", "--config", config, "--timeout-ms", "500"], arguments].concat())
    };
    assert_eq!(stdout(&client(&["get", "k"])), "(nil)\n");
    assert_eq!(stdout(&client(&["put", "k", "v w"])), "OK\n");
    assert_eq!(stdout(&client(&["get", "k"])), "v w\n");
    assert_eq!(stdout(&client(&["delete", "k"])), "1\n");
    assert_eq!(stdout(&client(&["delete", "k"])), "0\n");
    // More than one datagram holds.
    let long = "x".repeat(100_000);
    assert_eq!(stdout(&client(&["put", "long", &long])), "OK\n");
    assert_eq!(stdout(&client(&["get", "long"])).trim_end(), long);

    let output = client(&["status"]);
    assert_eq!((output.status.code(), stdout(&output).lines().count()), (Some(0), 3));
    assert!(stdout(&output).contains("Leader in view 0"));
    (0..3).for_each(|id| cluster.kill(id).unwrap());
    let output = client(&["put", "k", "w"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("may have been applied or not"), "{}", stderr(&output));
    let output = client(&["get", "k"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing was applied"), "{}", stderr(&output));
    assert_eq!(client(&["status"]).status.code(), Some(1));
}

#[test]
fn a_cluster_that_is_dropped_leaves_no_process() {
    let cluster = start(loopback(5));
    let pids: Vec<u32> = (0..5).map(|id| cluster.pid(id).unwrap()).collect();
    let directory = cluster.config_path();
    assert!(pids.iter().all(|pid| alive(*pid)));
    drop(cluster);
    assert!(pids.iter().all(|pid| !alive(*pid)));
    assert!(!directory.exists());
}

#[test]
fn a_replica_that_cannot_start_says_why() {
    let mut spec = loopback(1);
    spec.backend = paxos_demo::cli::BackendChoice::Ebpf;
    let error = match paxos_demo::cluster::Cluster::start(spec, &paxos_demo::stop::Stop::default()) {
        Ok(_) => panic!("on loopback every peer is local, and no packet meets a hook"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("replica 0 ended") && error.contains("error:"), "{error}");
}

#[test]
fn the_ready_file_follows_the_replicas() {
    let temp = tempfile::tempdir().unwrap();
    let (cluster, file) = Guard::cluster(&[], temp.path());
    let read = || -> Option<ReadyFile> {
        Some(serde_json::from_str(&std::fs::read_to_string(&file).ok()?).unwrap())
    };
    let ready = wait_for("the ready file", read);
    assert_eq!((ready.schema, ready.replicas.len()), (1, 3));
    let mut client = common::Redis::connect(ready.replicas[1].resp.parse().unwrap());
    assert_eq!(client.call(&["SET", "k", "v"]), "+OK");

    let victim = ready.replicas[2].pid.expect("it serves");
    signal(victim, libc::SIGKILL);
    wait_for("news of the dead replica", || read().filter(|ready| ready.replicas[2].pid.is_none()));
    assert_eq!(client.call(&["GET", "k"]), "v", "two of three go on");

    let pid = cluster.0.id();
    let others = children(pid);
    assert_eq!(others.len(), 2, "the dead one was reaped");
    signal(pid, libc::SIGINT);
    assert_eq!(cluster.exit_code(), Some(0));
    assert!(others.iter().all(|pid| !alive(*pid)));
    assert_eq!(
        std::fs::read_dir(temp.path()).unwrap().count(),
        0,
        "neither ready file nor directory is left"
    );
}

#[test]
fn a_dead_replica_is_started_again_if_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let more = ["--restart-after-ms", "1", "--data-dir", data.to_str().unwrap()];
    let (cluster, file) = Guard::cluster(&more, temp.path());
    let ready: ReadyFile = wait_for("the ready file", || {
        Some(serde_json::from_str(&std::fs::read_to_string(&file).ok()?).unwrap())
    });
    let log = data.join("replica-1.log");
    let length = std::fs::metadata(&log).unwrap().len();
    signal(ready.replicas[1].pid.unwrap(), libc::SIGKILL);
    // Whether it has rejoined yet or not, it says that it was started.
    wait_for("its next life", || (std::fs::metadata(&log).unwrap().len() > length).then_some(()));
    let mut client = common::Redis::connect(ready.replicas[0].resp.parse().unwrap());
    assert_eq!(client.call(&["SET", "k", "v"]), "+OK");
    signal(cluster.0.id(), libc::SIGTERM);
    assert_eq!(cluster.exit_code(), Some(0));
    assert!(data.join("cluster.toml").exists(), "a directory that was given stays");
}

#[test]
fn a_group_on_ipv6_serves() {
    if !privileged("a_group_on_ipv6_serves") {
        return;
    }
    for backend in ["auto", "udp"] {
        let mut spec = loopback(3);
        spec.loopback = false;
        spec.family = electrode::fabric::Family::V6;
        spec.backend = clap::ValueEnum::from_str(backend, false).unwrap();
        let cluster = start(spec);
        assert!(cluster.config().is_ipv6());
        let mut client = cluster.client().unwrap();
        let room = message::part_bytes_max(cluster.config().payload_bytes_max as usize);
        let value = vec![7; room - COMMAND_HEADER_BYTES - b"k".len()];
        for _ in 0..20 {
            client.put(b"k", &value).unwrap();
            assert_eq!(client.get(b"k").unwrap().as_deref(), Some(&value[..]));
        }
    }
}

#[test]
fn killing_the_supervisor_ends_its_replicas() {
    let temp = tempfile::tempdir().unwrap();
    let (cluster, file) = Guard::cluster(&[], temp.path());
    wait_for("the ready file", || file.exists().then_some(()));
    let replicas = children(cluster.0.id());
    assert_eq!(replicas.len(), 3);
    signal(cluster.0.id(), libc::SIGKILL);
    drop(cluster);
    wait_for("the replicas' end", || replicas.iter().all(|pid| !alive(*pid)).then_some(()));
}

#[test]
fn a_taken_port_is_an_error_with_advice() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = run(&["cluster", "--replicas", "1", "--backend", "udp", "--resp-port", &port]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&port) && stderr(&output).contains("--resp-port"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn bench_writes_its_report_and_pictures() {
    if !privileged("bench_writes_its_report_and_pictures") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (json, plots) = (temp.path().join("report.json"), temp.path().join("plots"));
    let backends = if cfg!(feature = "ebpf") { "udp,ebpf,udp-sendto" } else { "udp,udp-sendto" };
    let output = run(&[
        "bench",
        "--replicas",
        "3",
        "--clients",
        "2,4",
        "--seconds",
        "0.3",
        "--repeat",
        "2",
        "--backends",
        backends,
        "--json",
        json.to_str().unwrap(),
        "--plot",
        plots.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Report = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let count = backends.split(',').count();
    assert_eq!(report.runs.len(), count * 2 * 2);
    assert_eq!(report.summary.len(), (count - 1) * 2);
    assert!(report.summary.iter().all(|summary| summary.pairs == 2 && summary.throughput_ratio > 0.0));
    for run in &report.runs {
        assert!(run.requests > 0 && run.errors == 0, "{run:?}");
        assert!(run.latency_us.p50 > 0.0 && run.cpu_us_per_request > 0.0, "{run:?}");
        assert!(run.leader_syscalls_per_request > 0.0, "{run:?}");
        assert_eq!(run.backend == "ebpf", !run.hook.is_empty(), "{run:?}");
    }
    // What was varied is the number of clients.
    let pictures: Vec<_> =
        std::fs::read_dir(plots).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(pictures, ["latency-throughput-3.svg"]);
    assert!(stderr(&output).contains("[1/"), "progress is visible");
}

#[test]
fn bench_shows_what_keys_cost() {
    if !privileged("bench_shows_what_keys_cost") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let json = temp.path().join("report.json");
    let backends = if cfg!(feature = "ebpf") { "udp,ebpf" } else { "udp" };
    let line = format!("bench --replicas 3 --clients 4 --seconds 0.3 --repeat 1 --backends {backends}");
    let mut arguments: Vec<&str> = line.split(' ').collect();
    arguments.extend(["--authentication", "off,on", "--json", json.to_str().unwrap()]);
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Report = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    for backend in backends.split(',') {
        let runs = report.runs.iter().filter(|run| run.backend == backend);
        assert_eq!(runs.map(|run| run.setting.authentication).collect::<Vec<_>>(), [false, true]);
        let to_itself = |s: &&Summary| s.backend == backend && s.vs == backend;
        let summary = report.summary.iter().find(to_itself).expect("compared with itself");
        assert!(summary.setting.authentication && !summary.vs_authentication && summary.pairs == 1);
    }
    assert!(stdout(&output).contains("x without keys"), "{}", stdout(&output));
}

#[test]
fn bench_shows_what_a_disk_costs_and_where_the_leader_is() {
    if !privileged("bench_shows_what_a_disk_costs_and_where_the_leader_is") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let json = temp.path().join("report.json");
    let line = "bench --replicas 3 --clients 4 --seconds 0.3 --repeat 1 --backends udp --log-slots 1024";
    let mut arguments: Vec<&str> = line.split(' ').collect();
    arguments.extend(["--durability", "memory,disk", "--json", json.to_str().unwrap()]);
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Report = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let kept = |run: &Run| (run.setting.durability, run.setting.log_slots);
    let kept: Vec<_> = report.runs.iter().map(kept).collect();
    assert_eq!(kept, [(Durability::Memory, 1024), (Durability::Disk, 1024)]);
    let kernel = &report.host.kernel;
    assert!(kernel.chars().all(|c| c.is_ascii_digit() || c == '.'), "{kernel}");
    for run in &report.runs {
        assert!(run.leader_user_us_per_request <= run.leader_cpu_us_per_request, "{run:?}");
        assert!(run.leader_cpu_us_per_request > 0.0, "{run:?}");
    }
    assert!(stdout(&output).contains("x in memory"), "{}", stdout(&output));
}

#[test]
fn only_one_series_of_runs_is_drawn() {
    let temp = tempfile::tempdir().unwrap();
    let report = |commit: &str| {
        let path = temp.path().join(format!("{commit}.json"));
        let host = format!(r#"{{"kernel":"6","cpus":2,"hook":"","fabric":"bridge","commit":"{commit}"}}"#);
        std::fs::write(&path, format!(r#"{{"schema":1,"host":{host},"runs":[],"summary":[]}}"#)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (one, other, out) = (report("aaaa"), report("bbbb"), temp.path().join("out"));
    let plot = |reports: &[&str]| run(&[&["plot", "--out", out.to_str().unwrap()], reports].concat());
    let output = plot(&[&one, &other]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the commit differs (aaaa, bbbb)"), "{}", stderr(&output));
    let output = plot(&[&one, &one]);
    assert_eq!(output.status.code(), Some(0), "nothing to draw is no failure");
    assert!(stderr(&output).contains("nothing was varied"), "{}", stderr(&output));
}

#[test]
fn the_benchmark_script_knows_its_comparisons() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/bench");
    let output = Command::new(script).args(["--only", "rate,nonsense"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("nonsense: there are replicas") && said.contains("disk slots rate"), "{said}");
}

#[test]
fn demo_checks_everything_and_exits_0() {
    if !privileged("demo_checks_everything_and_exits_0") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let json = temp.path().join("demo.json");
    let output = run(&["demo", "--replicas", "3", "--seconds", "0.3", "--json", json.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("answers were right"), "{}", stdout(&output));
    assert!(stdout(&output).contains("kernel UDP"), "{}", stdout(&output));
    let report: Report = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(report.runs.iter().any(|run| run.backend == "ebpf"), cfg!(feature = "ebpf"));
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    if !privileged("an_interrupted_demo_leaves_nothing") {
        return;
    }
    // At moments of its life from the first to somewhere in the load, which goes on for much longer.
    for after_ms in [5, 100, 400, 1500, 3000] {
        let temp = tempfile::tempdir().unwrap();
        let demo = Guard::start(&["demo", "--replicas", "3", "--seconds", "20"], temp.path());
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        let pid = demo.0.id();
        let replicas = children(pid);
        signal(pid, libc::SIGINT);
        // Before its handler is in place a signal simply ends it; afterwards it exits with 1.
        assert!(matches!(demo.exit_code(), None | Some(1)), "after {after_ms} ms");
        wait_for("the replicas' end", || replicas.iter().all(|pid| !alive(*pid)).then_some(()));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "after {after_ms} ms");
    }
}
