//! Histories that are linearizable by the way they are made, the same with one thing wrong, and small ones
//! on which stateright's tester, which tries every order, is asked too.

mod history;

use proptest::prelude::*;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use self::history::{Event, Mix, Script};
use super::number::{Answer, NumberKey, NumberOperation, Request};
use super::*;

fn answered(called: u64, answered: u64, request: Request, answer: Answer) -> NumberOperation {
    Operation { called, request, answered: Some((answered, answer)) }
}

fn unanswered(called: u64, request: Request) -> NumberOperation {
    Operation { called, request, answered: None }
}

fn set(called: u64, at: u64, number: i64) -> NumberOperation {
    answered(called, at, Request::Set(number), Answer::Done)
}

fn get(called: u64, at: u64, number: i64) -> NumberOperation {
    answered(called, at, Request::Get, Answer::Number(number))
}

fn is_fine(history: &[NumberOperation]) -> bool {
    match check(history, BUDGET) {
        Ok(()) => true,
        Err(Failure::NotLinearizable { .. }) => false,
        Err(undecided) => panic!("{undecided}"),
    }
}

#[test]
fn what_a_register_may_and_may_not_answer() {
    let fine: [&[NumberOperation]; 9] = [
        &[],
        &[set(0, 1, 5), get(2, 3, 5)],
        // Concurrent: the read may be before or after.
        &[set(0, 10, 5), get(1, 2, 5)],
        &[set(0, 10, 5), answered(1, 2, Request::Get, Answer::Absent)],
        // Called at the very time of the answer counts as concurrent.
        &[set(0, 5, 1), answered(5, 6, Request::Get, Answer::Absent)],
        // Without an answer: late, at once, or never.
        &[unanswered(0, Request::Set(5)), answered(1, 2, Request::Get, Answer::Absent), get(9, 10, 5)],
        &[unanswered(0, Request::Set(5)), get(1, 2, 5)],
        &[unanswered(0, Request::Set(5)), answered(8, 9, Request::Get, Answer::Absent)],
        // Two of the same kind without an answer, both needed.
        &[
            unanswered(0, Request::IncrBy(1)),
            unanswered(1, Request::IncrBy(1)),
            get(3, 4, 1),
            answered(5, 6, Request::IncrBy(1), Answer::Number(3)),
        ],
    ];
    for history in fine {
        assert!(is_fine(history), "{history:?}");
    }
    let wrong: [&[NumberOperation]; 8] = [
        &[get(0, 1, 5)],
        // A write that was answered is gone.
        &[set(0, 1, 5), answered(2, 3, Request::Get, Answer::Absent)],
        // A read that is too early, even for a write that nobody answered.
        &[get(0, 1, 5), set(2, 3, 5)],
        &[get(0, 1, 5), unanswered(2, Request::Set(5))],
        // A stale read: the old number after the new one was seen.
        &[set(0, 1, 1), set(2, 20, 2), get(3, 4, 2), get(5, 6, 1)],
        // A write without an answer takes effect once.
        &[unanswered(0, Request::Set(5)), get(1, 2, 5), set(3, 4, 6), get(5, 6, 6), get(7, 8, 5)],
        // Two increments that did not see each other.
        &[
            answered(0, 9, Request::IncrBy(1), Answer::Number(1)),
            answered(1, 8, Request::IncrBy(1), Answer::Number(1)),
        ],
        // A key is removed once.
        &[
            set(0, 1, 1),
            answered(2, 5, Request::Del, Answer::Done),
            answered(3, 6, Request::Del, Answer::Done),
        ],
    ];
    for history in wrong {
        assert!(!is_fine(history), "{history:?}");
    }
}

#[test]
fn a_failure_says_where_the_history_ends_to_make_sense() {
    let history = [set(0, 1, 1), set(2, 3, 2), get(4, 5, 2), get(6, 7, 1), get(8, 9, 2)];
    let failure = check_keys([("a", &history[..3]), ("b", &history[..])], BUDGET).unwrap_err();
    assert_eq!(failure.key, "\"b\"");
    let text = failure.to_string();
    for part in [
        "1 of 5 answers",
        "state is Some(1)",
        "[2..3] Set(2) = Done",
        "needed by\n    [6..7] Get = Number(1)",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// The object as stateright knows one.
#[derive(Clone)]
struct Oracle(Option<i64>);

impl SequentialSpec for Oracle {
    type Op = Request;
    type Ret = Answer;

    fn invoke(&mut self, request: &Request) -> Answer {
        let (state, answer) = NumberKey::apply(&self.0, request);
        self.0 = state;
        answer
    }
}

/// Asks stateright. A client that gets no answer calls under a new name from then on.
fn oracle(events: &[Event]) -> bool {
    let mut tester = LinearizabilityTester::new(Oracle(None));
    for event in events {
        match *event {
            Event::Call(client, request) => tester.on_invoke(client, request).map(drop).unwrap(),
            Event::Answer(client, answer) => tester.on_return(client, answer).map(drop).unwrap(),
        }
    }
    tester.is_consistent()
}

#[test]
fn agrees_with_stateright_on_small_histories() {
    let mut verdicts = [0u32; 2];
    for seed in 0..6000 {
        let mut script =
            Script::new(seed, Mix { clients: 3, operations: 8, lost_percent: 20, ..Mix::small() });
        // Few numbers, some answers wrong: both verdicts are common.
        if seed % 3 > 0 {
            script.spoil();
        }
        let ours = is_fine(&script.operations());
        let theirs = oracle(&script.events());
        assert_eq!(ours, theirs, "seed {seed}: {:#?}", script.operations());
        verdicts[usize::from(ours)] += 1;
    }
    assert!(verdicts.iter().all(|n| *n > 1000), "{verdicts:?}");
}

/// Any order of trying finds the same.
#[test]
fn hints_do_not_change_the_verdict() {
    struct Unhinted;
    impl Model for Unhinted {
        type State = Option<i64>;
        type Request = Request;
        type Answer = Answer;
        fn initial() -> Option<i64> {
            None
        }
        fn apply(state: &Option<i64>, request: &Request) -> (Option<i64>, Answer) {
            NumberKey::apply(state, request)
        }
        fn is_read(request: &Request, answer: &Answer) -> bool {
            NumberKey::is_read(request, answer)
        }
    }
    for seed in 0..2000 {
        let mut script = Script::new(seed, Mix { operations: 12, lost_percent: 10, ..Mix::small() });
        if seed % 2 == 0 {
            script.spoil();
        }
        let history = script.operations();
        let unhinted: Vec<Operation<Unhinted>> = history
            .iter()
            .map(|o| Operation { called: o.called, request: o.request, answered: o.answered })
            .collect();
        assert_eq!(is_fine(&history), check(&unhinted, BUDGET).is_ok(), "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is made by the rules is accepted, and refused once a read saw what it cannot have seen.
    #[test]
    fn a_valid_history_is_accepted_and_a_spoilt_one_is_not(
        seed: u64,
        clients in 1usize..16,
        lost_percent in 0u32..3,
        kind in 0usize..3,
    ) {
        let mix = Mix { clients, operations: 400, lost_percent, ..Mix::large() };
        let mut history = Script::new(seed, mix).operations();
        prop_assert!(is_fine(&history));
        prop_assume!(history::plant(&mut history, kind));
        prop_assert!(!is_fine(&history));
    }
}

/// The size of a run against a real cluster: many keys one after the other, a dozen clients at each, open ends.
#[test]
fn a_hundred_thousand_operations_are_checked() {
    let mut keys: Vec<_> = (0..100)
        .map(|key| {
            let mix = Mix { clients: 12, operations: 1000, lost_percent: 1, ..Mix::large() };
            Script::new(key, mix).operations()
        })
        .collect();
    assert_eq!(check_keys(keys.iter().map(Vec::as_slice).enumerate(), BUDGET), Ok(100_000));

    // One lost write in all of them is found.
    assert!(history::plant(&mut keys[50], 0));
    let failure = check_keys(keys.iter().map(Vec::as_slice).enumerate(), BUDGET).unwrap_err();
    assert_eq!(failure.key, "50");
}

/// One key alone, everybody at it.
#[test]
fn sixty_four_clients_at_one_key_are_checked() {
    let mix = Mix { clients: 64, operations: 20_000, del_percent: 0, ..Mix::large() };
    assert_eq!(check(&Script::new(7, mix).operations(), 100_000), Ok(()));
}

/// One client stalls while thousands of requests overtake it.
#[test]
fn a_stalled_request_does_not_make_the_search_slow() {
    let mut history = vec![set(0, 1_000_000, -1)];
    for i in 0..20_000 {
        let at = 10 * i + 1;
        history.push(set(at, at + 7, i as i64));
        history.push(get(at + 2, at + 9, i as i64));
    }
    history.push(get(300_000, 300_001, -1));
    assert_eq!(check(&history, 100_000), Ok(()));
    // It took effect before it was answered, but not twice.
    history.push(set(300_002, 300_003, 7));
    history.push(get(2_000_000, 2_000_001, -1));
    assert!(!is_fine(&history));
}

#[test]
fn a_budget_that_is_too_small_is_no_verdict() {
    let mut history: Vec<_> = (0..30).map(|i| set(0, 100, i)).collect();
    history.push(get(200, 300, 77));
    assert!(matches!(check(&history, 1000), Err(Failure::Undecided { steps: 1000 })));
}
