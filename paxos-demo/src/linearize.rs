//! Is a history linearizable? Checks what clients saw against what one object, asked one request at a time,
//! could have answered.
//!
//! A history is a set of operations, each with the time of its call, the time of its answer and the answer;
//! an operation without an answer may have taken effect at any time after its call, or never. The history is
//! linearizable if some order of its operations explains every answer and lets no operation go before one that
//! was answered before it was called.
//!
//! The search is that of Wing and Gong with Lowe's memory of configurations visited, with these savings:
//!
//! - Keys are independent, so each is checked alone ([`check_keys`]).
//! - A read that fits goes at once: whatever order follows, it does not mind. So only writes branch.
//! - Which operations are placed is remembered from the first one that is not, a few bits at any length of
//!   history, and only where it branched.
//! - Operations without an answer can be left out, so a configuration that has used more of them than one
//!   that was seen to fail, and is otherwise the same, fails too. Of several that ask the same, the one that
//!   was called first is used first.
//! - Where a state can come about only once ([`Model::once`]), it is not left before all who saw it are placed.
//! - A [`Model`] may say in which order it is best to try ([`Model::hints`]): any order finds the same answer,
//!   but with a good one a linearizable history is read through once.
//!
//! The worst case stays exponential in the number of operations that overlap on one key, so the search has a
//! budget; [`Failure::Undecided`] is no success.
//!
//! | file | |
//! |---|---|
//! | [`number`] | the model: a key that holds a number |
//! | `search` | the search |
//! | `window` | which operations are placed, and which may be next |

pub mod number;
mod search;
mod window;

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

/// What one object answers when it is asked one request at a time.
pub trait Model {
    /// All that later answers depend on.
    type State: Clone + Eq + Hash + fmt::Debug;
    /// What is asked.
    type Request: Clone + Eq + Hash + fmt::Debug;
    /// What is answered.
    type Answer: Clone + Eq + fmt::Debug;

    /// The state before the first request.
    fn initial() -> Self::State;

    /// The state after a request, and its answer.
    fn apply(state: &Self::State, request: &Self::Request) -> (Self::State, Self::Answer);

    /// Whether a request that was answered so left the state as it was, whatever that was: a read. Saying no
    /// is always right, and slow.
    fn is_read(request: &Self::Request, answer: &Self::Answer) -> bool;

    /// The one state in which a request is answered so, where there is only one.
    fn needs(_request: &Self::Request, _answer: &Self::Answer) -> Option<Self::State> {
        None
    }

    /// States that no order enters twice: their only origin is one operation, or the beginning. Any subset
    /// is right; the more, the faster.
    fn once(_history: &[Operation<Self>]) -> HashSet<Self::State> {
        HashSet::new()
    }

    /// For each operation how early it should be tried, among those that may be next. Decides how long the
    /// search takes, never what it finds.
    fn hints(history: &[Operation<Self>]) -> Vec<u64> {
        history.iter().map(|operation| operation.answered.as_ref().map_or(u64::MAX, |(at, _)| *at)).collect()
    }
}

/// One request of one client.
///
/// Times are of one clock that never goes back. A call at the very time of an answer counts as concurrent
/// with it, so whoever knows better numbers the events instead of taking the time.
pub struct Operation<M: Model + ?Sized> {
    /// When it was called: before the first packet left.
    pub called: u64,
    /// What was asked.
    pub request: M::Request,
    /// When the answer was there, and the answer; `None` if nobody knows what became of it. A request that
    /// is known not to have been applied does not belong into a history.
    pub answered: Option<(u64, M::Answer)>,
}

impl<M: Model + ?Sized> Clone for Operation<M> {
    fn clone(&self) -> Self {
        Self { called: self.called, request: self.request.clone(), answered: self.answered.clone() }
    }
}

impl<M: Model + ?Sized> fmt::Debug for Operation<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.answered {
            Some((at, answer)) => write!(f, "[{}..{}] {:?} = {:?}", self.called, at, self.request, answer),
            None => write!(f, "[{}..   ] {:?} = ?", self.called, self.request),
        }
    }
}

/// Why a history was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No order explains it.
    #[error("not linearizable: {placed} of {of} answers can be explained, in no order more.\n{text}")]
    NotLinearizable {
        /// Answers that the best order found explains.
        placed: usize,
        /// All answers.
        of: usize,
        /// Where that order ends, what may come next and does not fit.
        text: String,
    },
    /// The budget was too small to find an order, or that there is none.
    #[error("undecided after {steps} configurations: too many requests overlap on one key")]
    Undecided {
        /// Configurations looked at.
        steps: u64,
    },
}

/// A key's failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {key}: {failure}")]
pub struct KeyFailure {
    /// The key, as its `Debug` shows it.
    pub key: String,
    /// Why its history was not accepted.
    pub failure: Failure,
}

/// Configurations to look at before giving up, unless the caller says otherwise: some seconds, some hundred MB.
pub const BUDGET: u64 = 4_000_000;

/// Checks the history of one object, in any order.
pub fn check<M: Model>(history: &[Operation<M>], budget: u64) -> Result<(), Failure> {
    search::Search::new(history).run(budget)
}

/// Checks the histories of independent objects and returns how many operations there were.
pub fn check_keys<'a, M, K>(
    histories: impl IntoIterator<Item = (K, &'a [Operation<M>])>,
    budget: u64,
) -> Result<usize, KeyFailure>
where
    M: Model + 'a,
    K: fmt::Debug,
{
    let mut operations = 0;
    for (key, history) in histories {
        operations += history.len();
        check(history, budget).map_err(|failure| KeyFailure { key: format!("{key:?}"), failure })?;
    }
    Ok(operations)
}

#[cfg(test)]
mod tests;
