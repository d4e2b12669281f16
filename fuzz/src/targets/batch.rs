//! The payload of a Prepare, and what applying it does: [`batch::open`], [`Service::apply`].

use electrode::types::OpNumber;
use paxos_demo::batch::{self, BATCH_HEADER_BYTES, BatchEntry};
use paxos_demo::service::Service;
use paxos_demo::state_machine::{Command, KEPT_RESULT_BYTES_MAX, Outcome};

use super::Target;
use super::client_message::{command, commands, outcome};
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "batch",
    run,
    seeds,
    words: &[
        b"\x02\x00\x03\x00\x00\x00keyvalue",
        b"\x09\x00\x03\x00\x00\x00keyvalue",
        b"\x08\x00\x03\x00\x00\x00key\x01\x00\x00\x00\x00\x00\x00\x00",
        b"\x0b\x00\x03\x00\x00\x00key\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x00\x00\x02\x00\x00\x00",
        b"\x01\x00\x02\x00\x00\x00",
    ],
    bytes_max: 1400,
    thousands: 1000,
};

const SESSIONS: usize = 4;

fn seeds() -> Vec<Vec<u8>> {
    let commands = commands();
    let (front, back) = commands[1].split_at(4);
    let part = |part, command| BatchEntry { part, parts: 2, ..BatchEntry::whole(7, 1, command) };
    let mut batches: Vec<Vec<BatchEntry<'_>>> =
        (1..).zip(&commands).map(|(request, command)| vec![BatchEntry::whole(4, request, command)]).collect();
    batches.push(
        (1..).zip(&commands).map(|(request, command)| BatchEntry::whole(4, request, command)).collect(),
    );
    batches.push(vec![
        part(0, front),
        part(1, back),
        BatchEntry::NO_OP,
        BatchEntry::whole(7, 2, &commands[0]),
    ]);
    batches.push(Vec::new());
    batches.iter().map(|entries| write(5, entries)).collect()
}

fn write(time_ms: u64, entries: &[BatchEntry<'_>]) -> Vec<u8> {
    let mut payload = Vec::new();
    batch::encode_header(time_ms, &mut payload);
    entries.iter().for_each(|entry| entry.encode(&mut payload));
    payload
}

fn run(input: &[u8]) {
    let Ok((time_ms, entries)) = bounded(0, || batch::open(input)) else { return };
    let mut good = Vec::new();
    let mut flaws = 0;
    for entry in entries {
        match entry {
            Ok(entry) => good.push(entry),
            Err(_) => flaws += 1,
        }
    }
    assert!(flaws <= 1, "the first flaw ends it");
    let taken = BATCH_HEADER_BYTES + good.iter().map(BatchEntry::encoded_bytes).sum::<usize>();
    assert_eq!(taken == input.len(), flaws == 0, "every byte is an entry's");
    assert_eq!(write(time_ms, &good), input[..taken], "there is one way to write a batch");

    let (mut service, mut twin) = (Service::new(SESSIONS), Service::new(SESSIONS));
    for (op, entry) in (1..).map(OpNumber).zip(&good) {
        command(entry.command);
        // A value, its key and its pair; a result of all of them for each of several commands.
        let result =
            bounded(4096 * input.len() + 65536, || service.apply(op, time_ms, *entry).map(<[u8]>::to_vec));
        if let Some(result) = &result {
            outcome(result);
            assert!(Outcome::parse(result).is_ok(), "a result is one");
            assert!(result.len() <= KEPT_RESULT_BYTES_MAX, "what is kept is short");
        }
        assert_eq!(twin.apply(op, time_ms, *entry), result.as_deref(), "replicas answer alike");
        assert_eq!(service.digest(), twin.digest());
        assert_eq!(service.apply(op, time_ms, *entry), None, "a request is executed once");
        twin.apply(op, time_ms, *entry);
        read(&service, entry.command);
    }
    let op = OpNumber(good.len() as u64);
    let snapshot = service.snapshot(op);
    let bytes = snapshot.encode();
    let (restored, at) = Service::restore(&bytes, SESSIONS).expect("what was written is read");
    assert_eq!((at, restored.digest(), restored.clock_ms()), (op, service.digest(), service.clock_ms()));
    assert_eq!(restored.snapshot(op).encode(), bytes, "there is one way to write a state");
}

/// A read says something; of what is no read, at least a part is answered as invalid.
fn read(service: &Service, command: &[u8]) {
    let mut result = Vec::new();
    service.read(command, &mut result);
    let parsed = Outcome::parse(&result).expect("a result is one");
    if Command::parse(command).is_ok_and(|command| command.is_read()) {
        return;
    }
    let invalid =
        |result: Option<&[u8]>| result.is_some_and(|result| Outcome::parse(result) == Ok(Outcome::Invalid));
    match parsed {
        Outcome::Results(results) => assert!(results.iter().any(invalid), "{parsed:?}"),
        parsed => assert_eq!(parsed, Outcome::Invalid),
    }
}
