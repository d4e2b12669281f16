//! Options of `replica`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::choices::{BackendChoice, HookChoice, TcChoice};
use crate::config::Durability;

/// Options of `replica`.
#[derive(Debug, Args)]
pub struct ReplicaArgs {
    /// The group's cluster.toml.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Index of this replica in it.
    #[arg(long)]
    pub id: u8,
    /// How packets are sent and handled.
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendChoice,
    /// Interface that reaches the other members [default: the one that holds this replica's address].
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// Where the ingress programs are attached.
    #[arg(long, value_enum, default_value_t)]
    pub hook: HookChoice,
    /// How programs are attached at TC.
    #[arg(long, value_enum, default_value_t = TcChoice::Auto, hide_default_value = true)]
    pub tc: TcChoice,
    /// Serve Redis clients (RESP) on this address.
    #[arg(long, value_name = "ADDR")]
    pub resp: Option<SocketAddr>,
    /// Serve metrics on this address.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Where the replica keeps what it must not forget: its view in every mode, its log with `disk`. Without it
    /// the replica cannot come back once it has ended.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// This is the replica's very first start: the data directory may be empty.
    #[arg(long)]
    pub bootstrap: bool,
    /// What an acknowledgement promises [default: as in the configuration].
    #[arg(long, value_enum)]
    pub durability: Option<Durability>,
    /// Run as this user, if started as root. Whoever it runs as, it has no capabilities once it has opened its
    /// endpoint; the data directory must be that user's.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Network namespace to enter after the RESP listener is open, which stays outside.
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
}
