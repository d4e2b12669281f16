//! One program on one frame, step by step: framing and admission, common to all kinds.
//!
//! The order of the checks is part of the contract with the C program, for each has a verdict of its own:
//!
//! 1. framing: [`frame::parse`] (`PassForeign`, `PassFraming`)
//! 2. header: [`wire::parse`] (`PassMalformed`)
//! 3. group and configuration hash (`PassConfig`); sent to our hardware address (`PassHardwareAddress`)
//! 4. a Message is the application's (`PassMessage`); with keys, if it is in a member's name, step 11 comes first
//! 5. offload of this kind (`PassOffloadOff`)
//! 6. gate word, loaded before anything else that is shared (F0; `PassFrozen`)
//! 7. gate lease (F2; `PassLease`)
//! 8. view (F3; `DropViewOld`, `PassViewNew`)
//! 9. source (F4, L2; `DropSource`, `DropVoteStranger`)
//! 10. checksum over all that is about to be believed (`DropChecksum`); a payload that no slot can hold is
//!     not even summed (`PassTooLarge`)
//! 11. with keys: meant for us, made with a key that is accepted, and the tag right (F4; `DropTarget`, `DropKey`,
//!     `DropTag`)
//! 12. if it says something new, the leader was heard (U9); its commit number merged (F10; a Commit ends with `DropCommit`)
//!
//! then [`super::append`] or [`super::vote`].

use std::sync::Arc;

use super::frame::{self, Checksum, Datagram};
use super::{Action, Kernel, Outcome, append, swap, vote};
use crate::abi::{self, Header, Kind, Verdict};
use crate::auth::{Key, tag};
use crate::rules::{self, News};
use crate::types::{OpNumber, ReplicaId, View};
use crate::wire;
use crate::words::{self, GateWord};

/// What a step leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    Continue,
    /// The run is over.
    Done(Outcome),
}

/// Where a run goes on, or the verdict that ends it.
pub(super) type Next = Result<At, Verdict>;

/// Program counter: what the next step does. Each but `Start` makes one access to shared memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    Start,
    LoadGate,
    LoadLease,
    ReadView,
    AdmitLeader,
    AdmitVoter,
    /// With keys only.
    CheckTag,
    LoadHeard,
    SwapHeard {
        expected: u64,
        tries: u32,
    },
    StoreLastLeader,
    RecheckGate,
    LoadCommit,
    SwapCommit {
        expected: u64,
        tries: u32,
    },
    LoadCommitBell,
    RingCommitBell {
        bell: u64,
    },
    Append(append::At),
    Vote(vote::At),
    Over,
}

/// One ingress program at work on one frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    pub(super) frame: Arc<[u8]>,
    pub(super) at: At,
    /// Gate word as loaded in step 6; after spinning on a busy log, as loaded last.
    pub(super) gate: GateWord,
    datagram: Option<Datagram>,
    /// The key that the frame was made with, and its ack will be.
    key: Option<Key>,
    cpu: u32,
    rang: bool,
}

impl Run {
    /// A program that starts on `frame` on CPU `cpu`. The model needs no CPU; traces and tests do.
    pub fn new(frame: &[u8], cpu: u32) -> Self {
        Self {
            frame: frame.into(),
            at: At::Start,
            gate: GateWord::ZERO,
            datagram: None,
            key: None,
            cpu,
            rang: false,
        }
    }

    /// The CPU that it runs on.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// The frame that it works on.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Whether the next step changes shared memory: where a scheduler that looks for trouble stops a program.
    pub fn is_about_to_write(&self) -> bool {
        match &self.at {
            At::SwapHeard { .. }
            | At::StoreLastLeader
            | At::SwapCommit { .. }
            | At::RingCommitBell { .. } => true,
            At::Append(at) => at.writes(),
            At::Vote(at) => at.writes(),
            _ => false,
        }
    }

    /// What the next step will do, for traces.
    pub fn next_step(&self) -> String {
        format!("{:?}", self.at)
    }

    /// Goes on to the next access to shared memory.
    ///
    /// # Panics
    /// If the run is over.
    pub fn step(&mut self, kernel: &mut Kernel) -> Step {
        match self.advance(kernel) {
            Ok(at) => {
                self.at = at;
                Step::Continue
            }
            Err(verdict) => {
                self.at = At::Over;
                Step::Done(self.finish(kernel, verdict))
            }
        }
    }

    fn advance(&mut self, kernel: &mut Kernel) -> Next {
        match self.at.clone() {
            At::Start => self.start(kernel),
            At::LoadGate => {
                self.gate = kernel.gate();
                rules::admit_gate(self.kind(), self.gate.state)?;
                Ok(if kernel.params.lease_required { At::LoadLease } else { At::ReadView })
            }
            At::LoadLease => {
                if kernel.control.virtual_now_ns > kernel.control.lease_ns {
                    return Err(Verdict::PassLease);
                }
                Ok(At::ReadView)
            }
            At::ReadView => {
                rules::admit_view(View(kernel.config.view), self.header().view())?;
                Ok(if self.kind() == Kind::PrepareOk { At::AdmitVoter } else { At::AdmitLeader })
            }
            At::AdmitLeader => self.admit_leader(kernel),
            At::AdmitVoter => self.admit_voter(kernel),
            At::CheckTag => {
                self.check_tag(kernel)?;
                self.admitted()
            }
            At::LoadHeard => Ok(self.merge_heard(*self.heard(kernel), kernel.params.swap_tries)),
            At::SwapHeard { expected, tries } => {
                let merged = rules::merge_max(expected, self.gate.epoch, self.news());
                let merged = merged.expect("only a greater word is swapped in");
                Ok(match swap(self.heard(kernel), expected, merged) {
                    Ok(()) => At::StoreLastLeader,
                    Err(found) => self.merge_heard(found, tries),
                })
            }
            At::StoreLastLeader => {
                kernel.control.last_leader_ns = kernel.control.virtual_now_ns;
                Ok(At::RecheckGate)
            }
            At::RecheckGate if kernel.plants.torn_gate => {
                self.gate = kernel.gate();
                rules::admit_gate(self.kind(), self.gate.state)?;
                Ok(At::LoadCommit)
            }
            // A closed opening has no business with the words of the next one.
            At::RecheckGate if kernel.gate().epoch != self.gate.epoch => self.after_commit(kernel),
            At::RecheckGate => Ok(At::LoadCommit),
            At::LoadCommit => self.merge_commit(kernel.control.commit, kernel.params.swap_tries, kernel),
            At::SwapCommit { expected, tries } => {
                let merged = rules::merge_max(expected, self.gate.epoch, self.header().commit());
                let merged = merged.expect("only a greater word is swapped in");
                match swap(&mut kernel.control.commit, expected, merged) {
                    Ok(()) => Ok(At::LoadCommitBell),
                    Err(found) => self.merge_commit(found, tries, kernel),
                }
            }
            At::LoadCommitBell => match kernel.control.ring_at_commit {
                bell if armed(bell, self.header().commit()) => Ok(At::RingCommitBell { bell }),
                _ => self.after_commit(kernel),
            },
            At::RingCommitBell { bell } => {
                let taken = swap(&mut kernel.control.ring_at_commit, bell, 0).is_ok();
                self.ring(kernel, taken);
                self.after_commit(kernel)
            }
            At::Append(at) => self.append(at, kernel),
            At::Vote(at) => self.vote(at, kernel),
            At::Over => panic!("this run is over"),
        }
    }

    /// Steps 1 to 5 read the packet and what does not change under way.
    fn start(&mut self, kernel: &Kernel) -> Next {
        let params = &kernel.params;
        let datagram = frame::parse(&self.frame, params.own)?;
        let (header, _) = wire::parse(datagram.payload(&self.frame)).map_err(|_| Verdict::PassMalformed)?;
        rules::admit_config(header, params.group, params.config_hash)?;
        if words::mac_word(self.frame.first_chunk().copied()) != kernel.control.own_mac {
            return Err(Verdict::PassHardwareAddress);
        }
        let offloaded = match header.kind() {
            Some(Kind::Prepare | Kind::Commit) => params.offload_fast_ack,
            Some(Kind::PrepareOk) => params.offload_quorum,
            Some(Kind::Message) | None => return self.start_message(datagram, kernel),
        };
        if !offloaded {
            return Err(Verdict::PassOffloadOff);
        }
        self.datagram = Some(datagram);
        Ok(At::LoadGate)
    }

    /// Step 4. What cannot be looked at here is judged by user space, as everything is that passes.
    fn start_message(&mut self, datagram: Datagram, kernel: &Kernel) -> Next {
        self.datagram = Some(datagram);
        let (header, payload) = self.packet();
        let named = usize::from(header.sender) < kernel.config.members.len();
        if !kernel.params.authenticated || !named || payload.len() > abi::PAYLOAD_BYTES_MAX {
            return Err(Verdict::PassMessage);
        }
        if header.sender == kernel.params.me.0 {
            return Err(Verdict::DropSource);
        }
        Ok(At::CheckTag)
    }

    /// Step 11.
    fn check_tag(&mut self, kernel: &Kernel) -> Result<(), Verdict> {
        let (header, payload) = self.packet();
        let key = |slot: usize| kernel.keys[slot].as_ref();
        let admitted = match tag::admit(kernel.params.me, header, payload, key) {
            Err(Verdict::DropTag) if kernel.plants.tag_unchecked => key(header.key_slot()),
            admitted => Some(admitted?),
        };
        self.key = admitted.cloned();
        Ok(())
    }

    /// Where a packet goes of which everything is believed.
    fn admitted(&mut self) -> Next {
        match self.kind() {
            Kind::Message => Err(Verdict::PassMessage),
            Kind::PrepareOk => {
                rules::admit_leader_epoch(self.gate.epoch, self.header().leader_epoch())?;
                Ok(At::Vote(vote::At::LoadVote))
            }
            Kind::Prepare | Kind::Commit => Ok(At::LoadHeard),
        }
    }

    /// Steps 10 and 11, behind which a packet is believed.
    fn verify(&mut self, kernel: &Kernel) -> Next {
        self.verify_checksum()?;
        if kernel.params.authenticated { Ok(At::CheckTag) } else { self.admitted() }
    }

    fn admit_leader(&mut self, kernel: &Kernel) -> Next {
        let config = &kernel.config;
        if !kernel.plants.source_unchecked {
            let leader = ReplicaId(u8::try_from(config.leader).unwrap_or(u8::MAX));
            let expected =
                |id: ReplicaId| u32::try_from(kernel.control.incarnation[id.index()]).unwrap_or_default();
            rules::admit_leader(leader, &config.members, expected, self.header(), self.datagram().from)?;
        }
        self.verify(kernel)
    }

    fn admit_voter(&mut self, kernel: &Kernel) -> Next {
        let expected =
            |id: ReplicaId| u32::try_from(kernel.control.incarnation[id.index()]).unwrap_or_default();
        if !kernel.plants.source_unchecked {
            let members = &kernel.config.members;
            let from = self.datagram().from;
            rules::admit_voter(kernel.params.me, members, expected, self.header(), from)?;
        } else if self.header().sender().is_none() {
            return Err(Verdict::DropSource);
        }
        self.verify(kernel)
    }

    /// Step 10. The whole datagram at once; the C program may sum a Prepare's payload while it copies it,
    /// as long as nothing is published before and the verdict is the same.
    fn verify_checksum(&self) -> Result<(), Verdict> {
        if self.packet().1.len() > abi::PAYLOAD_BYTES_MAX {
            return Err(Verdict::PassTooLarge);
        }
        if self.datagram().checksum_is_right(&self.frame) { Ok(()) } else { Err(Verdict::DropChecksum) }
    }

    /// U9: the word that this packet may raise.
    fn heard<'k>(&self, kernel: &'k mut Kernel) -> &'k mut u64 {
        match rules::news(self.header()) {
            News::Op(_) => &mut kernel.control.heard_op,
            News::Count(_) => &mut kernel.control.heard_count,
        }
    }

    /// U9: what it may raise it to.
    fn news(&self) -> OpNumber {
        match rules::news(self.header()) {
            News::Op(op) => op,
            News::Count(count) => OpNumber(count),
        }
    }

    /// U9. Whoever loses the swap too often has been outdone by news.
    fn merge_heard(&self, found: u64, tries: u32) -> At {
        match rules::merge_max(found, self.gate.epoch, self.news()) {
            Some(_) if tries > 0 => At::SwapHeard { expected: found, tries: tries - 1 },
            _ => At::RecheckGate,
        }
    }

    /// F10. A merge that is lost too often is left out: the next packet brings the number again. Whoever
    /// raises the word looks at the doorbell, so user space arms it first and reads the word again.
    fn merge_commit(&mut self, found: u64, tries: u32, kernel: &Kernel) -> Next {
        match rules::merge_max(found, self.gate.epoch, self.header().commit()) {
            Some(_) if tries > 0 => Ok(At::SwapCommit { expected: found, tries: tries - 1 }),
            _ => self.after_commit(kernel),
        }
    }

    fn after_commit(&mut self, kernel: &Kernel) -> Next {
        if self.kind() == Kind::Commit { Err(Verdict::DropCommit) } else { self.decide(kernel) }
    }

    /// Counts the doorbell that this run took, unless another one was faster.
    pub(super) fn ring(&mut self, kernel: &mut Kernel, taken: bool) {
        if taken {
            self.rang = true;
            kernel.count(Verdict::Rang);
        }
    }

    fn finish(&self, kernel: &mut Kernel, verdict: Verdict) -> Outcome {
        let (verdict, action) = match verdict {
            Verdict::TxAck | Verdict::TxAckRepeated if kernel.ack_fails => {
                (Verdict::DropAckFailed, Action::Drop)
            }
            Verdict::TxAck | Verdict::TxAckRepeated => (verdict, Action::Reply(self.ack(kernel, verdict))),
            _ if verdict.name().starts_with("pass_") => (verdict, Action::Pass),
            _ => (verdict, Action::Drop),
        };
        kernel.count(verdict);
        Outcome { verdict, action, rang: self.rang }
    }

    /// A function of this packet alone (A2): the log was asked before.
    fn ack(&self, kernel: &Kernel, verdict: Verdict) -> Vec<u8> {
        let params = &kernel.params;
        let datagram = self.datagram();
        let plants = &kernel.plants;
        let broken = plants.shared_scratch || plants.stale_scratch && verdict == Verdict::TxAckRepeated;
        let last = if broken { OpNumber(kernel.scratch) } else { self.header().last() };
        let mut ack = wire::prepare_ok(self.header(), params.me, params.incarnation, last);
        if let Some(key) = &self.key {
            key.seal(&mut ack, &[]);
        }
        let partial = params.partial_checksums && datagram.checksum_is_partial(&self.frame);
        datagram.reply(&self.frame, &ack, if partial { Checksum::Partial } else { Checksum::Full })
    }

    fn datagram(&self) -> &Datagram {
        self.datagram.as_ref().expect("found in the first step")
    }

    pub(super) fn packet(&self) -> (&Header, &[u8]) {
        wire::parse(self.datagram().payload(&self.frame)).expect("checked in the first step")
    }

    pub(super) fn header(&self) -> &Header {
        self.packet().0
    }

    fn kind(&self) -> Kind {
        self.header().kind().expect("checked in the first step")
    }
}

/// Whether a doorbell is armed and `op` reaches it.
pub(super) fn armed(bell: u64, op: OpNumber) -> bool {
    bell != 0 && op >= OpNumber(bell)
}
