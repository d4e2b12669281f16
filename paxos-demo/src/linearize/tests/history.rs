//! Histories made by playing them: clients call, an object answers at some moment in between, some never hear.

use crate::linearize::number::{Answer, NumberKey, NumberOperation, Request};
use crate::linearize::{Model, Operation};

/// What is played.
#[derive(Copy, Clone)]
pub(super) struct Mix {
    pub clients: usize,
    pub operations: usize,
    /// Of a hundred, so many get no answer.
    pub lost_percent: u32,
    /// Writes bring numbers that no other brings; else one of three.
    pub unique: bool,
    /// Of a hundred, so many of a tenth are Dels.
    pub del_percent: u32,
}

impl Mix {
    pub fn small() -> Self {
        Self { clients: 4, operations: 10, lost_percent: 0, unique: false, del_percent: 100 }
    }

    pub fn large() -> Self {
        Self { unique: true, del_percent: 10, ..Self::small() }
    }
}

/// What a client does, in order.
#[derive(Copy, Clone, Debug)]
pub(super) enum Event {
    Call(u64, Request),
    Answer(u64, Answer),
}

/// A client's request under way.
enum Under {
    Called(usize),
    Answering(usize, Answer),
}

pub(super) struct Script {
    operations: Vec<NumberOperation>,
    names: Vec<u64>,
    rng: fastrand::Rng,
}

impl Script {
    pub fn new(seed: u64, mix: Mix) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut operations: Vec<NumberOperation> = Vec::new();
        let mut names: Vec<u64> = (0..mix.clients as u64).collect();
        let mut called_as = Vec::new();
        let mut under: Vec<Option<Under>> = (0..mix.clients).map(|_| None).collect();
        // Without an answer, and perhaps still on their way.
        let mut astray: Vec<Request> = Vec::new();
        let mut state = None;
        let mut now = 0;
        while operations.len() < mix.operations || under.iter().any(Option::is_some) {
            now += 1;
            if !astray.is_empty() && rng.u32(0..8) == 0 {
                let request = astray.swap_remove(rng.usize(0..astray.len()));
                if rng.bool() {
                    state = NumberKey::apply(&state, &request).0;
                }
            }
            let client = rng.usize(0..mix.clients);
            under[client] = match under[client].take() {
                None if operations.len() == mix.operations => None,
                None => {
                    let number = operations.len() as i64 + 1;
                    let number = if mix.unique { number << 20 } else { number % 3 };
                    let request = match rng.u32(0..10) {
                        0..4 => Request::Get,
                        4..7 => Request::Set(number),
                        7..9 if mix.unique => Request::IncrBy(rng.i64(1 << 20..1 << 40)),
                        7..9 => Request::IncrBy(1),
                        _ if rng.u32(0..100) < mix.del_percent => Request::Del,
                        _ => Request::Get,
                    };
                    operations.push(Operation { called: now, request, answered: None });
                    called_as.push(names[client]);
                    Some(Under::Called(operations.len() - 1))
                }
                Some(Under::Called(i)) if rng.u32(0..100) < mix.lost_percent => {
                    astray.push(operations[i].request);
                    names[client] += mix.clients as u64;
                    None
                }
                Some(Under::Called(i)) => {
                    let answer;
                    (state, answer) = NumberKey::apply(&state, &operations[i].request);
                    Some(Under::Answering(i, answer))
                }
                Some(Under::Answering(i, answer)) => {
                    operations[i].answered = Some((now, answer));
                    None
                }
            };
        }
        Self { operations, names: called_as, rng }
    }

    /// Changes one answer into another that the request could get.
    pub fn spoil(&mut self) {
        let i = self.rng.usize(0..self.operations.len());
        let number = self.rng.i64(0..4);
        let operation = &mut self.operations[i];
        if let Some((_, answer)) = &mut operation.answered {
            *answer = match operation.request {
                Request::Set(_) => return,
                Request::Get if number == 3 => Answer::Absent,
                Request::Get | Request::IncrBy(_) => Answer::Number(number),
                Request::Del if number < 2 => Answer::Absent,
                Request::Del => Answer::Done,
            };
        }
    }

    pub fn operations(&self) -> Vec<NumberOperation> {
        self.operations.clone()
    }

    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (operation, name) in self.operations.iter().zip(&self.names) {
            events.push((operation.called, Event::Call(*name, operation.request)));
            if let Some((at, answer)) = operation.answered {
                events.push((at, Event::Answer(*name, answer)));
            }
        }
        events.sort_by_key(|(at, _)| *at);
        events.into_iter().map(|(_, event)| event).collect()
    }
}

/// Makes a history wrong beyond doubt; false if it offers no occasion. Writes bring unique numbers.
pub(super) fn plant(history: &mut Vec<NumberOperation>, kind: usize) -> bool {
    let number = |operation: &NumberOperation| match (operation.request, operation.answered) {
        (Request::Get, Some((_, Answer::Number(number)))) => Some(number),
        _ => None,
    };
    let Some(read) = (history.len() / 2..history.len()).find(|i| number(&history[*i]).is_some()) else {
        return false;
    };
    let seen = number(&history[read]).expect("that is how it was found");
    match kind {
        // A number from nowhere: the write that brought it is taken out.
        0 => {
            let before = history.len();
            history.retain(|o| {
                o.request != Request::Set(seen)
                    && !matches!((o.request, o.answered), (Request::IncrBy(_), Some((_, Answer::Number(n)))) if n == seen)
            });
            // An increment without an answer may have brought it.
            history.retain(|o| o.request != Request::IncrBy(1) || o.answered.is_some());
            history.len() < before
        }
        // A stale read: it sees once more, after all is over, what was overwritten since.
        1 => {
            let end = 1 + history.iter().filter_map(|o| o.answered).map(|(at, _)| at).max().unwrap_or(0);
            let last =
                Operation { called: end, request: Request::Set(-1), answered: Some((end + 1, Answer::Done)) };
            let stale = Operation {
                answered: Some((end + 3, Answer::Number(seen))),
                called: end + 2,
                ..last.clone()
            };
            history.retain(|o| o.answered.is_some());
            history.push(last);
            history.push(Operation { request: Request::Get, ..stale });
            true
        }
        // A read of what is not written yet.
        _ => {
            let end = 1 + history.iter().filter_map(|o| o.answered).map(|(at, _)| at).max().unwrap_or(0);
            history.push(Operation {
                called: end,
                request: Request::Set(-1),
                answered: Some((end + 1, Answer::Done)),
            });
            let (at, _) = history[read].answered.expect("that is how it was found");
            history[read].answered = Some((at, Answer::Number(-1)));
            true
        }
    }
}
