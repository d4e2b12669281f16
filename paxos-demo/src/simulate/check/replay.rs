//! C9: what clients saw, against a replay of the committed log that shares no code with the replica.

use std::collections::BTreeMap;

use super::{Checked, Committed, Violation};

/// An answered request.
#[derive(Clone, Debug)]
pub(in super::super) struct Answer {
    pub client: u64,
    pub request: u64,
    pub command: Vec<u8>,
    pub result: Vec<u8>,
    /// An op that had been answered, or read, when this was asked: it can only come after it.
    pub after: usize,
}

/// What a key held from this op on.
type Since = (usize, Option<Vec<u8>>);

/// The log so far, executed once.
#[derive(Debug, Default)]
pub(in super::super) struct Replay {
    upto: usize,
    /// The last ops, if they are the first parts of a command.
    row: Vec<Committed>,
    /// Op and result of each request.
    executed: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    /// Values that a key had, from which op on.
    history: BTreeMap<Vec<u8>, Vec<Since>>,
    /// Answers that the log did not explain yet.
    open: Vec<Answer>,
}

impl Replay {
    /// Executes what is new.
    fn advance(&mut self, log: &[Committed]) {
        for op in &log[self.upto..] {
            self.upto += 1;
            let Some(command) = self.join(op) else { continue };
            if op.client == 0 || self.executed.contains_key(&(op.client, op.request)) {
                continue;
            }
            let result = self.execute(&command);
            self.executed.insert((op.client, op.request), (self.upto, result));
        }
    }

    /// The command that is to be executed at this op: all parts of it are consecutive ops, or it never is.
    fn join(&mut self, op: &Committed) -> Option<Vec<u8>> {
        let row = std::mem::take(&mut self.row);
        if op.parts == 0 {
            return Some(op.command.clone());
        }
        let begun = row.first().map(|first| (first.client, first.request, first.parts));
        if op.part == 0 {
            self.row.push(op.clone());
        } else if begun == Some((op.client, op.request, op.parts)) && row.len() == usize::from(op.part) {
            self.row = row;
            self.row.push(op.clone());
        }
        let whole = self.row.len() == usize::from(op.parts);
        whole.then(|| self.row.iter().flat_map(|op| op.command.iter().copied()).collect())
    }

    /// A client was answered. Returns the op that this shows to have happened, if it is known already.
    pub(in super::super) fn answered(
        &mut self,
        log: &[Committed],
        answer: Answer,
    ) -> Result<usize, Violation> {
        self.advance(log);
        match self.explain(&answer)? {
            Some(op) => Ok(op),
            None => {
                let after = answer.after;
                self.open.push(answer);
                Ok(after)
            }
        }
    }

    /// At the end every answer has its explanation.
    pub(in super::super) fn finish(&mut self, log: &[Committed]) -> Checked {
        self.advance(log);
        for answer in std::mem::take(&mut self.open) {
            if self.explain(&answer)?.is_none() {
                let Answer { client, request, result, after, .. } = answer;
                return bad(format!(
                    "request {client}/{request}, asked after op {after}, was answered {result:x?}; nothing in the \
                     committed log gives that"
                ));
            }
        }
        Ok(())
    }

    /// The first op that explains an answer: its own, or for a read one after which the key had that value.
    fn explain(&self, answer: &Answer) -> Result<Option<usize>, Violation> {
        let Answer { client, request, command, result, after } = answer;
        if let Some((op, expected)) = self.executed.get(&(*client, *request)) {
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
            return Ok(Some(*op));
        }
        if command[0] != GET {
            return Ok(None);
        }
        let (key, _) = split(command);
        let none = [(0, None)];
        let history = self.history.get(key).map_or(&none[..], Vec::as_slice);
        // What the key was at op `after`, and everything that it has been since.
        let from = history.iter().rposition(|(op, _)| op <= after).unwrap_or(0);
        let fits = |(_, value): &&Since| value_result(value.as_deref()) == *result;
        Ok(history[from..].iter().find(fits).map(|(op, _)| *op.max(after)))
    }

    /// What the clients of this simulation ask for, as the format says.
    fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        let (key, operand) = split(command);
        let history = self.history.entry(key.to_vec()).or_insert_with(|| vec![(0, None)]);
        let now = history.last().and_then(|(_, value)| value.clone());
        let (then, result) = match command[0] {
            SET => (Some(operand.to_vec()), vec![1]),
            DEL => (None, vec![u8::from(now.is_some())]),
            INCR_BY => {
                let delta = operand.try_into().map_or(0, i64::from_le_bytes);
                let number = now.as_deref().map_or("0", |text| std::str::from_utf8(text).unwrap_or("?"));
                let sum = number.parse::<i64>().expect("only numbers are under this key") + delta;
                (Some(sum.to_string().into_bytes()), [&[4], &sum.to_le_bytes()[..]].concat())
            }
            other => unreachable!("operation {other} is not asked for"),
        };
        history.push((self.upto, then));
        result
    }
}

const GET: u8 = 1;
const SET: u8 = 2;
const DEL: u8 = 3;
const INCR_BY: u8 = 8;

/// `[op u8][flags u8][key_bytes u32][key][operand]`.
fn split(command: &[u8]) -> (&[u8], &[u8]) {
    let key_bytes = command[2..6].try_into().map_or(0, u32::from_le_bytes);
    command[6..].split_at(key_bytes as usize)
}

fn value_result(value: Option<&[u8]>) -> Vec<u8> {
    value.map_or(vec![0], |value| [&[2], value].concat())
}

fn bad<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new("C9", 0, what))
}
