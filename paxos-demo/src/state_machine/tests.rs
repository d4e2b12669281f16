//! Bytes of commands and results, and what each command does.

mod model;

use super::*;
use std::sync::Arc;

fn encoded(command: Command<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode(&mut bytes).unwrap();
    bytes
}

fn run(store: &mut KvStore, command: Command<'_>) -> Vec<u8> {
    let mut result = Vec::new();
    store.apply(&encoded(command), &mut result);
    result
}

/// The result, printed: short to write down.
fn said(store: &mut KvStore, command: Command<'_>) -> String {
    let result = run(store, command);
    match Outcome::parse(&result).unwrap() {
        Outcome::Value(value) => format!("{:?}", String::from_utf8_lossy(value)),
        Outcome::Integer(number) => number.to_string(),
        Outcome::Failure(failure) => failure.to_string(),
        Outcome::Values(values) => {
            let values = values.iter().map(|v| v.map(|v| String::from_utf8_lossy(v).into_owned()));
            format!("{:?}", values.collect::<Vec<_>>())
        }
        other => format!("{other:?}").to_lowercase(),
    }
}

fn set_with(key: &'static str, value: &'static str, options: SetOptions) -> Command<'static> {
    Command::SetWith { key: key.as_bytes(), value: value.as_bytes(), options }
}

const KEEP: SetOptions = SetOptions { condition: None, expiry: Expiry::Keep, return_old: false };

fn within(ms: i64) -> SetOptions {
    SetOptions { expiry: Expiry::In(ms), ..SetOptions::default() }
}

fn expire(ms: i64) -> Command<'static> {
    Command::Expire { key: b"k", ms, absolute: false, condition: None }
}

#[test]
fn layout_is_the_documented_one() {
    let set = encoded(Command::Set { key: b"k1", value: b"v" });
    assert_eq!(set, [2, 0, 2, 0, 0, 0, b'k', b'1', b'v']);
    assert_eq!(set.len(), COMMAND_HEADER_BYTES + 3);
    assert_eq!(encoded(Command::Get { key: b"k" }), [1, 0, 1, 0, 0, 0, b'k']);
    let keys = [&b"a"[..], b""];
    let del = encoded(Command::DelMany { keys: Strings::new(&keys) });
    assert_eq!(del, [4, 0, 2, 0, 0, 0, 1, 0, 0, 0, b'a', 0, 0, 0, 0]);
    let incr = encoded(Command::IncrBy { key: b"k", delta: -2 });
    assert_eq!(incr, [&[8, 0, 1, 0, 0, 0, b'k'][..], &(-2i64).to_le_bytes()].concat());
}

#[test]
fn get_set_del() {
    let mut store = KvStore::default();
    assert_eq!(run(&mut store, Command::Get { key: b"k" }), [0]);
    assert_eq!(run(&mut store, Command::Set { key: b"k", value: b"v" }), [1]);
    assert_eq!(run(&mut store, Command::Get { key: b"k" }), [2, b'v']);
    assert_eq!(run(&mut store, Command::Set { key: b"k", value: b"" }), [1]);
    assert_eq!(run(&mut store, Command::Get { key: b"k" }), [2], "an empty value is not an absent one");
    assert_eq!(run(&mut store, Command::Del { key: b"k" }), [1]);
    assert_eq!(run(&mut store, Command::Del { key: b"k" }), [0]);
    assert!(store.is_empty());
}

#[test]
fn what_is_no_command_is_answered_alike_and_changes_nothing() {
    for (bytes, error) in [
        (&b""[..], CommandError::Truncated),
        (&[1, 0, 0], CommandError::Truncated),
        (&[1, 0, 2, 0, 0, 0, b'k'], CommandError::Truncated),
        (&[1, 0, 1, 0, 0, 0, b'k', b'v'], CommandError::Trailing),
        (&[1, 1, 1, 0, 0, 0, b'k'], CommandError::Options { operation: 1, flags: 1 }),
        (&[2, 3, 1, 0, 0, 0, b'k'], CommandError::Options { operation: 2, flags: 3 }),
        (&[2, 0x40, 1, 0, 0, 0, b'k'], CommandError::Options { operation: 2, flags: 0x40 }),
        (&[4, 0, 255, 255, 255, 255], CommandError::Truncated),
        (&[7, 0, 1, 0, 0, 0, 0, 0, 0, 0], CommandError::Unpaired),
        (&[8, 0, 1, 0, 0, 0, b'k', 1], CommandError::Truncated),
        (&[99, 0, 0, 0, 0, 0], CommandError::UnknownOperation(99)),
    ] {
        assert_eq!(Command::parse(bytes), Err(error));
        let (mut store, mut result) = (KvStore::default(), Vec::new());
        store.apply(bytes, &mut result);
        assert_eq!((Outcome::parse(&result), store.contents()), (Ok(Outcome::Invalid), 0));
    }
}

#[test]
fn conditions_of_set() {
    let mut store = KvStore::default();
    let only = |condition| SetOptions { condition: Some(condition), ..SetOptions::default() };
    let absent = only(SetCondition::Absent);
    let present = only(SetCondition::Present);
    assert_eq!(said(&mut store, set_with("k", "1", present)), "absent");
    assert_eq!(said(&mut store, set_with("k", "1", absent)), "done");
    assert_eq!(said(&mut store, set_with("k", "2", absent)), "absent");
    assert_eq!(said(&mut store, set_with("k", "2", present)), "done");
    let old = SetOptions { return_old: true, ..absent };
    assert_eq!(said(&mut store, set_with("k", "3", old)), "\"2\"", "returned, not set");
    assert_eq!(said(&mut store, set_with("new", "3", old)), "absent", "set: there was nothing");
    assert_eq!(said(&mut store, Command::Get { key: b"new" }), "\"3\"");
    assert_eq!(said(&mut store, Command::Get { key: b"k" }), "\"2\"");
}

#[test]
fn numbers_are_redis_numbers() {
    let mut store = KvStore::default();
    let by = |delta| Command::IncrBy { key: b"n", delta };
    assert_eq!(said(&mut store, by(1)), "1");
    assert_eq!(said(&mut store, by(-11)), "-10");
    run(&mut store, Command::Set { key: b"n", value: i64::MAX.to_string().as_bytes() });
    assert_eq!(said(&mut store, by(1)), "increment or decrement would overflow");
    assert_eq!(said(&mut store, by(-1)), (i64::MAX - 1).to_string());
    for no_number in ["", " 1", "1 ", "+1", "01", "-0", "1.0", "9223372036854775808", "x"] {
        run(&mut store, Command::Set { key: b"n", value: no_number.as_bytes() });
        assert_eq!(said(&mut store, by(1)), "value is not an integer or out of range", "{no_number}");
        assert_eq!(said(&mut store, Command::Get { key: b"n" }), format!("{no_number:?}"));
    }
}

#[test]
fn time_comes_from_the_batches_alone() {
    let mut store = KvStore::default();
    store.advance(1000);
    assert_eq!(said(&mut store, set_with("k", "v", within(50))), "done");
    assert_eq!(said(&mut store, Command::Ttl { key: b"k" }), "50");
    store.advance(900);
    assert_eq!(said(&mut store, Command::Ttl { key: b"k" }), "50", "the clock does not go back");
    store.advance(1049);
    assert_eq!(said(&mut store, Command::Ttl { key: b"k" }), "1");
    assert_eq!(said(&mut store, set_with("k", "w", KEEP)), "done");
    assert_eq!(said(&mut store, Command::Append { key: b"k", value: b"w" }), "2");
    assert_eq!(said(&mut store, Command::DbSize), "1");
    store.advance(1050);
    assert_eq!(said(&mut store, Command::Get { key: b"k" }), "absent");
    assert_eq!(said(&mut store, Command::Ttl { key: b"k" }), "-2");
    assert_eq!(said(&mut store, Command::DbSize), "0");

    assert_eq!(said(&mut store, expire(5)), "0");
    run(&mut store, Command::Set { key: b"k", value: b"1" });
    assert_eq!(said(&mut store, Command::Ttl { key: b"k" }), "-1");
    assert_eq!(said(&mut store, expire(5)), "1");
    assert_eq!(said(&mut store, Command::IncrBy { key: b"k", delta: 1 }), "2");
    assert_eq!(said(&mut store, Command::Ttl { key: b"k" }), "5", "INCR keeps the deadline");
    assert_eq!(said(&mut store, Command::Persist { key: b"k" }), "1");
    assert_eq!(said(&mut store, Command::Persist { key: b"k" }), "0");
    assert_eq!(said(&mut store, expire(i64::MAX)), "invalid expire time");
    assert_eq!(said(&mut store, set_with("k", "v", within(i64::MAX))), "invalid expire time");
    assert_eq!(said(&mut store, Command::Get { key: b"k" }), "\"2\"", "nothing was changed");
    assert_eq!(said(&mut store, expire(-1)), "1");
    assert_eq!(said(&mut store, Command::DbSize), "0");
}

#[test]
fn what_is_due_is_dropped_a_few_pairs_an_op() {
    let mut store = KvStore::default();
    let keys: Vec<[u8; 2]> = (0..1000u16).map(u16::to_be_bytes).collect();
    for key in &keys {
        store.set(key, b"v", Some(10));
    }
    store.advance(10);
    assert_eq!(store.len(), 0, "gone for everybody at once");
    assert!(keys.iter().all(|key| store.get(key).is_none()));
    let mut left = store.pairs().len();
    while left > 0 {
        store.advance(0);
        let now = store.pairs().len();
        assert!(now < left && left - now <= 8, "{left} {now}");
        left = now;
    }
    assert_eq!(store.contents(), 0);
}

#[test]
fn memory_is_bounded() {
    let mut store = KvStore::default().with_bytes_max(10_000);
    let value = [0; 500];
    let full = "command not allowed when used memory > 'maxmemory'.";
    let mut stored = 0;
    let mut key = 0u32;
    while said(&mut store, Command::Set { key: &key.to_le_bytes(), value: &value }) == "done" {
        stored += 1;
        key += 1;
    }
    assert!((12..20).contains(&stored), "{stored}");
    assert_eq!(said(&mut store, Command::Set { key: b"another", value: &value }), full);
    let pairs = [&b"another"[..], &value];
    assert_eq!(said(&mut store, Command::MSet { pairs: Strings::new(&pairs) }), full);
    assert_eq!(said(&mut store, Command::Append { key: &[0; 4], value: &value }), full);
    assert_eq!(said(&mut store, Command::Del { key: &[0; 4] }), "done");
    assert_eq!(said(&mut store, Command::Set { key: b"another", value: &value }), "done");

    let mut store = KvStore::default();
    let half = vec![0; VALUE_BYTES_MAX / 2];
    for _ in 0..2 {
        run(&mut store, Command::Append { key: b"k", value: &half });
    }
    let too_long = "string exceeds maximum allowed size";
    assert_eq!(said(&mut store, Command::Append { key: b"k", value: b"1" }), too_long);
    let longer = vec![0; VALUE_BYTES_MAX + 1];
    let pairs = [&b"a"[..], b"1", b"b", &longer];
    assert_eq!(said(&mut store, Command::MSet { pairs: Strings::new(&pairs) }), too_long);
    assert_eq!(said(&mut store, Command::DbSize), "1", "nothing of it");
    let keys = [&b"k"[..]; 100];
    let result = said(&mut store, Command::MGet { keys: Strings::new(&keys) });
    assert!(result.starts_with("the result is longer than"), "{result}");
    let old = SetOptions { return_old: true, ..SetOptions::default() };
    let result = said(&mut store, set_with("k", "v", old));
    assert!(result.starts_with("the result is longer than"), "it would be kept for the session: {result}");
    assert_eq!(said(&mut store, Command::Strlen { key: b"k" }), VALUE_BYTES_MAX.to_string());
}

#[test]
fn a_result_that_fits_nowhere_is_replaced() {
    assert_eq!(fitting(&[2, 7, 7], 3), [2, 7, 7]);
    let instead = Outcome::parse(fitting(&[2, 7, 7], 2));
    assert_eq!(instead, Ok(Outcome::Failure(Failure::ResultTooLong)));
}

#[test]
fn several_commands_are_executed_in_order() {
    let mut store = KvStore::default();
    let commands = [
        encoded(Command::Set { key: b"k", value: b"1" }),
        encoded(Command::IncrBy { key: b"k", delta: 1 }),
        encoded(Command::Get { key: b"k" }),
        encoded(Command::Del { key: b"none" }),
    ];
    let commands: Vec<&[u8]> = commands.iter().map(|command| &command[..]).collect();
    let many = Command::Many { commands: Strings::new(&commands) };
    let reads = Command::Many { commands: Strings::new(&commands[2..3]) };
    assert!(!many.is_read() && reads.is_read());
    let result = run(&mut store, many);
    let Ok(Outcome::Results(results)) = Outcome::parse(&result) else { panic!("{result:?}") };
    let results: Vec<_> = results.iter().map(|result| Outcome::parse(result.unwrap()).unwrap()).collect();
    assert_eq!(results, [Outcome::Done, Outcome::Integer(2), Outcome::Value(b"2"), Outcome::Absent]);

    let (mut by_read, mut refused) = (Vec::new(), Vec::new());
    store.read(&encoded(reads), &mut by_read);
    assert_eq!(by_read, run(&mut store, reads));
    store.read(&encoded(many), &mut refused);
    assert_eq!(said(&mut store, Command::Get { key: b"k" }), "\"2\"", "a read that writes is refused");

    let inner = encoded(reads);
    let nested = encoded(Command::Many { commands: Strings::new(&[&inner]) });
    assert_eq!(Command::parse(&nested), Err(CommandError::Nested));
    let nonsense = encoded(Command::Many { commands: Strings::new(&[b"?"]) });
    assert_eq!(Command::parse(&nonsense), Err(CommandError::Truncated));
}

/// What is kept for each session is bounded, however the command asks for more, and what would return more is not
/// executed.
#[test]
fn results_of_ops_are_short() {
    let mut store = KvStore::default();
    store.set(b"k", &[1; 300], None);
    let old = SetOptions { return_old: true, ..SetOptions::default() };
    let old = encoded(Command::SetWith { key: b"k", value: &[1; 300], options: old });
    let get = encoded(Command::Get { key: b"k" });
    let keys = [&b"k"[..]; 3];
    let mget = encoded(Command::MGet { keys: Strings::new(&keys) });
    let incr = encoded(Command::IncrBy { key: b"n", delta: 1 });
    let (mut executed, mut refused) = (0, 0);
    for command in [&old, &get, &mget, &incr] {
        for count in 1..=256 {
            let contents = store.contents();
            let commands = vec![&command[..]; count];
            let result = run(&mut store, Command::Many { commands: Strings::new(&commands) });
            assert!(result.len() <= 1024, "{count}: {}", result.len());
            match Outcome::parse(&result).unwrap() {
                Outcome::Results(all) => {
                    assert_eq!(all.iter().count(), count);
                    executed += 1;
                }
                outcome => {
                    assert_eq!(outcome, Outcome::Failure(Failure::ResultTooLong));
                    assert_eq!(store.contents(), contents, "{count}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((executed, refused), (4 * 78, 4 * (256 - 78)), "what travels in one datagram is executed");
}

#[test]
fn a_write_that_returns_too_much_is_not_executed() {
    let old = SetOptions { return_old: true, ..SetOptions::default() };
    for (length, executed) in [(0, true), (1023, true), (1024, false), (1320, false), (4095, false)] {
        let mut store = KvStore::default();
        let value = vec![b'v'; length];
        store.set(b"k", &value, None);
        let result = run(&mut store, set_with("k", "new", old));
        if executed {
            assert_eq!(Outcome::parse(&result), Ok(Outcome::Value(&value)));
            assert_eq!(&*store.get(b"k").unwrap().value, b"new");
        } else {
            assert_eq!(Outcome::parse(&result), Ok(Outcome::Failure(Failure::ResultTooLong)));
            assert!(*store.get(b"k").unwrap().value == value, "{length}");
        }
    }
}

/// However little each of them is, an op takes no long time.
#[test]
fn more_commands_than_a_datagram_holds_are_no_command() {
    let mut store = KvStore::default();
    for command in [Command::Append { key: b"k", value: b"x" }, Command::Get { key: b"k" }] {
        let command = encoded(command);
        let commands = vec![&command[..]; 257];
        assert!(Command::parse(&encoded(Command::Many { commands: Strings::new(&commands[1..]) })).is_ok());
        let many = encoded(Command::Many { commands: Strings::new(&commands) });
        assert!(Command::parse(&many).is_err());
        let (mut applied, mut read) = (Vec::new(), Vec::new());
        store.apply(&many, &mut applied);
        store.read(&many, &mut read);
        assert_eq!(Outcome::parse(&applied), Ok(Outcome::Invalid));
        assert_eq!(Outcome::parse(&read), Ok(Outcome::Invalid));
        assert_eq!(store.contents(), 0);
    }
}

#[test]
fn a_deadline_leaves_the_value_where_it_is() {
    let mut store = KvStore::default();
    store.set(b"k", b"value", None);
    let value = Arc::as_ptr(&store.get(b"k").unwrap().value);
    let contents = store.contents();
    let unmoved = |store: &KvStore| assert_eq!(Arc::as_ptr(&store.get(b"k").unwrap().value), value);
    assert_eq!(said(&mut store, expire(5)), "1");
    unmoved(&store);
    let mut fresh = KvStore::default();
    fresh.set(b"k", b"value", Some(5));
    assert_eq!(store.contents(), fresh.contents());
    assert_eq!(said(&mut store, Command::Persist { key: b"k" }), "1");
    unmoved(&store);
    assert_eq!(store.contents(), contents);
    store.advance(5);
    assert_eq!(said(&mut store, Command::Get { key: b"k" }), "\"value\"");
}

#[test]
fn results_round_trip() {
    let mut values = Vec::new();
    outcome::Values::encode([Some(&b"a"[..]), None, Some(b"")].into_iter(), &mut values);
    let Ok(Outcome::Values(values)) = Outcome::parse(&values) else { panic!("{values:?}") };
    assert_eq!(values.iter().collect::<Vec<_>>(), [Some(&b"a"[..]), None, Some(b"")]);
    for outcome in [
        Outcome::Absent,
        Outcome::Done,
        Outcome::Value(b"v"),
        Outcome::Invalid,
        Outcome::Integer(-5),
        Outcome::Values(values),
        Outcome::Failure(Failure::Expiry),
    ] {
        let mut bytes = Vec::new();
        outcome.encode(&mut bytes);
        assert_eq!(Outcome::parse(&bytes), Ok(outcome));
    }
    for bytes in [&b""[..], &[0, 0], &[4, 1], &[5, 1, 0, 0, 0], &[6], &[6, 99], &[99]] {
        assert_eq!(Outcome::parse(bytes), Err(CommandError::Result), "{bytes:?}");
    }
}
