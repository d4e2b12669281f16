//! What the programs pass up unseen, user space judges: it believes nothing that is made without the key either.

use std::time::Instant;

use crate::common::actor::Prepare;
use crate::common::attacker::{Attacker, forgeries, keys, with_other_slot};
use crate::common::group::{Seen, open};
use crate::common::hosts::{DEADLINE, fabric, wait_until};
use crate::common::privileged;
use crate::target::{At, EVERYWHERE, N, actor};

use electrode::Endpoint;
use electrode::abi::Verdict;
use electrode::config::EndpointConfig;
use electrode::fabric::Family;
use electrode::types::{OpNumber, ReplicaId, View};

/// How the packets get past the program.
#[derive(Copy, Clone, Debug)]
enum By {
    /// Its offload is switched off.
    OffloadOff,
    /// In frames to everybody.
    Broadcast,
}

fn refused(endpoint: &Endpoint, verdict: Verdict) -> u64 {
    let stats = endpoint.stats().unwrap();
    stats.refused.iter().find(|(v, _)| *v == verdict).map_or(0, |(_, n)| *n)
}

fn passed_up(family: Family, at: At, by: By) {
    let fabric = fabric(N + 1, family);
    let _stubs = at.stubs(&fabric);
    let (leader, attacker) = (actor(&fabric, 0), Attacker::new(&fabric, N));
    let mut follower = open(&fabric, N, 1, &|c: &mut EndpointConfig| {
        at.configure(c, &keys(2));
        c.offloads.fast_ack = matches!(by, By::Broadcast);
    });
    follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    let send = |datagrams: &[Vec<u8>]| {
        let mut frames: Vec<_> = datagrams.iter().map(|d| attacker.spoof(0, 1, d)).collect();
        if matches!(by, By::Broadcast) {
            frames.iter_mut().for_each(|frame| frame[..6].fill(0xff));
        }
        attacker.send(&frames);
    };
    let unseen = match by {
        By::OffloadOff => Verdict::PassOffloadOff,
        By::Broadcast => Verdict::PassHardwareAddress,
    };

    let story = format!("{family:?}, {at:?}, {by:?}");
    let mut seen = Seen::default();
    let (next, commit) = (leader.datagram(&Prepare::op(1)), leader.commit_datagram(1, 1));
    let alive = follower.last_leader_ns();
    let mut expected = [0, 0];
    for honest in [&next, &commit] {
        let forged = forgeries(honest);
        expected = [expected[0] + forged.len() as u64, expected[1] + 1];
        send(&[forged, vec![with_other_slot(honest)]].concat());
        let since = Instant::now();
        while [Verdict::DropTag, Verdict::DropKey].map(|v| refused(&follower, v)) != expected {
            assert!(since.elapsed() < DEADLINE, "{story}: {:?}", follower.stats());
            seen.poll(&mut follower);
            std::thread::yield_now();
        }
        assert_eq!((seen.log.len(), seen.commit, follower.held().0), (0, 0, 0), "{story}");
        assert_eq!(follower.last_leader_ns(), alive, "{story}: a sign of life");
    }
    send(&[next]);
    seen.until(&mut follower, &story, |s| s.log.len() == 1);
    wait_until(&story, || follower.stats().unwrap().kernel(unseen) > 0);
    assert_eq!(follower.stats().unwrap().logged_by_kernel, 0, "{story}");
}

#[test]
fn user_space_believes_nothing_that_the_programs_have_not_judged() {
    if !privileged("user_space_believes_nothing_that_the_programs_have_not_judged") {
        return;
    }
    for family in [Family::V4, Family::V6] {
        for at in EVERYWHERE.into_iter().filter(|at| *at != At::UserSpace) {
            passed_up(family, at, By::OffloadOff);
            passed_up(family, at, By::Broadcast);
        }
    }
}
