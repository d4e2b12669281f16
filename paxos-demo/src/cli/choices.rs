//! What several commands let the user choose: backend, hook, offloads.

use clap::{Args, ValueEnum};

use crate::config::{Durability, OffloadChoice};

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

/// What of the fast path is used.
#[derive(Clone, Debug, Args)]
pub struct FastPathArgs {
    /// Jobs that go to the kernel: broadcast, fast-ack, quorum, all or none.
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub offloads: OffloadChoice,
    /// Where the ingress programs are attached.
    #[arg(long, value_enum, default_value_t)]
    pub hook: HookChoice,
}

/// How the replicas of one group run. How many there are is not part of it: what is asked of that differs.
#[derive(Clone, Debug, Args)]
pub struct GroupArgs {
    /// How packets are sent and handled.
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendChoice,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub fast_path: FastPathArgs,
    /// What an acknowledgement promises.
    #[arg(long, value_enum, default_value_t)]
    pub durability: Durability,
}
