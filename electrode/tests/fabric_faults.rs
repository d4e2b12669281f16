//! Faults on virtual cables: each does what it says, in the direction that was asked for, and nothing else.

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::hosts::{DEADLINE, fabric, wait_until};
use common::privileged;
use electrode::fabric::{Fabric, FabricError, Family, Faults, LinkFaults};

const PORT: u16 = 7000;

/// A fabric whose hosts know each other's hardware addresses, a socket each.
fn site(hosts: usize, family: Family) -> (Fabric, Vec<UdpSocket>) {
    let fabric = fabric(hosts, family);
    let open = |i: usize| {
        fabric.pin_neighbours(i).unwrap();
        let host = fabric.host(i);
        let socket = host.netns().run(|| UdpSocket::bind((host.addr(), PORT))).unwrap().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    };
    let sockets = (0..hosts).map(open).collect();
    (fabric, sockets)
}

fn send(fabric: &Fabric, sockets: &[UdpSocket], from: usize, to: usize, number: u32) {
    // As long as a packet may be, so that all of it is carried.
    let payload: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(1400).collect();
    sockets[from].send_to(&payload, (fabric.host(to).addr(), PORT)).unwrap();
}

fn receive(socket: &UdpSocket) -> u32 {
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).expect("a packet before the deadline");
    let number: [u8; 4] = buffer[..4].try_into().unwrap();
    assert!(length == 1400 && buffer[..length].chunks(4).all(|chunk| chunk == number), "damaged on its way");
    u32::from_be_bytes(number)
}

/// Everything that arrives before the number that is sent last, over a cable without faults.
fn receive_until(socket: &UdpSocket, last: u32) -> Vec<u32> {
    std::iter::from_fn(|| Some(receive(socket)).filter(|number| *number != last)).collect()
}

fn only(faults: &Faults, from: usize, to: usize, link: LinkFaults) {
    faults.heal().unwrap();
    faults.set(from, to, &link).unwrap();
}

#[test]
fn a_cut_lets_nothing_through_in_one_direction() {
    if !privileged("a_cut_lets_nothing_through_in_one_direction") {
        return;
    }
    let (fabric, sockets) = site(3, Family::V4);
    let faults = fabric.faults().unwrap();
    faults.cut(0, 1).unwrap();
    for number in 1..=10 {
        send(&fabric, &sockets, 0, 1, number);
        send(&fabric, &sockets, 0, 2, number);
        send(&fabric, &sockets, 1, 0, number);
        assert_eq!((receive(&sockets[2]), receive(&sockets[0])), (number, number));
    }
    faults.heal().unwrap();
    send(&fabric, &sockets, 0, 1, 99);
    assert_eq!(receive(&sockets[1]), 99);
    let counts = faults.counts().unwrap();
    assert_eq!((counts.cut, counts.lost, counts.duplicated, counts.delayed), (10, 0, 0, 0));
    assert!(counts.passed >= 21, "{counts:?}");
}

#[test]
fn so_many_are_lost_as_are_counted() {
    if !privileged("so_many_are_lost_as_are_counted") {
        return;
    }
    let (fabric, sockets) = site(2, Family::V4);
    let faults = fabric.faults().unwrap();
    only(&faults, 0, 1, LinkFaults { loss: 0.3, ..LinkFaults::default() });
    let mut arrived = 0;
    // In parts that a socket's buffer holds.
    for part in 0..40 {
        faults.set(0, 1, &LinkFaults { loss: 0.3, ..LinkFaults::default() }).unwrap();
        (0..25).for_each(|number| send(&fabric, &sockets, 0, 1, part * 25 + number));
        faults.heal().unwrap();
        send(&fabric, &sockets, 0, 1, 9999);
        arrived += receive_until(&sockets[1], 9999).len();
    }
    let lost = faults.counts().unwrap().lost as usize;
    assert_eq!(arrived + lost, 1000);
    // Fair dice leave this range once in a universe.
    assert!((150..450).contains(&lost), "{lost} of 1000");
}

fn copies(family: Family) {
    let (fabric, sockets) = site(2, family);
    let faults = fabric.faults().unwrap();
    only(&faults, 0, 1, LinkFaults { duplication: 1.0, ..LinkFaults::default() });
    for number in 0..20 {
        send(&fabric, &sockets, 0, 1, number);
        assert_eq!([receive(&sockets[1]), receive(&sockets[1])], [number, number]);
    }
    faults.heal().unwrap();
    send(&fabric, &sockets, 0, 1, 99);
    assert_eq!(receive(&sockets[1]), 99, "two and no more");
    assert!(faults.counts().unwrap().duplicated >= 20);
}

#[test]
fn a_copy_is_the_same_packet_over_ipv4() {
    if privileged("a_copy_is_the_same_packet_over_ipv4") {
        copies(Family::V4);
    }
}

#[test]
fn a_copy_is_the_same_packet_over_ipv6() {
    if privileged("a_copy_is_the_same_packet_over_ipv6") {
        copies(Family::V6);
    }
}

fn held_frames_arrive_once_in_another_order(family: Family) {
    let (fabric, sockets) = site(3, family);
    let faults = fabric.faults().unwrap();
    faults.set_delay(Duration::ZERO..=Duration::from_millis(20));
    for link in
        [LinkFaults { delay: 1.0, ..LinkFaults::default() }, LinkFaults { delay: 0.5, ..Default::default() }]
    {
        only(&faults, 0, 1, link);
        let before = faults.counts().unwrap();
        (0..60).for_each(|number| send(&fabric, &sockets, 0, 1, number));
        let mut arrived: Vec<u32> = (0..60).map(|_| receive(&sockets[1])).collect();
        assert!(!arrived.is_sorted(), "{arrived:?}");
        arrived.sort();
        assert!(arrived.iter().copied().eq(0..60), "{arrived:?}");
        let counts = faults.counts().unwrap();
        let delayed = counts.delayed - before.delayed;
        assert!(if link.delay == 1.0 { delayed >= 60 } else { (10..50).contains(&delayed) }, "{delayed}");
        // Nobody else hears any of it.
        assert_eq!(counts.released, counts.delayed);
        send(&fabric, &sockets, 0, 2, 7);
        assert_eq!(receive(&sockets[2]), 7);
    }
}

#[test]
fn held_frames_arrive_once_in_another_order_over_ipv4() {
    if privileged("held_frames_arrive_once_in_another_order_over_ipv4") {
        held_frames_arrive_once_in_another_order(Family::V4);
    }
}

#[test]
fn held_frames_arrive_once_in_another_order_over_ipv6() {
    if privileged("held_frames_arrive_once_in_another_order_over_ipv6") {
        held_frames_arrive_once_in_another_order(Family::V6);
    }
}

#[test]
fn all_of_it_at_once_loses_and_copies_what_is_counted() {
    if !privileged("all_of_it_at_once_loses_and_copies_what_is_counted") {
        return;
    }
    let (fabric, sockets) = site(2, Family::V4);
    let faults = fabric.faults().unwrap();
    faults.set_delay(Duration::ZERO..=Duration::from_millis(2));
    let before = faults.counts().unwrap();
    only(&faults, 0, 1, LinkFaults { loss: 0.2, duplication: 0.2, delay: 0.3, cut: false });
    (0..100).for_each(|number| send(&fabric, &sockets, 0, 1, number));
    let counts = faults.counts().unwrap();
    let expected = 100 - (counts.lost - before.lost) + (counts.duplicated - before.duplicated);
    for _ in 0..expected {
        receive(&sockets[1]);
    }
    // Nothing of it is left over.
    faults.heal().unwrap();
    wait_until("all held frames are let go", || {
        let counts = faults.counts().unwrap();
        counts.released >= counts.delayed
    });
    send(&fabric, &sockets, 0, 1, 99);
    assert_eq!(receive(&sockets[1]), 99);
}

#[test]
fn faults_end_with_their_handle() {
    if !privileged("faults_end_with_their_handle") {
        return;
    }
    let (fabric, sockets) = site(2, Family::V4);
    let faults = fabric.faults().unwrap();
    faults.cut(0, 1).unwrap();
    drop(faults);
    send(&fabric, &sockets, 0, 1, 5);
    assert_eq!(receive(&sockets[1]), 5);
}

#[test]
fn wrong_faults_are_refused_with_their_value() {
    if !privileged("wrong_faults_are_refused_with_their_value") {
        return;
    }
    let (fabric, _sockets) = site(2, Family::V4);
    let faults = fabric.faults().unwrap();
    for (result, word) in [
        (faults.set(0, 2, &LinkFaults::default()), "no host 2"),
        (faults.set(0, 1, &LinkFaults { loss: 1.5, ..LinkFaults::default() }), "1.5"),
        (faults.set(0, 1, &LinkFaults { delay: f64::NAN, ..LinkFaults::default() }), "NaN"),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, FabricError::Config(_)) && error.to_string().contains(word), "{error}");
    }
}
