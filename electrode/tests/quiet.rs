//! Before it sleeps an endpoint looks for the next datagram if only a few have come since it slept last, in however many
//! polls: plain sockets bring one a poll, so the last poll alone tells nothing. Sockets on loopback, no privileges.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use electrode::config::{Backend, EndpointConfig, UdpSend};
use electrode::types::ReplicaId;
use electrode::{Endpoint, Patience};

const SHORT: Duration = Duration::from_millis(1);

/// System calls of a wait after so many datagrams and a poll that found nothing.
fn calls_of_a_wait(send: UdpSend, datagrams: usize) -> u64 {
    let members: Vec<SocketAddr> = {
        let free = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        free.iter().map(|socket| socket.local_addr().unwrap()).collect()
    };
    let [mut one, mut other] = [0, 1].map(|me| {
        let mut config = EndpointConfig::new(members.clone(), ReplicaId(me));
        config.backend = Backend::Udp(send);
        config.busy_poll = SHORT;
        Endpoint::open(config).unwrap()
    });
    for _ in 0..datagrams {
        one.send_to_member(ReplicaId(1), b"hello").unwrap();
    }
    one.flush().unwrap();
    let mut events = 0;
    while events < datagrams {
        events += other.elec_poll_message(256, &mut |_| {}).unwrap();
    }
    assert_eq!(other.elec_poll_message(256, &mut |_| {}).unwrap(), 0);
    let before = other.stats().unwrap().waits;
    other.wait(SHORT, Patience::Eager).unwrap();
    other.stats().unwrap().waits - before
}

#[test]
fn after_a_few_datagrams_it_looks_before_it_sleeps() {
    for send in [UdpSend::Mmsg, UdpSend::Sendto] {
        for few in [1, 4] {
            assert!(calls_of_a_wait(send, few) > 1, "{send:?}: calls that look, and one that sleeps");
        }
    }
}

#[test]
fn under_load_it_sleeps_at_once() {
    for send in [UdpSend::Mmsg, UdpSend::Sendto] {
        assert_eq!(calls_of_a_wait(send, 5), 1, "{send:?}");
        assert_eq!(calls_of_a_wait(send, 0), 1, "{send:?}: nothing says that somebody talks to it");
    }
}
