//! Wrong and forged packets against the kernel programs: counted, not acknowledged, not logged (F1, F4, L2).

mod common;

use std::net::SocketAddr;

use common::actor::{Actor, Prepare, socket};
use common::capture::{Capture, Tap};
use common::foreign::command;
use common::group::{PORT, Seen, members, open, round};
use common::hosts::{fabric, wait_until};
use common::privileged;
use electrode::abi::{Header, Verdict};
use electrode::config::{Backend, EndpointConfig};
use electrode::fabric::{Fabric, Family};
use electrode::types::{OpNumber, ReplicaId, ReplicaSet, View};
use electrode::{Endpoint, Error};
use zerocopy::{FromBytes, IntoBytes};

const N: usize = 4;

fn follower(fabric: &Fabric) -> Endpoint {
    let mut follower = open(fabric, N, 1, &|c: &mut EndpointConfig| c.backend = Backend::Ebpf);
    follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    follower
}

fn count(endpoint: &Endpoint, verdict: Verdict) -> u64 {
    endpoint.stats().unwrap().kernel(verdict)
}

/// Every datagram brings its verdict, nothing is answered, nothing is logged.
fn refused(actor: &Actor, datagrams: &[Vec<u8>], endpoint: &mut Endpoint, verdict: Verdict, seen: &mut Seen) {
    let before = count(endpoint, verdict);
    for datagram in datagrams {
        actor.socket.send_to(datagram, endpoint.local_addr()).unwrap();
    }
    wait_until(verdict.name(), || count(endpoint, verdict) == before + datagrams.len() as u64);
    let logged = seen.log.len();
    seen.poll(endpoint);
    assert_eq!(actor.acks_so_far(), [0u64; 0], "{} is answered", verdict.name());
    assert_eq!(seen.log.len(), logged, "{} is logged", verdict.name());
}

fn edited(datagram: &[u8], edit: impl Fn(&mut Header)) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    edit(Header::mut_from_prefix(&mut datagram).unwrap().0);
    datagram
}

#[test]
fn another_configuration_is_told_and_not_heard() {
    if !privileged("another_configuration_is_told_and_not_heard") {
        return;
    }
    let fabric = fabric(N, Family::V4);
    let (leader, mut endpoint, mut seen) = (Actor::new(&fabric, 0), follower(&fabric), Seen::default());
    let prepare = leader.datagram(&Prepare::op(1));
    let wrong = [
        edited(&prepare, |h| h.config_hash = 1.into()),
        edited(&prepare, |h| h.group = 2.into()),
        edited(&prepare, |h| (h.group, h.config_hash) = (2.into(), 1.into())),
    ];
    refused(&leader, &wrong, &mut endpoint, Verdict::PassConfig, &mut seen);
    seen.until(&mut endpoint, "being told", |s| s.misconfigured == 3);
    leader.prepare_ops(endpoint.local_addr(), [1]);
    assert_eq!(leader.acks_up_to(1), [1]);
}

#[test]
fn nobody_but_the_leader_prepares() {
    if !privileged("nobody_but_the_leader_prepares") {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let fabric = fabric(N, family);
        let (leader, mut endpoint, mut seen) = (Actor::new(&fabric, 0), follower(&fabric), Seen::default());
        let prepare = leader.datagram(&Prepare::op(1));
        let claims = |sender: u8| edited(&prepare, |h| h.sender = sender);
        let commit = leader.origin.commit(View(0), Default::default(), OpNumber(9), ReplicaSet::EMPTY);
        // From the leader's own address, as somebody else.
        let others = [1, 2, 3, 4, 31, 32, 0xff].map(claims);
        refused(&leader, &others, &mut endpoint, Verdict::DropSource, &mut seen);
        // As the leader, from elsewhere: another member's address, another port of the leader's host. And as
        // oneself, a member that does not lead.
        for forger in [Actor::new(&fabric, 2), Actor::at(socket(fabric.host(0), PORT + 1), 0)] {
            let forged = [prepare.clone(), commit.as_bytes().to_vec(), claims(2)];
            refused(&forger, &forged, &mut endpoint, Verdict::DropSource, &mut seen);
        }
        assert_eq!(
            (seen.commit, endpoint.last_leader_ns()),
            (0, 0),
            "a forged packet looks like the leader's"
        );
        leader.prepare_ops(endpoint.local_addr(), [1]);
        assert_eq!(leader.acks_up_to(1), [1]);
        assert_ne!(endpoint.last_leader_ns(), 0);
        // Older and newer views.
        let held = endpoint.gate().freeze(&mut |event| seen.take(&event)).unwrap();
        endpoint.gate().follow(View(5), ReplicaId(0), held).unwrap();
        let view = |view| leader.datagram(&Prepare { view, ..Prepare::op(2) });
        refused(&leader, &[view(0), view(4)], &mut endpoint, Verdict::DropViewOld, &mut seen);
        refused(&leader, &[view(6)], &mut endpoint, Verdict::PassViewNew, &mut seen);
        leader.socket.send_to(&view(5), endpoint.local_addr()).unwrap();
        assert_eq!(leader.acks_up_to(2), [2]);
    }
}

#[test]
fn a_wrong_checksum_is_not_believed() {
    if !privileged("a_wrong_checksum_is_not_believed") {
        return;
    }
    let fabric = fabric(N, Family::V4);
    let (leader, mut endpoint, mut seen) = (Actor::new(&fabric, 0), follower(&fabric), Seen::default());
    let to = endpoint.local_addr();
    let from = SocketAddr::new(fabric.host(0).addr(), PORT);
    let macs = [fabric.host(0).mac(), fabric.host(1).mac()];
    let frame = |flip: usize| {
        let datagram = leader.datagram(&Prepare::op(1));
        let mut frame = electrode::model::frame::build(
            macs,
            from,
            to,
            &datagram,
            electrode::model::frame::Checksum::Full,
        );
        let at = frame.len() - flip;
        frame[at] ^= 0x10;
        frame
    };
    // In the payload, in the header's last op, in the UDP header's checksum.
    let payload = Prepare::op(1).payload.len();
    let flipped: Vec<_> = [1, payload + 80 - 40, payload + 80 + 1].map(frame).to_vec();
    common::capture::inject(fabric.host(0).netns(), "eth0", &flipped);
    wait_until("the verdicts", || count(&endpoint, Verdict::DropChecksum) == 3);
    seen.poll(&mut endpoint);
    assert!(seen.log.is_empty());
    assert_eq!(leader.acks_so_far(), [0u64; 0]);
}

/// L2: who may vote, and in which life.
#[test]
fn forged_votes_do_not_count() {
    if !privileged("forged_votes_do_not_count") {
        return;
    }
    let fabric = fabric(N + 1, Family::V4);
    let mut leader = open(&fabric, N, 0, &|c: &mut EndpointConfig| c.backend = Backend::Ebpf);
    let epoch = leader.gate().lead(View(0), OpNumber(0)).unwrap();
    let (to, mut seen) = (leader.local_addr(), Seen::default());
    leader.elec_broadcast(&round(N, 1, 0, 2), b"x").unwrap();
    leader.flush().unwrap();
    let prepare = Prepare { leader_epoch: epoch.0, ..Prepare::op(1) };
    let mut expect = |leader: &mut Endpoint, verdict: Verdict, times: u64, send: &dyn Fn()| {
        let before = count(leader, verdict);
        send();
        wait_until(verdict.name(), || count(leader, verdict) == before + times);
        seen.poll(leader);
        assert_eq!(seen.quorums, [0u64; 0], "{}", verdict.name());
    };

    let [one, outsider] = [1, N].map(|i| Actor::new(&fabric, i));
    // Member 1 in the name of all others, the leader's included; a host that is no member in anybody's.
    expect(&mut leader, Verdict::DropSource, 2 * 5, &|| {
        for forger in [&one, &outsider] {
            for name in [0, 2, 3, N, 31] {
                let claimed = Actor::at(forger.socket.try_clone().unwrap(), name);
                claimed.ack(to, &prepare, 1);
            }
        }
    });
    let mut reborn = Actor::at(one.socket.try_clone().unwrap(), 1);
    reborn.origin.incarnation = 2;
    expect(&mut leader, Verdict::DropVoteStranger, 1, &|| reborn.ack(to, &prepare, 1));
    expect(&mut leader, Verdict::DropVote, 1, &|| one.ack(to, &prepare, 1));
    expect(&mut leader, Verdict::DropVoteRepeated, 3, &|| (0..3).for_each(|_| one.ack(to, &prepare, 1)));
    expect(&mut leader, Verdict::DropVoteStale, 2, &|| {
        one.ack(to, &Prepare { tag: 9, ..prepare.clone() }, 1);
        one.ack(to, &Prepare { leader_epoch: epoch.0 + 1, ..prepare.clone() }, 1);
    });
    expect(&mut leader, Verdict::DropViewOld, 0, &|| ());
    // Another life counts from when the leader says so, and the old one no longer.
    leader.expect_incarnation(ReplicaId(2), 7);
    let mut two = Actor::new(&fabric, 2);
    expect(&mut leader, Verdict::DropVoteStranger, 1, &|| two.ack(to, &prepare, 1));
    two.origin.incarnation = 7;
    two.ack(to, &prepare, 1);
    seen.until(&mut leader, "the quorum", |s| s.quorums == [1]);
    assert_eq!((leader.acked(ReplicaId(1)).0, leader.acked(ReplicaId(3)).0), (1, 0));
}

#[test]
fn nothing_too_large_is_on_the_wire() {
    if !privileged("nothing_too_large_is_on_the_wire") {
        return;
    }
    for (family, room) in [(Family::V4, 1392), (Family::V6, 1372)] {
        let fabric = fabric(N, family);
        fabric.pin_neighbours(0).unwrap();
        let mut leader = open(&fabric, N, 0, &|c: &mut EndpointConfig| c.backend = Backend::Ebpf);
        leader.gate().lead(View(0), OpNumber(0)).unwrap();
        assert_eq!(leader.payload_bytes_max(), room);
        let wire = Capture::new(fabric.switch(), "port0", Tap::Wire);
        let error = leader.elec_broadcast(&round(N, 1, 0, 1), &vec![1; room + 1]).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        assert!(leader.broadcast_message(ReplicaSet::all(N), &vec![1; room + 1]).is_err());
        leader.flush().unwrap();
        let udp = |f: &common::capture::Frame| {
            (1..N).any(|i| f.datagram(SocketAddr::new(fabric.host(i).addr(), PORT)).is_some())
        };
        assert!(!wire.frames().iter().any(udp));
        leader.elec_broadcast(&round(N, 1, 0, 1), &vec![1; room]).unwrap();
        leader.flush().unwrap();
        let copies = wire.matching(N - 1, udp);
        assert!(copies.iter().all(|copy| copy.bytes.len() == 1514), "a full frame, and no fragment");
    }
}

/// The interface's own MTU is what counts.
#[test]
fn a_small_mtu_is_respected() {
    if !privileged("a_small_mtu_is_respected") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    command(fabric.host(1).netns(), "ip link set dev eth0 mtu 600");
    let endpoint = open(&fabric, 2, 1, &|c: &mut EndpointConfig| c.backend = Backend::Ebpf);
    assert_eq!(endpoint.payload_bytes_max(), 600 - 108);
    drop(endpoint);
    let mut config = EndpointConfig::new(members(&fabric, 2), ReplicaId(1));
    config.payload_bytes_max = Some(493);
    let text = open_at(&fabric, config).err().unwrap().to_string();
    assert!(text.contains("eth0 (600)") && text.contains("492"), "{text}");
}

fn open_at(fabric: &Fabric, config: EndpointConfig) -> electrode::Result<Endpoint> {
    fabric.host(1).netns().run(|| Endpoint::open(config)).unwrap()
}

#[test]
fn auto_says_that_a_peer_is_local() {
    if !privileged("auto_says_that_a_peer_is_local") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let own = fabric.host(1).addr();
    let config = EndpointConfig::new(vec![(own, PORT).into(), (own, PORT + 1).into()], ReplicaId(0));
    let choice = open_at(&fabric, config.clone()).unwrap().choice().clone();
    let reason = choice.reason.expect("a reason");
    assert_eq!(choice.backend, "udp");
    assert!(reason.contains("10.76.0.2:7001 is on this host") && reason.contains("namespaces"), "{reason}");
    let error = open_at(&fabric, EndpointConfig { backend: Backend::Ebpf, ..config }).err().unwrap();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert_eq!(error.to_string(), reason);
}

#[test]
fn an_interface_must_carry_the_address() {
    if !privileged("an_interface_must_carry_the_address") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let mut config = EndpointConfig::new(members(&fabric, 2), ReplicaId(1));
    config.backend = Backend::Ebpf;
    config.interface = Some("lo".into());
    let text = open_at(&fabric, config.clone()).err().expect("lo does not carry it").to_string();
    assert!(text.contains("named lo") && text.contains("eth0"), "{text}");
    config.interface = Some("eth0".into());
    assert_eq!(open_at(&fabric, config).unwrap().choice().backend, "ebpf");
}
