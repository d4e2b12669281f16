//! Small byte strings without an allocation each: they are cut from a large buffer, which is freed (or
//! reused) once the last of them is gone. Suits what is dropped in about the order in which it was made:
//! log payloads and replies.

use bytes::{Bytes, BytesMut};

/// Large enough that an allocation is rare, small enough that a straggler pins little.
const CHUNK_BYTES: usize = 64 * 1024;

/// A source of [`Bytes`].
#[derive(Debug)]
pub struct Arena {
    chunk: BytesMut,
}

impl Default for Arena {
    fn default() -> Self {
        Self { chunk: BytesMut::with_capacity(CHUNK_BYTES) }
    }
}

impl Arena {
    /// A copy of `bytes`.
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.build(bytes.len(), |chunk| chunk.extend_from_slice(bytes))
    }

    /// What `write` appends, of which it announces at most `bytes_max`.
    pub fn build(&mut self, bytes_max: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        debug_assert!(self.chunk.is_empty());
        self.chunk.reserve(bytes_max);
        write(&mut self.chunk);
        self.chunk.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_independent_of_the_arena_and_of_each_other() {
        let mut arena = Arena::default();
        let copies: Vec<Bytes> = (0..5000u32).map(|i| arena.copy(&i.to_le_bytes().repeat(9))).collect();
        drop(arena);
        for (i, copy) in copies.iter().enumerate() {
            assert_eq!(*copy, (i as u32).to_le_bytes().repeat(9));
        }
    }
}
