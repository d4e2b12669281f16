//! The node over OmniPaxos as `scripts/bench --peers` runs it, over batched and over plain sockets: three of them in
//! namespaces, every answer checked.

#[path = "../../paxos-demo/tests/common/privileged.rs"]
mod privileged;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bench::peers::{Shape, System};
use paxos_demo::bench::progress::Progress;
use paxos_demo::bench::run;
use paxos_demo::cli::{BackendChoice, EXIT_USAGE};
use paxos_demo::cluster::{Cluster, Spec};
use paxos_demo::node::NodeStatus;
use paxos_demo::stop::Stop;
use paxos_demo::workload::{self, Control, Load, Phase};
use privileged::privileged;

const NODE: &str = env!("CARGO_BIN_EXE_omnipaxos_node");

fn answers_right_and_ends_in_one_state(system: System, backend: &str) {
    let shape = Shape { replicas: 3, clients: 4, payload_bytes: 64, seconds: 0.3, ..Shape::default() };
    let spec = system.run_spec(&shape, 0, PathBuf::from(NODE));
    let measured = run::measure(&spec, &Stop::default(), &mut Progress::new(1))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(measured.problems, Vec::<String>::new());
    assert_eq!(measured.run.errors, 0);
    assert_eq!(measured.run.backend, backend);
    assert_eq!(measured.fabric, "bridge");
    assert!(measured.checked > 200, "{} requests are too few", measured.checked);
}

#[test]
fn a_group_answers_right_and_ends_in_one_state() {
    if privileged("a_group_answers_right_and_ends_in_one_state") {
        answers_right_and_ends_in_one_state(System::Omnipaxos, "udp");
    }
}

#[test]
fn a_plain_group_answers_right_and_ends_in_one_state() {
    if privileged("a_plain_group_answers_right_and_ends_in_one_state") {
        answers_right_and_ends_in_one_state(System::OmnipaxosPlain, "udp-sendto");
    }
}

/// What three nodes that were asked for a backend say of themselves once 64 clients at once have had so many answers.
fn statuses_under_load(backend: BackendChoice, answers: u64) -> Vec<NodeStatus> {
    let spec = Spec { backend, program: PathBuf::from(NODE), ..Spec::new(3).unwrap() };
    let mut cluster = Cluster::start(spec, &Stop::default()).unwrap_or_else(|error| panic!("{error}"));
    let (socket, group) = (cluster.client_socket().unwrap(), cluster.group());
    let load = Load { clients: 64, payload_bytes: 64, rate: None };
    let control = Control::default();
    let outcome = std::thread::scope(|scope| {
        let generator = scope.spawn(|| workload::run(socket, &group, load, &control));
        while control.answered() < answers && !generator.is_finished() && cluster.check_alive().is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        control.enter(Phase::Drain);
        generator.join().unwrap().unwrap()
    });
    assert_eq!(outcome.error_samples, Vec::<String>::new());
    assert!(outcome.checked >= answers);
    let statuses = cluster.statuses(Duration::from_secs(10)).unwrap();
    statuses.into_iter().map(|status| status.expect("it runs")).collect()
}

/// Whatever a plain node sent or received took a call of its own. A call that moved several, or that had the stack cut a
/// large one apart, would be missing here.
#[test]
fn a_plain_node_makes_a_system_call_for_each_datagram() {
    if !privileged("a_plain_node_makes_a_system_call_for_each_datagram") {
        return;
    }
    let answers = 5_000;
    for NodeStatus { replica, node } in statuses_under_load(BackendChoice::UdpSendto, answers) {
        let (sent, received) = (node.endpoint["sent"], node.endpoint["received"]);
        assert!(node.syscalls >= sent + received, "{}: {sent} + {received}: {node:?}", replica.id);
        assert!(replica.id.0 > 0 || sent.min(received) > answers, "member 0 leads: {node:?}");
        // Two for each request, if each travelled alone.
        assert!(node.endpoint["sent_message"] < answers, "{}: requests share messages: {node:?}", replica.id);
    }
}

#[test]
fn sockets_that_a_node_does_not_have_are_refused() {
    for backend in ["ebpf", "udp-multicast"] {
        let out = Command::new(NODE)
            .args(["replica", "--config", "/nowhere", "--id", "0", "--backend", backend])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(EXIT_USAGE.into()), "{text}");
        assert!(text.contains(backend) && text.contains("--backend udp-sendto"), "{text}");
    }
}
