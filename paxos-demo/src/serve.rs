//! `paxos-demo replica`: one replica as a process.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use electrode::config::{Acks, Backend, Hook, Offloads, TcMechanism};
use electrode::types::ReplicaId;
use electrode::{Endpoint, config::EndpointConfig};

use crate::batcher;
use crate::cli::{BackendChoice, HookChoice, ReplicaArgs, TcChoice};
use crate::config::{Batching, ClusterConfig, ConfigError, Durability};
use crate::driver::{Driver, DriverError};
use crate::key_file::KeyFileError;
use crate::key_file::reload::KeySource;
use crate::privileges::{self, PrivilegeError};
use crate::replica::{Memory, Replica, ReplicaConfig, StartError};
use crate::session::Group;
use crate::storage::{self, MemoryStorage, StorageError};

/// Why a replica did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key file is wrong.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The index is not in it.
    #[error("--id {id}: {} names replicas 0 to {}", config.display(), members - 1)]
    NoSuchReplica {
        /// The index.
        id: u8,
        /// The file.
        config: PathBuf,
        /// Replicas in it.
        members: usize,
    },
    /// A durability that needs a directory.
    #[error("durability {0} keeps its log in a directory: say where with --data-dir")]
    NoDirectory(Durability),
    /// Metrics do not exist yet.
    #[error("--metrics is not available in this version")]
    Metrics,
    /// A listener could not be opened.
    #[error("cannot listen for Redis clients on {addr}: {source}; choose another --resp")]
    Listen {
        /// Its address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The namespace could not be entered.
    #[error("cannot enter the network namespace {}: {reason}", path.display())]
    Netns {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// It cannot run as the user, or with the capabilities, that it should.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The data directory is not this user's.
    #[error(
        "{source}. The replica runs as {user}, without root's right to everybody's files: give it the directory \
         (chown -R {user} {})", dir.display()
    )]
    Forbidden {
        /// The directory.
        dir: PathBuf,
        /// Who the replica runs as.
        user: String,
        /// What was refused.
        source: StorageError,
    },
    /// The data directory is unusable.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The endpoint could not be opened.
    #[error(transparent)]
    Endpoint(#[from] electrode::Error),
    /// The replica cannot begin with what it is told, or with what it remembers.
    #[error(transparent)]
    Replica(#[from] StartError),
    /// It ran, and ended.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// Something of the process failed.
    #[error("{what}: {source}")]
    Io {
        /// What.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs a replica until SIGTERM or SIGINT.
pub fn run_replica(args: &ReplicaArgs) -> Result<(), ServeError> {
    let mut config = ClusterConfig::load(&args.config)?;
    config.durability = args.durability.unwrap_or(config.durability);
    let members = config.replicas.len();
    if usize::from(args.id) >= members {
        return Err(ServeError::NoSuchReplica { id: args.id, config: args.config.clone(), members });
    }
    if args.metrics.is_some() {
        return Err(ServeError::Metrics);
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|source| ServeError::Io { what: "signal handler", source })?;
    }
    let mut keys = (config.key_file.clone().map(KeySource::on_hangup).transpose())
        .map_err(|source| ServeError::Io { what: "signal handler", source })?;
    // A socket stays in the namespace in which it was opened: Redis clients are outside.
    let resp = args
        .resp
        .map(|addr| TcpListener::bind(addr).map_err(|source| ServeError::Listen { addr, source }))
        .transpose()?;
    if let Some(path) = &args.netns {
        electrode::fabric::netns::enter_path(path)
            .map_err(|e| ServeError::Netns { path: path.clone(), reason: e.to_string() })?;
    }
    privileges::prepare(args.user.as_deref())?;
    // As whoever will read it again.
    let key_file = keys.as_mut().map(KeySource::read).transpose()?;
    // D4: whatever an earlier process of this replica attached is gone with it; the directory's lock says that
    // no other process is left.
    let (id, config_hash) = (ReplicaId(args.id), config.config_hash());
    let opened = match &args.data_dir {
        Some(dir) => storage::open(dir, config.durability, id, config_hash, args.bootstrap)
            .map_err(|e| not_allowed(dir, e))?,
        None if config.durability == Durability::Memory => MemoryStorage::without_directory(id, config_hash),
        None => return Err(ServeError::NoDirectory(config.durability)),
    };
    for warning in &opened.warnings {
        eprintln!("warning: {warning}");
    }
    let incarnation = opened.persisted.incarnation;

    let mut endpoint_config = endpoint_config(&config, args, incarnation);
    endpoint_config.keys = key_file.map(|file| file.keys());
    let endpoint = Endpoint::open(endpoint_config)?;
    let choice = endpoint.choice();
    println!(
        "replica {} on {}: backend {}, hook {}{}",
        args.id,
        endpoint.local_addr(),
        choice.backend,
        choice.hook,
        choice.reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default()
    );
    if let Some(keys) = &keys {
        println!("keys: {}", keys.held());
    }
    // What is to come goes through descriptors, mapped maps and the guard of a clsact filter.
    electrode::privileges::drop_all()?;
    let mut replica_config = replica_config(&config, ReplicaId(args.id), incarnation);
    replica_config.born = opened.persisted.born;
    replica_config.met = opened.persisted.met.clone();
    replica_config.payload_bytes_max = endpoint.payload_bytes_max();
    replica_config.recover_at_ns = endpoint.earlier_life_ends_ns();
    let storage::Opened { storage, first_life, persisted, log, snapshot, .. } = opened;
    let (view, last_normal_view) = (persisted.view, persisted.last_normal_view);
    let memory = match config.durability {
        _ if first_life => Memory::Nothing,
        Durability::Disk => Memory::Log { view, last_normal_view, snapshot, log },
        Durability::Memory | Durability::Process => Memory::View { view, last_normal_view },
    };
    let replica = Replica::start(endpoint.now_ns(), replica_config, memory)?;
    let _resp = resp
        .map(|listener| crate::resp::Server::start(listener, Group::new(&config), usize::from(args.id)))
        .transpose()
        .map_err(|source| ServeError::Io { what: "starting the Redis front-end", source })?;
    let mut driver = Driver::new(endpoint, replica, storage, config.log_slots)?;
    driver.renew_from(keys);
    driver.run(&stop)?;
    Ok(())
}

/// Says who may not, where that is what is wrong.
fn not_allowed(dir: &Path, source: StorageError) -> ServeError {
    match &source {
        StorageError::Io { source: reason, .. } if reason.kind() == std::io::ErrorKind::PermissionDenied => {
            ServeError::Forbidden { dir: dir.to_owned(), user: privileges::current_user(), source }
        }
        _ => ServeError::Storage(source),
    }
}

fn endpoint_config(config: &ClusterConfig, args: &ReplicaArgs, incarnation: u32) -> EndpointConfig {
    let offloads = config.offloads;
    let mut endpoint = EndpointConfig::new(config.replicas.clone(), ReplicaId(args.id));
    endpoint.group = config.group;
    endpoint.config_hash = config.config_hash();
    endpoint.incarnation = incarnation;
    // Known by introduction only (formation.rs).
    endpoint.peer_incarnation = 0;
    endpoint.interface = args.interface.clone();
    endpoint.backend = backend(args.backend);
    endpoint.offloads =
        Offloads { broadcast: offloads.broadcast, fast_ack: offloads.fast_ack, quorum: offloads.quorum };
    endpoint.hook = hook(args.hook);
    endpoint.tc = match args.tc {
        TcChoice::Auto => TcMechanism::Auto,
        TcChoice::Tcx => TcMechanism::Tcx,
        TcChoice::Clsact => TcMechanism::Clsact,
    };
    endpoint.log_slots = config.log_slots;
    endpoint.payload_bytes_max = Some(config.payload_bytes_max as usize);
    endpoint.quorum_window = config.quorum_window;
    endpoint.acks = if config.durability == Durability::Disk { Acks::ByCaller } else { Acks::OnReceipt };
    endpoint.busy_poll = std::time::Duration::from_micros(config.timeouts.busy_poll_us);
    endpoint
}

fn replica_config(config: &ClusterConfig, me: ReplicaId, incarnation: u32) -> ReplicaConfig {
    const MS: u64 = 1_000_000;
    let timeouts = &config.timeouts;
    let mut replica = ReplicaConfig::new(me, config.replicas.len(), incarnation, config.config_hash());
    replica.batching = match config.batching {
        Batching::One => batcher::Batching::One,
        Batching::Auto => batcher::Batching::Auto,
    };
    replica.window_ops = config.window_ops();
    replica.commit_notice_delay_ns = timeouts.commit_notice_delay_ms * MS;
    replica.heartbeat_ns = timeouts.heartbeat_interval_ms * MS;
    replica.leader_timeout_ns = timeouts.leader_timeout_ms * MS;
    replica.step_down_ns = 2 * timeouts.leader_timeout_ms * MS;
    replica.view_change_timeout_ns = timeouts.leader_timeout_ms * MS;
    replica.formation_timeout_ns = (10 * timeouts.leader_timeout_ms).max(3000) * MS;
    replica.durable = config.durability == Durability::Disk;
    replica.resend_ns = timeouts.resend_timeout_ms * MS;
    replica.resend_max_ns = replica.resend_max_ns.max(replica.resend_ns);
    replica
}

fn backend(choice: BackendChoice) -> Backend {
    choice.as_str().parse().expect("the command line and the library use the same words")
}

fn hook(choice: HookChoice) -> Hook {
    choice.as_str().parse().expect("the command line and the library use the same words")
}
