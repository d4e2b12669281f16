//! Giving up capabilities while threads come and go: each belongs to a thread, and one that starts takes those of the
//! thread that starts it, which may just not have been told yet.

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use common::privileged;
use electrode::privileges;

const NONE: &str = "0000000000000000";
/// Threads in the relay, of which one starts the next and ends.
const HOPS: u32 = 5000;
/// Threads that wait. A look at all of them takes so long that it finds the relay's dead.
const BYSTANDERS: usize = 100;
/// Processes that do so: each has one chance to miss a thread.
const PROCESSES: u32 = 8;

fn permitted() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).expect("the field");
    line.trim().to_owned()
}

static STARTED: AtomicU32 = AtomicU32::new(0);
/// `drop_all` has returned.
static DROPPED: AtomicBool = AtomicBool::new(false);

/// Hands on. The last of all waits until nobody should hold anything, and tells what it holds.
fn relay(hops: u32, told: Sender<String>) {
    STARTED.fetch_add(1, Ordering::Relaxed);
    if hops == 0 {
        while !DROPPED.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
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
    for _ in 0..BYSTANDERS {
        std::thread::spawn(std::thread::park);
    }
    let (told, heard) = channel();
    std::thread::spawn(move || relay(HOPS, told));
    // They are under way: a thread that is told before it has handed on is no difficulty.
    while STARTED.load(Ordering::Relaxed) < HOPS / 10 {
        std::thread::yield_now();
    }
    privileges::drop_all().unwrap();
    DROPPED.store(true, Ordering::Release);
    // One that was missed hands on what it kept.
    assert_eq!(heard.recv().unwrap(), NONE);
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
