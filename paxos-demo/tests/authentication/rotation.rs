//! Changing the key while clients write.

use paxos_demo::cli::BackendChoice;
use paxos_demo::key_file::edit::Step;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::site::{REPLICAS, Site, Writers, counts, on_both_backends, patient, spec};

/// Answers between two replicas that change their keys.
const BETWEEN: u64 = 300;

/// In the right order nobody notices: no request fails, no datagram is refused, no view ends.
fn in_order(backend: BackendChoice) {
    let mut site = Site::start(patient(spec(backend)));
    let writers = Writers::start(&site.cluster);
    // Twice, so that each of the two places is left and taken.
    for (new, old) in [(2, 1), (3, 2)] {
        for step in [Step::Add, Step::Send(new), Step::Drop(old)] {
            let ids = site.step(step);
            for id in 0..REPLICAS {
                site.renew(id, &ids);
                writers.go_on(BETWEEN);
            }
        }
    }
    let outcome = writers.finish();
    site.await_agreement();
    for status in site.statuses() {
        let counts = counts(&status);
        for name in ["drop_tag", "drop_key", "drop_target"] {
            assert_eq!(counts.get(name), None, "{name} at replica {}: {counts:?}", status.replica.id);
        }
        let replica = &status.replica;
        assert_eq!((replica.view.0, replica.counters.view_changes), (0, 0), "{replica:?}");
        assert_eq!(status.node.keys.unwrap().accepts, [3]);
    }
    assert!(site.cluster.log_tail(0).unwrap().contains("keys: accepts 2 and 3, sends with 3"));
    assert!(outcome.checked > 18 * BETWEEN);
}

/// A leader that sends with a key that nobody else holds is not heard; that is counted, and over once the others
/// have read the file.
fn in_the_wrong_order(backend: BackendChoice) {
    let mut site = Site::start(spec(backend));
    let mut client = site.cluster.client().unwrap();
    client.put(b"before", b"1").unwrap();
    site.step(Step::Add);
    let ids = site.step(Step::Send(2));
    site.renew(0, &ids);
    site.wait("datagrams that are refused", |statuses| {
        let mut others = statuses[1..].iter().flatten();
        others.any(|status| counts(status).contains_key("drop_key"))
    });
    (1..REPLICAS).for_each(|id| site.renew(id, &ids));
    let after = std::time::Instant::now();
    // Views may have ended, and requests of that time with them.
    while let Err(error) = client.put(b"after", b"2") {
        assert!(after.elapsed() < crate::common::PATIENCE, "{error}");
    }
    site.await_agreement();
    assert_eq!(client.get(b"before").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(client.get(b"after").unwrap().as_deref(), Some(&b"2"[..]));
}

/// A file that is refused changes nothing, and says why without saying a secret.
fn with_a_bad_file(backend: BackendChoice) {
    let mut site = Site::start(patient(spec(backend)));
    let path = site.cluster.key_file().unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let secret = good.split('"').nth(1).unwrap().to_owned();
    let writers = Writers::start(&site.cluster);
    let before = site.statuses()[0].node.keys.clone();
    for (text, mode, words) in [
        (good.replace("send = 1", "send = 7"), 0o600, "line 3: send = 7: the file has key 1"),
        (good.replace(&secret, &secret[..30]), 0o600, "must be 32 hex digits"),
        (good.clone(), 0o644, "chmod 600"),
    ] {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for id in 0..REPLICAS {
            site.hang_up(id);
            let told = || site.cluster.log_tail(id).filter(|log| log.contains(words));
            let log = crate::common::wait_for("the reason", told);
            assert!(log.contains("stay as they were: accepts 1, sends with 1"), "{log}");
            assert!(!log.contains(&secret[..30]), "{log}");
        }
        writers.go_on(BETWEEN);
    }
    writers.finish();
    site.await_agreement();
    assert!(site.statuses().iter().all(|status| status.node.keys == before));
    assert_eq!(site.count("drop_tag") + site.count("drop_key"), 0);
}

on_both_backends! {
    in_order: keys_change_without_a_pause_over_udp, keys_change_without_a_pause_over_ebpf;
    in_the_wrong_order: a_key_that_others_lack_is_not_heard_over_udp, a_key_that_others_lack_is_not_heard_over_ebpf;
    with_a_bad_file: a_bad_key_file_changes_nothing_over_udp, a_bad_key_file_changes_nothing_over_ebpf;
}
