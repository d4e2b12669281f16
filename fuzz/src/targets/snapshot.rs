//! A snapshot of the service, from a disk or from another replica: [`Service::restore`].
//!
//! The first byte says what is made right before it is read, so that mutations get past it: bit 0 the checksum,
//! bit 1 the digest of the pairs.

use electrode::types::OpNumber;
use paxos_demo::batch::BatchEntry;
use paxos_demo::digest::Chain;
use paxos_demo::service::Service;
use paxos_demo::state_machine::KvStore;

use super::Target;
use super::client_message::commands;
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "snapshot",
    run,
    seeds,
    words: &[b"elecsnap", b"\x02\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00\x01\x00\x00\x00"],
    bytes_max: 1024,
    thousands: 1000,
};

const SESSIONS: usize = 4;
const CHECKSUM: u8 = 1;
const CONTENTS: u8 = 2;
// Fields of the header.
const SUM_AT: usize = 16;
const SUMMED_FROM: usize = 24;
const CLOCK_AT: usize = 32;
const CONTENTS_AT: usize = 48;
const PAIRS_AT: usize = 56;
const HEADER_BYTES: usize = 72;

fn seeds() -> Vec<Vec<u8>> {
    let mut service = Service::new(SESSIONS);
    let mut snapshots = vec![service.snapshot(OpNumber(0)).encode()];
    let commands = commands();
    for (op, command) in (1u64..).zip(&commands) {
        service.apply(OpNumber(op), 5, BatchEntry::whole(1 + op % 6, op, command));
        if op % 4 == 1 {
            snapshots.push(service.snapshot(OpNumber(op)).encode());
        }
    }
    let part = BatchEntry { part: 0, parts: 3, ..BatchEntry::whole(9, 1, b"begin") };
    service.apply(OpNumber(99), 6, part);
    snapshots.push(service.snapshot(OpNumber(99)).encode());
    let all = CHECKSUM | CONTENTS;
    [0, CHECKSUM, all]
        .iter()
        .flat_map(|flags| snapshots.iter().map(|bytes| [&[*flags], &bytes[..]].concat()))
        .collect()
}

/// Makes checksum and digest what they should be over bytes that may be anything.
pub(super) fn reseal(flags: u8, bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    if flags & CONTENTS != 0 {
        let contents = contents(bytes).to_le_bytes();
        bytes[CONTENTS_AT..][..8].copy_from_slice(&contents);
    }
    if flags & CHECKSUM != 0 {
        let sum = Chain::seeded(0x736e_6170_7368_6f74).bytes(&bytes[SUMMED_FROM..]).value().to_le_bytes();
        bytes[SUM_AT..SUMMED_FROM].copy_from_slice(&sum);
    }
}

/// The digest of as many pairs as are there.
fn contents(bytes: &[u8]) -> u64 {
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let mut store = KvStore::at(u64_at(CLOCK_AT));
    let mut rest = &bytes[HEADER_BYTES..];
    for _ in 0..u64_at(PAIRS_AT) {
        let Some((lengths, tail)) = rest.split_first_chunk::<16>() else { break };
        let u32_at =
            |at: usize| u32::from_le_bytes(lengths[at..at + 4].try_into().expect("four bytes")) as usize;
        let deadline = u64::from_le_bytes(lengths[8..].try_into().expect("eight bytes"));
        let Some((key, tail)) = tail.split_at_checked(u32_at(0)) else { break };
        let Some((value, tail)) = tail.split_at_checked(u32_at(4)) else { break };
        store.set(key, value, (deadline != 0).then_some(deadline));
        rest = tail;
    }
    store.contents()
}

fn run(input: &[u8]) {
    let Some((&flags, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    reseal(flags, &mut bytes);
    // A pair of a few bytes takes a node of a map and two of the order of deadlines.
    let restored = bounded(256 * bytes.len() + 65536, || Service::restore(&bytes, SESSIONS));
    let Ok((mut service, op)) = restored else { return };
    assert_eq!(service.snapshot(op).encode(), bytes, "there is one way to write a state");
    assert!(service.client_sessions() <= SESSIONS);

    let (mut twin, _) = Service::restore(&bytes, SESSIONS).expect("it was before");
    assert_eq!(service.digest(), twin.digest());
    let clock_ms = service.clock_ms();
    for (step, command) in (1u64..).zip(&commands()) {
        let (op, entry) = (OpNumber(op.0.wrapping_add(step)), BatchEntry::whole(3, step, command));
        let result = service.apply(op, clock_ms, entry).map(<[u8]>::to_vec);
        assert_eq!(
            twin.apply(op, clock_ms, entry).map(<[u8]>::to_vec),
            result,
            "restored copies answer alike"
        );
    }
    assert_eq!(service.digest(), twin.digest());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If the layout changes, this says that the target no longer gets past the checksums.
    #[test]
    fn what_is_right_is_resealed_as_it_was() {
        for seed in seeds() {
            let mut bytes = seed[1..].to_vec();
            reseal(CHECKSUM | CONTENTS, &mut bytes);
            assert_eq!(bytes, seed[1..]);
            bytes[SUM_AT] ^= 1;
            bytes[CONTENTS_AT] ^= 1;
            reseal(CHECKSUM | CONTENTS, &mut bytes);
            assert_eq!(bytes, seed[1..]);
        }
    }
}
