//! Several strings in one command: `bytes u32` and the string, for each.

use super::{CommandError, Fields};
use bytes::BufMut;

/// A list of strings, as somebody has them or as they are encoded.
#[derive(Copy, Clone, Debug)]
pub struct Strings<'a>(Form<'a>);

#[derive(Copy, Clone, Debug)]
enum Form<'a> {
    Slices(&'a [&'a [u8]]),
    /// Looked over by [`Strings::parse`].
    Encoded {
        count: usize,
        bytes: &'a [u8],
    },
}

impl<'a> Strings<'a> {
    /// A list in memory.
    pub fn new(slices: &'a [&'a [u8]]) -> Self {
        Self(Form::Slices(slices))
    }

    /// Reads `count` strings, which must be all that there is.
    pub(super) fn parse(count: u32, bytes: &'a [u8]) -> Result<Self, CommandError> {
        let mut fields = Fields(bytes);
        for _ in 0..count {
            let length = fields.u32()?;
            fields.bytes(length)?;
        }
        fields.end()?;
        Ok(Self(Form::Encoded { count: count as usize, bytes }))
    }

    /// Appends the strings, without their number.
    pub(super) fn encode(&self, out: &mut impl BufMut) -> Result<(), CommandError> {
        for string in self.iter() {
            out.put_u32_le(length(string)?);
            out.put_slice(string);
        }
        Ok(())
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        match self.0 {
            Form::Slices(slices) => slices.len(),
            Form::Encoded { count, .. } => count,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Self(form) = *self;
        let mut at = 0;
        let mut fields = Fields(match form {
            Form::Slices(_) => &[],
            Form::Encoded { bytes, .. } => bytes,
        });
        std::iter::from_fn(move || match form {
            Form::Slices(slices) => {
                at += 1;
                slices.get(at - 1).copied()
            }
            Form::Encoded { .. } => {
                let length = fields.u32().ok()?;
                fields.bytes(length).ok()
            }
        })
    }

    /// The strings two by two, as MSET has them.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut strings = self.iter();
        std::iter::from_fn(move || Some((strings.next()?, strings.next()?)))
    }
}

impl PartialEq for Strings<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Strings<'_> {}

/// The length as it is written. The largest number is kept for what is not there.
pub(super) fn length(string: &[u8]) -> Result<u32, CommandError> {
    u32::try_from(string.len())
        .ok()
        .filter(|length| *length != u32::MAX)
        .ok_or(CommandError::TooLong(string.len()))
}
