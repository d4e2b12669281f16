//! The storage on a real file system: processes that are killed, a disk that is full.
//!
//! Both need a process of their own, which is this test program once more, running one of the tests that are
//! otherwise ignored.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use electrode::types::{OpNumber, ReplicaId, View};
use paxos_demo::config::Durability;
use paxos_demo::log::LogEntry;
use paxos_demo::storage::{Opened, StorageError, open};

const DIRECTORY: &str = "ELECTRODE_TEST_STORAGE";
const KILLS: usize = 20;

/// The batch with this op, the same in every life.
fn batch(op: u64) -> LogEntry {
    let payload: Vec<u8> = op.to_le_bytes().into_iter().cycle().take(op as usize % 3000).collect();
    LogEntry { view: View(op / 100), first: OpNumber(op), last: OpNumber(op), payload: payload.into() }
}

/// The snapshot at this op.
fn state_at(op: u64) -> Bytes {
    Bytes::from(format!("all up to {op} ").repeat(1000))
}

fn open_at(dir: &Path) -> Result<Opened, StorageError> {
    open(dir, Durability::Disk, ReplicaId(0), 7, true)
}

/// Checks every byte of what was found; its last op.
fn end_of(opened: &Opened) -> u64 {
    let base = opened.snapshot.as_ref().map_or(0, |(op, _)| op.0);
    if let Some((op, bytes)) = &opened.snapshot {
        assert_eq!(*bytes, state_at(op.0));
    }
    for (op, entry) in (base + 1..).zip(&opened.log) {
        assert_eq!(*entry, batch(op));
    }
    base + opened.log.len() as u64
}

/// A process that runs the ignored test `name` in `dir`.
fn child(mut command: Command, name: &str, dir: &Path) -> Child {
    command
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test program can be started")
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("this program has a path")
}

/// Says something to the parent: written at once, whatever the harness does with standard output.
fn say(line: std::fmt::Arguments) {
    writeln!(std::io::stdout(), "{line}").expect("the parent listens");
}

#[test]
#[ignore = "the child of what_was_said_to_be_on_disk_survives_a_kill"]
fn child_appends_until_it_is_killed() {
    let dir = PathBuf::from(std::env::var_os(DIRECTORY).expect("started by its parent"));
    let mut opened = open_at(&dir).unwrap();
    let mut end = end_of(&opened);
    let mut view = opened.persisted.view.0;
    loop {
        for _ in 0..fastrand::u32(1..60) {
            end += 1;
            opened.storage.append(&batch(end)).unwrap();
        }
        let progress = opened.storage.poll().unwrap();
        say(format_args!("DURABLE {} {}", progress.durable, progress.snapshot));
        let durable = progress.durable.0;
        match fastrand::u8(..30) {
            0 => {
                view += 1;
                opened.storage.save_state(View(view), View(view - 1)).unwrap();
                say(format_args!("VIEW {view}"));
            }
            1 => {
                let keep = fastrand::u64(durable.max(20) - 20..=durable);
                let snapshot = (keep > 0 && fastrand::bool()).then(|| (OpNumber(keep), state_at(keep)));
                let begin = keep.max(progress.snapshot.0);
                end = durable + 5;
                let entries: Vec<_> = (begin + 1..=end).map(batch).collect();
                opened.storage.install(View(0), OpNumber(keep), snapshot, &entries).unwrap();
                say(format_args!("DURABLE {end} 0"));
            }
            2 | 3 if durable > 0 => opened.storage.snapshot(progress.durable, state_at(durable)).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn what_was_said_to_be_on_disk_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (mut durable, mut snapshot, mut view, mut incarnation) = (0, 0, 0, 0);
    for kill in 0..KILLS {
        let mut child = child(Command::new(this_program()), "child_appends_until_it_is_killed", dir.path());
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut left = fastrand::usize(1..150);
        // What it said before it died counts, also what was read later.
        for line in lines.map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["DURABLE", op, of_snapshot] => {
                    durable = op.parse().unwrap();
                    snapshot = snapshot.max(of_snapshot.parse().unwrap());
                }
                ["VIEW", number] => view = number.parse().unwrap(),
                _ => continue,
            }
            left = left.saturating_sub(1);
            if left == 0 {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success(), "it was killed");
        assert_eq!(left, 0, "and not before it had said enough");
        let opened = open_at(dir.path()).unwrap();
        let end = end_of(&opened);
        assert!(end >= durable, "kill {kill}: {durable} was on disk, {end} is found");
        assert!(opened.snapshot.map_or(0, |(op, _)| op.0) >= snapshot);
        assert!(opened.persisted.view >= View(view), "a view is forgotten");
        assert!(opened.persisted.incarnation > incarnation);
        incarnation = opened.persisted.incarnation;
    }
    assert!(durable > 1000 && snapshot > 0 && view > 0, "{durable} {snapshot} {view}");
}

#[test]
#[ignore = "the child of a_full_disk_stops_the_replica_and_loses_nothing"]
fn child_fills_the_disk() {
    let dir = PathBuf::from(std::env::var_os(DIRECTORY).expect("started by its parent"));
    let data = dir.join("r0");
    std::fs::write(dir.join("other"), vec![1; 3 << 20]).unwrap();
    let mut opened = open_at(&data).unwrap();
    let mut durable = OpNumber(0);
    let error = (1..)
        .find_map(|op| {
            if let Ok(progress) = opened.storage.poll() {
                durable = progress.durable;
            }
            opened.storage.append(&batch(op)).err()
        })
        .unwrap();
    assert!(matches!(error, StorageError::Io { what: "writing", .. }), "{error}");
    assert!(error.to_string().contains("is the disk full"), "{error}");
    assert!(durable > OpNumber(100), "{durable}");
    for _ in 0..3 {
        assert!(opened.storage.poll().is_err() && opened.storage.save_state(View(1), View(1)).is_err());
    }
    drop(opened);
    // Still full: it does not start, and spoils nothing.
    let error = open_at(&data).err().expect("there is no room to start");
    assert!(error.to_string().contains("is the disk full"), "{error}");
    std::fs::remove_file(dir.join("other")).unwrap();
    let opened = open_at(&data).unwrap();
    let end = end_of(&opened);
    assert!(end >= durable.0, "{durable} was on disk, {end} is found");
    say(format_args!("FULL"));
}

#[test]
fn a_full_disk_stops_the_replica_and_loses_nothing() {
    if !common::privileged("a_full_disk_stops_the_replica_and_loses_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // A small file system in a mount namespace that ends with the child.
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs -o size=6m none \"$0\" && exec \"$@\"")
        .arg(dir.path())
        .arg(this_program());
    let child = child(command, "child_fills_the_disk", dir.path());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("FULL"), "{said}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file system was its own");
}
