//! The replicated service: a key-value store with expiry.
//!
//! | file | |
//! |---|---|
//! | [`command`] | what can be asked, and its bytes |
//! | [`strings`] | several strings in one command or result |
//! | [`outcome`] | what is answered, and its bytes |
//! | `store` | pairs, deadlines, the clock, the running hash |
//! | `execute` | what each command does |
//!
//! Applying is deterministic: the result and the state after it depend on the command, the time of its batch
//! and the state before it alone, so replicas that apply the same log stay equal. There is no other clock
//! than the one in the log.

pub mod command;
mod execute;
pub mod outcome;
mod store;
pub mod strings;
#[cfg(test)]
mod tests;

pub use command::{
    COMMAND_HEADER_BYTES, COMMANDS_MAX, Command, Expiry, ExpiryCondition, SetCondition, SetOptions,
};
pub use execute::{KEPT_RESULT_BYTES_MAX, SHORT_COMMANDS_MAX, integer};
pub use outcome::{Failure, Outcome, fitting};
pub use store::{KvStore, Pair, Pairs};
pub use strings::Strings;

use thiserror::Error;

/// Longest value. Commands are bounded by what carries them; this bounds what several APPENDs make.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Why bytes are no command or no result.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Shorter than its fixed part, or than its key.
    #[error("command is cut short")]
    Truncated,
    /// An operation that does not exist.
    #[error("unknown operation {0}")]
    UnknownOperation(u8),
    /// Options that the operation does not have.
    #[error("operation {operation} has no options {flags:#04x}")]
    Options {
        /// The operation.
        operation: u8,
        /// Its options.
        flags: u8,
    },
    /// Bytes behind a command that takes no value.
    #[error("bytes follow the end of the command")]
    Trailing,
    /// A key without a value.
    #[error("a key comes without its value")]
    Unpaired,
    /// More commands within one than [`COMMANDS_MAX`].
    #[error("{0} commands within one, at most {COMMANDS_MAX} are possible")]
    TooMany(u32),
    /// Several commands within several commands.
    #[error("several commands within several commands")]
    Nested,
    /// A string whose length does not fit its field.
    #[error("string of {0} bytes, at most 4294967294 are possible")]
    TooLong(usize),
    /// Not what the store answers.
    #[error("result is malformed")]
    Result,
}

/// Reads fields from the front of some bytes.
#[derive(Copy, Clone)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CommandError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(CommandError::Truncated)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, CommandError> {
        self.array().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, CommandError> {
        self.array().map(i64::from_le_bytes)
    }

    fn bytes(&mut self, length: u32) -> Result<&'a [u8], CommandError> {
        let (field, rest) = self.0.split_at_checked(length as usize).ok_or(CommandError::Truncated)?;
        self.0 = rest;
        Ok(field)
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }

    fn end(self) -> Result<(), CommandError> {
        if self.0.is_empty() { Ok(()) } else { Err(CommandError::Trailing) }
    }
}
