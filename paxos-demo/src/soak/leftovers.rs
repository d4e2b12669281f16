//! What a group left on the machine.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use electrode::fabric::NetNs;

use super::sample::Holding;
use crate::bench::BenchError;
use crate::cluster::Cluster;

/// How long the kernel may take to free what nobody holds: grace periods and work queues, matters of milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a group has while it runs and must not have afterwards.
#[derive(Debug, Default)]
pub struct Traces {
    pids: Vec<u32>,
    directory: PathBuf,
    namespaces: BTreeSet<u64>,
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Traces {
    /// Of a running group whose replicas hold `holdings`.
    pub fn of<'h>(
        cluster: &Cluster,
        holdings: impl Iterator<Item = &'h Holding>,
    ) -> Result<Self, BenchError> {
        let config = cluster.config_path();
        let mut traces = Self {
            pids: (0..cluster.config().replicas.len()).filter_map(|id| cluster.pid(id)).collect(),
            directory: config.parent().map_or_else(PathBuf::new, Path::to_owned),
            ..Self::default()
        };
        if let Some(fabric) = cluster.fabric() {
            let all = fabric.hosts().iter().map(|host| host.netns()).chain([fabric.switch()]);
            let inodes: Result<_, _> = all.map(NetNs::inode).collect();
            traces.namespaces = inodes.map_err(crate::cluster::ClusterError::from)?;
        }
        for holding in holdings {
            traces.programs.extend(&holding.programs);
            traces.maps.extend(&holding.maps);
            traces.links.extend(&holding.links);
        }
        Ok(traces)
    }

    /// What of it is still there after a while, in words; an error if that cannot be seen.
    pub fn left(&self) -> io::Result<Vec<String>> {
        let start = Instant::now();
        loop {
            let left = self.left_now()?;
            if left.is_empty() || start.elapsed() > PATIENCE {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What of it is there now, in words; an error if that cannot be seen.
    pub fn left_now(&self) -> io::Result<Vec<String>> {
        let mut left = Vec::new();
        for pid in &self.pids {
            if Path::new(&format!("/proc/{pid}")).try_exists()? {
                left.push(format!("left behind: process {pid}"));
            }
        }
        if self.directory.try_exists()? {
            left.push(format!("left behind: directory {}", self.directory.display()));
        }
        let inhabited = inhabited()?;
        let still = self.namespaces.intersection(&inhabited);
        left.extend(still.map(|inode| format!("left behind: a process in network namespace {inode}")));
        #[cfg(feature = "ebpf")]
        {
            use electrode::inspect::{ObjectKind, still_loaded};
            for (kind, name, ids) in [
                (ObjectKind::Program, "program", &self.programs),
                (ObjectKind::Map, "map", &self.maps),
                (ObjectKind::Link, "link", &self.links),
            ] {
                let found = still_loaded(kind, ids.iter().copied())?;
                left.extend(found.iter().map(|id| format!("left behind: BPF {name} {id}")));
            }
        }
        Ok(left)
    }
}

/// Network namespaces in which some process lives.
fn inhabited() -> io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().parse::<u32>().is_err() {
            continue;
        }
        match std::fs::metadata(entry.path().join("ns/net")) {
            Ok(namespace) => drop(found.insert(namespace.ino())),
            Err(error) if has_ended(&error) => {}
            // Another user's, and so none that we started.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    // This process is in one: who finds none has not seen /proc.
    if found.is_empty() {
        return Err(io::Error::other("/proc shows no process: is it mounted?"));
    }
    Ok(found)
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut traces = Traces { directory: directory.path().join("none"), ..Traces::default() };
        assert!(traces.left_now().unwrap().is_empty());
        traces.directory = directory.path().to_owned();
        traces.pids = vec![std::process::id()];
        traces.namespaces = inhabited().unwrap();
        let left = traces.left_now().unwrap();
        assert!(left.len() >= 3 && left[0].contains("process") && left[1].contains("directory"), "{left:?}");
        // What cannot be seen is not gone.
        traces.directory = PathBuf::from("no\0path");
        assert!(traces.left_now().is_err());
    }
}
