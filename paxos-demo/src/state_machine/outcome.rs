//! What the store answers, and its bytes: a tag and what belongs to it.

use super::strings::length;
use super::{CommandError, Fields};
use thiserror::Error;

const ABSENT: u8 = 0;
const DONE: u8 = 1;
const VALUE: u8 = 2;
const INVALID: u8 = 3;
const INTEGER: u8 = 4;
const VALUES: u8 = 5;
const FAILURE: u8 = 6;
const RESULTS: u8 = 7;

/// Longest result of a command with a short one ([`super::Command::has_short_result`]): a number.
const SHORT_RESULT_BYTES: usize = 9;
/// What such a result takes among several, its length included.
pub(super) const SHORT_SHARE_BYTES: usize = 4 + SHORT_RESULT_BYTES;

/// Length of a value that is not there.
const NO_VALUE: u32 = u32::MAX;

/// Why a command that is one was not executed. Nothing changed. The words are those of Redis.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[repr(u8)]
pub enum Failure {
    /// INCR of something else.
    #[error("value is not an integer or out of range")]
    NotAnInteger = 1,
    /// INCR beyond 64 bits.
    #[error("increment or decrement would overflow")]
    Overflow = 2,
    /// A value of more than [`super::VALUE_BYTES_MAX`].
    #[error("string exceeds maximum allowed size")]
    ValueTooLong = 3,
    /// A deadline that does not fit 64 bits.
    #[error("invalid expire time")]
    Expiry = 4,
    /// As much is stored as may be.
    #[error("command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory = 5,
    /// There would be a result, and it is too long to be returned.
    #[error("the result is longer than this group returns at once; ask for less at a time")]
    ResultTooLong = 6,
}

impl Failure {
    fn parse(code: u8) -> Result<Self, CommandError> {
        Ok(match code {
            1 => Self::NotAnInteger,
            2 => Self::Overflow,
            3 => Self::ValueTooLong,
            4 => Self::Expiry,
            5 => Self::OutOfMemory,
            6 => Self::ResultTooLong,
            _ => return Err(CommandError::Result),
        })
    }
}

/// What the store answers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// No such key.
    Absent,
    /// Written or removed.
    Done,
    /// The value read.
    Value(&'a [u8]),
    /// The command was not one. A leader refuses these; if one is in the log all the same, every replica
    /// answers it alike.
    Invalid,
    /// A number.
    Integer(i64),
    /// The values read, in order.
    Values(Values<'a>),
    /// The results of several commands, in order.
    Results(Values<'a>),
    /// A command that could not be executed.
    Failure(Failure),
}

impl<'a> Outcome<'a> {
    /// Reads a result.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CommandError> {
        match bytes {
            [ABSENT] => Ok(Self::Absent),
            [DONE] => Ok(Self::Done),
            [VALUE, value @ ..] => Ok(Self::Value(value)),
            [INVALID] => Ok(Self::Invalid),
            [INTEGER, number @ ..] => {
                let number = number.try_into().map_err(|_| CommandError::Result)?;
                Ok(Self::Integer(i64::from_le_bytes(number)))
            }
            [VALUES, values @ ..] => Values::parse(values).map(Self::Values),
            [RESULTS, results @ ..] => Values::parse(results).map(Self::Results),
            [FAILURE, code] => Failure::parse(*code).map(Self::Failure),
            _ => Err(CommandError::Result),
        }
    }

    /// Appends the result to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Absent => out.push(ABSENT),
            Self::Done => out.push(DONE),
            Self::Value(value) => {
                out.push(VALUE);
                out.extend_from_slice(value);
            }
            Self::Invalid => out.push(INVALID),
            Self::Integer(number) => {
                out.push(INTEGER);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Self::Values(values) => {
                out.push(VALUES);
                out.extend_from_slice(values.0);
            }
            Self::Results(results) => {
                out.push(RESULTS);
                out.extend_from_slice(results.0);
            }
            Self::Failure(failure) => out.extend_from_slice(&[FAILURE, *failure as u8]),
        }
    }
}

/// Values, some of which may not be there: `bytes u32` (all ones: not there) and the value, for each.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, CommandError> {
        let mut fields = Fields(bytes);
        while !fields.0.is_empty() {
            next_value(&mut fields).map_err(|_| CommandError::Result)?;
        }
        Ok(Self(bytes))
    }

    /// Appends a result of several values.
    pub(super) fn encode<'v>(values: impl Iterator<Item = Option<&'v [u8]>>, out: &mut Vec<u8>) {
        out.push(VALUES);
        for value in values {
            let bytes = value.map_or(NO_VALUE, |value| length(value).expect("values are bounded"));
            out.extend_from_slice(&bytes.to_le_bytes());
            out.extend_from_slice(value.unwrap_or_default());
        }
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut fields = Fields(self.0);
        std::iter::from_fn(move || next_value(&mut fields).ok())
    }
}

/// Writes a result of several results.
pub(super) struct Results<'a>(&'a mut Vec<u8>);

impl<'a> Results<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(RESULTS);
        Self(out)
    }

    /// Appends what `write` appends as one result.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        write(self.0);
        let bytes = u32::try_from(self.0.len() - start - 4).expect("results are bounded");
        self.0[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
    }
}

fn next_value<'a>(fields: &mut Fields<'a>) -> Result<Option<&'a [u8]>, CommandError> {
    match fields.u32()? {
        NO_VALUE => Ok(None),
        length => fields.bytes(length).map(Some),
    }
}

/// The result if it takes at most `bytes_max`, else a failure that says so.
pub fn fitting(result: &[u8], bytes_max: usize) -> &[u8] {
    const TOO_LONG: [u8; 2] = [FAILURE, Failure::ResultTooLong as u8];
    if result.len() <= bytes_max { result } else { &TOO_LONG }
}
