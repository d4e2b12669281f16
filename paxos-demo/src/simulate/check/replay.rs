//! C9: what clients saw, against a replay of the committed log that shares no code with the replica.

use std::collections::{BTreeMap, BTreeSet};

use super::{Committed, Violation};

/// A request that was answered.
#[derive(Clone, Debug)]
pub(in super::super) struct Answered {
    pub client: u64,
    pub request: u64,
    pub result: Vec<u8>,
    /// Ops committed when it was asked: it can only come after those whose answers had been seen.
    pub after: usize,
}

/// Checks every answer.
pub(in super::super) fn check(log: &[Committed], answers: &[Answered]) -> Result<(), Violation> {
    let bad = |what: String| Err(Violation::new("C9", 0, what));
    let mut store: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    let mut executed = BTreeSet::new();
    let mut results = BTreeMap::new();
    for (at, op) in log.iter().enumerate() {
        if !executed.insert((op.client, op.request)) {
            continue;
        }
        results.insert((op.client, op.request), (at + 1, execute(&mut store, &op.command)));
    }
    for answer in answers {
        let Answered { client, request, result, after } = answer;
        let Some((op, expected)) = results.get(&(*client, *request)) else {
            return bad(format!("request {client}/{request} was answered, and is not in the committed log"));
        };
        if expected != result {
            return bad(format!(
                "request {client}/{request}, op {op}, was answered {result:x?}; replay gives {expected:x?}"
            ));
        }
        if op <= after {
            return bad(format!(
                "request {client}/{request} is op {op}; it was asked after op {after} had been answered"
            ));
        }
    }
    Ok(())
}

/// The op in which a request took effect.
pub(in super::super) fn op_of(log: &[Committed], client: u64, request: u64) -> Option<usize> {
    log.iter().position(|op| (op.client, op.request) == (client, request)).map(|at| at + 1)
}

/// Get, set and delete as the format says.
fn execute<'a>(store: &mut BTreeMap<&'a [u8], &'a [u8]>, command: &'a [u8]) -> Vec<u8> {
    let key_bytes = usize::from(command[1]);
    let (key, value) = command[3..].split_at(key_bytes);
    match command[0] {
        1 => store.get(key).map_or(vec![0], |value| [&[2], *value].concat()),
        2 => {
            store.insert(key, value);
            vec![1]
        }
        3 => vec![u8::from(store.remove(key).is_some())],
        _ => vec![3],
    }
}
