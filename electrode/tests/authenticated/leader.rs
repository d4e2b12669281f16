//! A leader, and votes that nobody cast.

use crate::common::actor::Prepare;
use crate::common::attacker::{Attacker, forgeries, with_other_slot};
use crate::common::group::round;
use crate::common::privileged;
use crate::target::{N, Target, actor, everywhere, liar};

use electrode::abi::Verdict;
use electrode::types::{OpNumber, ReplicaId, View};

#[test]
fn a_leader_counts_no_vote_that_is_made_without_the_key() {
    if !privileged("a_leader_counts_no_vote_that_is_made_without_the_key") {
        return;
    }
    everywhere(|fabric, at| {
        let [one, two] = [1, 2].map(|i| actor(fabric, i));
        let attacker = Attacker::new(fabric, N);
        let mut target = Target::new(fabric, at, 0);
        let epoch = target.endpoint.gate().lead(View(0), OpNumber(0)).unwrap();
        let to = target.endpoint.local_addr();
        target.endpoint.elec_broadcast(&round(N, 1, 0, 2), b"x").unwrap();
        target.endpoint.flush().unwrap();
        let prepare = Prepare { leader_epoch: epoch.0, ..Prepare::op(1) };

        let [first, second] = [&one, &two].map(|member| member.ack_datagram(&prepare, 1));
        one.socket.send_to(&first, to).unwrap();
        target.until("an honest vote", |t| t.endpoint.acked(ReplicaId(1)) == OpNumber(1));

        target.refused(&attacker, 2, &forgeries(&second), Verdict::DropTag);
        target.refused(&attacker, 2, &[with_other_slot(&second)], Verdict::DropKey);
        target.refuses_mutations(&attacker, 2, &second);
        // One member's vote in the other's name.
        let mut stolen = first.clone();
        stolen[6] = 2;
        target.refused(&attacker, 2, &[stolen], Verdict::DropTag);
        target.unmoved_by("one vote many times", &attacker, vec![attacker.spoof(1, 0, &first); 10]);
        // What it said itself, come back.
        let mine = liar(fabric, 0, 2).datagram(&prepare);
        target.unmoved("its own Prepare", |t| {
            let refused = |t: &Target<'_>| {
                let stats = t.endpoint.stats().unwrap();
                stats.refused.iter().find(|(v, _)| *v == Verdict::DropSource).map_or(0, |(_, n)| *n)
            };
            let before = refused(t);
            attacker.send_as(1, 0, &[mine]);
            t.until("its own", |t| refused(t) > before);
        });

        two.socket.send_to(&second, to).unwrap();
        target.until("the quorum", |t| t.seen.quorums == [1]);

        // Votes of an opening are worth nothing in the next one (L8), and less in the next view.
        target.endpoint.gate().freeze(&mut |_| ()).unwrap();
        target.endpoint.gate().lead(View(0), OpNumber(0)).unwrap();
        target.endpoint.elec_broadcast(&round(N, 1, 0, 1), b"y").unwrap();
        target.endpoint.flush().unwrap();
        target.refused(&attacker, 1, std::slice::from_ref(&first), Verdict::DropVoteStale);
        target.endpoint.gate().freeze(&mut |_| ()).unwrap();
        target.endpoint.gate().lead(View(3), OpNumber(0)).unwrap();
        target.refused(&attacker, 2, &[second.clone(), second], Verdict::DropViewOld);
    });
}
