//! What an endpoint refuses, and how it says so. Needs no privileges: two members on the loopback interface.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use electrode::config::{Acks, Backend, EndpointConfig, UdpSend};
use electrode::types::{Epoch, OpNumber, ReplicaId, ReplicaSet, View};
use electrode::wire::{self, Batch, Origin};
use electrode::{Endpoint, Error, Event, Round};
use zerocopy::IntoBytes;

const DEADLINE: Duration = Duration::from_secs(30);
const UDP: Backend = Backend::Udp(UdpSend::Mmsg);

/// A socket for member 1 and a configuration for member 0 at a port that was free a moment ago.
fn peer_and_config() -> (UdpSocket, EndpointConfig) {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let own = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = EndpointConfig::new(vec![own, peer.local_addr().unwrap()], ReplicaId(0));
    (config.backend, config.log_slots, config.quorum_window) = (UDP, 16, 16);
    (peer, config)
}

fn refusal(config: EndpointConfig) -> Error {
    Endpoint::open(config).err().expect("must be refused")
}

#[test]
fn a_taken_port_is_named() {
    let (_peer, mut config) = peer_and_config();
    let taken = UdpSocket::bind(config.members[0]).unwrap();
    let error = refusal(config.clone());
    assert!(matches!(&error, Error::Bind { addr, .. } if *addr == config.members[0]));
    let text = error.to_string();
    assert!(text.contains(&config.members[0].to_string()) && text.contains("another replica"), "{text}");
    // Also where the fast path would have been tried first.
    config.backend = Backend::Auto;
    assert!(matches!(refusal(config.clone()), Error::Bind { .. }));
    drop(taken);
    Endpoint::open(config).unwrap();
}

#[test]
fn an_address_of_another_host_is_named() {
    // TEST-NET-1: nobody's.
    let members = ["192.0.2.1:7000", "192.0.2.2:7000"].map(|m| m.parse().unwrap());
    for backend in [UDP, Backend::Auto, Backend::Ebpf] {
        let mut config = EndpointConfig::new(members.to_vec(), ReplicaId(0));
        config.backend = backend;
        let text = refusal(config).to_string();
        assert!(text.contains("192.0.2.1:7000") && text.contains("not on this host"), "{text}");
    }
}

#[test]
fn a_wrong_interface_is_named() {
    let (_peer, mut config) = peer_and_config();
    config.interface = Some("nosuch0".into());
    let text = refusal(config.clone()).to_string();
    assert!(text.contains("nosuch0") && text.contains("does not exist; there are"), "{text}");
    assert!(text.contains("lo"), "it tells which there are: {text}");
    config.interface = Some("lo".into());
    Endpoint::open(config.clone()).unwrap();
    // The whole of 127.0.0.0/8 is there.
    config.members[0].set_ip([127, 0, 0, 5].into());
    Endpoint::open(config.clone()).unwrap();
    config.interface = None;
    Endpoint::open(config).unwrap();
}

#[test]
fn a_message_too_large_is_refused_before_anything_is_sent() {
    let (peer, mut config) = peer_and_config();
    config.payload_bytes_max = Some(100);
    let mut endpoint = Endpoint::open(config).unwrap();
    endpoint.gate().lead(View(0), OpNumber(0)).unwrap();
    let (to, both) = (peer.local_addr().unwrap(), ReplicaSet::all(2));
    let too_large = [7; 101];
    let refusals = [
        endpoint.elec_broadcast(&round(1, 1), &too_large),
        endpoint.resend(&round(1, 1), both, &too_large),
        endpoint.send_message(to, &too_large),
        endpoint.send_to_member(ReplicaId(1), &too_large),
        endpoint.broadcast_message(both, &too_large),
    ];
    for refusal in refusals {
        let error = refusal.unwrap_err();
        assert!(matches!(error, Error::TooLarge { bytes: 101, max: 100 }));
        let text = error.to_string();
        assert!(text.contains("101 bytes") && text.contains("payload_bytes_max"), "{text}");
    }
    endpoint.flush().unwrap();
    assert_eq!(endpoint.stats().unwrap().socket.sent, 0);
    assert!(peer.recv(&mut [0; 2048]).is_err(), "something was sent");
    assert_eq!(endpoint.rounds_in_flight(), 0);
    // What fits leaves; the refused round takes no place in the window.
    endpoint.elec_broadcast(&round(1, 1), &too_large[..100]).unwrap();
    endpoint.flush().unwrap();
    assert_eq!(peer.recv(&mut [0; 2048]).unwrap(), electrode::abi::HEADER_BYTES + 100);
}

fn round(first: u64, last: u64) -> Round {
    Round {
        first: OpNumber(first),
        last: OpNumber(last),
        commit: OpNumber(0),
        tag: 0,
        targets: ReplicaSet::all(2),
        voters: ReplicaSet::EMPTY.with(ReplicaId(1)),
        threshold: 1,
        independent: false,
    }
}

#[test]
fn rounds_that_cannot_be_are_refused() {
    let (peer, config) = peer_and_config();
    let mut endpoint = Endpoint::open(config).unwrap();
    let role = |error: Error| match error {
        Error::Role { needs, is, .. } => (needs, is),
        other => panic!("{other}"),
    };
    assert_eq!(role(endpoint.elec_broadcast(&round(1, 1), b"").unwrap_err()), ("lead", "frozen"));
    assert_eq!(role(endpoint.acknowledge(OpNumber(1)).unwrap_err()), ("follow", "frozen"));
    endpoint.gate().follow(View(0), ReplicaId(1), OpNumber(0)).unwrap();
    assert_eq!(role(endpoint.elec_broadcast(&round(1, 1), b"").unwrap_err()), ("lead", "following"));
    assert_eq!(
        role(endpoint.send_commit(OpNumber(1), ReplicaSet::all(2)).unwrap_err()),
        ("lead", "following")
    );
    // An open gate is not opened again: what it has acknowledged must be drained first (U6).
    assert_eq!(role(endpoint.gate().lead(View(1), OpNumber(0)).unwrap_err()), ("be frozen", "following"));
    endpoint.gate().freeze(&mut |_| ()).unwrap();
    assert!(endpoint.gate().follow(View(0), ReplicaId(2), OpNumber(0)).is_err(), "no member 2");
    endpoint.gate().lead(View(0), OpNumber(0)).unwrap();
    assert_eq!(role(endpoint.acknowledge(OpNumber(1)).unwrap_err()), ("follow", "leading"));
    for (first, last) in [(0, 1), (2, 1), (1, 1 << 48)] {
        let text = endpoint.elec_broadcast(&round(first, last), b"").unwrap_err().to_string();
        assert!(text.contains("count from 1 and fit 48 bits"), "{first}..={last}: {text}");
    }
    // The window is 16 ops.
    for op in 1..=16 {
        endpoint.elec_broadcast(&round(op, op), b"").unwrap();
    }
    let text = endpoint.elec_broadcast(&round(17, 17), b"").unwrap_err().to_string();
    assert!(text.contains("window is full"), "{text}");
    endpoint.flush().unwrap();
    let received = std::iter::from_fn(|| peer.recv(&mut [0; 2048]).ok()).count();
    assert_eq!(received, 16, "only what was accepted is sent");
}

/// Polls until `done`; returns what was handed over, in words.
fn poll_until(endpoint: &mut Endpoint, done: impl Fn(&[String], &Endpoint) -> bool) -> Vec<String> {
    let (since, mut events) = (Instant::now(), vec![]);
    while !done(&events, endpoint) {
        assert!(since.elapsed() < DEADLINE, "{events:?} {:?}", endpoint.stats());
        endpoint
            .elec_poll_message(64, &mut |event| {
                events.push(match event {
                    Event::Misconfigured { from, config_hash, .. } => {
                        format!("misconfigured {from} {config_hash}")
                    }
                    Event::Logged { last, .. } => format!("logged {last}"),
                    other => format!("{other:?}"),
                });
            })
            .unwrap();
    }
    events
}

fn prepare(origin: &Origin, op: u64) -> Vec<u8> {
    let batch = Batch {
        view: View(0),
        first: OpNumber(op),
        last: OpNumber(op),
        round_tag: 0,
        leader_epoch: Epoch(1),
    };
    origin.prepare(&batch, OpNumber(0), ReplicaSet::EMPTY, 0).as_bytes().to_vec()
}

/// F1, F4 in user space, where there are no programs: a follower hears its leader and nobody else.
#[test]
fn strangers_are_not_heard() {
    let (leader, mut config) = peer_and_config();
    (config.config_hash, config.group) = (77, 5);
    let own = config.members[0];
    let mut endpoint = Endpoint::open(config).unwrap();
    endpoint.gate().follow(View(0), ReplicaId(1), OpNumber(0)).unwrap();
    let honest = Origin { group: 5, config_hash: 77, sender: Some(ReplicaId(1)), incarnation: 1 };
    let from = leader.local_addr().unwrap();

    leader.send_to(&prepare(&Origin { config_hash: 78, ..honest }, 1), own).unwrap();
    assert_eq!(poll_until(&mut endpoint, |e, _| !e.is_empty()), [format!("misconfigured {from} 78")]);
    leader.send_to(&prepare(&Origin { group: 6, ..honest }, 1), own).unwrap();
    assert_eq!(poll_until(&mut endpoint, |e, _| !e.is_empty()), [format!("misconfigured {from} 77")]);

    let forger = UdpSocket::bind("127.0.0.1:0").unwrap();
    forger.send_to(&prepare(&honest, 1), own).unwrap();
    leader.send_to(&prepare(&Origin { sender: Some(ReplicaId(0)), ..honest }, 1), own).unwrap();
    leader.send_to(&prepare(&Origin { sender: Some(ReplicaId(200)), ..honest }, 1), own).unwrap();
    leader.send_to(&prepare(&Origin { sender: None, ..honest }, 1), own).unwrap();
    let refused = |endpoint: &Endpoint| endpoint.stats().unwrap().refused.iter().map(|(_, n)| n).sum::<u64>();
    assert_eq!(poll_until(&mut endpoint, |_, endpoint| refused(endpoint) == 6), Vec::<String>::new());
    for bytes in [&b"noise"[..], &[0; 80], &[0xff; 1500]] {
        leader.send_to(bytes, own).unwrap();
    }
    poll_until(&mut endpoint, |_, endpoint| endpoint.stats().unwrap().malformed == 3);
    assert!(leader.recv(&mut [0; 2048]).is_err(), "somebody was acknowledged");

    leader.send_to(&prepare(&honest, 1), own).unwrap();
    assert_eq!(poll_until(&mut endpoint, |e, _| !e.is_empty()), ["logged 1"]);
    let mut ack = [0; 2048];
    let bytes = leader.recv(&mut ack).unwrap();
    assert_eq!(wire::parse(&ack[..bytes]).unwrap().0.last(), OpNumber(1));
}

/// `auto` on the loopback interface takes sockets and says why; asking for the kernel is an error that says it too.
#[test]
fn the_loopback_interface_has_no_fast_path() {
    let (_peer, mut config) = peer_and_config();
    config.backend = Backend::Auto;
    let choice = Endpoint::open(config.clone()).unwrap().choice().clone();
    assert_eq!((choice.backend, choice.hook), ("udp", "none"));
    let reason = choice.reason.expect("a reason");
    config.backend = Backend::Ebpf;
    config.acks = Acks::ByCaller;
    let text = refusal(config).to_string();
    assert_eq!(reason, text);
    let known = ["is on this host", "this build has no kernel programs", "CAP_BPF"];
    assert!(known.iter().any(|k| text.contains(k)), "{text}");
    assert!(text.contains("udp") || text.contains("build with feature"), "it says what to do: {text}");
}

#[test]
fn a_configuration_that_contradicts_itself_opens_nothing() {
    let (_peer, config) = peer_and_config();
    let own: SocketAddr = config.members[0];
    let mut wrong = config.clone();
    wrong.payload_bytes_max = Some(1393);
    assert!(refusal(wrong).to_string().contains("1392"));
    let mut wrong = config.clone();
    wrong.members.push(own);
    assert!(refusal(wrong).to_string().contains("share the address"));
    // Nothing was bound on the way.
    drop(UdpSocket::bind(own).unwrap());
}
