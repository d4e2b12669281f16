//! The ready file: how scripts find the replicas of a cluster that `paxos-demo cluster` keeps up.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Contents of the ready file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyFile {
    /// 1.
    pub schema: u32,
    /// All replicas, ordered by id.
    pub replicas: Vec<ReadyReplica>,
    /// The group's configuration file, for `paxos-demo client`.
    pub config: PathBuf,
    /// Namespace from which clients reach the group.
    pub client_netns: PathBuf,
}

/// One replica in the ready file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyReplica {
    /// Index in the group.
    pub id: usize,
    /// Where it serves Redis clients.
    pub resp: String,
    /// Process id; null while it is dead or not serving yet.
    pub pid: Option<u32>,
    /// Its network namespace, for `nsenter --net=`.
    pub netns: PathBuf,
    /// Its interface in that namespace.
    pub interface: String,
}

/// A ready file on disk; dropping it removes the file, for nobody serves any more.
#[derive(Debug)]
pub struct ReadyGuard {
    path: PathBuf,
    last: Option<ReadyFile>,
}

impl ReadyGuard {
    /// Nothing is written yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, last: None }
    }

    /// Writes the file if its contents changed; a reader sees either the old or the new one, whole.
    pub fn update(&mut self, contents: ReadyFile) -> io::Result<()> {
        if self.last.as_ref() == Some(&contents) {
            return Ok(());
        }
        write_atomically(&self.path, &serde_json::to_string(&contents)?)?;
        self.last = Some(contents);
        Ok(())
    }
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        if self.last.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Replaces a file by renaming a complete one over it. The other file is made beside it, since a rename
/// works within one file system only.
pub fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    io::Write::write_all(&mut file, b"\n")?;
    // Others may read it: it holds no secret, and the test that waits for it may run as somebody else.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(pid: Option<u32>) -> ReadyFile {
        ReadyFile {
            schema: 1,
            replicas: vec![ReadyReplica {
                id: 0,
                resp: "127.0.0.1:7000".into(),
                pid,
                netns: "/proc/1/ns/net".into(),
                interface: "eth0".into(),
            }],
            config: "/tmp/cluster.toml".into(),
            client_netns: "/proc/1/ns/net".into(),
        }
    }

    #[test]
    fn the_file_is_whole_at_any_moment_and_gone_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready.json");
        let mut guard = ReadyGuard::new(path.clone());
        guard.update(contents(Some(1))).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) || reads == 0 {
                    let text = std::fs::read_to_string(&path).expect("always there");
                    let read: ReadyFile = serde_json::from_str(&text).expect("always whole");
                    assert_eq!(read.schema, 1);
                    reads += 1;
                }
            });
            for pid in 2..200 {
                guard.update(contents(Some(pid))).unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            reader.join().unwrap();
        });
        guard.update(contents(None)).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"pid\":null"));
        drop(guard);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no file of any name is left");
    }

    #[test]
    fn a_directory_that_is_missing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut guard = ReadyGuard::new(dir.path().join("no/ready.json"));
        assert!(guard.update(contents(None)).is_err());
    }
}
