//! The node over OmniPaxos as `scripts/bench --peers` runs it: three of them in namespaces, every answer checked.

use std::io::Write;
use std::path::PathBuf;

use bench::peers::{Shape, System};
use paxos_demo::bench::progress::Progress;
use paxos_demo::bench::run;
use paxos_demo::stop::Stop;

/// Whether this machine and this user can make virtual hosts. Otherwise says that the test is skipped.
fn privileged(test: &str) -> bool {
    let Err(reason) = electrode::fabric::available() else { return true };
    assert!(
        std::env::var_os("ELECTRODE_REQUIRE_EBPF").is_none_or(|value| value != "1"),
        "{test} must not be skipped: {reason}"
    );
    writeln!(std::io::stderr(), "SKIPPED {test}: {reason}").expect("standard error is open");
    false
}

#[test]
fn a_group_answers_right_and_ends_in_one_state() {
    if !privileged("a_group_answers_right_and_ends_in_one_state") {
        return;
    }
    let shape = Shape { replicas: 3, clients: 4, payload_bytes: 64, seconds: 0.3, ..Shape::default() };
    let spec = System::Omnipaxos.run_spec(&shape, 0, PathBuf::from(env!("CARGO_BIN_EXE_omnipaxos_node")));
    let measured = run::measure(&spec, &Stop::default(), &mut Progress::new(1))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(measured.problems, Vec::<String>::new());
    assert_eq!(measured.run.errors, 0);
    assert_eq!(measured.run.backend, "omnipaxos");
    assert_eq!(measured.fabric, "bridge");
    assert!(measured.checked > 200, "{} requests are too few", measured.checked);
}
