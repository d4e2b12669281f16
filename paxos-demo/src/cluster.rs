//! A whole group on this machine: namespaces or loopback, one child process a replica, and nothing left of it
//! afterwards.
//!
//! ```text
//!   this process ── RESP listeners on 127.0.0.1 (opened by the children before they move)
//!     ├─ replica 0 (child) in host 0 ─┐
//!     ├─ replica 1 (child) in host 1 ─┼─ bridge (a namespace as well)
//!     └─ clients            in host N ┘
//! ```

mod error;
mod place;
pub mod process;
pub mod ready;
mod spec;
pub mod supervise;
pub mod xdp_ports;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use electrode::fabric::Fabric;
use tempfile::TempDir;

pub use self::error::ClusterError;
pub use self::place::Site;
use self::place::{Place, check_ports, loopback_addresses, place};
use self::process::ReplicaProcess;
pub use self::spec::Spec;
use self::xdp_ports::XdpPorts;
use crate::cli::BackendChoice;
use crate::client::{Client, open_socket};
use crate::config::ClusterConfig;
use crate::key_file::edit;
use crate::node::NodeStatus;
use crate::privileges;
use crate::session::Group;
use crate::status::RoleName;
use crate::stop::Stop;

/// Port of every replica inside its host; groups that share hosts have one each from here on.
const PORT: u16 = 7100;
/// The key file, in the cluster's directory.
const KEY_FILE: &str = "keys.toml";
/// How long a group may take to serve. It is a matter of milliseconds on an idle machine.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// A directory that goes with the cluster, or one that stays.
#[derive(Debug)]
enum Dir {
    Temporary(TempDir),
    Given(PathBuf),
}

impl Dir {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Given(path) => path,
        }
    }
}

/// A running group. Dropping it ends the replicas, then removes their network and directory.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: processes before the hosts in which they live, and before their files.
    replicas: Vec<Option<ReplicaProcess>>,
    /// Which of them have been started before, in this cluster or an earlier one in the same directory.
    began: Vec<bool>,
    _xdp_ports: XdpPorts,
    place: Place,
    dir: Dir,
    spec: Spec,
    config: ClusterConfig,
}

impl Cluster {
    /// Starts a group and waits until all of it serves. The children die with the calling thread.
    pub fn start(spec: Spec, stop: &Stop) -> Result<Self, ClusterError> {
        let mut cluster = Self::prepare(spec)?;
        for id in 0..cluster.spec.replicas {
            cluster.spawn(id)?;
        }
        cluster.await_ready(READY_TIMEOUT, stop)?;
        Ok(cluster)
    }

    fn prepare(spec: Spec) -> Result<Self, ClusterError> {
        if let Some(first) = spec.resp_port {
            check_ports(first, spec.replicas)?;
        }
        let place = place(&spec)?;
        let addresses = match &place {
            Place::Fabric(fabric) => {
                let address = |id| (fabric.host(spec.host_of(id)).addr(), PORT + spec.number()).into();
                (0..spec.replicas).map(address).collect()
            }
            Place::Loopback { .. } => loopback_addresses(spec.replicas)
                .map_err(ClusterError::system("find free ports on 127.0.0.1"))?,
        };
        let xdp_ports = match &place {
            Place::Fabric(fabric) => XdpPorts::prepare(fabric, spec.replicas, spec.hook),
            Place::Loopback { .. } => Ok(XdpPorts::default()),
        }
        .map_err(ClusterError::XdpPorts)?;
        let mut config = ClusterConfig::new(1 + u32::from(spec.number()), addresses);
        config.durability = spec.durability;
        config.offloads = spec.offloads;
        config.batching = spec.batching;
        config.timeouts = spec.timeouts;
        config.log_slots = spec.log_slots;
        config.quorum_window = config.quorum_window.min(spec.log_slots);
        config.key_file = spec.authenticated.then(|| KEY_FILE.into());
        // A file with errors is refused here, with the line, and not by each of the replicas.
        ClusterConfig::parse(&config.to_toml())?;

        let dir = match &spec.data_dir {
            Some(path) => {
                std::fs::create_dir_all(path)
                    .map_err(ClusterError::system(format!("make {}", path.display())))?;
                Dir::Given(path.clone())
            }
            None => Dir::Temporary(
                tempfile::Builder::new()
                    .prefix("paxos-demo-")
                    .tempdir()
                    .map_err(ClusterError::system("make a temporary directory"))?,
            ),
        };
        if let (Some(_), Dir::Temporary(dir)) = (&spec.user, &dir) {
            // Made for its owner's eyes only; the replicas must get to their own directories in it.
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711))
                .map_err(ClusterError::system(format!("open up {}", dir.path().display())))?;
        }
        config.save(&dir.path().join("cluster.toml"))?;
        let key_file = dir.path().join(KEY_FILE);
        if spec.authenticated && !key_file.exists() {
            edit::take(&key_file, edit::Step::New)?;
            if let Some(user) = &spec.user {
                privileges::give_to(user, &key_file)?;
            }
        }
        let replicas = (0..spec.replicas).map(|_| None).collect();
        let began = (0..spec.replicas)
            .map(|id| dir.path().join(format!("replica-{id}")).join(crate::storage::STATE_FILE).exists())
            .collect();
        Ok(Self { replicas, began, _xdp_ports: xdp_ports, place, dir, spec, config })
    }

    fn spawn(&mut self, id: usize) -> Result<(), ClusterError> {
        let data_dir = self.dir.path().join(format!("replica-{id}"));
        match (std::fs::create_dir(&data_dir), &self.spec.user) {
            (Ok(()), Some(user)) => privileges::give_to(user, &data_dir)?,
            (Ok(()), None) => {}
            // Whose it is, it stays; a replica that may not use it says so.
            (Err(error), _) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            (Err(error), _) => {
                return Err(ClusterError::system(format!("make {}", data_dir.display()))(error));
            }
        }
        let mut command = Command::new(&self.spec.program);
        command.arg("replica").arg("--config").arg(self.config_path());
        command.arg("--id").arg(id.to_string()).arg("--backend").arg(self.backend().as_str());
        command.arg("--hook").arg(self.spec.hook.as_str()).arg("--data-dir").arg(&data_dir);
        command.arg("--tc").arg(self.spec.tc.as_str());
        if let Some(user) = &self.spec.user {
            command.arg("--user").arg(user);
        }
        if !self.began[id] {
            // A supervisor that repeats this would not notice a lost disk (D6).
            command.arg("--bootstrap");
            self.began[id] = true;
        }
        if let Some(resp) = self.resp_address(id) {
            command.arg("--resp").arg(resp.to_string());
        }
        if let Place::Fabric(fabric) = &self.place {
            let host = fabric.host(self.spec.host_of(id));
            command.arg("--interface").arg(host.interface()).arg("--netns").arg(host.netns().path());
        }
        let process = ReplicaProcess::spawn(command, &self.dir.path().join(format!("replica-{id}.log")))
            .map_err(ClusterError::system(format!("start replica {id}")))?;
        self.replicas[id] = Some(process);
        Ok(())
    }

    /// Waits until every replica is in normal operation in one view, or one of them dies.
    pub fn await_ready(&mut self, timeout: Duration, stop: &Stop) -> Result<(), ClusterError> {
        let start = Instant::now();
        let mut client = self.client()?;
        loop {
            if stop.requested() {
                return Err(ClusterError::Interrupted);
            }
            self.check_alive()?;
            let statuses = client
                .statuses(Duration::from_millis(200))
                .map_err(ClusterError::system("ask for status"))?;
            let not_ready = statuses.iter().position(|status| !status.as_ref().is_some_and(serves));
            let Some(silent) = not_ready else { return Ok(()) };
            if start.elapsed() > timeout {
                return Err(ClusterError::NotReady {
                    waited_s: start.elapsed().as_secs(),
                    state: describe(&statuses),
                    silent,
                    log: self.replicas[silent].as_ref().map_or_else(String::new, ReplicaProcess::log_tail),
                });
            }
            if stop.sleep(Duration::from_millis(10)) {
                return Err(ClusterError::Interrupted);
            }
        }
    }

    /// An error if a replica has ended.
    pub fn check_alive(&mut self) -> Result<(), ClusterError> {
        for (id, replica) in self.replicas.iter_mut().enumerate() {
            let Some(replica) = replica else { continue };
            if let Some(status) = replica.exited().map_err(ClusterError::system("look after a child"))? {
                return Err(ClusterError::Died { id, status, log: replica.log_tail() });
            }
        }
        Ok(())
    }

    /// Whether a replica has ended, or was never started.
    pub fn has_ended(&mut self, id: usize) -> bool {
        self.replicas[id].as_mut().is_none_or(|replica| !matches!(replica.exited(), Ok(None)))
    }

    /// The backend that the replicas are asked for: on loopback every peer is local, and no packet meets a hook.
    fn backend(&self) -> BackendChoice {
        match (&self.place, self.spec.backend) {
            (Place::Loopback { .. }, BackendChoice::Auto) => BackendChoice::Udp,
            (_, backend) => backend,
        }
    }

    /// The group's configuration.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// Where that is written.
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("cluster.toml")
    }

    /// The key file that all replicas read, if they have keys.
    pub fn key_file(&self) -> Option<PathBuf> {
        self.spec.authenticated.then(|| self.dir.path().join(KEY_FILE))
    }

    /// What the group looks like to a client.
    pub fn group(&self) -> Group {
        Group::new(&self.config)
    }

    /// `bridge` or `loopback`.
    pub fn fabric_name(&self) -> &'static str {
        match self.place {
            Place::Fabric(_) => "bridge",
            Place::Loopback { .. } => "loopback",
        }
    }

    /// Why the replicas share the loopback address, if they do.
    pub fn loopback_reason(&self) -> Option<&str> {
        match &self.place {
            Place::Fabric(_) => None,
            Place::Loopback { reason } => Some(reason),
        }
    }

    /// The virtual hosts, if there are any: replica i lives in host i (in turns, beside other groups), clients in the last.
    pub fn fabric(&self) -> Option<&Fabric> {
        match &self.place {
            Place::Fabric(fabric) => Some(fabric),
            Place::Loopback { .. } => None,
        }
    }

    /// Process id of a replica; none while it is not running.
    pub fn pid(&self, id: usize) -> Option<u32> {
        self.replicas[id].as_ref().map(ReplicaProcess::pid)
    }

    /// Ends a replica at once, as a crash would.
    pub fn kill(&mut self, id: usize) -> io::Result<()> {
        self.replicas[id].take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Starts a replica that was killed again, with its data directory, as a supervisor would. The child dies
    /// with the calling thread.
    pub fn restart(&mut self, id: usize) -> Result<(), ClusterError> {
        if self.replicas[id].is_some() { Ok(()) } else { self.spawn(id) }
    }

    /// The end of what a running replica has written.
    pub fn log_tail(&self, id: usize) -> Option<String> {
        self.replicas[id].as_ref().map(ReplicaProcess::log_tail)
    }

    /// Where a replica serves Redis clients.
    pub fn resp_address(&self, id: usize) -> Option<SocketAddr> {
        self.spec.resp_port.map(|port| (Ipv4Addr::LOCALHOST, port + id as u16).into())
    }

    /// A socket from which the group can be reached.
    pub fn client_socket(&self) -> Result<UdpSocket, ClusterError> {
        let open = || open_socket(&self.group());
        let socket = match &self.place {
            Place::Fabric(fabric) => fabric.host(self.spec.replicas).netns().run(open)?,
            Place::Loopback { .. } => open(),
        };
        socket.map_err(ClusterError::system("open a client's socket"))
    }

    /// A client of the group.
    pub fn client(&self) -> Result<Client, ClusterError> {
        Ok(Client::over(self.client_socket()?, self.group()))
    }

    /// What the replicas say of themselves, as far as they answer in time.
    pub fn statuses(&self, timeout: Duration) -> Result<Vec<Option<NodeStatus>>, ClusterError> {
        self.client()?.statuses(timeout).map_err(ClusterError::system("ask for status"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        process::end_all(self.replicas.iter_mut().flatten());
    }
}

/// Whether a replica is in normal operation.
fn serves(status: &NodeStatus) -> bool {
    matches!(status.replica.role, RoleName::Leader | RoleName::Follower)
}

fn describe(statuses: &[Option<NodeStatus>]) -> String {
    let words = statuses.iter().enumerate().map(|(id, status)| match status {
        Some(status) => format!("replica {id} is {:?} in view {}", status.replica.role, status.replica.view),
        None => format!("replica {id} does not answer"),
    });
    words.collect::<Vec<_>>().join(", ")
}
