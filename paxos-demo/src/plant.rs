//! Rules broken on purpose, by name: the simulation must notice each of them.
//!
//! Names and meaning are those of the tables in `paper-notes/safety.md`. What is planted where: the kernel
//! programs' in [`electrode::model::Plants`], the endpoint's in its own switches, the machine's (programs that
//! outlive their process) in the simulation, the replica's in [`crate::replica`].

use std::fmt;
use std::str::FromStr;

macro_rules! plants {
    ($($name:ident, $rule:literal, $text:literal;)*) => {
        /// One broken rule.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Plant { $(#[doc = $text] $name,)* }

        impl Plant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The rule that it breaks.
            pub fn rule(self) -> &'static str {
                match self { $(Self::$name => $rule,)* }
            }

            /// What is broken.
            pub fn describe(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

plants! {
    A1, "F7", "the tail is raised before the slot is filled";
    A2, "F8", "a duplicate is answered from a cell that this path never set";
    A3, "F7", "one unlocked cell for all CPUs holds the op to acknowledge";
    A4, "U3", "the kernel goes on in the old view after a vote for a new one";
    A5, "U8", "user space appends while the kernel may";
    A6, "L4", "a single ack that gets through commits";
    A7, "F4", "neither leader nor voter is checked against its address";
    A8, "L2", "votes are set by a plain OR, whatever round the slot is in";
    A9, "L5", "a quorum is seen only by the packet that completes it";
    A11, "F6", "a log slot is reused whatever it holds";
    A17, "D4", "programs go on after their process; a restarted one starts at op 0";
    B1, "U4", "the last normal view is taken from the last log entry";
    B2, "U6", "state transfer keeps an uncommitted tail and acknowledges it in a later view";
    B3, "U5", "a recovering replica takes part in view changes";
    B4, "C9", "the client table remembers requests that never commit";
    P1, "U2", "the drain leaves out the last batch below the tail";
    P2, "U6", "the gate is opened with the epoch of the opening before";
    P3, "D3", "the view is not persisted before it is voted for";
    P4, "U6", "a duplicate StartView installs again";
    P5, "U6", "a short NewState truncates";
    P6, "D3", "the last normal view is durable before its log";
    P7, "U6", "the log is truncated first and the new one fetched after";
    P8, "F0", "a duplicate is acknowledged without a second look at the gate";
    P9, "D4", "old programs acknowledge while the new life recovers";
    P10, "F8", "in mode disk, duplicates above durable are acknowledged";
    P11, "L11", "a restarted leader resumes its view";
    P12, "U1", "the gate is opened while a stale writer is busy";
    P13, "L2", "vote bits are set by a plain OR and maxima are untagged";
    K1, "F4", "the kernel takes any tag for right";
    K2, "U9", "a member is believed to live because of a Hello, whenever that was said";
}

impl Plant {
    /// Whether it is in the model of the kernel's side or in how that outlives its process, and not in what ships:
    /// the bytecode is without it.
    pub fn is_modelled(self) -> bool {
        use Plant::{A1, A2, A3, A7, A8, A11, A17, P1, P8, P9, P10, P12, P13};
        matches!(self, A1 | A2 | A3 | A7 | A8 | A11 | A17 | P1 | P8 | P9 | P10 | P12 | P13)
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown planted bug `{0}`; `--plant list` names them")]
pub struct UnknownPlant(pub String);

impl FromStr for Plant {
    type Err = UnknownPlant;

    fn from_str(name: &str) -> Result<Self, UnknownPlant> {
        let found = Self::ALL.iter().find(|plant| plant.name().eq_ignore_ascii_case(name));
        found.copied().ok_or_else(|| UnknownPlant(name.to_owned()))
    }
}

/// A set of broken rules; empty everywhere but in tests and `simulate --plant`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plants(u32);

const _: () = assert!(Plant::ALL.len() <= 32);

impl Plants {
    /// No rule is broken.
    pub const NONE: Self = Self(0);

    /// This set and one more.
    #[must_use]
    pub const fn with(self, plant: Plant) -> Self {
        Self(self.0 | 1 << plant as u8)
    }

    /// Whether this rule is broken.
    pub const fn has(self, plant: Plant) -> bool {
        self.0 >> (plant as u8) & 1 == 1
    }
}

impl From<Plant> for Plants {
    fn from(plant: Plant) -> Self {
        Self::NONE.with(plant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_sets_hold_what_was_put_in() {
        for plant in Plant::ALL {
            assert_eq!(plant.name().to_lowercase().parse(), Ok(*plant));
            let one = Plants::from(*plant);
            assert_eq!(Plant::ALL.iter().filter(|p| one.has(**p)).collect::<Vec<_>>(), [plant]);
        }
        assert_eq!(Plant::ALL.len(), 30);
        assert!("A10".parse::<Plant>().is_err());
    }
}
