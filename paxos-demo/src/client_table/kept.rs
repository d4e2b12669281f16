//! A result as the table keeps it. Most results are a few bytes: they are kept without an allocation, and
//! copying a whole table of them (for a snapshot, on the replica's own thread) takes a millisecond.

use std::sync::Arc;

const SHORT_BYTES: usize = 22;

/// A byte string that never changes.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Short { length: u8, bytes: [u8; SHORT_BYTES] },
    Long(Arc<[u8]>),
}

const _: () = assert!(size_of::<Kept>() == 24);

impl Kept {
    pub(super) const EMPTY: Self = Self::Short { length: 0, bytes: [0; SHORT_BYTES] };

    pub(super) fn new(result: &[u8]) -> Self {
        if result.len() > SHORT_BYTES {
            return Self::Long(result.into());
        }
        let mut bytes = [0; SHORT_BYTES];
        bytes[..result.len()].copy_from_slice(result);
        Self::Short { length: result.len() as u8, bytes }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_kept() {
        let bytes: Vec<u8> = (0..60).collect();
        for length in 0..=bytes.len() {
            assert_eq!(Kept::new(&bytes[..length]).as_slice(), &bytes[..length]);
        }
    }
}
