//! Depth first through the orders of a history, with a memory of configurations that were visited.

use std::collections::HashMap;
use std::fmt::Write;
use std::rc::Rc;

use super::window::{Candidates, Span, Window};
use super::{Failure, Model, Operation};

/// Operations shown at the end of the best order.
const SHOWN: usize = 12;

/// An operation with an answer.
struct Answered<M: Model> {
    span: Span,
    request: M::Request,
    answer: M::Answer,
    is_read: bool,
    /// The state that it needs, if that state does not come back.
    needs: Option<M::State>,
    hint: u64,
}

/// Operations without an answer that ask the same, in the order of their calls.
struct Unanswered<M: Model> {
    request: M::Request,
    called: Vec<u64>,
    hints: Vec<u64>,
}

/// How many of each [`Unanswered`] are used. Shared, for it seldom changes.
type Used = Rc<[u32]>;
/// The first operation that is not placed, the window behind it, the state.
type Key<M> = (u32, Box<[u64]>, <M as Model>::State);

/// A way to go on.
#[derive(Copy, Clone)]
enum Choice {
    Answered(usize),
    Unanswered(usize),
}

/// A configuration with ways to go on, and how to return to it.
struct Frame<M: Model> {
    state: M::State,
    used: Used,
    /// Length of the order when it was reached.
    order: usize,
    /// The next one is last.
    choices: Vec<Choice>,
}

pub(super) struct Search<M: Model> {
    answered: Vec<Answered<M>>,
    unanswered: Vec<Unanswered<M>>,
    window: Window,
    state: M::State,
    used: Used,
    order: Vec<usize>,
    /// How many operations that are not placed need a state that does not come back.
    waiting: HashMap<M::State, u32>,
    /// For each configuration the smallest sets of unanswered operations with which it was visited.
    visited: HashMap<Key<M>, Vec<Used>>,
    /// The longest order, and what it ends in.
    best: (usize, String),
}

impl<M: Model> Search<M> {
    pub fn new(history: &[Operation<M>]) -> Self {
        let hints = M::hints(history);
        assert_eq!(hints.len(), history.len(), "a hint an operation");
        let mut sorted: Vec<_> = history.iter().zip(hints).collect();
        sorted.sort_by_key(|(operation, _)| operation.called);

        let once = M::once(history);
        let mut waiting = HashMap::new();
        let mut answered = Vec::new();
        let mut unanswered: Vec<Unanswered<M>> = Vec::new();
        let mut class_of: HashMap<M::Request, usize> = HashMap::new();
        for (operation, hint) in sorted {
            let request = operation.request.clone();
            let Some((at, answer)) = &operation.answered else {
                let class = *class_of.entry(request.clone()).or_insert_with(|| {
                    unanswered.push(Unanswered { request, called: Vec::new(), hints: Vec::new() });
                    unanswered.len() - 1
                });
                unanswered[class].called.push(operation.called);
                unanswered[class].hints.push(hint);
                continue;
            };
            assert!(operation.called <= *at, "answered before it was called: {operation:?}");
            let span = Span { called: operation.called, answered: *at };
            let is_read = M::is_read(&request, answer);
            let needs = M::needs(&request, answer).filter(|state| once.contains(state));
            if let Some(state) = &needs {
                *waiting.entry(state.clone()).or_insert(0) += 1;
            }
            answered.push(Answered { span, request, answer: answer.clone(), is_read, needs, hint });
        }
        Self {
            window: Window::new(answered.iter().map(|operation| operation.span).collect()),
            used: vec![0; unanswered.len()].into(),
            waiting,
            answered,
            unanswered,
            state: M::initial(),
            order: Vec::new(),
            visited: HashMap::new(),
            best: (0, String::new()),
        }
    }

    pub fn run(mut self, budget: u64) -> Result<(), Failure> {
        let mut frames: Vec<Frame<M>> = Vec::new();
        let mut candidates = Candidates::default();
        let mut steps = 0;
        loop {
            self.place_reads(&mut candidates);
            if self.window.is_complete() {
                return Ok(());
            }
            if self.is_new(&candidates) {
                if steps >= budget {
                    return Err(Failure::Undecided { steps });
                }
                steps += 1;
                let choices = self.choices(&candidates);
                if choices.is_empty() {
                    self.note_dead_end(&candidates);
                }
                let (state, used) = (self.state.clone(), Rc::clone(&self.used));
                frames.push(Frame { state, used, order: self.order.len(), choices });
            }
            loop {
                let Some(frame) = frames.last_mut() else {
                    let (placed, text) = self.best;
                    return Err(Failure::NotLinearizable { placed, of: self.answered.len(), text });
                };
                self.state = frame.state.clone();
                self.used = Rc::clone(&frame.used);
                let (choice, length) = (frame.choices.pop(), frame.order);
                self.take_back(length);
                match choice {
                    Some(choice) => {
                        self.take(choice);
                        break;
                    }
                    None => frames.pop(),
                };
            }
        }
    }

    /// Places all reads that fit, and finds the candidates that are left then. (A write that would change
    /// nothing now must not go at once: it may be needed later.)
    fn place_reads(&mut self, candidates: &mut Candidates) {
        loop {
            self.window.candidates(candidates);
            let before = self.order.len();
            for &i in &candidates.operations {
                let operation = &self.answered[i];
                if operation.is_read && M::apply(&self.state, &operation.request).1 == operation.answer {
                    self.place(i);
                }
            }
            if self.order.len() == before {
                return;
            }
        }
    }

    fn place(&mut self, i: usize) {
        self.window.place(i);
        self.order.push(i);
        if let Some(state) = &self.answered[i].needs {
            *self.waiting.get_mut(state).expect("counted at the start") -= 1;
        }
    }

    /// Undoes what was placed since the order had this length.
    fn take_back(&mut self, length: usize) {
        for i in self.order.drain(length..).rev() {
            self.window.take_back(i);
            if let Some(state) = &self.answered[i].needs {
                *self.waiting.get_mut(state).expect("counted at the start") += 1;
            }
        }
    }

    /// Remembers the configuration. It is not new if it was visited with no more unanswered operations used.
    fn is_new(&mut self, candidates: &Candidates) -> bool {
        let (first, words) = self.window.key(candidates);
        let visits = self.visited.entry((first, words, self.state.clone())).or_default();
        if visits.iter().any(|used| used.iter().zip(&*self.used).all(|(a, b)| a <= b)) {
            return false;
        }
        visits.retain(|used| !self.used.iter().zip(&**used).all(|(a, b)| a <= b));
        visits.push(Rc::clone(&self.used));
        true
    }

    /// The ways to go on, the best last.
    fn choices(&self, candidates: &Candidates) -> Vec<Choice> {
        let mut ways = Vec::new();
        // Who needs this state now or never, beside the operation that would end it.
        let waiting = self.waiting.get(&self.state).copied().unwrap_or(0);
        for &i in &candidates.operations {
            let operation = &self.answered[i];
            let (state, answer) = M::apply(&self.state, &operation.request);
            let others = waiting - u32::from(operation.needs.as_ref() == Some(&self.state));
            if answer == operation.answer && (others == 0 || state == self.state) {
                ways.push((operation.hint, Choice::Answered(i)));
            }
        }
        for (class, operations) in self.unanswered.iter().enumerate().filter(|_| waiting == 0) {
            let next = self.used[class] as usize;
            let called = operations.called.get(next).is_some_and(|called| *called <= candidates.until);
            if called && M::apply(&self.state, &operations.request).0 != self.state {
                ways.push((operations.hints[next], Choice::Unanswered(class)));
            }
        }
        // Stable: where hints are equal, those with an answer are tried first.
        ways.sort_by_key(|(hint, _)| *hint);
        ways.into_iter().rev().map(|(_, choice)| choice).collect()
    }

    fn take(&mut self, choice: Choice) {
        let request = match choice {
            Choice::Answered(i) => {
                self.place(i);
                &self.answered[i].request
            }
            Choice::Unanswered(class) => {
                let mut used = self.used.to_vec();
                used[class] += 1;
                self.used = used.into();
                &self.unanswered[class].request
            }
        };
        self.state = M::apply(&self.state, request).0;
    }

    fn note_dead_end(&mut self, candidates: &Candidates) {
        if !self.best.1.is_empty() && self.window.count() <= self.best.0 {
            return;
        }
        let show = |text: &mut String, i: usize| {
            let Answered { span, request, answer, .. } = &self.answered[i];
            let _ = writeln!(text, "    [{}..{}] {request:?} = {answer:?}", span.called, span.answered);
        };
        let mut text = String::from("  the best order ends in\n");
        for &i in &self.order[self.order.len().saturating_sub(SHOWN)..] {
            show(&mut text, i);
        }
        let _ = writeln!(text, "  after which the state is {:?}. What may be next:", self.state);
        for &i in candidates.operations.iter().take(SHOWN) {
            show(&mut text, i);
        }
        let waiting = (0..self.answered.len())
            .filter(|i| !self.window.contains(*i) && self.answered[*i].needs.as_ref() == Some(&self.state));
        for (n, i) in waiting.take(SHOWN).enumerate() {
            if n == 0 {
                let _ = writeln!(
                    text,
                    "  and the state must not be left, for it never comes back, and is needed by"
                );
            }
            show(&mut text, i);
        }
        let unused =
            self.unanswered.iter().zip(&*self.used).map(|(all, used)| all.called.len() - *used as usize);
        let _ = write!(text, "  {} requests without an answer are not needed for it", unused.sum::<usize>());
        self.best = (self.window.count(), text);
    }
}
