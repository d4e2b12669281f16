use super::*;

fn pair(bind: &str, calls: Calls) -> (BatchSocket, BatchSocket) {
    let addr = bind.parse().unwrap();
    (BatchSocket::bind(addr, calls).unwrap(), BatchSocket::bind(addr, calls).unwrap())
}

#[test]
fn datagrams_arrive_in_order_with_their_source() {
    for (bind, calls) in
        [("127.0.0.1:0", Calls::Batched), ("127.0.0.1:0", Calls::Single), ("[::1]:0", Calls::Batched)]
    {
        let (mut a, mut b) = pair(bind, calls);
        let to = b.local_addr().unwrap();
        for i in 0..100u8 {
            let staged = a.stage(&[&[i], b"payload"]);
            a.queue(&staged, to);
        }
        a.flush().unwrap();
        let mut next = 0u8;
        while next < 100 {
            for i in 0..b.receive().unwrap().datagrams {
                let (bytes, from) = b.datagram(i);
                assert_eq!(bytes[0], next);
                assert_eq!(&bytes[1..], b"payload");
                assert_eq!(from, a.local_addr().unwrap());
                next += 1;
            }
        }
        assert_eq!(a.stats().sent, 100);
        let calls_made = a.stats().syscalls;
        assert_eq!(calls_made, if calls == Calls::Single { 100 } else { 2 });
    }
}

#[test]
fn a_refused_datagram_is_counted_and_stops_no_other() {
    let (mut a, mut b) = pair("127.0.0.1:0", Calls::Batched);
    let good = a.stage(&[b"x"]);
    let huge = a.stage(&[&[0; 70_000]]);
    let to = b.local_addr().unwrap();
    a.queue(&good, to);
    a.queue(&huge, to);
    a.queue(&good, to);
    a.flush().unwrap();
    assert_eq!((a.stats().sent, a.stats().send_failed), (2, 1));
    assert_eq!(b.receive().unwrap().datagrams, 2);
}

#[test]
fn an_oversized_datagram_reads_as_empty() {
    let (mut a, mut b) = pair("127.0.0.1:0", Calls::Batched);
    let large = a.stage(&[&[0; 4000]]);
    a.queue(&large, b.local_addr().unwrap());
    a.flush().unwrap();
    assert_eq!(b.receive().unwrap().datagrams, 1);
    assert!(b.datagram(0).0.is_empty());
    assert_eq!(b.stats().oversized, 1);
}

/// What a receiver gets that has the stack leave together what came together (UDP_GRO).
fn received_joined(socket: &BatchSocket, n: usize) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    (0..n)
        .map(|_| {
            let buffer = &mut buffer[..];
            // SAFETY: a buffer of our own and its length.
            let got = unsafe {
                libc::recv(socket.socket().as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
            };
            assert!(got >= 0, "{}", io::Error::last_os_error());
            buffer[..got as usize].to_vec()
        })
        .collect()
}

fn set(socket: &BatchSocket, level: libc::c_int, option: libc::c_int) {
    let one: libc::c_int = 1;
    // SAFETY: a pointer to an int and its size.
    let set = unsafe {
        libc::setsockopt(
            socket.socket().as_raw_fd(),
            level,
            option,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Lengths of what was queued for one address, in order; each datagram holds its number again and again.
fn queue_joining(socket: &mut BatchSocket, to: SocketAddr, lengths: &[usize]) {
    for (n, bytes) in lengths.iter().enumerate() {
        let staged = socket.stage(&[&vec![n as u8; *bytes]]);
        socket.queue_joining(&staged, to);
    }
}

#[test]
fn neighbours_of_one_length_leave_as_one() {
    let (mut a, b) = pair("127.0.0.1:0", Calls::Batched);
    set(&b, libc::SOL_UDP, libc::UDP_GRO);
    let to = b.local_addr().unwrap();
    // A shorter one ends its row, a longer one begins another, an empty one is alone.
    queue_joining(&mut a, to, &[100, 100, 100, 40, 40, 60, 0, 60]);
    let alone = a.stage(&[&[8; 60]]);
    a.queue(&alone, to);
    a.flush().unwrap();
    let lengths: Vec<usize> = received_joined(&b, 6).iter().map(Vec::len).collect();
    assert_eq!(lengths, [340, 40, 60, 0, 60, 60]);
    assert_eq!((a.stats().sent, a.stats().syscalls), (9, 1));
}

#[test]
fn what_left_as_one_arrives_one_by_one() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let (mut a, mut b) = pair(bind, Calls::Batched);
        let (_, mut c) = pair(bind, Calls::Batched);
        let lengths = [[200; 150].as_slice(), &[1400; 100], &[3]].concat();
        queue_joining(&mut a, b.local_addr().unwrap(), &lengths);
        queue_joining(&mut a, c.local_addr().unwrap(), &[70, 70]);
        a.flush().unwrap();
        assert_eq!((a.stats().sent, a.stats().syscalls), (253, 1));
        for (socket, lengths) in [(&mut b, &lengths[..]), (&mut c, &[70, 70])] {
            let mut n = 0;
            while n < lengths.len() {
                for i in 0..socket.receive().unwrap().datagrams {
                    let (bytes, from) = socket.datagram(i);
                    assert_eq!(bytes, vec![n as u8; lengths[n]]);
                    assert_eq!(from, a.local_addr().unwrap());
                    n += 1;
                }
            }
            assert_eq!(socket.receive().unwrap(), Received::default());
        }
    }
}

#[test]
fn a_kernel_that_refuses_to_cut_gets_them_one_by_one() {
    let (mut a, mut b) = pair("127.0.0.1:0", Calls::Batched);
    // Without checksums nothing can be cut.
    set(&a, libc::SOL_SOCKET, libc::SO_NO_CHECK);
    let to = b.local_addr().unwrap();
    for _ in 0..2 {
        queue_joining(&mut a, to, &[9; 20]);
        a.flush().unwrap();
        assert_eq!(b.receive().unwrap().datagrams, 20);
        assert_eq!(b.datagram(19).0, [19; 9]);
    }
    assert_eq!((a.stats().sent, a.stats().send_failed, a.stats().parted), (40, 0, 1));
    assert_eq!(a.stats().syscalls, 3, "it is not tried again at once");
}

/// Sends rows to an address to which nothing can be sent, and to `to`; what arrives must have left as one.
fn answered_beside(nowhere: SocketAddr) -> SocketStats {
    let (mut a, b) = pair("127.0.0.1:0", Calls::Batched);
    set(&b, libc::SOL_UDP, libc::UDP_GRO);
    let to = b.local_addr().unwrap();
    for _ in 0..2 {
        queue_joining(&mut a, nowhere, &[9; 20]);
        queue_joining(&mut a, to, &[9; 20]);
        a.flush().unwrap();
        assert_eq!(received_joined(&b, 1)[0].len(), 180);
    }
    a.stats()
}

#[test]
fn an_address_without_an_answer_parts_only_what_goes_there() {
    // Anybody can send from port 0.
    let stats = answered_beside("127.0.0.1:0".parse().unwrap());
    assert_eq!((stats.sent, stats.send_failed, stats.parted), (40, 40, 2));
    // No way there: not for the cutting, so it is lost as one.
    let stats = answered_beside("255.255.255.255:9".parse().unwrap());
    assert_eq!((stats.sent, stats.send_failed, stats.parted), (40, 40, 0));
}

#[test]
fn what_left_as_one_is_received_as_one() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let (mut a, mut b) = pair(bind, Calls::Batched);
        b.take_joined();
        let to = b.local_addr().unwrap();
        let lengths = [200, 200, 200, 70, 9, 0, 30];
        queue_joining(&mut a, to, &lengths);
        a.flush().unwrap();
        assert_eq!(b.receive().unwrap(), Received { datagrams: lengths.len(), more: false });
        assert_eq!((b.stats().received, b.stats().syscalls), (lengths.len() as u64, 1));
        for (i, length) in lengths.into_iter().enumerate() {
            assert_eq!(b.datagram(i), (&vec![i as u8; length][..], a.local_addr().unwrap()));
        }
        assert_eq!(b.receive().unwrap(), Received::default());
    }
}

#[test]
fn more_may_wait_behind_a_full_receive_only() {
    let (mut a, mut b) = pair("127.0.0.1:0", Calls::Batched);
    b.take_joined();
    let to = b.local_addr().unwrap();
    queue_joining(&mut a, to, &[60; 100]);
    a.flush().unwrap();
    // Two messages of 64 and 36.
    assert_eq!(b.receive().unwrap(), Received { datagrams: 100, more: false });
    queue_joining(&mut a, to, &[60; BATCH]);
    a.flush().unwrap();
    assert_eq!(b.receive().unwrap(), Received { datagrams: BATCH, more: false }, "in one message");
    for i in 0..=BATCH as u8 {
        let staged = a.stage(&[&[i; 8]]);
        a.queue(&staged, to);
    }
    a.flush().unwrap();
    assert_eq!(b.receive().unwrap(), Received { datagrams: BATCH, more: true });
    assert_eq!(b.receive().unwrap(), Received { datagrams: 1, more: false });
}

#[test]
fn what_is_too_large_reads_as_empty_in_company_too() {
    let (mut a, mut b) = pair("127.0.0.1:0", Calls::Batched);
    b.take_joined();
    let to = b.local_addr().unwrap();
    queue_joining(&mut a, to, &[3000, 3000, 3000, 100]);
    let large = a.stage(&[&[0; 4000]]);
    a.queue(&large, to);
    a.flush().unwrap();
    let n = b.receive().unwrap().datagrams;
    assert_eq!(n, 5);
    let lengths: Vec<_> = (0..n).map(|i| b.datagram(i).0.len()).collect();
    assert_eq!(lengths, [0, 0, 0, 100, 0], "and what is not is read");
    assert_eq!(b.stats().oversized, 4);
}
