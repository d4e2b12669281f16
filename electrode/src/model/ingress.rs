//! One program on one frame, step by step, as far as it is common to all kinds.
//!
//! The order of the checks is part of the contract with the C program, for each has a verdict of its own:
//!
//! 1. framing: [`frame::parse`](super::frame::parse) (`PassForeign`, `PassFraming`)
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
//! Steps 1 to 5 and 9 to 11 are in [`super::admission`]; then comes [`super::append`] or [`super::vote`].

use std::sync::Arc;

use super::frame::{Checksum, Datagram};
use super::{Action, Kernel, Outcome, append, swap, vote};
use crate::abi::{Header, Kind, Verdict};
use crate::auth::Key;
use crate::rules::{self, News};
use crate::types::{OpNumber, View};
use crate::wire;
use crate::words::GateWord;

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
    pub(super) datagram: Option<Datagram>,
    /// The key that the frame was made with, and its ack will be.
    pub(super) key: Option<Key>,
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

    pub(super) fn datagram(&self) -> &Datagram {
        self.datagram.as_ref().expect("found in the first step")
    }

    pub(super) fn packet(&self) -> (&Header, &[u8]) {
        wire::parse(self.datagram().payload(&self.frame)).expect("checked in the first step")
    }

    pub(super) fn header(&self) -> &Header {
        self.packet().0
    }

    pub(super) fn kind(&self) -> Kind {
        self.header().kind().expect("checked in the first step")
    }
}

/// Whether a doorbell is armed and `op` reaches it.
pub(super) fn armed(bell: u64, op: OpNumber) -> bool {
    bell != 0 && op >= OpNumber(bell)
}
