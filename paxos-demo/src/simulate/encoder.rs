//! Encoding a snapshot takes its time, and nothing wakes the process when it is done.

use std::collections::VecDeque;

use bytes::Bytes;
use electrode::types::OpNumber;

use super::world::{Shared, lock};
use crate::encoder::Encoder;
use crate::snapshot::Snapshot;

/// Encoder of one life.
pub(super) struct SimEncoder {
    shared: Shared,
    /// What is under way, and when it will be done.
    under_way: VecDeque<(u64, Box<Snapshot>)>,
}

impl SimEncoder {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, under_way: VecDeque::new() }
    }
}

impl Encoder for SimEncoder {
    fn encode(&mut self, snapshot: Box<Snapshot>) {
        let mut world = lock(&self.shared);
        let longest = world.weather.encode_ns_max;
        let takes = if longest > 0 { world.rng.u64(0..=longest) } else { 0 };
        self.under_way.push_back((world.now + takes, snapshot));
    }

    /// Encoded only now: what was committed meanwhile must not show in it.
    fn take(&mut self) -> Option<(OpNumber, Bytes)> {
        let now = lock(&self.shared).now;
        let (done_at, _) = self.under_way.front()?;
        if *done_at > now {
            return None;
        }
        let (_, snapshot) = self.under_way.pop_front()?;
        Some((snapshot.op(), snapshot.encode()))
    }
}
