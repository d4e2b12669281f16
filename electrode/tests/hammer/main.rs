//! Two RX queues and two CPUs hammer one endpoint while its user space freezes, drains and reopens all the time: no ack
//! outside what a drain returned, no lost vote.
//!
//! A minute in all, or as many seconds as `ELECTRODE_HAMMER_SECONDS` says. Time bounds how much is tried; no verdict
//! depends on it.

#[path = "../common/mod.rs"]
mod common;

mod cpus;
mod follower;
mod leader;
mod sender;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{privileged, skip};
use electrode::config::Hook;

/// The whole test.
const SECONDS: u64 = 60;
/// Follower and leader, at both hooks.
const SETTINGS: u32 = 4;

/// The CPUs that send, and on which the programs run.
const CPUS: usize = 2;

/// One setting at a time: each needs both CPUs.
static TURN: Mutex<()> = Mutex::new(());

/// Stops the senders whatever becomes of the test.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Whether the test can run, and its turn.
fn turn(test_name: &str) -> Option<MutexGuard<'static, ()>> {
    if !privileged(test_name) {
        return None;
    }
    if cpus::online() < CPUS {
        skip(test_name, "needs two CPUs");
        return None;
    }
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// For how long each setting goes on.
fn share() -> Duration {
    let seconds = std::env::var("ELECTRODE_HAMMER_SECONDS");
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("ELECTRODE_HAMMER_SECONDS is a number"));
    Duration::from_secs(seconds) / SETTINGS
}

#[test]
fn a_follower_at_tc() {
    let Some(_turn) = turn("a_follower_at_tc") else { return };
    follower::hammer(Hook::Tc, share());
}

#[test]
fn a_follower_at_xdp() {
    let Some(_turn) = turn("a_follower_at_xdp") else { return };
    follower::hammer(Hook::Xdp, share());
}

#[test]
fn a_leader_at_tc() {
    let Some(_turn) = turn("a_leader_at_tc") else { return };
    leader::hammer(Hook::Tc, share());
}

#[test]
fn a_leader_at_xdp() {
    let Some(_turn) = turn("a_leader_at_xdp") else { return };
    leader::hammer(Hook::Xdp, share());
}
