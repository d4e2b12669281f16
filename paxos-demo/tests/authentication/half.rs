//! Who has keys and who has none, and what is said about that.

use std::path::Path;
use std::process::{Command, Output};

use paxos_demo::cli::BackendChoice;
use paxos_demo::cluster::process::ReplicaProcess;
use paxos_demo::config::Durability;

use crate::common::{loopback, privileged, program, start, wait_for};
use crate::site::{Site, spec};

fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

fn replica(config: &Path, log: &Path) -> ReplicaProcess {
    let mut command = Command::new(program());
    command.arg("replica").arg("--config").arg(config).args(["--id", "2", "--backend", "udp"]);
    ReplicaProcess::spawn(command, log).unwrap()
}

/// A member without the key says what is wrong, and so do those with it.
#[test]
fn a_group_with_keys_by_half_says_so() {
    let mut spec = loopback(3);
    spec.authenticated = true;
    let mut cluster = start(spec);
    cluster.kill(2).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(cluster.config_path()).unwrap();
    let without: String =
        text.lines().filter(|l| !l.contains("key_file")).map(|l| format!("{l}\n")).collect();
    assert_ne!(text, without);
    let config = dir.path().join("cluster.toml");
    std::fs::write(&config, without).unwrap();
    let third = replica(&config, &dir.path().join("log"));
    let words = "one of us has a key, the other has none";
    wait_for("a warning of the others", || cluster.log_tail(0).filter(|log| log.contains(words)));
    wait_for("its own warning", || Some(third.log_tail()).filter(|log| log.contains(words)));
    // Its clients need no key, but must know that there is one.
    let put = |config: &Path| {
        run(&["client", "--config", config.to_str().unwrap(), "--timeout-ms", "2000", "put", "k", "v"])
    };
    assert!(!put(&config).status.success());
    wait_for("an answer", || put(&cluster.config_path()).status.success().then_some(()));
}

#[test]
fn a_replica_does_not_start_with_a_key_file_that_others_may_read() {
    let mut spec = loopback(3);
    spec.authenticated = true;
    let mut cluster = start(spec);
    cluster.kill(2).unwrap();
    let path = cluster.key_file().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&path, mode).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut third = replica(&cluster.config_path(), &dir.path().join("log"));
    let status = wait_for("its end", || third.exited().unwrap());
    assert_eq!(status.code(), Some(1));
    assert!(third.log_tail().contains("chmod 600"), "{}", third.log_tail());
}

#[test]
fn a_key_file_is_made_and_changed_by_commands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.toml");
    let key = |arguments: &[&str]| {
        let (step, rest) = arguments.split_first().unwrap();
        run(&[&["key", step, path.to_str().unwrap()], rest].concat())
    };
    for (arguments, says) in [
        (&["new"][..], "accepts 1, sends with 1"),
        (&["add"], "accepts 1 and 2, sends with 1"),
        (&["send", "2"], "accepts 1 and 2, sends with 2"),
        (&["drop", "1"], "accepts 2, sends with 2"),
    ] {
        let output = key(arguments);
        assert_eq!(output.status.code(), Some(0));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(says), "{said}");
    }
    let output = key(&["drop", "2"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("send with another one first"));
}

/// What is stored is not tied to the keys: a group gets them, and loses them, by being stopped as a whole.
#[test]
fn a_group_that_stores_its_data_gets_keys() {
    if !privileged("a_group_that_stores_its_data_gets_keys") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (authenticated, expected) in [(false, None), (true, Some("0")), (false, Some("1"))] {
        let mut spec = spec(BackendChoice::Auto);
        spec.durability = Durability::Disk;
        spec.data_dir = Some(dir.path().to_owned());
        spec.authenticated = authenticated;
        let mut site = Site::start(spec);
        assert!(site.statuses().iter().all(|status| status.node.keys.is_some() == authenticated));
        let mut client = site.cluster.client().unwrap();
        assert_eq!(client.get(b"k").unwrap().as_deref(), expected.map(str::as_bytes));
        client.put(b"k", if authenticated { b"1" } else { b"0" }).unwrap();
    }
}
