//! Protocol stories: schedules written by hand, one for each known defect (`tests/scripts/`).
//!
//! A story runs in the same world as a seed, but with still weather: nothing is lost, late or stopped unless a
//! line says so. It is told twice. As it stands every line and every checker must hold. With the bug that it
//! names planted, one of them must not: that is what makes it a test of its rule.
//!
//! [`script`] reads a story, [`stage`] carries out what it does to packets and programs, [`play`] runs it.

mod play;
mod script;
mod stage;

use std::fmt;

use script::Line;
pub(super) use stage::Stage;

use super::check::Violation;
use crate::plant::{Plant, Plants};

/// A story that can be told.
#[derive(Clone, Debug)]
pub struct Story {
    plant: Plant,
    replicas: usize,
    disk: bool,
    /// The group has a key.
    keys: bool,
    slots: u32,
    lines: Vec<Line>,
}

/// A line that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct StoryError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// What ended a story before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoiled {
    /// A line did not hold, or could not be carried out.
    Line {
        /// Number of the line, from 1; 0: before the first one.
        line: usize,
        /// The line.
        text: String,
        /// What was found instead.
        found: String,
    },
    /// A checker saw a rule broken.
    Rule {
        /// The line that was being told.
        line: usize,
        /// What was broken.
        violation: Violation,
    },
}

impl fmt::Display for Spoiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, text, found } => write!(f, "line {line}: `{text}`: {found}"),
            Self::Rule { line, violation } => write!(f, "after line {line}: {violation}"),
        }
    }
}

/// How a story went.
#[derive(Clone, Debug)]
pub struct Told {
    /// What ended it before its end.
    pub spoiled: Option<Spoiled>,
    /// What happened.
    pub trace: Vec<String>,
}

impl Story {
    /// Reads a story.
    pub fn parse(text: &str) -> Result<Self, StoryError> {
        script::parse(text)
    }

    /// The bug that must spoil it.
    pub fn plant(&self) -> Plant {
        self.plant
    }

    /// Tells it. The seed decides only what no line speaks of: how many microseconds a process needs to wake up.
    pub fn tell(&self, seed: u64, plants: Plants) -> Told {
        play::tell(self, seed, plants)
    }
}
