//! Why a datagram was not understood.

use thiserror::Error;

/// Why a datagram (or a batch) was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// No tag.
    #[error("empty datagram")]
    Empty,
    /// A tag that no version of this program sends.
    #[error("unknown tag {0}")]
    UnknownTag(u8),
    /// The fixed part is cut short.
    #[error("{what} needs {need} bytes, {have} are there")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes that it takes.
        need: usize,
        /// Bytes that were left.
        have: usize,
    },
    /// A length field disagrees with the datagram.
    #[error("{what} announces {declared} bytes, {actual} follow")]
    Length {
        /// What was being read.
        what: &'static str,
        /// The length field.
        declared: usize,
        /// What is there.
        actual: usize,
    },
    /// Reserved bytes are not zero.
    #[error("reserved bytes of a {0} are not zero")]
    Reserved(&'static str),
    /// A reply status that does not exist.
    #[error("unknown reply status {0}")]
    UnknownStatus(u8),
    /// A part of a command that cannot be.
    #[error("part {part} of {parts} parts")]
    Part {
        /// Its number, from 0.
        part: u16,
        /// How many there are.
        parts: u16,
    },
    /// A part that is not within its whole.
    #[error("a part at offset {offset} of {total_bytes} bytes does not lie within them")]
    Beyond {
        /// Where it begins.
        offset: u32,
        /// Length of the whole.
        total_bytes: u32,
    },
    /// Too long for its length field.
    #[error("{what} of {bytes} bytes does not fit its 16-bit length")]
    TooLong {
        /// What was being written.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
}
