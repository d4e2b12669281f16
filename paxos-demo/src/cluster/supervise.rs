//! `paxos-demo cluster`: keeps a group up until it is told to stop.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::process::ReplicaProcess;
use super::ready::{ReadyFile, ReadyGuard, ReadyReplica};
use super::{Cluster, ClusterError, Spec, describe, serves};
use crate::cli::{BackendChoice, ClusterArgs};
use crate::stop::Stop;

/// A replica that dies again and again before it serves is started ever more rarely, down to this.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often the children are looked after.
const LOOK: Duration = Duration::from_millis(50);

/// A member that is down.
#[derive(Copy, Clone, Debug)]
enum Down {
    /// Not to be started again.
    ForGood,
    /// To be started then.
    Until(Instant),
}

/// Starts a group and keeps it up; returns once it was asked to stop, with everything removed.
pub fn run(args: ClusterArgs, stop: &Stop) -> Result<(), ClusterError> {
    let mut spec = Spec::of(args.replicas, &args.group).map_err(ClusterError::system("find this program"))?;
    spec.batching = args.batch.0;
    spec.resp_port = Some(args.resp_port);
    spec.data_dir = args.data_dir;
    spec.authenticated = args.authenticated;
    spec.user = args.user;

    println!("Starting {} replicas ...", args.replicas);
    let cluster = match Cluster::start(spec, stop) {
        Err(ClusterError::Interrupted) => return Ok(()),
        other => other?,
    };
    greet(&cluster)?;
    let restart_after = args.restart_after_ms.map(Duration::from_millis);
    Supervisor::new(cluster, args.ready_file, restart_after).run(stop)
}

/// Tells the user what runs and how to reach it.
fn greet(cluster: &Cluster) -> Result<(), ClusterError> {
    if let Some(reason) = cluster.loopback_reason() {
        println!("On the loopback address, over kernel UDP: {reason}");
    }
    let statuses = cluster.statuses(Duration::from_secs(1))?;
    if let Some(status) = statuses.iter().flatten().next() {
        let node = &status.node;
        if node.backend == BackendChoice::Ebpf.as_str() {
            println!("Backend ebpf, hook {}", node.hook);
        } else {
            let because = |reason: &String| format!(", because {reason}");
            println!("Backend {}{}", node.backend, node.fallback.as_ref().map_or_else(String::new, because));
        }
    }
    if let Some(path) = cluster.key_file() {
        println!("Authenticated, with the keys of {}", path.display());
    }
    println!("{} replicas serve. Talk to any of them:", cluster.spec.replicas);
    for id in 0..cluster.spec.replicas {
        if let Some(address) = cluster.resp_address(id) {
            println!("  replica {id}: redis-cli -p {}", address.port());
        }
    }
    let netns = cluster.client_netns().map_or(String::new(), |path| format!(" --netns {}", path.display()));
    println!(
        "  or: {} client --config {}{netns} status",
        cluster.spec.program.display(),
        cluster.config_path().display()
    );
    println!("Ctrl-C ends it and removes everything.");
    Ok(())
}

struct Supervisor {
    // The file goes before the processes that it names.
    ready: Option<ReadyGuard>,
    cluster: Cluster,
    restart_after: Option<Duration>,
    down: Vec<Option<Down>>,
    /// Started, but not serving yet.
    joining: Vec<bool>,
    /// How often a replica has died since it last served.
    deaths: Vec<u32>,
}

impl Supervisor {
    fn new(cluster: Cluster, ready_file: Option<PathBuf>, restart_after: Option<Duration>) -> Self {
        let count = cluster.spec.replicas;
        Self {
            ready: ready_file.map(ReadyGuard::new),
            cluster,
            restart_after,
            down: vec![None; count],
            joining: vec![false; count],
            deaths: vec![0; count],
        }
    }

    fn run(mut self, stop: &Stop) -> Result<(), ClusterError> {
        self.write_ready_file()?;
        while !stop.sleep(LOOK) {
            for id in 0..self.down.len() {
                self.look_after(id)?;
            }
            self.admit()?;
            if self.down.iter().all(|down| matches!(down, Some(Down::ForGood))) {
                return Err(ClusterError::system("go on")(io::Error::other("all replicas have ended")));
            }
        }
        println!("Stopping ...");
        Ok(())
    }

    fn look_after(&mut self, id: usize) -> Result<(), ClusterError> {
        if let Some(Down::Until(when)) = self.down[id]
            && Instant::now() >= when
        {
            self.cluster.spawn(id)?;
            self.down[id] = None;
            self.joining[id] = true;
            return Ok(());
        }
        let Some(process) = &mut self.cluster.replicas[id] else { return Ok(()) };
        let look = ClusterError::system("look after a child");
        let Some(status) = ReplicaProcess::exited(process).map_err(look)? else { return Ok(()) };
        eprintln!("Replica {id} ended with {status}; it said:\n{}", process.log_tail());
        self.cluster.replicas[id] = None;
        self.joining[id] = false;
        let doubled = 1 << self.deaths[id].min(16);
        self.deaths[id] += 1;
        self.down[id] = Some(match self.restart_after {
            Some(pause) => Down::Until(Instant::now() + pause.max((pause * doubled).min(RESTART_PAUSE_MAX))),
            None => Down::ForGood,
        });
        self.write_ready_file()
    }

    /// Notices that a replica that was started again serves.
    fn admit(&mut self) -> Result<(), ClusterError> {
        if !self.joining.contains(&true) {
            return Ok(());
        }
        let statuses = self.cluster.statuses(LOOK)?;
        for (id, status) in statuses.iter().enumerate() {
            if self.joining[id] && status.as_ref().is_some_and(serves) {
                self.joining[id] = false;
                self.deaths[id] = 0;
                println!("Replica {id} serves again ({})", describe(&statuses));
                self.write_ready_file()?;
            }
        }
        Ok(())
    }

    fn write_ready_file(&mut self) -> Result<(), ClusterError> {
        let Some(guard) = &mut self.ready else { return Ok(()) };
        let cluster = &self.cluster;
        let joining = &self.joining;
        let own_netns = || PathBuf::from(format!("/proc/{}/ns/net", std::process::id()));
        let replica = |id: usize| {
            let host = cluster.fabric().map(|fabric| fabric.host(id));
            ReadyReplica {
                id,
                resp: cluster.resp_address(id).map_or(String::new(), |address| address.to_string()),
                pid: if joining[id] { None } else { cluster.pid(id) },
                netns: host.map_or_else(own_netns, |host| host.netns().path()),
                interface: host.map_or("lo", |host| host.interface()).to_owned(),
            }
        };
        let contents = ReadyFile {
            schema: 1,
            replicas: (0..cluster.spec.replicas).map(replica).collect(),
            config: cluster.config_path(),
            client_netns: cluster.client_netns().unwrap_or_else(own_netns),
        };
        guard.update(contents).map_err(ClusterError::system("write the ready file"))
    }
}

impl Cluster {
    /// Path of the namespace from which clients reach the group; none on loopback.
    pub fn client_netns(&self) -> Option<PathBuf> {
        self.fabric().map(|fabric| fabric.host(self.spec.replicas).netns().path())
    }
}
