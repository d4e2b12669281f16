//! Wire and shared-memory layouts, as Rust sees them.
//!
//! `bpf/src/abi/*.h` is the source of truth; with feature `ebpf` every size, offset and enum value here
//! is compared with it when the crate is compiled. Sizes are in bytes, integers little-endian.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Members of one group at most: a voter set is a 32-bit mask.
pub const MEMBERS_MAX: usize = 32;
/// Bits of an op in a tagged word.
pub const OP_BITS: u32 = 48;
/// Bits of an epoch.
pub const EPOCH_BITS: u32 = 13;
/// Position of the gate word's busy bit.
pub const BUSY_SHIFT: u32 = 61;
/// Position of the gate word's state.
pub const STATE_SHIFT: u32 = 62;
/// Low bits of the op kept in a vote word.
pub const VOTE_OP_BITS: u32 = 19;
/// Position of the op in a vote word.
pub const VOTE_OP_SHIFT: u32 = 32;
/// Position of the epoch in a vote word.
pub const VOTE_EPOCH_SHIFT: u32 = 51;
/// Marks a word with a hardware address: `{valid:16, mac:48}`.
pub const MAC_VALID: u64 = 1 << 48;
/// Fixed header in front of every payload.
pub const HEADER_BYTES: usize = 80;
/// Largest payload that an MTU of 1500 holds over IPv4; IPv6 holds 20 bytes less.
pub const PAYLOAD_BYTES_MAX: usize = 1392;
/// Header of a log slot.
pub const SLOT_HEADER_BYTES: usize = 64;

/// "ELEC" in memory order.
pub const MAGIC: u32 = 0x4345_4c45;
/// Wire version.
pub const VERSION: u8 = 1;
/// `sender` of a packet from somebody who is not a member.
pub const SENDER_CLIENT: u8 = 0xff;

/// In a Prepare that others follow at once: the ack of a later one says that this one is held too (F9).
pub const FLAG_ACK_LATER: u8 = 1;
/// The tag was made with the key in slot 1; without the flag, in slot 0. Without keys it says nothing.
pub const FLAG_KEY_1: u8 = 2;

/// What a packet is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Leader to followers: ops `first..=last` with their payload.
    Prepare = 1,
    /// Follower to leader: "I hold 1..=last as this view's leader ordered them" (F9).
    PrepareOk = 2,
    /// Leader to followers: commit number of an idle leader (F10).
    Commit = 3,
    /// The application's own payload; the fast path never touches it.
    Message = 4,
}

impl Kind {
    /// From the byte on the wire.
    pub fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Prepare,
            2 => Self::PrepareOk,
            3 => Self::Commit,
            4 => Self::Message,
            _ => return None,
        })
    }
}

/// The fixed header (`struct elec_hdr`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: U32,
    /// [`VERSION`].
    pub version: u8,
    /// A [`Kind`].
    pub kind: u8,
    /// Replica index or [`SENDER_CLIENT`].
    pub sender: u8,
    /// [`FLAG_ACK_LATER`], [`FLAG_KEY_1`].
    pub flags: u8,
    /// Consensus group.
    pub group: U32,
    /// Bit i: member i gets a copy of this broadcast.
    pub targets: U32,
    /// Hash of what all members must agree on.
    pub config_hash: U64,
    /// View of the sender.
    pub view: U64,
    /// First op of the batch.
    pub first: U64,
    /// Last op of the batch; in a PrepareOk the op acknowledged, cumulative.
    pub last: U64,
    /// Highest committed op that the sender knows.
    pub commit: U64,
    /// Prepare: chosen by the caller for the round, echoed in the ack. Commit, Message: the sender's count (U9).
    pub round_tag: U64,
    /// Life of the sender.
    pub incarnation: U32,
    /// Gate epoch of the leader, echoed in the ack.
    pub leader_epoch: U16,
    /// Bytes behind this header.
    pub payload_bytes: U16,
    /// [`crate::auth::tag`]; zero and unread in a group without keys.
    pub auth_tag: U64,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

macro_rules! verdicts {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What happened to a packet, one counter each (F11). `Pass` goes on unchanged to the stack, `Drop`
        /// ends here, `Tx` is turned round as an ack.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Verdict { $($(#[$doc])* $name,)* }

        impl Verdict {
            /// All verdicts in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Name of the counter, as `elecctl` and fixtures write it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

verdicts! {
    /// Not for this endpoint.
    PassForeign = "pass_foreign",
    /// Ours, but a fragment, IP options or a VLAN tag: the stack's business.
    PassFraming = "pass_framing",
    /// F1: magic, version, kind or lengths.
    PassMalformed = "pass_malformed",
    /// F1: another group or configuration hash.
    PassConfig = "pass_config",
    /// For the application.
    PassMessage = "pass_message",
    /// The offload for this kind is switched off.
    PassOffloadOff = "pass_offload_off",
    /// F2: gate not open for this kind.
    PassFrozen = "pass_frozen",
    /// F2: gate lease ran out.
    PassLease = "pass_lease",
    /// F3: higher view.
    PassViewNew = "pass_view_new",
    /// F5: `first > tail + 1`.
    PassGap = "pass_gap",
    /// F5: partly new.
    PassOverlap = "pass_overlap",
    /// F6: slot not released.
    PassLogFull = "pass_log_full",
    /// F6: payload exceeds the slot.
    PassTooLarge = "pass_too_large",
    /// F7: another CPU holds the log.
    PassBusy = "pass_busy",
    /// F7: frozen while the slot was filled.
    PassRaced = "pass_raced",
    /// L2: compare-and-swap lost too often.
    PassContended = "pass_contended",
    /// F1: UDP checksum wrong.
    DropChecksum = "drop_checksum",
    /// F3: lower view.
    DropViewOld = "drop_view_old",
    /// F4, L2: not from where that member lives.
    DropSource = "drop_source",
    /// F4: the tag was made for other members.
    DropTarget = "drop_target",
    /// F4: made with a key that is not accepted here.
    DropKey = "drop_key",
    /// F4: the tag is wrong.
    DropTag = "drop_tag",
    /// F8: `disk`, duplicate above durable.
    DropNotDurable = "drop_not_durable",
    /// Logged, acked later: with the rest of its burst, or (`disk`) by user space.
    DropLogged = "drop_logged",
    /// Logged, but the ack could not be built; a resend heals it.
    DropAckFailed = "drop_ack_failed",
    /// F10: commit number absorbed.
    DropCommit = "drop_commit",
    /// L2: vote counted, quorum not complete.
    DropVote = "drop_vote",
    /// L2: counted before, or the round was complete.
    DropVoteRepeated = "drop_vote_repeated",
    /// L2: another leader epoch, round or an op not in flight.
    DropVoteStale = "drop_vote_stale",
    /// L2: unexpected incarnation, or self.
    DropVoteStranger = "drop_vote_stranger",
    /// L3: quorum complete, nobody asked to be woken.
    DropQuorumQuiet = "drop_quorum_quiet",
    /// L3: quorum complete, this packet wakes user space.
    PassQuorum = "pass_quorum",
    /// F7: logged and acked.
    TxAck = "tx_ack",
    /// F8: duplicate, acked again.
    TxAckRepeated = "tx_ack_repeated",
    /// The broadcast program ran on a carrier.
    Carrier = "carrier",
    /// From our socket, but not a well-formed carrier: consumed.
    CarrierMalformed = "carrier_malformed",
    /// A copy left for a peer.
    CloneSent = "clone_sent",
    /// L7: a copy did not leave.
    CloneFailed = "clone_failed",
    /// L7: no next hop for this peer.
    CloneUnresolved = "clone_unresolved",
    /// A doorbell was rung.
    Rang = "rang",
    /// For us, in a frame for another host or for all: the stack's business.
    PassHardwareAddress = "pass_hardware_address",
}
