//! Somebody who listens on a link, keeps what is said, and plays it back when sender or receiver live another life.
//!
//! With keys, too, what was said once has a right tag for as long as the key is in use. Replays of the same lives are
//! doubled frames ([`super::wire`]); these are what a process meets that has no memory of having heard them.

use std::collections::VecDeque;

use super::weather::{MS, US};
use super::world::{Frame, Happening, World};

/// Frames that are kept of each link: how its first lives began, and what was said last.
const FIRST_MAX: usize = 60;
const LAST_MAX: usize = 240;
/// Frames that are played back in a row.
const ROW_MAX: usize = 80;

/// A frame, and the lives of its sender and receiver when it was sent.
struct Kept {
    lives: [u32; 2],
    frame: Frame,
}

/// What was said on one link, oldest first.
#[derive(Default)]
struct Tape {
    first: Vec<Kept>,
    last: VecDeque<Kept>,
}

/// What was said on all links.
pub(super) struct Recordings {
    members: usize,
    tapes: Vec<Tape>,
}

impl Recordings {
    pub(super) fn new(members: usize) -> Self {
        Self { members, tapes: (0..members * members).map(|_| Tape::default()).collect() }
    }

    fn tape(&mut self, from: usize, to: usize) -> &mut Tape {
        &mut self.tapes[from * self.members + to]
    }
}

impl World {
    /// Somebody listens as long as there are faults, whether the frame arrives or not.
    pub(super) fn record(&mut self, from: usize, to: usize, frame: &Frame) {
        if self.calm || self.weather.playback_every_ns == 0 {
            return;
        }
        let kept = Kept { lives: [from, to].map(|node| self.nodes[node].life), frame: frame.clone() };
        let tape = self.recordings.tape(from, to);
        if tape.first.len() < FIRST_MAX {
            return tape.first.push(kept);
        }
        if tape.last.len() == LAST_MAX {
            tape.last.pop_front();
        }
        tape.last.push_back(kept);
    }

    /// A process that has just started knows nobody: the best one to play something back to.
    pub(super) fn play_to_newcomer(&mut self, node: usize) {
        if self.weather.playback_every_ns > 0 && self.rng.bool() {
            (0..self.weather.members).filter(|from| *from != node).for_each(|from| self.play(from, node));
        }
    }

    /// Plays back to one machine what another one once told it.
    pub(super) fn play_back(&mut self, to: usize) {
        let members = self.weather.members;
        let from = (to + self.rng.usize(1..members)) % members;
        self.play(from, to);
    }

    /// In its order, beginning anywhere.
    fn play(&mut self, from: usize, to: usize) {
        let lives = [from, to].map(|node| self.nodes[node].life);
        let tape = self.recordings.tape(from, to);
        let earlier = tape.first.iter().chain(&tape.last).filter(|kept| kept.lives != lives);
        let frames: Vec<Frame> = earlier.map(|kept| kept.frame.clone()).collect();
        if frames.is_empty() {
            return;
        }
        let begin = if self.rng.bool() { 0 } else { self.rng.usize(0..frames.len()) };
        let gap = [20 * US, 300 * US, 3 * MS][self.rng.usize(0..3)];
        let mut at = self.now;
        for frame in frames.into_iter().skip(begin).take(ROW_MAX) {
            at += self.rng.u64(0..=gap);
            self.checker.coverage.played_back += 1;
            self.plan(at, Happening::Arrive { node: to, frame });
        }
        let now = self.now;
        self.trace.line(now, |line| line.push_str(&format!("what r{from} told r{to} is played back")));
    }
}
