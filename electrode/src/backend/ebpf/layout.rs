//! Compares `abi.rs` with the C headers when the crate is compiled: a difference does not build.

use std::mem::offset_of;

use electrode_bpf::types as c;

use crate::abi::{self, Header, Kind, Verdict};
use crate::words::GateState;

macro_rules! same_offsets {
    ($($field:ident),*) => {
        $(const _: () = assert!(offset_of!(Header, $field) == offset_of!(c::elec_hdr, $field));)*
    };
}
same_offsets!(
    magic,
    version,
    kind,
    sender,
    flags,
    group,
    targets,
    config_hash,
    view,
    first,
    last,
    commit,
    round_tag,
    incarnation,
    leader_epoch,
    payload_bytes,
    auth_tag
);

const _: () = assert!(size_of::<Header>() == size_of::<c::elec_hdr>());
const _: () = assert!(size_of::<c::elec_round>() == 64);
const _: () = assert!(Verdict::ALL.len() == c::elec_verdict::ELEC_VERDICTS.0 as usize);
const _: () = assert!(Kind::Message as u32 == c::elec_kind::ELEC_KIND_MESSAGE.0);
const _: () = assert!(GateState::Follow as u32 == c::elec_state::ELEC_STATE_FOLLOW.0);
const _: () = assert!(GateState::Lead as u32 == c::elec_state::ELEC_STATE_LEAD.0);
const _: () = assert!(size_of::<c::elec_counters>() == Verdict::ALL.len() * 8);

macro_rules! same_verdicts {
    ($($rust:ident = $c:ident,)*) => {
        $(const _: () = assert!(Verdict::$rust as u32 == c::elec_verdict::$c.0);)*
        const _: () = assert!([$(Verdict::$rust),*].len() == Verdict::ALL.len());
    };
}
same_verdicts! {
    PassForeign = ELEC_PASS_FOREIGN,
    PassFraming = ELEC_PASS_FRAMING,
    PassMalformed = ELEC_PASS_MALFORMED,
    PassConfig = ELEC_PASS_CONFIG,
    PassMessage = ELEC_PASS_MESSAGE,
    PassOffloadOff = ELEC_PASS_OFFLOAD_OFF,
    PassFrozen = ELEC_PASS_FROZEN,
    PassLease = ELEC_PASS_LEASE,
    PassViewNew = ELEC_PASS_VIEW_NEW,
    PassGap = ELEC_PASS_GAP,
    PassOverlap = ELEC_PASS_OVERLAP,
    PassLogFull = ELEC_PASS_LOG_FULL,
    PassTooLarge = ELEC_PASS_TOO_LARGE,
    PassBusy = ELEC_PASS_BUSY,
    PassRaced = ELEC_PASS_RACED,
    PassContended = ELEC_PASS_CONTENDED,
    DropChecksum = ELEC_DROP_CHECKSUM,
    DropViewOld = ELEC_DROP_VIEW_OLD,
    DropSource = ELEC_DROP_SOURCE,
    DropTarget = ELEC_DROP_TARGET,
    DropKey = ELEC_DROP_KEY,
    DropTag = ELEC_DROP_TAG,
    DropNotDurable = ELEC_DROP_NOT_DURABLE,
    DropLogged = ELEC_DROP_LOGGED,
    DropAckFailed = ELEC_DROP_ACK_FAILED,
    DropCommit = ELEC_DROP_COMMIT,
    DropVote = ELEC_DROP_VOTE,
    DropVoteRepeated = ELEC_DROP_VOTE_REPEATED,
    DropVoteStale = ELEC_DROP_VOTE_STALE,
    DropVoteStranger = ELEC_DROP_VOTE_STRANGER,
    DropQuorumQuiet = ELEC_DROP_QUORUM_QUIET,
    PassQuorum = ELEC_PASS_QUORUM,
    TxAck = ELEC_TX_ACK,
    TxAckRepeated = ELEC_TX_ACK_REPEATED,
    Carrier = ELEC_CARRIER,
    CarrierMalformed = ELEC_CARRIER_MALFORMED,
    CloneSent = ELEC_CLONE_SENT,
    CloneFailed = ELEC_CLONE_FAILED,
    CloneUnresolved = ELEC_CLONE_UNRESOLVED,
    Rang = ELEC_RANG,
    PassHardwareAddress = ELEC_PASS_HARDWARE_ADDRESS,
}

/// Sizes as the programs see them.
pub(super) const SLOT_HEADER_BYTES: usize = size_of::<c::elec_slot_hdr>();
const _: () = assert!(SLOT_HEADER_BYTES == abi::SLOT_HEADER_BYTES);
