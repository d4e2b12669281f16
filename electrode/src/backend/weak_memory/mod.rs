//! Gate, log and rounds under weak memory order: user space's real code ([`super::shared`], the leader's recount)
//! against short transcriptions of the kernel programs, on a memory in which a load may return every value that C11
//! allows (loom). The decisions are those of [`crate::rules`].
//!
//! Two CPUs with three packets, one of them with two, and user space on a thread of its own. What the model's explorer
//! (`crate::model`) walks step by step in one order for all, loom walks access by access with an order for each
//! thread. [`Plant`] weakens one access or leaves out one rule; every one of them must be noticed.
//!
//! Not explored: words that no safety rests on (commit, heard, durable, lease), frames and checksums, grace periods.

mod follower;
mod leader;
mod memory;
mod path;
mod program;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// One access weakened, or one rule left out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Plant {
    /// All as it is.
    Nothing,
    /// F7: the swap that publishes a slot does not release.
    PublishRelaxed,
    /// F7, A1: the tail is raised before the slot is filled.
    PublishBeforeFill,
    /// U2: user space loads the gate word without acquiring.
    DrainRelaxed,
    /// U1, P12: a busy log is opened.
    BusyIgnored,
    /// F0: a program loads the gate word without acquiring.
    GateRelaxed,
    /// F0, P8: a duplicate is acknowledged without a second look.
    DuplicateUnchecked,
    /// F6: user space stores `released` without releasing.
    ReleaseRelaxed,
    /// F6, A11: a slot is reused whatever it holds.
    ReuseUnreleased,
    /// A program's swap acquires and releases, but is no full barrier.
    SwapNoBarrier,
    /// User space leaves its fences out.
    FenceLeftOut,
    /// L1: the vote word is published without releasing.
    RoundRelaxed,
    /// L1: the vote word is published before the round is described.
    RoundPublishedFirst,
    /// L1: the round is described under the old vote word.
    RoundNotInvalidated,
    /// L2, A8: votes are set by a plain OR.
    VoteByOr,
    /// L2: a peer's maximum is stored, not swapped.
    MaximumStored,
    /// L8: old rounds and maxima stay, and the epoch too.
    SameEpoch,
}

/// What an exploration went through.
struct Explored {
    executions: u64,
}

/// Explores `run` on a fresh memory, again and again until all orders have been seen.
///
/// `preemptions`: in how many places of one execution a thread may be stopped in favour of another although it could
/// go on; `None` is everywhere. `Err` is what was violated.
fn explore(preemptions: Option<usize>, run: impl Fn() + Send + Sync + 'static) -> Result<Explored, String> {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    let executions = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&executions);
    let checked = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            run();
        });
    }));
    let executions = executions.load(Ordering::Relaxed);
    match checked {
        Ok(()) => Ok(Explored { executions }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(format!("after {executions} executions: {}", text.unwrap_or_else(|| "a panic".into())))
        }
    }
}

/// Fails unless the exploration found a violation of `rule`.
#[track_caller]
fn caught(explored: Result<Explored, String>, rule: &str) {
    match explored {
        Ok(explored) => panic!("not noticed in {} executions", explored.executions),
        Err(story) => assert!(story.contains(rule), "another rule fired: {story}"),
    }
}

/// Fails if it found any; says how many executions there were.
#[track_caller]
fn sound(name: &str, explored: Result<Explored, String>) {
    let Explored { executions } = explored.unwrap_or_else(|story| panic!("{name}: {story}"));
    println!("{name}: {executions} executions");
}

/// What the threads of one execution saw, in no particular order. Not loom's: nothing depends on its order.
type Seen<T> = Arc<Mutex<Vec<T>>>;
