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
            for i in 0..b.receive().unwrap() {
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
    assert_eq!(b.receive().unwrap(), 2);
}

#[test]
fn an_oversized_datagram_reads_as_empty() {
    let (mut a, mut b) = pair("127.0.0.1:0", Calls::Batched);
    let large = a.stage(&[&[0; 4000]]);
    a.queue(&large, b.local_addr().unwrap());
    a.flush().unwrap();
    assert_eq!(b.receive().unwrap(), 1);
    assert!(b.datagram(0).0.is_empty());
    assert_eq!(b.stats().oversized, 1);
}
