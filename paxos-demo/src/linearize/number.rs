//! The model of one key that holds a number: what tests of clusters ask a store for.
//!
//! Let every write bring a number that no other brings. Then a read names the write that it saw, an
//! increment names its predecessor, and the search hardly ever has to guess. That needs increments by numbers
//! that no other adds, few removals, and few requests without an answer a key: a long run does well to go on to
//! fresh keys now and then.

use std::collections::{HashMap, HashSet};

use super::{Model, Operation};

/// Sums of unanswered increments that are looked at; there are up to two to the power of these increments.
const SUMS_MAX: usize = 1024;

/// What is asked of a key.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Its number.
    Get,
    /// Set it.
    Set(i64),
    /// Remove it.
    Del,
    /// Add to it; an absent one counts as zero.
    IncrBy(i64),
}

/// What is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// No such key: to `Get` and `Del`.
    Absent,
    /// Done: to `Set` and `Del`.
    Done,
    /// The number, to `Get`; the new one, to `IncrBy`.
    Number(i64),
}

/// A key.
#[derive(Copy, Clone, Debug)]
pub struct NumberKey;

/// An operation on a key.
pub type NumberOperation = Operation<NumberKey>;

impl Model for NumberKey {
    type State = Option<i64>;
    type Request = Request;
    type Answer = Answer;

    fn initial() -> Option<i64> {
        None
    }

    fn apply(state: &Option<i64>, request: &Request) -> (Option<i64>, Answer) {
        match (*request, *state) {
            (Request::Get, Some(number)) => (Some(number), Answer::Number(number)),
            (Request::Get | Request::Del, None) => (None, Answer::Absent),
            (Request::Set(number), _) => (Some(number), Answer::Done),
            (Request::Del, Some(_)) => (None, Answer::Done),
            (Request::IncrBy(by), state) => {
                let sum = state.unwrap_or(0).wrapping_add(by);
                (Some(sum), Answer::Number(sum))
            }
        }
    }

    fn is_read(request: &Request, answer: &Answer) -> bool {
        *request == Request::Get || (*request == Request::Del && *answer == Answer::Absent)
    }

    fn needs(request: &Request, answer: &Answer) -> Option<Option<i64>> {
        match (*request, *answer) {
            (Request::Get, Answer::Number(number)) => Some(Some(number)),
            (Request::Get, _) => Some(None),
            // A sum may have been made from an absent key, too.
            (Request::IncrBy(by), Answer::Number(sum)) if sum != by => Some(Some(sum.wrapping_sub(by))),
            _ => None,
        }
    }

    fn once(history: &[NumberOperation]) -> HashSet<Option<i64>> {
        let mut origins: HashMap<i64, u32> = HashMap::new();
        for number in history.iter().filter_map(written) {
            *origins.entry(number).or_insert(0) += 1;
        }
        // What increments without an answer can add, in any number and order.
        let mut sums: HashSet<i64> = HashSet::new();
        for operation in history.iter().filter(|operation| operation.answered.is_none()) {
            if let Request::IncrBy(by) = operation.request {
                let more: Vec<i64> = sums.iter().map(|sum| sum.wrapping_add(by)).collect();
                sums.extend(more);
                sums.insert(by);
            }
            if sums.len() > SUMS_MAX {
                return HashSet::new();
            }
        }
        let may_be_a_sum = |number: i64| {
            let start = |sum: &i64| number.wrapping_sub(*sum);
            sums.iter().any(|sum| *sum == 0 || start(sum) == 0 || origins.contains_key(&start(sum)))
        };
        let once = origins.iter().filter(|(number, count)| **count == 1 && !may_be_a_sum(**number));
        let mut once: HashSet<_> = once.map(|(number, _)| Some(*number)).collect();
        let removes = |o: &NumberOperation| {
            o.request == Request::Del && !matches!(o.answered, Some((_, Answer::Absent)))
        };
        if !history.iter().any(removes) {
            once.insert(None);
        }
        once
    }

    /// Gibbons and Korach: a number and all that saw it form a zone, from the first answer to the last call.
    /// If the first answer comes first, the key held the number all that time; else at some time between
    /// the last call and the first answer. In both cases the earlier of the two is when to write it, among
    /// writes that may be next. Numbers that came from one another by increments are one zone: nothing comes
    /// between them.
    fn hints(history: &[NumberOperation]) -> Vec<u64> {
        let origin_of: HashMap<i64, i64> =
            history.iter().filter_map(|o| Some((written(o)?, seen(o)?))).collect();
        // Number to the one that the first of its chain began with.
        let mut roots: HashMap<i64, i64> = HashMap::new();
        let mut root = |number: i64| {
            let (mut at, mut steps) = (number, Vec::new());
            let found = loop {
                match (roots.get(&at), origin_of.get(&at)) {
                    (Some(known), _) => break *known,
                    // Numbers that are not unique may go in circles.
                    (None, Some(origin)) if steps.len() <= history.len() => {
                        steps.push(at);
                        at = *origin;
                    }
                    _ => break at,
                }
            };
            roots.extend(steps.into_iter().map(|step| (step, found)));
            found
        };
        // Number to (first answer, last call).
        let mut zones: HashMap<i64, (u64, u64)> = HashMap::new();
        let mut zone_of = Vec::with_capacity(history.len());
        for operation in history {
            let number = written(operation).or(seen(operation)).map(&mut root);
            zone_of.push(number);
            let Some(number) = number else { continue };
            let answered = operation.answered.as_ref().map_or(u64::MAX, |(at, _)| *at);
            let zone = zones.entry(number).or_insert((u64::MAX, 0));
            *zone = (zone.0.min(answered), zone.1.max(operation.called));
        }
        let hint = |(operation, number): (&NumberOperation, Option<i64>)| match number {
            Some(number) => {
                let (first_answer, last_call) = zones[&number];
                // Nobody answered and nobody saw it: not before there is a need.
                if first_answer == u64::MAX { u64::MAX } else { first_answer.min(last_call) }
            }
            None if operation.answered.is_none() => u64::MAX,
            None => operation.called,
        };
        history.iter().zip(zone_of).map(hint).collect()
    }
}

/// The number that an operation leaves behind, if that is known.
fn written(operation: &NumberOperation) -> Option<i64> {
    match (operation.request, &operation.answered) {
        (Request::Set(number), _) => Some(number),
        (Request::IncrBy(_), Some((_, Answer::Number(number)))) => Some(*number),
        _ => None,
    }
}

/// The number that it found, if it says so.
fn seen(operation: &NumberOperation) -> Option<i64> {
    match (operation.request, &operation.answered) {
        (Request::Get, Some((_, Answer::Number(number)))) => Some(*number),
        (Request::IncrBy(by), Some((_, Answer::Number(number)))) => Some(number.wrapping_sub(by)),
        _ => None,
    }
}
