//! A follower, and what is sent to it in its leader's name.

use crate::common::actor::Prepare;
use crate::common::attacker::{Attacker, forgeries, keys, mutations, with_other_slot};
use crate::common::capture::{Capture, Tap};
use crate::common::hosts::DEADLINE;
use crate::common::privileged;
use crate::target::{At, CLOCK_TICK, N, Target, actor, everywhere};

use electrode::abi::Verdict;
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};

#[test]
fn a_follower_believes_nothing_that_is_made_without_the_key() {
    if !privileged("a_follower_believes_nothing_that_is_made_without_the_key") {
        return;
    }
    everywhere(|fabric, at| {
        let (leader, attacker) = (actor(fabric, 0), Attacker::new(fabric, N));
        let mut target = Target::new(fabric, at, 1);
        target.endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
        let to = target.endpoint.local_addr();

        // What the attacker has seen.
        let wire = Capture::new(fabric.switch(), "port0", Tap::Wire);
        let kept: Vec<_> = (1..=3).map(|op| leader.datagram(&Prepare::op(op))).collect();
        let (commit, message) = (leader.commit_datagram(2, 1), leader.message_datagram(b"hello"));
        for datagram in kept.iter().chain([&commit, &message]) {
            leader.socket.send_to(datagram, to).unwrap();
        }
        target.until("honest traffic", |t| {
            (t.seen.log.len(), t.seen.commit, t.seen.messages.len()) == (3, 2, 1)
        });
        assert_eq!(leader.acks_up_to(3).last(), Some(&3));
        let frames = wire.matching(5, |frame| frame.datagram(to).is_some());

        // What it has not seen yet, and would like to make.
        let next = leader.datagram(&Prepare::op(4));
        let (next_commit, next_message) = (leader.commit_datagram(3, 2), leader.message_datagram(b"vote"));
        for honest in [&next, &next_commit, &next_message] {
            target.refused(&attacker, 0, &forgeries(honest), Verdict::DropTag);
            target.refused(&attacker, 0, &[with_other_slot(honest)], Verdict::DropKey);
        }
        let others = Prepare { targets: ReplicaSet::EMPTY.with(ReplicaId(2)), ..Prepare::op(4) };
        target.refused(&attacker, 0, &[leader.datagram(&others)], Verdict::DropTarget);
        target.refuses_mutations(&attacker, 0, &next);
        target.refuses_mutations(&attacker, 0, &next_commit);

        // The same once more: answered or absorbed, and that is all; no sign of life either (U9). A frame is taken from
        // the wire before its checksum is filled in; whoever sends it again does that.
        let whole: Vec<_> = frames
            .iter()
            .map(|frame| attacker.spoof(0, 1, frame.datagram(to).unwrap().payload(&frame.bytes)))
            .collect();
        target.unmoved("replays", |t| {
            std::thread::sleep(CLOCK_TICK);
            (0..3).for_each(|_| attacker.send(&whole));
            t.until("replayed messages", |t| t.seen.messages.len() == 4);
        });
        if at != At::UserSpace {
            assert_eq!((target.count(Verdict::TxAckRepeated), target.count(Verdict::DropCommit)), (9, 4));
        }
        for (whole, frame) in whole.iter().zip(&frames).take(4) {
            // Headers of Ethernet, IP and UDP too. What is left valid is what was sent, once more.
            let changed = [mutations(whole), mutations(&frame.bytes)].concat();
            target.unmoved_by("changed frames", &attacker, changed);
        }
        leader.acks_so_far();

        // The honest ones are heard, and the acks are honest too.
        leader.socket.send_to(&next, to).unwrap();
        target.until("the next op", |t| t.seen.log.len() == 4);
        let ack = leader.next_ack(DEADLINE).expect("an ack, made here or by the kernel");
        assert_eq!((ack.last().0, keys(2).admit(ReplicaId(0), &ack, &[])), (4, Ok(())));
        leader.socket.send_to(&next_commit, to).unwrap();
        target.until("the honest ones", |t| (t.seen.log.len(), t.seen.commit) == (4, 3));

        // Another opening of the same view makes nothing new of what was kept (U9).
        let held = target.endpoint.gate().freeze(&mut |_| ()).unwrap();
        target.endpoint.gate().follow(View(0), ReplicaId(0), held).unwrap();
        let (alive, messages) = (target.endpoint.last_leader_ns(), target.seen.messages.len());
        std::thread::sleep(CLOCK_TICK);
        attacker.send(&whole);
        target.until("replays in another opening", |t| t.seen.messages.len() > messages);
        assert_eq!((target.endpoint.last_leader_ns(), target.endpoint.held().0), (alive, 4), "{at:?}");

        // In another view, what was right in this one is old.
        let held = target.endpoint.gate().freeze(&mut |_| ()).unwrap();
        target.endpoint.gate().follow(View(3), ReplicaId(0), held).unwrap();
        let old: Vec<_> = kept.iter().chain([&commit, &next, &next_commit]).cloned().collect();
        target.refused(&attacker, 0, &old, Verdict::DropViewOld);
    });
}
