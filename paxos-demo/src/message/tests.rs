use super::*;
use proptest::prelude::*;

const REQUEST: ClientRequest<'_> =
    ClientRequest { client: 0x0102_0304_0506_0708, request: 9, attempt: 0x0a0b, command: b"xyz" };

fn encoded(request: &ClientRequest<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn request_layout_is_the_documented_one() {
    let bytes = encoded(&REQUEST);
    assert_eq!(bytes[..8], [1, 0, 3, 0, 0x0b, 0x0a, 0, 0]);
    assert_eq!(bytes[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(bytes[16..24], [9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[24..], b"xyz");
}

#[test]
fn every_flaw_has_its_own_error() {
    assert_eq!(Packet::parse(&[]), Err(MessageError::Empty));
    assert_eq!(Packet::parse(&[77]), Err(MessageError::UnknownTag(77)));

    let bytes = encoded(&REQUEST);
    let what = "client request";
    assert_eq!(Packet::parse(&bytes[..23]), Err(MessageError::Truncated { what, need: 24, have: 23 }));
    assert_eq!(
        Packet::parse(&bytes[..26]),
        Err(MessageError::Length { what, declared: 3, actual: 2 }),
        "a cut command is not a shorter command"
    );
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Packet::parse(&longer), Err(MessageError::Length { what, declared: 3, actual: 4 }));
    for index in [1, 6, 7] {
        let mut odd = bytes.clone();
        odd[index] = 1;
        assert_eq!(Packet::parse(&odd), Err(MessageError::Reserved(what)));
    }

    let mut reply = Vec::new();
    ClientReply {
        status: ReplyStatus::Ok,
        leader: ReplicaId(2),
        view: View(7),
        client: 1,
        request: 2,
        attempt: 0,
        result: b"",
    }
    .encode(&mut reply);
    reply[1] = 200;
    assert_eq!(Packet::parse(&reply), Err(MessageError::UnknownStatus(200)));
}

#[test]
fn a_command_too_long_for_its_length_field_is_refused() {
    let command = vec![0; 70_000];
    let request = ClientRequest { client: 1, request: 1, attempt: 1, command: &command };
    let refused = request.encode(&mut Vec::new());
    assert_eq!(refused, Err(MessageError::TooLong { what: "command", bytes: 70_000 }));
}

#[test]
fn status_datagrams_round_trip() {
    let mut bytes = Vec::new();
    encode_status_request(5, 0, &mut bytes);
    assert_eq!(Packet::parse(&bytes), Ok(Packet::StatusRequest { nonce: 5, bytes: 16 }));
    bytes.clear();
    encode_status_request(5, 1000, &mut bytes);
    assert_eq!(Packet::parse(&bytes), Ok(Packet::StatusRequest { nonce: 5, bytes: 1000 }));
    bytes.push(1);
    assert!(Packet::parse(&bytes).is_err());

    let mut bytes = Vec::new();
    encode_status_reply(6, b"{}", &mut bytes);
    assert_eq!(Packet::parse(&bytes), Ok(Packet::StatusReply { nonce: 6, json: b"{}" }));
}

proptest! {
    #[test]
    fn requests_and_replies_round_trip(
        client: u64, request: u64, view: u64, leader: u8, status in 0u8..5,
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let asked = ClientRequest { client, request, attempt: 3, command: &body };
        let bytes = encoded(&asked);
        prop_assert_eq!(Packet::parse(&bytes), Ok(Packet::Request(asked)));
        let mut copy = bytes.clone();
        ClientRequest::set_attempt(&mut copy, 4);
        prop_assert_eq!(Packet::parse(&copy), Ok(Packet::Request(ClientRequest { attempt: 4, ..asked })));

        let status = ReplyStatus::from_wire(status).unwrap();
        let answer = ClientReply {
            status, leader: ReplicaId(leader), view: View(view), client, request, attempt: 0x0102, result: &body,
        };
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), answer.encoded_bytes());
        prop_assert_eq!(Packet::parse(&bytes), Ok(Packet::Reply(answer)));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), tag in 0u8..7) {
        let _ = Packet::parse(&bytes);
        let mut tagged = bytes;
        if let Some(first) = tagged.first_mut() {
            *first = tag;
        }
        let _ = Packet::parse(&tagged);
    }
}
