//! The memory that kernel and user space share, as plain fields of the same meaning.
//!
//! Names are those of `bpf/src/abi/shared.h`, which says who writes what and when. The zero value of
//! everything refuses (D1).

use std::net::SocketAddr;

use crate::abi;
use crate::types::ReplicaId;

/// Constants of one loaded endpoint (`struct elec_params`), as far as ingress reads them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    /// Hash of what all members must agree on.
    pub config_hash: u64,
    /// Consensus group.
    pub group: u32,
    /// Log slots, a power of two.
    pub slots: u32,
    /// Payload room of one slot.
    pub slot_payload_bytes: u32,
    /// Quorum slots, a power of two.
    pub window: u32,
    /// Our own life, written into acks.
    pub incarnation: u32,
    /// Our own address and port (`addr`, `port_be`, `ipv6`).
    pub own: SocketAddr,
    /// Our own index (`self`).
    pub me: ReplicaId,
    /// Acknowledge Prepares and absorb Commits.
    pub offload_fast_ack: bool,
    /// Count acks.
    pub offload_quorum: bool,
    /// `disk`: log here, acknowledge from user space after an fsync.
    pub log_only: bool,
    /// Refuse once the gate lease ran out (F2).
    pub lease_required: bool,
    /// The group has keys (F4).
    pub authenticated: bool,
    /// An ack keeps the incoming packet's CHECKSUM_PARTIAL: so at TC, where the mark travels with the
    /// packet. At XDP there is no such mark and every ack has its full checksum.
    pub partial_checksums: bool,
    /// How often a program looks again when the log is busy (F7); [`BUSY_TRIES`] in the C program.
    pub busy_tries: u32,
    /// How often the compare-and-swap of a maximum or a vote is tried; [`SWAP_TRIES`] in the C program.
    pub swap_tries: u32,
}

/// Looks at a busy log before a packet is given to user space (`ELEC_BUSY_TRIES`).
pub const BUSY_TRIES: u32 = 32;
/// Compare-and-swaps lost to other CPUs before a packet is given to user space (`ELEC_SWAP_TRIES`).
pub const SWAP_TRIES: u32 = 8;

/// Changed by user space only while the gate is frozen (`struct elec_config`, F0).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// The view.
    pub view: u64,
    /// Its leader.
    pub leader: u32,
    /// Where the members live; its length is `params.members`.
    pub members: Vec<SocketAddr>,
}

/// The words (`struct elec_control`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Control {
    /// The gate word.
    pub gate: u64,
    /// Slots of ops up to here may be reused (F6).
    pub released: u64,
    /// Tagged: acknowledged by user space after fsync (F8).
    pub durable: u64,
    /// Until when the gate may be used (F2).
    pub lease_ns: u64,
    /// The clock.
    pub virtual_now_ns: u64,
    /// What a frame for us is addressed to ([`crate::words::mac_word`]). Not the model's to step over: it changes
    /// with the interface alone.
    pub own_mac: u64,
    /// Ring when an op >= this is logged; zero: do not.
    pub ring_at_op: u64,
    /// Ring when a commit >= this is seen; zero: do not.
    pub ring_at_commit: u64,
    /// Non-zero: pass the packet that completes a quorum.
    pub ring_on_quorum: u64,
    /// Tagged: highest commit number seen (F10).
    pub commit: u64,
    /// Last packet of the view's leader that said something new (U9).
    pub last_leader_ns: u64,
    /// Tagged: highest op that it has prepared (U9).
    pub heard_op: u64,
    /// Tagged: highest count of its Commits (U9).
    pub heard_count: u64,
    /// Tagged, a peer: cumulative maximum (L2).
    pub acked: [u64; abi::MEMBERS_MAX],
    /// A peer's life whose acks count; zero: nobody's.
    pub incarnation: [u64; abi::MEMBERS_MAX],
}

/// A quorum round, index `last mod window` (`struct elec_round`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Round {
    /// `{epoch, op, voters}`, compare-and-swap only.
    pub vote: u64,
    /// Last op of the round.
    pub op: u64,
    /// Its view.
    pub view: u64,
    /// Its tag.
    pub round_tag: u64,
    /// Who may vote.
    pub voters: u32,
    /// How many votes complete it.
    pub threshold: u32,
}

/// A log slot, index `first mod slots` (`struct elec_slot`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Gate epoch under which it was written.
    pub epoch: u64,
    /// View of the batch.
    pub view: u64,
    /// First op.
    pub first: u64,
    /// Last op.
    pub last: u64,
    /// Tag of the round.
    pub round_tag: u64,
    /// The leader's gate epoch.
    pub leader_epoch: u16,
    /// The batch (`payload_bytes`, `payload`).
    pub payload: Vec<u8>,
}
