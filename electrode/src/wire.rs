//! Pure codec of the header: what is sent, and what is believed of what arrives (F1).
//!
//! | kind | first, last | commit | targets | payload |
//! |---|---|---|---|---|
//! | Prepare | the batch, `1 <= first <= last` | highest committed op known | whom it is for | the batch |
//! | PrepareOk | `last` is acknowledged; `first` is echoed and means nothing | 0 | the leader that it answers | none |
//! | Commit | 0, 0 | highest committed op known | whom it is for | none |
//! | Message | 0, 0 | 0 | whom it is for; 0: no member | the application's |
//!
//! In a Commit and in a Message of a member, `round_tag` counts what the sender has sent of these: an old one is
//! told from news by it (U9).
//!
//! Ops that the fast path packs into tagged words must fit 48 bits, or a forged op would come out of
//! the word as another one; [`parse`] refuses them.

use thiserror::Error;
use zerocopy::FromBytes;

use crate::abi::{self, Header, Kind};
use crate::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};

/// What all headers of one sender share.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Consensus group.
    pub group: u32,
    /// Hash of what all members must agree on.
    pub config_hash: u64,
    /// Who sends; `None` for a client.
    pub sender: Option<ReplicaId>,
    /// Life of the sender.
    pub incarnation: u32,
}

/// What defines the ops of one Prepare; a resend repeats it (L6).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// View in which the leader ordered the ops.
    pub view: View,
    /// First op.
    pub first: OpNumber,
    /// Last op.
    pub last: OpNumber,
    /// Chosen by the caller, echoed in the ack.
    pub round_tag: u64,
    /// The leader's gate epoch, echoed in the ack.
    pub leader_epoch: Epoch,
}

impl Origin {
    fn header(&self, kind: Kind) -> Header {
        Header {
            magic: abi::MAGIC.into(),
            version: abi::VERSION,
            kind: kind as u8,
            sender: self.sender.map_or(abi::SENDER_CLIENT, |id| id.0),
            flags: 0,
            group: self.group.into(),
            targets: 0.into(),
            config_hash: self.config_hash.into(),
            view: 0.into(),
            first: 0.into(),
            last: 0.into(),
            commit: 0.into(),
            round_tag: 0.into(),
            incarnation: self.incarnation.into(),
            leader_epoch: 0.into(),
            payload_bytes: 0.into(),
            auth_tag: 0.into(),
        }
    }

    fn of_batch(&self, kind: Kind, batch: &Batch) -> Header {
        Header {
            view: batch.view.0.into(),
            first: batch.first.0.into(),
            last: batch.last.0.into(),
            round_tag: batch.round_tag.into(),
            leader_epoch: batch.leader_epoch.0.into(),
            ..self.header(kind)
        }
    }

    /// A Prepare of `batch` with `payload_bytes` of payload behind it.
    pub fn prepare(
        &self,
        batch: &Batch,
        commit: OpNumber,
        targets: ReplicaSet,
        payload_bytes: u16,
    ) -> Header {
        debug_assert!(OpNumber(1) <= batch.first && batch.first <= batch.last);
        Header {
            commit: commit.0.into(),
            targets: targets.mask().into(),
            payload_bytes: payload_bytes.into(),
            ..self.of_batch(Kind::Prepare, batch)
        }
    }

    /// The ack that says "I hold 1..=`batch.last` as the leader of `batch.view` ordered them" (F9), to that leader.
    ///
    /// View, leader epoch and round tag are those of a Prepare of the view (`first` is, too, but nobody reads it: an
    /// ack is cumulative). The commit number is 0, not echoed: a follower has no say in what is committed, and a
    /// leader must not take its own claim back for news. No payload follows.
    pub fn prepare_ok(&self, batch: &Batch, leader: Option<ReplicaId>) -> Header {
        let leader = leader.map_or(ReplicaSet::EMPTY, |leader| ReplicaSet::EMPTY.with(leader));
        Header { targets: leader.mask().into(), ..self.of_batch(Kind::PrepareOk, batch) }
    }

    /// A Commit: the commit number of a leader that has nothing to prepare (F10). Its count, in `round_tag`, is the
    /// endpoint's business.
    pub fn commit(&self, view: View, leader_epoch: Epoch, commit: OpNumber, targets: ReplicaSet) -> Header {
        Header {
            view: view.0.into(),
            leader_epoch: leader_epoch.0.into(),
            commit: commit.0.into(),
            targets: targets.mask().into(),
            ..self.header(Kind::Commit)
        }
    }

    /// A Message with `payload_bytes` of the application's payload.
    pub fn message(&self, view: View, targets: ReplicaSet, payload_bytes: u16) -> Header {
        Header {
            view: view.0.into(),
            targets: targets.mask().into(),
            payload_bytes: payload_bytes.into(),
            ..self.header(Kind::Message)
        }
    }
}

/// The ack by which `me` answers `prepare`, to its sender.
///
/// It is `prepare` with as little changed as possible, for the kernel turns the packet round in place: besides what
/// [`Origin::prepare_ok`] takes of the batch, group, configuration hash and key are echoed.
///
/// `last` is the Prepare's own `last` when the kernel answers (F8); user space may acknowledge more with
/// the newest Prepare of the view (after an fsync, or U7).
pub fn prepare_ok(prepare: &Header, me: ReplicaId, incarnation: u32, last: OpNumber) -> Header {
    let (group, config_hash) = (prepare.group.get(), prepare.config_hash.get());
    let me = Origin { group, config_hash, sender: Some(me), incarnation };
    let ack = me.prepare_ok(&Batch { last, ..prepare.batch() }, prepare.sender());
    Header { flags: prepare.flags & abi::FLAG_KEY_1, ..ack }
}

impl Header {
    /// The kind, if it is one that this version knows.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_wire(self.kind)
    }

    /// The sender as a member; `None` for a client and for any index that no member can have.
    pub fn sender(&self) -> Option<ReplicaId> {
        (usize::from(self.sender) < abi::MEMBERS_MAX).then_some(ReplicaId(self.sender))
    }

    /// Which of the two keys the tag was made with, 0 or 1.
    pub fn key_slot(&self) -> usize {
        usize::from(self.flags & abi::FLAG_KEY_1 != 0)
    }

    /// View of the sender.
    pub fn view(&self) -> View {
        View(self.view.get())
    }

    /// First op of the batch.
    pub fn first(&self) -> OpNumber {
        OpNumber(self.first.get())
    }

    /// Last op of the batch, or the op acknowledged.
    pub fn last(&self) -> OpNumber {
        OpNumber(self.last.get())
    }

    /// Highest committed op that the sender knows.
    pub fn commit(&self) -> OpNumber {
        OpNumber(self.commit.get())
    }

    /// The leader's gate epoch.
    pub fn leader_epoch(&self) -> Epoch {
        Epoch(self.leader_epoch.get())
    }

    /// What defines the ops of a Prepare.
    pub fn batch(&self) -> Batch {
        Batch {
            view: self.view(),
            first: self.first(),
            last: self.last(),
            round_tag: self.round_tag.get(),
            leader_epoch: self.leader_epoch(),
        }
    }
}

/// Why a datagram is not one of ours (F1). All of them count as `pass_malformed`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Shorter than a header.
    #[error("{bytes} bytes do not hold a header of {}", abi::HEADER_BYTES)]
    TooShort {
        /// What arrived.
        bytes: usize,
    },
    /// Not this protocol.
    #[error("magic {0:#010x} is not ours")]
    Magic(u32),
    /// Another version of this protocol.
    #[error("wire version {0}, this is {ours}", ours = abi::VERSION)]
    Version(u8),
    /// A kind that this version does not know.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// Flags that this version does not know for this kind.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    /// Header and datagram disagree about the payload.
    #[error("header promises {declared} payload bytes, {actual} follow")]
    Length {
        /// What the header says.
        declared: u16,
        /// What is there.
        actual: usize,
    },
    /// A PrepareOk or Commit carries nothing.
    #[error("a {0:?} has no payload")]
    UnexpectedPayload(Kind),
    /// A Prepare without ops, or backwards.
    #[error("ops {first}..={last} are no batch")]
    Batch {
        /// `first` of the header.
        first: OpNumber,
        /// `last` of the header.
        last: OpNumber,
    },
    /// More than a tagged word holds.
    #[error("op {0} does not fit {bits} bits", bits = abi::OP_BITS)]
    OpTooLarge(OpNumber),
}

/// Checks a datagram (F1) and splits it into header and payload.
pub fn parse(datagram: &[u8]) -> Result<(&Header, &[u8]), WireError> {
    let (header, payload) = Header::ref_from_prefix(datagram)
        .map_err(|_: zerocopy::CastError<_, _>| WireError::TooShort { bytes: datagram.len() })?;
    check(header, payload.len())?;
    Ok((header, payload))
}

/// The checks of [`parse`] on a header that `payload_bytes` bytes follow.
pub fn check(header: &Header, payload_bytes: usize) -> Result<Kind, WireError> {
    if header.magic.get() != abi::MAGIC {
        return Err(WireError::Magic(header.magic.get()));
    }
    if header.version != abi::VERSION {
        return Err(WireError::Version(header.version));
    }
    let kind = header.kind().ok_or(WireError::Kind(header.kind))?;
    let known = abi::FLAG_KEY_1 | if kind == Kind::Prepare { abi::FLAG_ACK_LATER } else { 0 };
    if header.flags & !known != 0 {
        return Err(WireError::Flags(header.flags));
    }
    if usize::from(header.payload_bytes.get()) != payload_bytes {
        return Err(WireError::Length { declared: header.payload_bytes.get(), actual: payload_bytes });
    }
    if kind == Kind::Message {
        return Ok(kind);
    }
    if kind == Kind::Prepare {
        let (first, last) = (header.first(), header.last());
        if first < OpNumber(1) || last < first {
            return Err(WireError::Batch { first, last });
        }
    } else if payload_bytes != 0 {
        return Err(WireError::UnexpectedPayload(kind));
    }
    // What a Commit counts is kept in a tagged word too (U9).
    let count = if kind == Kind::Commit { header.round_tag.get() } else { 0 };
    for op in [header.last(), header.commit(), OpNumber(count)] {
        if op.0 >> abi::OP_BITS != 0 {
            return Err(WireError::OpTooLarge(op));
        }
    }
    Ok(kind)
}

#[cfg(test)]
mod tests;
