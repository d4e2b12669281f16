//! The members of an etcd group as processes: one a virtual host, with a log on a tmpfs that nobody else sees.

use std::process::Command;

use electrode::fabric::Fabric;
use paxos_demo::cluster::process::{ReplicaProcess, end_all};
use tempfile::TempDir;

use super::{EtcdError, PROGRAM};

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Mounts a tmpfs where only this process sees it, and becomes the server. `/dev/shm` is there on any Linux, and what
/// lies in it elsewhere is not touched: the mount is in a mount namespace of its own, and goes with the process.
const ON_TMPFS: &str = "mount -t tmpfs tmpfs /dev/shm && exec \"$@\"";

/// A running group. Dropping it ends the processes.
pub struct Members {
    processes: Vec<ReplicaProcess>,
    addresses: Vec<String>,
    _logs: TempDir,
}

impl Members {
    /// Starts so many members on the first hosts of the fabric. They die with the calling thread.
    pub fn start(fabric: &Fabric, count: usize) -> Result<Self, EtcdError> {
        let logs = tempfile::Builder::new()
            .prefix("bench-etcd-")
            .tempdir()
            .map_err(EtcdError::system("make a temporary directory"))?;
        let url = |id: usize, port: u16| format!("http://{}:{port}", fabric.host(id).addr());
        let cluster: Vec<_> = (0..count).map(|id| format!("m{id}={}", url(id, PEER_PORT))).collect();
        let mut members = Self {
            processes: Vec::with_capacity(count),
            addresses: (0..count).map(|id| url(id, CLIENT_PORT)).collect(),
            _logs: logs,
        };
        for id in 0..count {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", ON_TMPFS, "sh", PROGRAM]);
            command.arg(format!("--name=m{id}"));
            command.arg("--data-dir=/dev/shm/etcd");
            for (option, port) in [("client", CLIENT_PORT), ("peer", PEER_PORT)] {
                command.arg(format!("--listen-{option}-urls={}", url(id, port)));
            }
            command.arg(format!("--advertise-client-urls={}", url(id, CLIENT_PORT)));
            command.arg(format!("--initial-advertise-peer-urls={}", url(id, PEER_PORT)));
            command.arg(format!("--initial-cluster={}", cluster.join(",")));
            command.args(["--initial-cluster-state=new", "--logger=zap", "--log-level=warn"]);
            // What the caller's environment says of another etcd is not for this one.
            command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
            fabric.host(id).netns().confine(&mut command);
            let log = members._logs.path().join(format!("member-{id}.log"));
            let process = ReplicaProcess::spawn(command, &log).map_err(EtcdError::system("start etcd"))?;
            members.processes.push(process);
        }
        Ok(members)
    }

    /// Where clients reach them.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// An error if one has ended.
    pub fn check_alive(&mut self) -> Result<(), EtcdError> {
        for (id, process) in self.processes.iter_mut().enumerate() {
            if let Some(status) = process.exited().map_err(EtcdError::system("look after a child"))? {
                return Err(EtcdError::Died { id, status, log: process.log_tail() });
            }
        }
        Ok(())
    }

    /// The end of what one has written.
    pub fn log_tail(&self, id: usize) -> String {
        self.processes[id].log_tail()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        end_all(self.processes.iter_mut());
    }
}
