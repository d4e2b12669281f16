//! `elecctl` as a program: what it prints, how it exits, what it removes.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use common::group::{Seen, group, members, open, round};
use common::hosts::{fabric, wait_until};
use common::privileged;
use common::victim::guards_of;
use electrode::config::{Backend, Hook, TcMechanism};
use electrode::fabric::{Fabric, Family};
use electrode::types::{OpNumber, ReplicaId, View};

const ELECCTL: &str = env!("CARGO_BIN_EXE_elecctl");
/// Tells this test binary to be the process that is killed, and where its hosts are.
const VICTIM: &str = "ELECTRODE_TEST_VICTIM";

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn elecctl(args: &[&str]) -> Output {
    Command::new(ELECCTL).args(args).output().unwrap()
}

fn inside(fabric: &Fabric, host: usize, args: &[&str]) -> Output {
    let netns = fabric.host(host).netns().path();
    elecctl(&[&["--netns", netns.to_str().unwrap()], args].concat())
}

#[test]
fn the_doctor_needs_no_privileges() {
    let output = elecctl(&["doctor"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("backend of `auto`"), "{}", text(&output));

    let output = elecctl(&["doctor", "--json", "--interface", "lo"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["schema"], 1);
    assert_eq!(report["backend"], "udp", "there is no hook on lo");
    assert_eq!(report["interfaces"][0]["hook"], "none");
    let needed = report["capabilities"]["needed"].as_array().unwrap();
    assert!(needed.len() == 3 && needed.iter().all(|need| need["purpose"].is_string()), "{report}");
}

#[test]
fn mistakes_have_exit_codes_and_words() {
    assert_eq!(elecctl(&[]).status.code(), Some(2));
    assert_eq!(elecctl(&["doctor", "--colour"]).status.code(), Some(2));
    let output = elecctl(&["doctor", "--interface", "eth-none"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no interface eth-none"), "{}", text(&output));
    let output = elecctl(&["--netns", "/nowhere", "status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("/nowhere"), "{}", text(&output));
}

#[test]
fn status_tells_who_is_attached() {
    if !privileged("status_tells_who_is_attached") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let output = inside(&fabric, 0, &["status"]);
    assert!(text(&output).contains("nothing of Electrode"), "{}", text(&output));

    let mut endpoints = group(&fabric, 2, |c| c.backend = Backend::Ebpf);
    let mut seen = Seen::default();
    endpoints[0].elec_broadcast(&round(2, 1, 0, 1), b"x").unwrap();
    seen.until(&mut endpoints[0], "a quorum", |s| s.quorums == [1]);

    let output = inside(&fabric, 1, &["status", "--json"]);
    let status: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    let endpoint = &status["endpoints"][0];
    assert_eq!(endpoint["identity"]["addr"], members(&fabric, 2)[1].to_string(), "{status}");
    assert_eq!(endpoint["identity"]["member"], 1);
    assert_eq!(endpoint["gate"]["state"], "follow");
    assert_eq!(endpoint["gate"]["op"], 1);
    assert_eq!((&endpoint["gate"]["view"], &endpoint["gate"]["leader"]), (&0.into(), &0.into()));
    assert_eq!(status["netns"], fabric.host(1).netns().inode().unwrap());
    assert_eq!(endpoint["counters"]["tx_ack"], 1);
    assert_eq!(endpoint["owners"]["processes"][0]["pid"], std::process::id());
    let programs: Vec<_> =
        endpoint["attachments"].as_array().unwrap().iter().map(|a| a["program"].as_str().unwrap()).collect();
    assert_eq!(programs, ["elec_rx_tc", "elec_tx"]);

    let output = inside(&fabric, 0, &["status"]);
    assert!(text(&output).contains("lead, epoch 1"), "{}", text(&output));
    // The doctor sees the programs, too.
    let output = inside(&fabric, 0, &["doctor"]);
    let report = text(&output);
    assert!(report.contains("elec_tx (Electrode)") && report.contains("virtual device (veth)"), "{report}");
}

#[test]
fn every_mechanism_is_listed_by_its_name() {
    if !privileged("every_mechanism_is_listed_by_its_name") {
        return;
    }
    let fabric = fabric(2, Family::V6);
    for (hook, mechanism, expected) in [
        (Hook::XdpGeneric, TcMechanism::Auto, "xdp-generic ingress"),
        (Hook::Xdp, TcMechanism::Auto, "xdp ingress"),
        (Hook::Tc, TcMechanism::Clsact, "clsact ingress"),
    ] {
        let endpoint = open(&fabric, 2, 0, &|c| (c.backend, c.hook, c.tc) = (Backend::Ebpf, hook, mechanism));
        for command in ["status", "doctor"] {
            let output = text(&inside(&fabric, 0, &[command]));
            assert!(output.contains(expected), "{command}: no {expected} in\n{output}");
        }
        drop(endpoint);
        // Another test that starts a process holds all descriptors for a moment, between fork and exec.
        wait_until(&format!("nothing is left after {expected}"), || {
            text(&inside(&fabric, 0, &["status"])).contains("nothing of Electrode")
        });
        assert!(!tc_shows_clsact(&fabric), "after {expected}");
    }
}

#[test]
fn watch_ends_with_ctrl_c() {
    if !privileged("watch_ends_with_ctrl_c") {
        return;
    }
    let child = Command::new(ELECCTL).arg("watch").stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id() as i32;
    // The signals are blocked before the first look, and a signal before that would kill it: give it time.
    wait_until("watch blocks SIGINT", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let blocked = status.lines().find_map(|l| l.strip_prefix("SigBlk:")).unwrap_or("0").trim().to_owned();
        u64::from_str_radix(&blocked, 16).unwrap_or(0) & 2 != 0
    });
    // SAFETY: a signal to our own child.
    unsafe { libc::kill(pid, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(0), None));
}

/// Live: totals that grow, rates a second, where the endpoint is and whose, and its end.
#[test]
fn watch_follows_the_counters() {
    if !privileged("watch_follows_the_counters") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let mut endpoints = group(&fabric, 2, |c| c.backend = Backend::Ebpf);
    let netns = fabric.host(1).netns();
    let mut child = Command::new(ELECCTL)
        .arg("--netns")
        .arg(netns.path())
        .args(["watch", "--json", "--count", "5", "--interval-ms", "100"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut seen, mut op) = (Seen::default(), 0);
    let status = loop {
        op += 1;
        endpoints[0].elec_broadcast(&round(2, op, op - 1, 1), b"x").unwrap();
        seen.until(&mut endpoints[0], "a quorum", |s| s.quorums.last() == Some(&op));
        // The follower's log has room again.
        seen.poll(&mut endpoints[1]);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success());
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let looks: Vec<serde_json::Value> =
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(looks.len(), 5, "{output}");
    let endpoint = |look: usize| &looks[look]["endpoints"][0];
    for (number, look) in looks.iter().enumerate() {
        assert_eq!((&look["schema"], &look["netns"]), (&1.into(), &netns.inode().unwrap().into()), "{look}");
        let endpoint = endpoint(number);
        assert!(endpoint["rates"]["tx_ack"].as_f64().unwrap() > 0.0, "{look}");
        assert_eq!((&endpoint["gate"]["state"], &endpoint["gate"]["view"]), (&"follow".into(), &0.into()));
        let attachment = &endpoint["attachments"][0];
        assert_eq!((&attachment["interface"], &attachment["hook"]), (&"eth0".into(), &"tcx".into()));
        assert!(attachment["program_id"].as_u64().unwrap() > 0);
        assert_eq!(endpoint["owners"]["processes"][0]["pid"], std::process::id());
    }
    for (path, name) in [("counters", "tx_ack"), ("gate", "op")] {
        let at = |look| endpoint(look)[path][name].as_u64().unwrap();
        assert!((1..5).all(|look| at(look) > at(look - 1)), "{path} {name}: {output}");
    }

    // For people: the same, and news of an endpoint that ends.
    let mut child = Command::new(ELECCTL)
        .arg("--netns")
        .arg(netns.path())
        .args(["watch", "--interval-ms", "50"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains("eth0 tcx") && line.contains("follow, epoch 1, view 0 of member 0"), "{line}");
    drop(endpoints);
    assert!(lines.any(|line| line.unwrap().ends_with("gone")), "the end of the endpoint was not noticed");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The process that is killed.
#[test]
#[ignore = "started by crash"]
fn victim() {
    let Some(addresses) = std::env::var_os(VICTIM) else { return };
    let members: Vec<std::net::SocketAddr> =
        addresses.to_str().unwrap().split(',').map(|a| a.parse().unwrap()).collect();
    let mut config = electrode::config::EndpointConfig::new(members, ReplicaId(0));
    (config.backend, config.tc) = (Backend::Ebpf, TcMechanism::Clsact);
    (config.log_slots, config.quorum_window) = (256, 256);
    let mut endpoint = electrode::Endpoint::open(config).unwrap();
    endpoint.gate().lead(View(0), OpNumber(0)).unwrap();
    loop {
        endpoint.wait(std::time::Duration::from_millis(50), electrode::endpoint::Patience::Eager).unwrap();
        endpoint.elec_poll_message(16, &mut |_| {}).unwrap();
    }
}

/// Kills a leader whose programs are clsact filters on host 0, and its guard, when `living` has looked at it.
fn crash(fabric: &Fabric, living: impl FnOnce(u32)) {
    let addresses: Vec<_> = members(fabric, 2).iter().map(ToString::to_string).collect();
    let mut victim = fabric
        .host(0)
        .netns()
        .command(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .env(VICTIM, addresses.join(","))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the victim leads", || status(fabric).contains("lead, epoch 1"));
    living(victim.id());
    for guard in guards_of(victim.id()) {
        // SAFETY: numbers; a child of a process that we started and that has not waited for it.
        assert_eq!(unsafe { libc::kill(guard as i32, libc::SIGKILL) }, 0);
    }
    wait_until("the guard's end", || guards_of(victim.id()).is_empty());
    victim.kill().unwrap();
    victim.wait().unwrap();
}

fn status(fabric: &Fabric) -> String {
    text(&inside(fabric, 0, &["status"]))
}

fn tc(fabric: &Fabric, args: &str) -> String {
    let output = fabric.host(0).netns().command("tc").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "tc {args}: {}", text(&output));
    text(&output)
}

fn tc_shows_clsact(fabric: &Fabric) -> bool {
    tc(fabric, "qdisc show dev eth0").contains("clsact")
}

#[test]
fn detach_removes_what_a_crash_left() {
    if !privileged("detach_removes_what_a_crash_left") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    crash(&fabric, |pid| {
        // A living owner's filters stay.
        let output = inside(&fabric, 0, &["detach"]);
        assert!(output.status.success());
        assert!(text(&output).contains("nothing to remove"), "{}", text(&output));
        assert!(text(&output).contains(&format!("process {pid}")), "{}", text(&output));
        assert!(status(&fabric).contains("clsact ingress"), "{}", status(&fabric));
    });
    assert!(status(&fabric).contains("nobody: its process is gone"), "{}", status(&fabric));
    // Until the lease has run out the owner might live where it cannot be seen.
    wait_until("detach", || text(&inside(&fabric, 0, &["detach"])).contains("removed  "));
    assert!(status(&fabric).contains("nothing of Electrode"), "{}", status(&fabric));
    assert!(!tc_shows_clsact(&fabric));
    // And an endpoint can be opened in its place.
    drop(open(&fabric, 2, 0, &|c| (c.backend, c.tc) = (Backend::Ebpf, TcMechanism::Clsact)));
}

#[test]
fn other_peoples_filters_stay() {
    if !privileged("other_peoples_filters_stay") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    tc(&fabric, "qdisc add dev eth0 clsact");
    assert!(text(&inside(&fabric, 0, &["detach"])).contains("nothing to remove"));
    assert!(tc(&fabric, "qdisc show dev eth0").contains("clsact"), "an empty qdisc of others is theirs");

    // `return -1`: go on with the next filter.
    tc(&fabric, "filter add dev eth0 ingress pref 7 bpf bytecode 1,6\t0\t0\t4294967295");
    let before = tc(&fabric, "filter show dev eth0 ingress");
    crash(&fabric, |_| ());
    wait_until("detach", || text(&inside(&fabric, 0, &["detach"])).contains("removed  "));
    assert_eq!(tc(&fabric, "filter show dev eth0 ingress"), before);
    assert!(tc(&fabric, "qdisc show dev eth0").contains("clsact"), "it has a filter on it");
}
