//! The node over OmniPaxos as `scripts/bench --peers` runs it: three of them in namespaces, every answer checked.

#[path = "../../paxos-demo/tests/common/privileged.rs"]
mod privileged;

use std::path::PathBuf;

use bench::peers::{Shape, System};
use paxos_demo::bench::progress::Progress;
use paxos_demo::bench::run;
use paxos_demo::stop::Stop;
use privileged::privileged;

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
