//! A follower that does not poll until its socket buffer overflows: what was dropped is sent again, nothing is
//! lost, nothing hangs. Sockets on loopback, no privileges.

use std::net::{SocketAddr, UdpSocket};

use electrode::config::{Backend, EndpointConfig, UdpSend};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::{Endpoint, Event, Round};

/// More small datagrams than the largest buffer that the endpoint asks for holds.
const OPS: u64 = 40_000;
/// Sent again at once: far less than the buffer holds.
const AGAIN: u64 = 1_000;

fn round(op: u64) -> Round {
    let peer = ReplicaSet::EMPTY.with(ReplicaId(1));
    Round {
        first: OpNumber(op),
        last: OpNumber(op),
        commit: OpNumber(0),
        tag: 0,
        targets: peer,
        voters: peer,
        threshold: 1,
        independent: false,
    }
}

#[test]
fn an_overflowing_socket_loses_nothing_for_good() {
    let members: Vec<SocketAddr> = {
        let free = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        free.iter().map(|socket| socket.local_addr().unwrap()).collect()
    };
    let [mut leader, mut follower] = [0, 1].map(|me| {
        let mut config = EndpointConfig::new(members.clone(), ReplicaId(me));
        config.backend = Backend::Udp(UdpSend::Mmsg);
        config.quorum_window = 1 << 17;
        Endpoint::open(config).unwrap()
    });
    leader.gate().lead(View(0), OpNumber(0)).unwrap();
    follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();

    for op in 1..=OPS {
        leader.elec_broadcast(&round(op), &op.to_le_bytes()).unwrap();
        if op % 64 == 0 {
            leader.flush().unwrap();
        }
    }
    leader.flush().unwrap();

    let mut held = 0;
    let mut done = 0;
    let mut overflowed = false;
    for _ in 0..10 * OPS / AGAIN {
        let mut arrived = 1;
        while arrived > 0 {
            arrived = follower
                .elec_poll_message(4096, &mut |event| {
                    if let Event::Logged { first, payload, .. } = event {
                        assert_eq!(first.0, held + 1, "in order, without a hole");
                        assert_eq!(payload, first.0.to_le_bytes());
                        held = first.0;
                    }
                })
                .unwrap();
        }
        leader
            .elec_poll_message(4096, &mut |event| {
                if let Event::Quorum { last, .. } = event {
                    done = last.0;
                }
            })
            .unwrap();
        assert!(done <= held, "op {done} is done, and the follower holds {held}");
        if held == OPS && done == OPS {
            break;
        }
        overflowed |= held < OPS;
        for op in held + 1..=OPS.min(held + AGAIN) {
            leader.resend(&round(op), round(op).targets, &op.to_le_bytes()).unwrap();
        }
    }
    assert!(overflowed, "the buffer held everything: the test tests nothing");
    assert_eq!((held, done), (OPS, OPS));
}
