//! What happened, as a hash always and as text on demand.

use std::fmt::Write;

/// The record of one run.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new(with_lines: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: with_lines.then(Vec::new) }
    }

    /// Mixes numbers into the hash.
    pub(super) fn mix(&mut self, words: &[u64]) {
        self.events += 1;
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }

    /// Adds a line, if lines are wanted.
    pub(super) fn line(&mut self, now: u64, text: impl FnOnce(&mut String)) {
        if let Some(lines) = &mut self.lines {
            let mut line = String::new();
            let _ = write!(line, "{:>12.6} ms  ", now as f64 / 1e6);
            text(&mut line);
            lines.push(line);
        }
    }

    /// Equal runs have equal hashes.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}
