//! `paxos-demo replica`: from the command line to a running replica.
//!
//! The order matters. The RESP listener is opened first, while the process is still in the namespace of whoever
//! started it, for a socket stays where it was opened. Then the whole process, single-threaded until
//! here, moves into the replica's namespace. Only then do threads start.

use std::net::TcpListener;
use std::path::PathBuf;

use electrode::types::ReplicaId;

use crate::cli::{BackendChoice, HookChoice, ReplicaArgs};
use crate::config::{ClusterConfig, ConfigError, Durability};
use crate::resp;
use crate::session::Group;
use crate::stop::Stop;

/// Everything that the driver of a replica needs.
#[derive(Debug)]
pub struct ReplicaOptions {
    /// The group.
    pub config: ClusterConfig,
    /// Own index.
    pub id: ReplicaId,
    /// How packets are sent and handled.
    pub backend: BackendChoice,
    /// Where the ingress programs are attached.
    pub hook: HookChoice,
    /// Interface that reaches the other members, if it was given.
    pub interface: Option<String>,
    /// Where state is kept, if it was given.
    pub data_dir: Option<PathBuf>,
    /// The request to end.
    pub stop: Stop,
}

/// Why a replica did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Options that do not fit the configuration or this version.
    #[error("{0}")]
    Usage(String),
    /// The RESP listener cannot be opened.
    #[error("cannot listen for Redis clients on {address}: {source}; give another address with --resp")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] electrode::fabric::FabricError),
    /// The RESP front-end cannot run.
    #[error("cannot serve Redis clients: {0}")]
    Resp(std::io::Error),
    /// The replica failed.
    #[error("replica: {0}")]
    Replica(Box<dyn std::error::Error + Send + Sync>),
}

/// Runs a replica until it is told to stop.
pub fn run_replica(args: ReplicaArgs, stop: Stop) -> Result<(), ServeError> {
    let config = ClusterConfig::load(&args.config)?;
    let options = options(&args, config, stop)?;
    let listener = args
        .resp
        .map(|address| TcpListener::bind(address).map_err(|source| ServeError::Listen { address, source }))
        .transpose()?;
    if let Some(netns) = &args.netns {
        electrode::fabric::netns::enter_path(netns)?;
    }
    let group = Group::new(&options.config);
    let _resp = listener
        .map(|listener| resp::Server::start(listener, group, options.id.index()))
        .transpose()
        .map_err(ServeError::Resp)?;
    drive(options)
}

fn options(args: &ReplicaArgs, config: ClusterConfig, stop: Stop) -> Result<ReplicaOptions, ServeError> {
    let usage = |text: String| Err(ServeError::Usage(text));
    if usize::from(args.id) >= config.replicas.len() {
        return usage(format!(
            "--id {}: the configuration has replicas 0 to {}",
            args.id,
            config.replicas.len() - 1
        ));
    }
    if args.metrics.is_some() {
        return usage("--metrics is not available in this version".to_owned());
    }
    match args.durability {
        Some(mode) if mode != config.durability => {
            return usage(format!(
                "--durability {mode}: the configuration says {}, and all members must agree",
                config.durability
            ));
        }
        Some(mode) if mode != Durability::Memory => {
            return usage(format!("--durability {mode} is not available in this version"));
        }
        _ => {}
    }
    Ok(ReplicaOptions {
        config,
        id: ReplicaId(args.id),
        backend: args.backend,
        hook: args.hook,
        interface: args.interface.clone(),
        data_dir: args.data_dir.clone(),
        stop,
    })
}

/// Endpoint, replica and the loop between them.
fn drive(options: ReplicaOptions) -> Result<(), ServeError> {
    let _ = options;
    Err(ServeError::Replica("the driver is not built in yet".into()))
}
