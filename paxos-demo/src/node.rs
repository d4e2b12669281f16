//! What a running replica process says of itself: the replica's status, and how its packets travel.

use std::collections::BTreeMap;

use electrode::abi::Verdict;
use electrode::{Endpoint, Traffic};
use serde::{Deserialize, Serialize};

use crate::key_file::KeyIds;
use crate::message;
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
    pub verdicts: BTreeMap<String, u64>,
    /// What the endpoint counted in user space, by name, what occurred.
    pub endpoint: BTreeMap<String, u64>,
}

impl Node {
    /// This process with an endpoint: which backend it has, and what it counted so far.
    pub fn of(endpoint: &Endpoint) -> electrode::Result<Self> {
        let choice = endpoint.choice();
        let stats = endpoint.stats()?;
        let named = |pairs: &[(Verdict, u64)]| {
            let occurred = pairs.iter().filter(|(_, n)| *n > 0);
            occurred.map(|(verdict, n)| (verdict.name().to_owned(), *n)).collect::<BTreeMap<_, _>>()
        };
        let mut counted = named(&stats.refused);
        counted.extend(
            [
                ("sent", stats.socket.sent),
                ("send_failed", stats.socket.send_failed),
                ("parted", stats.socket.parted),
                ("received", stats.socket.received),
                ("oversized", stats.socket.oversized),
                ("logged_by_kernel", stats.logged_by_kernel),
                ("logged_by_user", stats.logged_by_user),
                ("taken_over", stats.taken_over),
                ("malformed", stats.malformed),
                ("dropped_early", stats.dropped_early),
                ("carriers_lost", stats.carriers_lost),
                ("carriers", stats.carriers),
                ("carried", stats.carried),
            ]
            .into_iter()
            .chain(traffic(
                ["sent_prepare", "sent_ack", "sent_commit", "sent_message", "sent_outside"],
                stats.sent,
            ))
            .chain(traffic(
                ["heard_prepare", "heard_ack", "heard_commit", "heard_message", "heard_outside"],
                stats.heard,
            ))
            .filter(|(_, n)| *n > 0)
            .map(|(name, n)| (name.to_owned(), n)),
        );
        Ok(Self {
            pid: std::process::id(),
            backend: choice.backend.to_owned(),
            hook: choice.hook.to_owned(),
            fallback: choice.reason.clone(),
            syscalls: stats.syscalls(),
            verdicts: named(&stats.kernel),
            endpoint: counted,
            ..Self::default()
        })
    }

    /// Whether ingress programs judge its packets.
    pub fn has_programs(&self) -> bool {
        !self.hook.is_empty() && self.hook != "none"
    }

    /// Whether the counters are in the reply: a replica that answers has counted the question.
    pub fn has_counters(&self) -> bool {
        !(self.endpoint.is_empty() || self.has_programs() && self.verdicts.is_empty())
    }
}

impl NodeStatus {
    /// The datagram that answers a status request, without the counters if it would be longer than `bytes_max`
    /// with them (`elecctl status` shows them too); `None` if that is too long as well.
    pub fn into_reply(mut self, nonce: u64, bytes_max: usize) -> Option<Vec<u8>> {
        let encode = |status: &Self| {
            let json = sparse(status);
            let mut datagram = Vec::with_capacity(bytes_max);
            message::encode_status_reply(nonce, &json, &mut datagram);
            (datagram.len() <= bytes_max).then_some(datagram)
        };
        encode(&self).or_else(|| {
            self.node.verdicts.clear();
            self.node.endpoint.clear();
            encode(&self)
        })
    }
}

/// The JSON without the replica's counters that are zero: whoever reads it takes them for that, and one datagram has to hold
/// the others when they are large.
fn sparse(status: &NodeStatus) -> Vec<u8> {
    let mut json = serde_json::to_value(status).expect("numbers and strings");
    if let Some(counters) = json.get_mut("counters").and_then(serde_json::Value::as_object_mut) {
        counters.retain(|_, count| count.as_u64() != Some(0));
    }
    serde_json::to_vec(&json).expect("it was JSON a moment ago")
}

/// Datagrams by kind, under the names that a status gives them.
fn traffic(names: [&'static str; 5], of: Traffic) -> impl Iterator<Item = (&'static str, u64)> {
    names.into_iter().zip([of.prepares, of.acks, of.commits, of.messages, of.outside])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Packet;
    use crate::replica::{Replica, ReplicaConfig};
    use electrode::types::ReplicaId;

    /// Whoever asks in a stranger's name has the stranger sent no more than it sends itself.
    #[test]
    fn no_reply_is_longer_than_its_request() {
        let replica = Replica::new(0, ReplicaConfig::new(ReplicaId(0), 3, 1, 7)).unwrap().status();
        let node = Node { verdicts: [("pass_message".to_owned(), 7)].into(), ..Node::default() };
        let status = NodeStatus { replica, node };
        let whole = status.clone().into_reply(9, usize::MAX >> 40).unwrap();
        let mut short = status.clone();
        short.node.verdicts.clear();
        for bytes_max in 0..=whole.len() {
            let Some(reply) = status.clone().into_reply(9, bytes_max) else {
                assert!(bytes_max < whole.len(), "there is room for all of it");
                continue;
            };
            assert!(reply.len() <= bytes_max);
            let Ok(Packet::StatusReply { nonce: 9, json }) = Packet::parse(&reply) else {
                panic!("{reply:?}")
            };
            let told: NodeStatus = serde_json::from_slice(json).unwrap();
            assert_eq!(&told, if bytes_max == whole.len() { &status } else { &short });
        }
        assert!(
            short.into_reply(9, 100).is_none(),
            "too long for a request that is hardly more than its head"
        );
    }

    /// After years of load, with everything that a leader counts day by day.
    #[test]
    fn a_reply_has_room_for_large_counters() {
        let mut replica = Replica::new(0, ReplicaConfig::new(ReplicaId(0), 7, 1, 7)).unwrap().status();
        let large = 10_u64.pow(12) - 1;
        for number in [&mut replica.counters.requests, &mut replica.counters.requests_accepted] {
            *number = large;
        }
        for number in
            [&mut replica.counters.reads, &mut replica.counters.barriers, &mut replica.counters.prepares]
        {
            *number = large;
        }
        (replica.counters.ops_applied, replica.counters.repairs, replica.counters.resends) =
            (large, large, large);
        let counted = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), large)).collect();
        let node = Node {
            pid: u32::MAX,
            incarnation: u32::MAX,
            backend: "ebpf".into(),
            hook: "xdp-generic".into(),
            syscalls: large,
            verdicts: counted(&[
                "carrier",
                "clone_sent",
                "drop_quorum_quiet",
                "drop_vote",
                "drop_vote_repeated",
                "pass_foreign",
                "pass_framing",
                "pass_message",
                "pass_quorum",
                "rang",
            ]),
            endpoint: counted(&[
                "carried",
                "carriers",
                "heard_message",
                "heard_outside",
                "received",
                "sent",
                "sent_commit",
                "sent_message",
                "sent_outside",
                "sent_prepare",
            ]),
            ..Node::default()
        };
        let status = NodeStatus { replica, node };
        let reply = status.clone().into_reply(9, 1372).expect("it fits");
        let Ok(Packet::StatusReply { json, .. }) = Packet::parse(&reply) else { panic!("{reply:?}") };
        assert_eq!(serde_json::from_slice::<NodeStatus>(json).unwrap(), status, "with all counters");
    }
}
