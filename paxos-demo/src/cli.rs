//! The command line: names, options and exit codes that scripts rely on.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Durability, OffloadChoice, Timeouts};
use crate::report::Batch;
use crate::simulate::Programs;

/// Exit code: done.
pub const EXIT_DONE: u8 = 0;
/// Exit code: failed, or a wrong result.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: wrong use. clap exits with the same.
pub const EXIT_USAGE: u8 = 2;

/// Multi-Paxos (Viewstamped Replication) over Electrode: reference replica, demo and benchmark.
#[derive(Debug, Parser)]
#[command(name = "paxos-demo", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one replica of a group until it is told to stop.
    Replica(ReplicaArgs),
    /// Send one request to a running group.
    Client(ClientArgs),
    /// Keep a whole group up on this machine until Ctrl-C.
    Cluster(ClusterArgs),
    /// Compare backends, interleaved.
    Bench(BenchArgs),
    /// Run five replicas, check every answer, show eBPF beside kernel UDP.
    Demo(DemoArgs),
    /// Kill the leader again and again and measure for how long nobody is served.
    Failover(FailoverArgs),
    /// Make and change the keys of a group.
    #[command(subcommand)]
    Key(KeyArgs),
    /// Run groups in virtual time under every fault, by seed; exits 1 if a rule is broken.
    Simulate(SimulateArgs),
}

/// Steps of `key`.
///
/// A group with a key file believes no packet in a member's name that was not made with a key of the group. Each
/// replica reads its copy of the file at start and on SIGHUP, and `client status` says what it holds. To change
/// the key while the group runs, finish each step at every replica (copy the file, signal, look at the status)
/// before the next:
///
///   paxos-demo key add FILE      # a new key, say 2: everybody accepts both
///   paxos-demo key send FILE 2   # everybody sends with the new one
///   paxos-demo key drop FILE 1   # the old one is worth nothing any more
///
/// Who sends with a key that another one does not hold is not heard by it until that one has read its file; the
/// status counts that as drop_key.
#[derive(Clone, Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub enum KeyArgs {
    /// Make a key file with a new key, number 1.
    New {
        /// The file; there must be none yet.
        file: PathBuf,
    },
    /// Add a new key, which is accepted and not sent with.
    Add {
        /// The file.
        file: PathBuf,
    },
    /// Send with this key from now on.
    Send {
        /// The file.
        file: PathBuf,
        /// Number of the key.
        id: u32,
    },
    /// Remove a key that is not sent with.
    Drop {
        /// The file.
        file: PathBuf,
        /// Number of the key.
        id: u32,
    },
}

/// `simulate`.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Breaks one rule on purpose; `list` names them.
    #[arg(long, value_name = "BUG")]
    pub plant: Option<String>,
    /// Replicas of each group; each seed draws 3 or 5 otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub replicas: Option<u8>,
    /// Durability; each seed draws one otherwise.
    #[arg(long, value_enum)]
    pub durability: Option<Durability>,
    /// Faults end after so long at most, in virtual time; each seed draws 1 to 6 seconds.
    #[arg(long, value_name = "MS")]
    pub storm_ms: Option<u64>,
    /// How kernel programs run.
    #[arg(long, value_enum, default_value_t)]
    pub fast_path: Programs,
    /// Shows the whole trace of a violation, or of a single seed.
    #[arg(long)]
    pub trace: bool,
    /// Seeds at a time; as many as there are CPUs otherwise.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// How packets are sent and handled.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum BackendChoice {
    /// eBPF where this machine can, else UDP, saying why.
    #[default]
    Auto,
    /// The kernel fast path, or an error.
    Ebpf,
    /// Kernel UDP with sendmmsg and recvmmsg.
    Udp,
    /// Kernel UDP with one sendto a peer: the paper's baseline.
    UdpSendto,
    /// Kernel UDP with one multicast for all peers.
    UdpMulticast,
}

impl BackendChoice {
    /// The word on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Udp => "udp",
            Self::UdpSendto => "udp-sendto",
            Self::UdpMulticast => "udp-multicast",
        }
    }
}

impl std::fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that is there or not.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Without.
    Off,
    /// With.
    On,
}

/// Where the ingress programs are attached.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum HookChoice {
    /// TC ingress on virtual devices, native XDP where the driver has it.
    #[default]
    Auto,
    /// Native XDP.
    Xdp,
    /// Generic XDP.
    XdpGeneric,
    /// TC ingress.
    Tc,
}

impl HookChoice {
    /// The word on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

impl std::fmt::Display for HookChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How programs are attached at TC.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum TcChoice {
    /// tcx where the kernel has it (6.6), else clsact.
    #[default]
    Auto,
    /// A tcx link, which goes away with the process.
    Tcx,
    /// A filter on a clsact qdisc, which a small guard process removes.
    Clsact,
}

impl TcChoice {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

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

/// Options of `client`.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The group's cluster.toml.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Give up after so long [default: request_timeout_ms of the configuration].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub timeout_ms: Option<u64>,
    /// Network namespace from which the group is reached.
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
    /// The request.
    #[command(subcommand)]
    pub request: ClientRequestArgs,
}

/// Requests of `client`.
#[derive(Debug, Subcommand)]
pub enum ClientRequestArgs {
    /// Print a key's value.
    Get {
        /// The key.
        key: String,
    },
    /// Set a key.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: String,
    },
    /// Delete a key.
    Delete {
        /// The key.
        key: String,
    },
    /// Print what every replica says of itself.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What `cluster`, `bench` and `demo` start.
#[derive(Clone, Debug, Args)]
pub struct FastPathArgs {
    /// Jobs that go to the kernel: broadcast, fast-ack, quorum, all or none.
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub offloads: OffloadChoice,
    /// Where the ingress programs are attached.
    #[arg(long, value_enum, default_value_t)]
    pub hook: HookChoice,
    /// What an acknowledgement promises.
    #[arg(long, value_enum, default_value_t)]
    pub durability: Durability,
}

/// Options of `cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Replicas of the group.
    #[arg(long, default_value_t = 5, value_parser = replica_count)]
    pub replicas: usize,
    /// How packets are sent and handled.
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendChoice,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub fast_path: FastPathArgs,
    /// Requests in a Prepare: 1 or auto.
    #[arg(long, default_value = "auto")]
    pub batch: Batch,
    /// Replica i serves Redis clients on this port plus i, on the loopback address.
    #[arg(long, value_name = "PORT", default_value_t = 7000)]
    pub resp_port: u16,
    /// Once every replica serves, write its address, pid and namespace to this file.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Start a replica that died again after so long, with its data directory.
    #[arg(long, value_name = "MS")]
    pub restart_after_ms: Option<u64>,
    /// Keep the replicas' state here [default: a temporary directory].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Make a key for the group: replicas believe each other by it.
    #[arg(long)]
    pub authenticated: bool,
    /// Run the replicas as this user; needs root. Their directories become that user's.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Sizes of the group.
    #[arg(long, value_delimiter = ',', default_value = "3,5,7", value_parser = replica_count)]
    pub replicas: Vec<usize>,
    /// Backends to compare: ebpf, udp, udp-sendto, udp-multicast.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "udp,ebpf")]
    pub backends: Vec<BackendChoice>,
    /// Closed-loop clients.
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_parser = client_count)]
    pub clients: Vec<usize>,
    /// Requests in a Prepare: 1 or auto.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub batch: Vec<Batch>,
    /// Size of the values.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    pub payload_bytes: Vec<usize>,
    /// Without and with keys: off, on or both.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "off")]
    pub authentication: Vec<Switch>,
    /// Length of a run's measured window.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    /// Runs of each setting and backend.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub repeat: u16,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub fast_path: FastPathArgs,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the report's pictures (SVG) into this directory.
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
}

/// Options of `failover`.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    /// Replicas of the group: at least three, or there is nobody to take over.
    #[arg(long, default_value_t = 3, value_parser = surviving_count)]
    pub replicas: usize,
    /// How packets are sent and handled.
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendChoice,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub fast_path: FastPathArgs,
    /// Make a key for the group: replicas believe each other by it.
    #[arg(long)]
    pub authenticated: bool,
    /// Leaders to kill.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub kills: u32,
    /// After so long a silent leader is suspected.
    #[arg(long, value_name = "MS", default_value_t = Timeouts::default().leader_timeout_ms)]
    pub leader_timeout_ms: u64,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Replicas of the group.
    #[arg(long, default_value_t = 5, value_parser = replica_count)]
    pub replicas: usize,
    /// Length of each measured window.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// eBPF beside UDP where possible (auto), or one of them alone.
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendChoice,
    /// Make a key for each group: replicas believe each other by it.
    #[arg(long)]
    pub authenticated: bool,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("'{text}' is not a number"))
}

fn replica_count(text: &str) -> Result<usize, String> {
    match number(text)? {
        count @ 1..=32 => Ok(count),
        count => Err(format!("{count} replicas: a group has 1 to 32")),
    }
}

fn surviving_count(text: &str) -> Result<usize, String> {
    match replica_count(text)? {
        count @ 3.. => Ok(count),
        count => Err(format!("{count} replicas: fewer than 3 do not outlive one")),
    }
}

fn client_count(text: &str) -> Result<usize, String> {
    match number(text)? {
        count @ 1..=4096 => Ok(count),
        count => Err(format!("{count} clients: use 1 to 4096")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = number(text)?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("{text} seconds: use 0.1 to 3600"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Batching;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(std::iter::once("paxos-demo").chain(line.split_whitespace()))
            .map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_lines_of_interfaces_md_are_understood() {
        for line in [
            "replica --config cluster.toml --id 2 --backend ebpf --interface eth0 --hook xdp-generic \
             --resp 127.0.0.1:7000 --metrics 127.0.0.1:9000 --data-dir /tmp/d --durability memory",
            "client --config cluster.toml get k",
            "client --config cluster.toml put k v",
            "client --config cluster.toml delete k",
            "cluster --replicas 5 --backend udp --durability memory --ready-file f --restart-after-ms 100 \
             --authenticated",
            "demo --replicas 5 --seconds 1 --backend auto --json f",
            "key new k.toml",
            "key send k.toml 2",
            "failover --replicas 5 --kills 100 --backend udp --leader-timeout-ms 200 --json f",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        let line = "bench --replicas 3,5,7 --backends udp,ebpf,udp-sendto,udp-multicast --clients 1,16 --batch 1,auto \
                    --payload-bytes 64 --seconds 5 --repeat 5 --offloads broadcast,fast-ack,quorum --hook tc \
                    --durability memory --authentication off,on --json f --plot d";
        let Ok(Command::Bench(bench)) = parse(line) else { panic!("not understood") };
        assert_eq!(bench.replicas, [3, 5, 7]);
        assert_eq!(bench.clients, [1, 16]);
        assert_eq!(bench.batch, [Batch(Batching::One), Batch(Batching::Auto)]);
        assert_eq!(bench.backends.len(), 4);
        assert_eq!(bench.fast_path.offloads, OffloadChoice::ALL);
    }

    #[test]
    fn wrong_use_is_refused_with_code_2() {
        for line in [
            "",
            "replica --config c",
            "replica --config c --id 300",
            "replica --config c --id 0 --backend tcp",
            "client --config c",
            "cluster --replicas 0",
            "cluster --replicas 33",
            "bench --replicas 3,x",
            "bench --batch 2",
            "bench --clients 0",
            "bench --seconds 0",
            "bench --offloads quorum,foo",
            "demo --seconds nan",
            "bench --repeat 0",
            "bench --authentication maybe",
            "key send k.toml",
            "failover --replicas 2",
            "failover --kills 0",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{line}");
        }
    }
}
