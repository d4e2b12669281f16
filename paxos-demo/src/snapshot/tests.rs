use super::*;
use crate::batch::BatchEntry;
use crate::client_table::Lookup;
use crate::service::Service;
use crate::state_machine::{Command, Expiry, SetOptions};
use proptest::prelude::*;

const SESSIONS: usize = 4;

#[derive(Clone, Debug)]
struct Op {
    client: u64,
    key: u8,
    value: Option<Vec<u8>>,
    ttl_ms: Option<i64>,
    time_ms: u64,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let value = proptest::option::weighted(0.8, proptest::collection::vec(any::<u8>(), 0..40));
    let ttl = proptest::option::of(0i64..600);
    let op = (0u64..9, 0u8..12, value, ttl, 0u64..1000)
        .prop_map(|(client, key, value, ttl_ms, time_ms)| Op { client, key, value, ttl_ms, time_ms });
    proptest::collection::vec(op, 0..60)
}

/// Client 0 stands for no-ops. Request numbers are op numbers: they grow.
fn apply(service: &mut Service, first: u64, ops: &[Op]) {
    for (op, Op { client, key, value, ttl_ms, time_ms }) in (first..).zip(ops) {
        let key = &[*key; 3][..usize::from(*key) % 4];
        let mut command = Vec::new();
        match value {
            Some(value) => {
                let expiry = ttl_ms.map_or(Expiry::Never, Expiry::In);
                let options = SetOptions { expiry, ..SetOptions::default() };
                Command::SetWith { key, value, options }.encode(&mut command).unwrap();
            }
            None => Command::Del { key }.encode(&mut command).unwrap(),
        }
        let entry = match client {
            0 => BatchEntry::NO_OP,
            _ => BatchEntry::whole(*client, op, &command),
        };
        let _ = service.apply(OpNumber(op), *time_ms, entry);
    }
}

fn service(ops: &[Op]) -> Service {
    let mut service = Service::new(SESSIONS);
    apply(&mut service, 1, ops);
    service
}

fn example() -> (Snapshot, Bytes) {
    let set =
        |client, key, value: &str| Op { client, key, value: Some(value.into()), ttl_ms: None, time_ms: 9 };
    let service = service(&[set(1, 1, "one"), set(2, 2, "a longer value than the others"), set(1, 3, "")]);
    let snapshot = service.snapshot(OpNumber(3));
    let bytes = snapshot.encode();
    (snapshot, bytes)
}

/// Puts the right checksum into bytes that were changed.
fn seal(bytes: &mut [u8]) {
    let sum = checksum(&bytes[CHECKED_FROM..]);
    bytes[CHECKED_FROM - 8..CHECKED_FROM].copy_from_slice(&sum.to_le_bytes());
}

fn error(bytes: &[u8]) -> SnapshotError {
    Service::restore(bytes, SESSIONS).expect_err("refused")
}

#[test]
fn every_cut_and_every_bent_byte_is_noticed() {
    let (_, bytes) = example();
    assert!(Service::restore(&bytes, SESSIONS).is_ok());
    for cut in 0..bytes.len() {
        error(&bytes[..cut]);
        let mut sealed = bytes[..cut].to_vec();
        if cut >= CHECKED_FROM {
            seal(&mut sealed);
            assert!(matches!(error(&sealed), SnapshotError::Truncated(_)), "cut to {cut}");
        }
    }
    for at in 0..bytes.len() {
        let mut bent = bytes.to_vec();
        bent[at] ^= 0x10;
        error(&bent);
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert_eq!(error(&longer), SnapshotError::Checksum);
    seal(&mut longer);
    assert_eq!(error(&longer), SnapshotError::Trailing(1));
}

#[test]
fn what_has_the_right_checksum_is_still_looked_at() {
    let (_, bytes) = example();
    let bent = |at: usize, value: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        seal(&mut bytes);
        error(&bytes)
    };
    assert_eq!(bent(0, b'E'), SnapshotError::Magic);
    assert_eq!(bent(8, 3), SnapshotError::Version(3));
    // Counts and lengths of many gigabytes, of which nothing is there.
    assert!(matches!(bent(56 + 7, 0xff), SnapshotError::Truncated(_) | SnapshotError::Inconsistent(_)));
    assert_eq!(bent(72 + 3, 0xff), SnapshotError::Truncated("pairs"));
    assert_eq!(bent(72 + 7, 0xff), SnapshotError::Truncated("pairs"));
    let sessions = SnapshotError::Sessions { sessions: 2 | 0xff << 56, max: SESSIONS };
    assert_eq!(bent(64 + 7, 0xff), sessions);
    // The first value, and the deadline before it.
    assert!(matches!(bent(72 + 16 + 1, b'x'), SnapshotError::Inconsistent(_)));
    assert!(matches!(bent(72 + 8, 1), SnapshotError::Inconsistent(_)));

    let (mut snapshot, bytes) = example();
    assert!(matches!(Service::restore(&bytes, 1), Err(SnapshotError::Sessions { sessions: 2, max: 1 })));
    snapshot.contents ^= 1;
    assert!(matches!(error(&snapshot.encode()), SnapshotError::Inconsistent(_)));
}

/// A snapshot between two parts of a command: whoever restores it goes on with the next part.
#[test]
fn a_command_in_parts_survives_a_snapshot() {
    let mut command = Vec::new();
    Command::Set { key: b"k", value: b"a value" }.encode(&mut command).unwrap();
    let (a, b) = command.split_at(9);
    let part = |part, command| BatchEntry { part, parts: 2, ..BatchEntry::whole(1, 1, command) };
    let mut original = service(&[]);
    assert_eq!(original.apply(OpNumber(1), 5, part(0, a)), None);
    let bytes = original.snapshot(OpNumber(1)).encode();
    for cut in CHECKED_FROM..bytes.len() {
        let mut cut = bytes[..cut].to_vec();
        seal(&mut cut);
        assert!(matches!(error(&cut), SnapshotError::Truncated(_)));
    }
    // No pairs and no sessions: it follows the header.
    for (at, value) in [(72 + 16, 0), (72 + 16, 2), (72 + 18, 0), (72 + 18, 1)] {
        let mut bent = bytes.to_vec();
        bent[at] = value;
        seal(&mut bent);
        assert_eq!(error(&bent), SnapshotError::Inconsistent("a command in parts that cannot be"));
    }
    let (mut restored, _) = Service::restore(&bytes, SESSIONS).unwrap();
    assert_eq!(restored.snapshot(OpNumber(1)).encode(), bytes);
    for service in [&mut original, &mut restored] {
        assert_eq!(service.apply(OpNumber(2), 6, part(1, b)), Some(&[1][..]));
        assert_eq!(service.keys(), 1);
    }
    assert_eq!(restored.digest(), original.digest());
    let after = original.snapshot(OpNumber(2));
    assert_eq!(restored.snapshot(OpNumber(2)), after);
    assert_eq!(after.partial, crate::large::Partial::default());
}

proptest! {
    /// A restored service is the one that was copied: same digest, same bytes, same answers, and whatever
    /// is applied to both of them later leaves them equal, evictions included.
    #[test]
    fn a_restored_service_goes_on_as_the_one_that_was_copied(before in ops(), after in ops()) {
        let mut original = service(&before);
        let at = OpNumber(before.len() as u64);
        let snapshot = original.snapshot(at);
        let bytes = snapshot.encode();
        // What is applied meanwhile does not show in the copy.
        apply(&mut original, at.0 + 1, &after);
        prop_assert_eq!(&snapshot.encode(), &bytes);

        let (mut restored, op) = Service::restore(&bytes, SESSIONS).unwrap();
        prop_assert_eq!(op, at);
        prop_assert_eq!(restored.digest(), snapshot.digest());
        prop_assert_eq!(&restored.snapshot(op), &snapshot);
        prop_assert_eq!(restored.snapshot(op).encode(), bytes);

        apply(&mut restored, at.0 + 1, &after);
        prop_assert_eq!(restored.digest(), original.digest());
        let end = OpNumber(at.0 + after.len() as u64);
        prop_assert_eq!(restored.snapshot(end), original.snapshot(end));
        for client in 1..9 {
            for request in 1..=end.0 {
                prop_assert_eq!(restored.lookup(client, request), original.lookup(client, request));
            }
        }
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Service::restore(&bytes, SESSIONS);
        let mut sealed = vec![0; 72];
        sealed[..8].copy_from_slice(&MAGIC);
        sealed[8] = VERSION as u8;
        // A plausible header: without it almost nothing gets further.
        sealed[56] = bytes.len() as u8 / 40;
        sealed[64] = bytes.len() as u8 / 70;
        sealed.extend_from_slice(&bytes);
        seal(&mut sealed);
        prop_assert!(!matches!(
            Service::restore(&sealed, SESSIONS),
            Err(SnapshotError::Magic | SnapshotError::Version(_) | SnapshotError::Checksum)
        ));
    }
}

#[test]
fn a_snapshot_says_little_when_printed() {
    let (snapshot, _) = example();
    let text = format!("{snapshot:?}");
    assert!(text.starts_with("Snapshot { op: OpNumber(3), clock_ms: 9, ") && text.len() < 200, "{text}");
}

#[test]
fn no_op_belongs_to_no_session() {
    let mut service = Service::new(1);
    assert_eq!(service.apply(OpNumber(1), 5, BatchEntry::NO_OP), None);
    assert_eq!((service.client_sessions(), service.clock_ms()), (0, 5));
    assert_eq!(service.lookup(0, 0), Lookup::Unknown);
}
