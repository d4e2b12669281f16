//! What a running replica process says of itself: the replica's status, and how its packets travel.

use serde::{Deserialize, Serialize};

use crate::key_file::KeyIds;
use crate::status::Status;

/// The JSON of a status reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The replica.
    #[serde(flatten)]
    pub replica: Status,
    /// Its process and its fast path.
    #[serde(default)]
    pub node: Node,
}

/// The process around a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Process id.
    pub pid: u32,
    /// Life of the replica.
    pub incarnation: u32,
    /// Backend in use: `ebpf`, `udp`, `udp-sendto` or `udp-multicast`.
    pub backend: String,
    /// Ingress hook in use; empty without eBPF.
    pub hook: String,
    /// Why it is not eBPF, if that was asked for or would have been chosen.
    pub fallback: Option<String>,
    /// Ids of the keys in use; none without authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyIds>,
    /// System calls made since the start to send, to receive and to wait.
    pub syscalls: u64,
    /// Kernel verdicts by name, those that occurred; empty without eBPF.
    pub verdicts: std::collections::BTreeMap<String, u64>,
    /// What the endpoint counted in user space, by name, what occurred.
    pub endpoint: std::collections::BTreeMap<String, u64>,
}
