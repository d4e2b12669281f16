//! The store against a model that is too simple to be wrong.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// One command of the model test, owned.
#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Set(u8, Vec<u8>, SetOptions),
    Del(Vec<u8>),
    Exists(Vec<u8>),
    MGet(Vec<u8>),
    MSet(Vec<(u8, u8)>),
    IncrBy(u8, i64),
    Append(u8, Vec<u8>),
    Strlen(u8),
    Expire(u8, i64, bool, Option<ExpiryCondition>),
    Persist(u8),
    Ttl(u8),
    DbSize,
}

const KEYS: u8 = 4;

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    let keys = || proptest::collection::vec(0..KEYS, 0..4);
    // Often a number.
    let value = || prop_oneof![(-3i64..30).prop_map(|n| n.to_string().into_bytes()), Just(b"text".to_vec())];
    let condition =
        prop_oneof![Just(None), Just(Some(SetCondition::Absent)), Just(Some(SetCondition::Present))];
    let expiry = prop_oneof![
        Just(Expiry::Never),
        Just(Expiry::Keep),
        (-5i64..40).prop_map(Expiry::In),
        (0i64..300).prop_map(Expiry::At),
        Just(Expiry::In(i64::MAX)),
    ];
    let options = (condition, expiry, any::<bool>()).prop_map(|(condition, expiry, return_old)| SetOptions {
        condition,
        expiry,
        return_old,
    });
    let when = prop_oneof![
        Just(None),
        Just(Some(ExpiryCondition::None)),
        Just(Some(ExpiryCondition::Some)),
        Just(Some(ExpiryCondition::Later)),
        Just(Some(ExpiryCondition::Earlier)),
    ];
    prop_oneof![
        key().prop_map(Step::Get),
        (key(), value(), options).prop_map(|(k, v, o)| Step::Set(k, v, o)),
        keys().prop_map(Step::Del),
        keys().prop_map(Step::Exists),
        keys().prop_map(Step::MGet),
        proptest::collection::vec((0..KEYS, any::<u8>()), 0..4).prop_map(Step::MSet),
        (key(), prop_oneof![-5i64..5, Just(i64::MAX)]).prop_map(|(k, n)| Step::IncrBy(k, n)),
        (key(), value()).prop_map(|(k, v)| Step::Append(k, v)),
        key().prop_map(Step::Strlen),
        (key(), -20i64..60, any::<bool>(), when).prop_map(|(k, ms, absolute, when)| Step::Expire(
            k,
            ms * if absolute { 5 } else { 1 },
            absolute,
            when
        )),
        key().prop_map(Step::Persist),
        key().prop_map(Step::Ttl),
        Just(Step::DbSize),
    ]
}

fn perform(store: &mut KvStore, step: &Step) -> String {
    let all: Vec<[u8; 1]> = (0..=255).map(|k| [k]).collect();
    let one = |k: u8| &all[usize::from(k)][..];
    let several = |keys: &[u8]| keys.iter().map(|k| one(*k)).collect::<Vec<_>>();
    match step {
        Step::Get(k) => said(store, Command::Get { key: one(*k) }),
        Step::Set(k, value, options) => {
            said(store, Command::SetWith { key: one(*k), value, options: *options })
        }
        Step::Del(keys) => said(store, Command::DelMany { keys: Strings::new(&several(keys)) }),
        Step::Exists(keys) => said(store, Command::Exists { keys: Strings::new(&several(keys)) }),
        Step::MGet(keys) => said(store, Command::MGet { keys: Strings::new(&several(keys)) }),
        Step::MSet(pairs) => {
            let strings: Vec<_> = pairs.iter().flat_map(|(k, v)| [one(*k), one(*v)]).collect();
            said(store, Command::MSet { pairs: Strings::new(&strings) })
        }
        Step::IncrBy(k, delta) => said(store, Command::IncrBy { key: one(*k), delta: *delta }),
        Step::Append(k, value) => said(store, Command::Append { key: one(*k), value }),
        Step::Strlen(k) => said(store, Command::Strlen { key: one(*k) }),
        Step::Expire(k, ms, absolute, condition) => {
            let (key, ms, absolute, condition) = (one(*k), *ms, *absolute, *condition);
            said(store, Command::Expire { key, ms, absolute, condition })
        }
        Step::Persist(k) => said(store, Command::Persist { key: one(*k) }),
        Step::Ttl(k) => said(store, Command::Ttl { key: one(*k) }),
        Step::DbSize => said(store, Command::DbSize),
    }
}

/// A plain map; whatever is due is looked for from end to end, and gone at once.
#[derive(Default)]
struct Model {
    now: i64,
    pairs: HashMap<u8, (Vec<u8>, Option<i64>)>,
}

impl Model {
    fn advance(&mut self, now: i64) {
        self.now = self.now.max(now);
        let now = self.now;
        self.pairs.retain(|_, (_, at)| at.is_none_or(|at| at > now));
    }

    fn put(&mut self, key: u8, value: Vec<u8>, at: Option<i64>) {
        self.pairs.insert(key, (value, at));
        self.advance(self.now);
    }

    fn perform(&mut self, step: &Step) -> String {
        let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        let now = self.now;
        let pairs = &mut self.pairs;
        let number = |n: i64| n.to_string();
        match step {
            Step::Get(k) => pairs.get(k).map_or("absent".into(), |(v, _)| format!("{:?}", text(v))),
            Step::Set(k, value, SetOptions { condition, expiry, return_old }) => {
                let old = pairs.get(k).cloned();
                let reply = match (&old, return_old) {
                    (Some((v, _)), true) => format!("{:?}", text(v)),
                    (None, true) => "absent".into(),
                    (_, false) => "done".into(),
                };
                if *condition == Some(SetCondition::Absent) && old.is_some()
                    || *condition == Some(SetCondition::Present) && old.is_none()
                {
                    return if *return_old { reply } else { "absent".into() };
                }
                let at = match expiry {
                    Expiry::Never => None,
                    Expiry::Keep => old.and_then(|(_, at)| at),
                    Expiry::In(i64::MAX) if now > 0 => return Failure::Expiry.to_string(),
                    Expiry::In(ms) => Some(now + ms),
                    Expiry::At(ms) => Some(*ms),
                };
                self.put(*k, value.clone(), at);
                reply
            }
            Step::Del(keys) => number(keys.iter().filter(|k| pairs.remove(k).is_some()).count() as i64),
            Step::Exists(keys) => number(keys.iter().filter(|k| pairs.contains_key(k)).count() as i64),
            Step::MGet(keys) => {
                format!("{:?}", keys.iter().map(|k| pairs.get(k).map(|(v, _)| text(v))).collect::<Vec<_>>())
            }
            Step::MSet(new) => {
                new.iter().for_each(|(k, v)| self.put(*k, vec![*v], None));
                "done".into()
            }
            Step::IncrBy(k, delta) => {
                let (old, at) = pairs.get(k).cloned().unwrap_or((b"0".to_vec(), None));
                // A number is what a number is printed as.
                let parsed = text(&old).parse::<i64>().ok().filter(|n| n.to_string() == text(&old));
                let Some(old) = parsed else { return Failure::NotAnInteger.to_string() };
                let Some(sum) = old.checked_add(*delta) else { return Failure::Overflow.to_string() };
                self.put(*k, sum.to_string().into_bytes(), at);
                number(sum)
            }
            Step::Append(k, more) => {
                let (mut value, at) = pairs.get(k).cloned().unwrap_or_default();
                value.extend(more);
                let length = value.len();
                self.put(*k, value, at);
                number(length as i64)
            }
            Step::Strlen(k) => number(pairs.get(k).map_or(0, |(v, _)| v.len()) as i64),
            Step::Expire(k, ms, absolute, condition) => {
                let at = if *absolute { *ms } else { now + ms };
                let Some((value, old)) = pairs.get(k).cloned() else { return number(0) };
                let holds = match condition {
                    None => true,
                    Some(ExpiryCondition::None) => old.is_none(),
                    Some(ExpiryCondition::Some) => old.is_some(),
                    Some(ExpiryCondition::Later) => at > old.unwrap_or(i64::MAX),
                    Some(ExpiryCondition::Earlier) => at.max(1) < old.unwrap_or(i64::MAX),
                };
                if holds {
                    self.put(*k, value, Some(at));
                }
                number(holds.into())
            }
            Step::Persist(k) => {
                let old = pairs.get_mut(k).and_then(|(_, at)| at.take());
                number(old.is_some().into())
            }
            Step::Ttl(k) => number(pairs.get(k).map_or(-2, |(_, at)| at.map_or(-1, |at| at - now))),
            Step::DbSize => number(pairs.len() as i64),
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_a_plain_map(steps in proptest::collection::vec((step(), 0i64..250), 0..80)) {
        let (mut store, mut model) = (KvStore::default(), Model::default());
        // So much is due already that nothing of what follows is dropped early.
        for filler in 0..1000u16 {
            store.set(&filler.to_be_bytes(), b"", Some(1));
        }
        store.advance(1);
        model.advance(1);
        // Mostly forward, now and then a leader whose clock is behind.
        let mut base = 0;
        for (step, jump) in &steps {
            base += jump / 50;
            let now = if jump % 10 == 0 { base / 2 } else { base };
            store.advance(now as u64);
            model.advance(now);
            prop_assert_eq!(perform(&mut store, step), model.perform(step), "{:?}", step);
            prop_assert_eq!(store.len(), model.pairs.len());
        }
        // The running hash is that of the pairs, however they came to be, and nothing is left of what went.
        for _ in 0..1000 {
            store.advance(0);
        }
        let mut fresh = KvStore::at(store.clock_ms());
        for (key, (value, at)) in &model.pairs {
            fresh.set(&[*key], value, at.map(|at| at as u64));
        }
        prop_assert_eq!(store.contents(), fresh.contents());
        prop_assert_eq!(store.pairs(), fresh.pairs());
        fresh.set(b"one more", b"", None);
        prop_assert_ne!(store.contents(), fresh.contents());
    }

    #[test]
    fn a_read_changes_nothing_and_says_what_applying_says(
        steps in proptest::collection::vec(step(), 0..30), last in step(),
    ) {
        let mut store = KvStore::default();
        for step in &steps {
            perform(&mut store, step);
        }
        let Step::Set(key, value, options) = &last else { return Ok(()) };
        let set = encoded(Command::SetWith { key: &[*key], value, options: *options });
        let keys: Vec<[u8; 1]> = (0..KEYS).map(|k| [k]).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
        let keys = Strings::new(&keys);
        let reads = [Command::MGet { keys }, Command::Exists { keys }, Command::DbSize,
            Command::Get { key: &[*key] }, Command::Ttl { key: &[*key] }, Command::Strlen { key: &[*key] }];
        for read in reads {
            prop_assert!(read.is_read());
            let (mut by_read, contents) = (Vec::new(), store.contents());
            store.read(&encoded(read), &mut by_read);
            prop_assert_eq!(store.contents(), contents);
            prop_assert_eq!(by_read, run(&mut store, read));
            prop_assert_eq!(store.contents(), contents);
        }
        let mut result = Vec::new();
        store.read(&set, &mut result);
        prop_assert_eq!(Outcome::parse(&result), Ok(Outcome::Invalid));
    }

    #[test]
    fn commands_round_trip(
        step in step(), key in proptest::collection::vec(any::<u8>(), 0..5), cut in any::<prop::sample::Index>(),
    ) {
        let Step::Set(_, value, options) = &step else { return Ok(()) };
        let keys = [&key[..], value, b""];
        let pairs = [&key[..], value, value, b""];
        let key = &key[..];
        for command in [
            if *options == SetOptions::default() { Command::Set { key, value } } else {
                Command::SetWith { key, value, options: *options }
            },
            Command::DelMany { keys: Strings::new(&keys) },
            Command::MSet { pairs: Strings::new(&pairs) },
            Command::IncrBy { key, delta: i64::MIN },
            Command::Append { key, value },
            Command::Expire { key, ms: -1, absolute: true, condition: Some(ExpiryCondition::Later) },
            Command::Persist { key },
            Command::DbSize,
            Command::Many { commands: Strings::new(&[b"\x0e\0\0\0\0\0", b"\x01\0\0\0\0\0"]) },
        ] {
            let bytes = encoded(command);
            prop_assert_eq!(Command::parse(&bytes), Ok(command));
            // A prefix may be another command, never a panic.
            let _ = Command::parse(&bytes[..cut.index(bytes.len())]);
        }
    }

    #[test]
    fn hostile_bytes_never_panic(
        operation in 0u8..17, flags in 0u8..32, n in 0u32..6,
        tail in proptest::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..40),
    ) {
        let mut bytes = vec![operation, flags];
        bytes.extend_from_slice(&n.to_le_bytes());
        bytes.extend_from_slice(&tail);
        for bytes in [&bytes[..], &tail] {
            let mut result = Vec::new();
            let mut store = KvStore::default();
            store.advance(5);
            store.apply(bytes, &mut result);
            prop_assert!(Outcome::parse(&result).is_ok());
            let _ = Outcome::parse(bytes);
        }
    }
}
