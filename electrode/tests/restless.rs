//! Giving up capabilities while threads come and go: each belongs to a thread, and one that starts takes those of the
//! thread that starts it, which may just not have been told yet.

mod common;

use std::process::Command;
use std::sync::mpsc::{Sender, channel};

use common::privileged;
use electrode::privileges;

const NONE: &str = "0000000000000000";
/// Relays at a time, and threads in each, of which one starts the next and ends.
const RELAYS: usize = 4;
const HOPS: u32 = 1500;
/// Processes that do so: each has one chance to miss a thread.
const PROCESSES: u32 = 20;

fn permitted() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).expect("the field");
    line.trim().to_owned()
}

/// Hands on, and at last tells what it holds.
fn relay(hops: u32, told: Sender<String>) {
    if hops == 0 {
        told.send(permitted()).unwrap();
        return;
    }
    std::thread::spawn(move || relay(hops - 1, told));
}

/// Not a test: the process whose threads come and go.
#[test]
#[ignore = "started by others"]
fn process_with_restless_threads() {
    if std::env::var_os("ELECTRODE_TEST_RESTLESS").is_none() {
        return;
    }
    let (told, heard) = channel();
    for _ in 0..RELAYS {
        let told = told.clone();
        std::thread::spawn(move || relay(HOPS, told));
    }
    drop(told);
    privileges::drop_all().unwrap();
    // The descendants of every thread that there was: one that was missed hands on what it kept.
    let kept: Vec<_> = heard.iter().collect();
    assert_eq!(kept, [NONE; RELAYS]);
}

/// When `drop_all` returns nobody has anything, and nobody can get it from anybody.
#[test]
fn threads_that_start_meanwhile_are_not_missed() {
    if !privileged("threads_that_start_meanwhile_are_not_missed") {
        return;
    }
    for process in 0..PROCESSES {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process_with_restless_threads", "--ignored", "--nocapture"])
            .env("ELECTRODE_TEST_RESTLESS", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "process {process}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(text.contains("1 passed"), "{text}");
    }
}
