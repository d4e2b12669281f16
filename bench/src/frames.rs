//! Frames for the kernel programs, as they meet a group of three: member 0 leads view 0.

use std::net::SocketAddr;

use electrode::auth::{Key, Keys, SECRET_BYTES};
use electrode::model::frame::{self, Mac};
use electrode::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use electrode::wire::{Batch, Origin, prepare_ok};
use zerocopy::IntoBytes;

pub use electrode::model::frame::Checksum;

/// The leader.
pub const LEADER: ReplicaId = ReplicaId(0);
/// The follower whose programs are measured.
pub const FOLLOWER: ReplicaId = ReplicaId(1);
/// Gate epoch of everybody.
pub const EPOCH: Epoch = Epoch(1);
/// Life of everybody.
pub const INCARNATION: u32 = 1;
/// The group's key; groups without one do not look at the tag.
pub const SECRET: [u8; SECRET_BYTES] = [0x5e; SECRET_BYTES];
/// Consensus group.
pub const GROUP: u32 = 1;

/// Of every sender, and of every receiver.
pub const MACS: [Mac; 2] = [[2, 0, 0, 0, 0, 0xaa], [2, 0, 0, 0, 0, 0xbb]];

/// Where the members live.
pub fn members() -> [SocketAddr; 3] {
    [1, 2, 3].map(|host| SocketAddr::from(([10, 0, 0, host], 9000)))
}

fn origin(sender: ReplicaId) -> Origin {
    Origin { group: GROUP, config_hash: 0, sender: Some(sender), incarnation: INCARNATION }
}

fn batch(op: u64) -> Batch {
    Batch { view: View(0), first: OpNumber(op), last: OpNumber(op), round_tag: 0, leader_epoch: EPOCH }
}

fn frame_between(from: ReplicaId, to: ReplicaId, parts: &[&[u8]], checksum: Checksum) -> Vec<u8> {
    let (members, mut datagram) = (members(), parts.concat());
    Keys::new(Key::new(0, SECRET).expect("a secret")).seal(&mut datagram);
    frame::build(MACS, members[from.index()], members[to.index()], &datagram, checksum)
}

/// The leader's Prepare of one op to the follower.
pub fn prepare(op: u64, payload_bytes: usize, checksum: Checksum) -> Vec<u8> {
    let commit = OpNumber(op.saturating_sub(1));
    let header = origin(LEADER).prepare(&batch(op), commit, ReplicaSet::all(3), payload_bytes as u16);
    frame_between(LEADER, FOLLOWER, &[header.as_bytes(), &vec![0xa5; payload_bytes]], checksum)
}

/// The follower's ack of one op to the leader.
pub fn ack(op: u64, checksum: Checksum) -> Vec<u8> {
    let prepare = origin(LEADER).prepare(&batch(op), OpNumber(0), ReplicaSet::all(3), 0);
    let header = prepare_ok(&prepare, FOLLOWER, INCARNATION, OpNumber(op));
    frame_between(FOLLOWER, LEADER, &[header.as_bytes()], checksum)
}

/// The leader's commit number to the follower.
pub fn commit(op: u64, checksum: Checksum) -> Vec<u8> {
    let header = origin(LEADER).commit(View(0), EPOCH, OpNumber(op), ReplicaSet::all(3));
    frame_between(LEADER, FOLLOWER, &[header.as_bytes()], checksum)
}

/// An application's message from the leader to the follower.
pub fn message(payload_bytes: usize) -> Vec<u8> {
    let header = origin(LEADER).message(View(0), ReplicaSet::all(3), payload_bytes as u16);
    let payload = vec![0xa5; payload_bytes];
    frame_between(LEADER, FOLLOWER, &[header.as_bytes(), &payload], Checksum::Partial)
}

/// Somebody's datagram to the follower's host: ours in all but the port.
pub fn foreign(payload_bytes: usize) -> Vec<u8> {
    let [from, mut to, _] = members();
    to.set_port(53);
    frame::build(MACS, from, to, &vec![0xa5; payload_bytes], Checksum::Partial)
}

#[cfg(test)]
mod tests {
    use electrode::abi::Verdict;
    use electrode::model::{Config, Kernel, Params, Round, params};
    use electrode::words::{self, GateState, GateWord};

    use super::*;

    /// The model's judgement, so that a benchmark's frames mean what their names say without privileges.
    fn judge(me: ReplicaId, frame: &[u8]) -> Verdict {
        let verdicts = [false, true].map(|authenticated| judge_with(me, frame, authenticated));
        assert_eq!(verdicts[0], verdicts[1], "a key makes no difference");
        verdicts[0]
    }

    fn judge_with(me: ReplicaId, frame: &[u8], authenticated: bool) -> Verdict {
        let mut kernel = Kernel::new(Params {
            config_hash: 0,
            group: GROUP,
            slots: 8,
            slot_payload_bytes: 1392,
            window: 8,
            incarnation: INCARNATION,
            own: members()[me.index()],
            me,
            offload_fast_ack: true,
            offload_quorum: true,
            log_only: false,
            lease_required: false,
            authenticated,
            partial_checksums: false,
            busy_tries: params::BUSY_TRIES,
            swap_tries: params::SWAP_TRIES,
        });
        kernel.keys[0] = Some(Key::new(0, SECRET).unwrap());
        kernel.config = Config { view: 0, leader: LEADER.0.into(), members: members().to_vec() };
        let state = if me == LEADER { GateState::Lead } else { GateState::Follow };
        kernel.control.gate = GateWord { state, busy: false, epoch: EPOCH, op: OpNumber(6) }.pack();
        kernel.control.own_mac = words::mac_word(Some(MACS[1]));
        kernel.control.incarnation = [INCARNATION.into(); 32];
        *kernel.round_mut(OpNumber(7)) = Round {
            vote: words::vote_word(EPOCH, OpNumber(7)),
            op: 7,
            view: 0,
            round_tag: 0,
            voters: 0b110,
            threshold: 2,
        };
        kernel.process(frame).verdict
    }

    #[test]
    fn frames_are_what_they_are_called() {
        for checksum in [Checksum::Partial, Checksum::Full] {
            assert_eq!(judge(FOLLOWER, &prepare(7, 1350, checksum)), Verdict::TxAck);
            assert_eq!(judge(FOLLOWER, &prepare(6, 64, checksum)), Verdict::TxAckRepeated);
            assert_eq!(judge(FOLLOWER, &commit(6, checksum)), Verdict::DropCommit);
            assert_eq!(judge(LEADER, &ack(7, checksum)), Verdict::DropVote);
        }
        assert_eq!(judge(FOLLOWER, &message(64)), Verdict::PassMessage);
        assert_eq!(judge(FOLLOWER, &foreign(64)), Verdict::PassForeign);
    }
}
