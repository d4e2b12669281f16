//! Whether a packet is believed: what comes before it may change anything.
//!
//! The numbers of the steps are those of [`super::ingress`].

use super::frame::{self, Datagram};
use super::ingress::{At, Next, Run};
use super::{Kernel, vote};
use crate::abi::{self, Kind, Verdict};
use crate::auth::tag;
use crate::rules;
use crate::types::ReplicaId;
use crate::wire;
use crate::words;

impl Run {
    /// Steps 1 to 5 read the packet and what does not change under way.
    pub(super) fn start(&mut self, kernel: &Kernel) -> Next {
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
    pub(super) fn check_tag(&mut self, kernel: &Kernel) -> Result<(), Verdict> {
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
    pub(super) fn admitted(&mut self) -> Next {
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

    pub(super) fn admit_leader(&mut self, kernel: &Kernel) -> Next {
        let config = &kernel.config;
        if !kernel.plants.source_unchecked {
            let leader = ReplicaId(u8::try_from(config.leader).unwrap_or(u8::MAX));
            let expected =
                |id: ReplicaId| u32::try_from(kernel.control.incarnation[id.index()]).unwrap_or_default();
            rules::admit_leader(leader, &config.members, expected, self.header(), self.datagram().from)?;
        }
        self.verify(kernel)
    }

    pub(super) fn admit_voter(&mut self, kernel: &Kernel) -> Next {
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
}
