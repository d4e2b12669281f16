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
        }
        Ok(traces)
    }

    /// What of it is still there after a while, in words.
    pub fn left(&self) -> Vec<String> {
        let start = Instant::now();
        loop {
            let left = self.left_now();
            if left.is_empty() || start.elapsed() > PATIENCE {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What of it is there now, in words.
    pub fn left_now(&self) -> Vec<String> {
        let mut left = Vec::new();
        let alive = |pid: &&u32| Path::new(&format!("/proc/{pid}")).exists();
        left.extend(self.pids.iter().filter(alive).map(|pid| format!("left behind: process {pid}")));
        if self.directory.exists() {
            left.push(format!("left behind: directory {}", self.directory.display()));
        }
        let inhabited = inhabited().unwrap_or_default();
        let still = self.namespaces.intersection(&inhabited);
        left.extend(still.map(|inode| format!("left behind: a process in network namespace {inode}")));
        let (programs, maps) = self.loaded();
        left.extend(programs.iter().map(|id| format!("left behind: BPF program {id}")));
        left.extend(maps.iter().map(|id| format!("left behind: BPF map {id}")));
        left
    }

    #[cfg(feature = "ebpf")]
    fn loaded(&self) -> (Vec<u32>, Vec<u32>) {
        let list = |ids: &BTreeSet<u32>| ids.iter().copied().collect::<Vec<_>>();
        electrode::inspect::still_loaded(&list(&self.programs), &list(&self.maps))
    }

    #[cfg(not(feature = "ebpf"))]
    fn loaded(&self) -> (Vec<u32>, Vec<u32>) {
        (Vec::new(), Vec::new())
    }
}

/// Network namespaces in which some process lives.
fn inhabited() -> io::Result<BTreeSet<u64>> {
    let namespace = |entry: io::Result<std::fs::DirEntry>| {
        Some(std::fs::metadata(entry.ok()?.path().join("ns/net")).ok()?.ino())
    };
    Ok(std::fs::read_dir("/proc")?.filter_map(namespace).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut traces = Traces { directory: directory.path().join("none"), ..Traces::default() };
        assert!(traces.left_now().is_empty());
        traces.directory = directory.path().to_owned();
        traces.pids = vec![std::process::id()];
        traces.namespaces = inhabited().unwrap();
        let left = traces.left_now();
        assert!(left.len() >= 3 && left[0].contains("process") && left[1].contains("directory"), "{left:?}");
    }
}
