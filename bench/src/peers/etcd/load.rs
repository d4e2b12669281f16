//! Closed-loop load on etcd: as many sessions as clients, each with one request under way, on one thread, with the
//! requests and the checks of our own load generator ([`paxos_demo::workload::model`]).

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use paxos_demo::session::random_id;
use paxos_demo::workload::model::Model;
use paxos_demo::workload::{Control, Look, Phase, Unanswered};
use tokio::task::LocalSet;

use super::Shape;
use super::rpc::{self, Client, Connections, RpcError};

/// Slowest answer that the histogram tells apart from slower ones.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Descriptions of errors kept; their number is counted in full.
const ERROR_SAMPLES: usize = 8;

/// What a run found.
#[derive(Debug)]
pub struct Outcome {
    /// Requests answered within the measured window.
    pub requests: u64,
    /// Length of that window.
    pub seconds: f64,
    /// Answers checked in the whole run.
    pub checked: u64,
    /// Wrong and missing answers of the whole run.
    pub errors: u64,
    /// The first few of them, described.
    pub error_samples: Vec<String>,
    /// Nanoseconds from send to answer, within the window.
    pub latency: Histogram<u64>,
}

/// What all sessions share.
struct Run {
    control: Arc<Control>,
    phase: Cell<Phase>,
    window_start: Cell<Option<Instant>>,
    /// When each session asked what it has no answer to.
    asked: RefCell<Vec<Option<Instant>>>,
    outcome: RefCell<Outcome>,
}

/// Runs the load until `control` says otherwise. Called in the clients' namespace.
pub fn run(leader: &str, shape: &Shape, control: Arc<Control>) -> Result<Outcome, RpcError> {
    let latency =
        Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3).expect("constant bounds are valid");
    let outcome =
        Outcome { requests: 0, seconds: 0.0, checked: 0, errors: 0, error_samples: Vec::new(), latency };
    let run = Rc::new(Run {
        control,
        phase: Cell::new(Phase::WarmUp),
        window_start: Cell::new(None),
        asked: RefCell::new(vec![None; shape.clients]),
        outcome: RefCell::new(outcome),
    });
    let scope = LocalSet::new();
    scope.block_on(&rpc::runtime()?, async {
        let connections = Connections::open(leader, shape.clients).await?;
        // A task each: who has an answer goes on, and nobody else is looked at.
        let sessions: Vec<_> = (0..shape.clients)
            .map(|number| {
                let (run, client, shape) = (Rc::clone(&run), connections.client(), *shape);
                tokio::task::spawn_local(async move { run.session(number, client, shape).await })
            })
            .collect();
        for session in sessions {
            if let Err(panic) = session.await {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
        Ok::<_, RpcError>(())
    })?;
    drop(scope);
    let Ok(run) = Rc::try_unwrap(run) else { unreachable!("all sessions have ended") };
    Ok(run.outcome.into_inner())
}

impl Run {
    /// One session, to its end.
    async fn session(&self, number: usize, mut client: Client, shape: Shape) {
        let mut model = Model::new(random_id(), shape.payload_bytes);
        let (mut command, mut result) = (Vec::new(), Vec::new());
        loop {
            command.clear();
            let more = match self.phase.get() {
                Phase::WarmUp | Phase::Measure => {
                    model.next(&mut command);
                    true
                }
                Phase::Drain => model.next_check(&mut command),
                Phase::Abort => false,
            };
            if !more {
                return;
            }
            let started = Instant::now();
            self.asked.borrow_mut()[number] = Some(started);
            let execute = client.execute(&command, &mut result);
            let executed = if shape.clients == 1 {
                let look = Look::begin();
                looked_for(execute, || look.goes_on()).await
            } else {
                execute.await
            };
            let now = Instant::now();
            self.asked.borrow_mut()[number] = None;
            let verdict = match executed {
                Ok(()) => model.check(&result),
                Err(error) => Err(error.to_string()),
            };
            // What has come belongs to the phase in which it came.
            self.record(now.saturating_duration_since(started), verdict.as_ref().err());
            self.follow_phase(now);
            if verdict.is_err() {
                if self.phase.get() >= Phase::Drain {
                    return;
                }
                // It is not known what its keys hold: it goes on with others.
                model = Model::new(random_id(), shape.payload_bytes);
            }
        }
    }

    fn record(&self, latency: Duration, error: Option<&String>) {
        let mut outcome = self.outcome.borrow_mut();
        match error {
            None => {
                outcome.checked += 1;
                self.control.count(outcome.checked);
                if self.phase.get() == Phase::Measure {
                    outcome.requests += 1;
                    outcome.latency.saturating_record(latency.as_nanos() as u64);
                }
            }
            Some(error) => {
                outcome.errors += 1;
                if outcome.error_samples.len() < ERROR_SAMPLES {
                    outcome.error_samples.push(error.clone());
                }
            }
        }
    }

    /// Measures from the first moment at which this thread saw the phase to that at which it saw the next.
    fn follow_phase(&self, now: Instant) {
        let (before, phase) = (self.phase.get(), self.control.phase());
        if before == phase {
            return;
        }
        if phase == Phase::Measure {
            self.window_start.set(Some(now));
        } else if before == Phase::Measure {
            let start = self.window_start.get().unwrap_or(now);
            let outcome = &mut *self.outcome.borrow_mut();
            outcome.seconds = now.saturating_duration_since(start).as_secs_f64();
            let asked = self.asked.borrow();
            Unanswered::SlowerThanAnswers.record(asked.iter().flatten().copied(), now, &mut outcome.latency);
        }
        self.phase.set(phase);
    }
}

/// Looks for a while before this thread sleeps, as our own generator does for a session that is alone.
async fn looked_for<F: Future>(future: F, goes_on: impl Fn() -> bool) -> F::Output {
    let mut future = pin!(future);
    loop {
        // First of all, for that sends the request: a look before it would be on etcd's account.
        let found = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(output) = found {
            return output;
        }
        // The runtime asks the sockets, and does not sleep.
        tokio::task::yield_now().await;
        if !goes_on() {
            return future.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_sent_before_anybody_looks() {
        let runtime = rpc::runtime().unwrap();
        let sent = Cell::new(false);
        let looks = Cell::new(0);
        let answer = async {
            sent.set(true);
            tokio::task::yield_now().await;
            7
        };
        let look = || {
            assert!(sent.get());
            looks.set(looks.get() + 1);
            true
        };
        assert_eq!(runtime.block_on(looked_for(answer, look)), 7);
        assert_eq!(looks.get(), 1);
        let never = || unreachable!("what is there already needs no look");
        assert_eq!(runtime.block_on(looked_for(async { 8 }, never)), 8);
    }

    #[test]
    fn a_look_finds_what_comes_and_waits_for_what_is_late() {
        let runtime = rpc::runtime().unwrap();
        let (now, later) = (Duration::ZERO, Duration::from_millis(5));
        for time in [now, later] {
            let answer = async {
                tokio::time::sleep(time).await;
                7
            };
            let look = Look::begin();
            assert_eq!(runtime.block_on(looked_for(answer, || look.goes_on())), 7);
        }
    }
}
