//! Why a group does not run.

use std::io;

use electrode::fabric::FabricError;

use crate::cli::BackendChoice;
use crate::config::ConfigError;
use crate::key_file::KeyFileError;
use crate::privileges::PrivilegeError;

/// Why a group does not run.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The virtual hosts cannot be made, and the backend needs them.
    #[error("the {backend} backend needs a network namespace for each replica: {source}")]
    Fabric {
        /// The backend that was asked for.
        backend: BackendChoice,
        /// Why they cannot be made.
        source: FabricError,
    },
    /// A namespace cannot be used.
    #[error(transparent)]
    Netns(#[from] FabricError),
    /// A port is taken.
    #[error("port {port} on 127.0.0.1 is taken: {source}; give another with --resp-port")]
    PortTaken {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// No key file can be made.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The replicas cannot run as the user that they should.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The configuration cannot be written, or is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Native XDP cannot be had on the virtual hosts.
    #[error("--hook xdp: {0}")]
    XdpPorts(String),
    /// A replica did not start or ended.
    #[error("replica {id} ended with {status}; it said:\n{log}")]
    Died {
        /// Its index.
        id: usize,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The group does not serve.
    #[error("the group does not serve after {waited_s} s: {state}. Replica {silent} said:\n{log}")]
    NotReady {
        /// How long it was waited for.
        waited_s: u64,
        /// What each replica says.
        state: String,
        /// The first replica that is not ready.
        silent: usize,
        /// The end of its log.
        log: String,
    },
    /// The user does not want it any more.
    #[error("interrupted")]
    Interrupted,
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// What the system said.
        source: io::Error,
    },
}

impl ClusterError {
    pub(super) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
