//! The rules of the fast path as a small transition system, searched exhaustively: the specification.
//!
//! It is written from the rules alone and knows nothing of the implementation. Read it in this order:
//! [`state`] (two halves of a replica), [`network`] (messages), [`kernel`] (F0 to F9, U1, U2), [`process`] (U3 to
//! U8, L1 to L11, D3, D4), [`specification`] (which steps there are), [`properties`] (C1 to C8). [`bounds`] says
//! how large a world is searched; [`plants`] breaks one rule at a time, and some property must notice.
//!
//! What is abstracted, and why nothing is lost by it:
//!
//! - *The network* is a set that only grows. What is never delivered is lost; the rest comes in any order and as
//!   often as it likes.
//! - *Commit numbers* are no message. A leader commits as soon as the acks that were sent allow it: whoever counts
//!   later, or hears fewer acks, commits a part of that. A follower applies what its leader committed in the
//!   same view, which [`properties::C1_KEPT`] looks at directly.
//! - *Values* are named by their proposer. No clients, no sessions, no payloads.
//! - *StartViewChange* goes out with DoViewChange and says nothing that it does not.
//! - *Time* does not exist: any replica may suspect its leader, or crash, at any moment. So nothing is said about
//!   progress, leases or reads.
//! - *One opening a view*: a leader does not freeze and reopen within its view.

mod bounds;
mod kernel;
mod network;
mod plants;
mod process;
mod properties;
mod specification;
mod state;

use std::num::NonZeroUsize;

use bounds::Bounds;
use plants::{EXPECTED, Expected};
use properties::C1_KEPT;
use specification::{Action, Specification};
use stateright::{Checker, HasDiscoveries, Model};

/// Searches a whole world: nothing that must hold is violated, and everything that must happen somewhere does.
fn holds(name: &str, bounds: Bounds) {
    let checker = Specification { bounds }.checker().spawn_bfs().join();
    println!("{name}: {} states, at most {} steps", checker.unique_state_count(), checker.max_depth() - 1);
    checker.assert_properties();
}

/// The steps to a violation, if there is one within `steps` of them.
fn violated(bounds: Bounds, property: &'static str, steps: usize) -> Option<Vec<Action>> {
    // The checker counts states, and does not look at the last.
    let depth = NonZeroUsize::new(steps + 2).expect("not zero");
    let only = HasDiscoveries::AnyOf([property].into());
    let checker = Specification { bounds }.checker().finish_when(only).target_max_depth(depth.get());
    checker.spawn_bfs().join().discovery(property).map(|path| path.into_actions())
}

#[test]
fn holds_with_loss_duplication_and_reordering() {
    holds("three replicas, two ops, two views", Bounds::SMALL);
    holds("and a third view, slow path, state transfer", Bounds::LOGS);
    holds("one slot", Bounds::ONE_SLOT);
    holds("five replicas", Bounds::FIVE);
}

#[test]
fn holds_when_programs_stop_between_any_two_steps() {
    holds("programs on two CPUs", Bounds::STEPS);
}

#[test]
fn holds_when_memory_is_lost() {
    holds("a crash", Bounds { slow_path: true, state_transfer: true, ..Bounds::CRASHES });
    holds("a crash, three views, one op", Bounds { views: 3, ops: 1, ..Bounds::CRASHES });
}

#[test]
fn holds_when_what_was_not_synced_is_lost() {
    holds("two crashes, disk", Bounds::DISK);
}

#[test]
#[ignore = "minutes, and more memory: cargo test --release --test specification -- --ignored --nocapture"]
fn holds_in_larger_worlds() {
    holds("two crashes", Bounds { restarts: 2, ..Bounds::CRASHES });
    holds("a crash, three views", Bounds { views: 3, ..Bounds::CRASHES });
    holds("a crash, three views, disk", Bounds { views: 3, restarts: 1, ..Bounds::DISK });
    holds("five replicas, three views, one op", Bounds { replicas: 5, ops: 1, views: 3, ..Bounds::SMALL });
}

/// Each broken rule is noticed by its property, after exactly as many steps as are written down.
#[test]
fn planted_bugs_are_noticed() {
    for Expected { plant, bounds, noticed: (property, steps), lost } in EXPECTED {
        let claims = [Some((*property, *steps)), lost.map(|steps| (C1_KEPT, steps))];
        for (property, steps) in claims.into_iter().flatten() {
            let Some(story) = violated(*bounds, property, steps) else {
                panic!("{plant:?} is not noticed by \"{property}\" within {steps} steps");
            };
            println!("{plant:?}: {property}");
            story.iter().for_each(|action| println!("    {action:?}"));
            let sooner = violated(*bounds, property, steps - 1).map(|story| story.len());
            assert_eq!(sooner, None, "{plant:?} is noticed by \"{property}\" sooner");
        }
    }
}
