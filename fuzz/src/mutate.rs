//! Inputs a few changes away from kept ones, by seed: what can be had where no coverage is told.

use fastrand::Rng;

use crate::Target;

/// Numbers at the edges of fields.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0xffff_ffff_ffff,
    1 << 48,
    i64::MAX as u64,
    u64::MAX,
];

/// Makes inputs for one target.
pub struct Mutator<'a> {
    target: &'a Target,
    kept: &'a [Vec<u8>],
    rng: Rng,
}

impl<'a> Mutator<'a> {
    /// Of these inputs; the same ones for the same seed.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(target: &'a Target, kept: &'a [Vec<u8>], seed: u64) -> Self {
        assert!(!kept.is_empty(), "{}: nothing to mutate", target.name);
        Self { target, kept, rng: Rng::with_seed(seed) }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.pick().clone();
        for _ in 0..1 << self.rng.u32(..4) {
            self.change(&mut input);
        }
        input.truncate(self.target.bytes_max);
        input
    }

    fn pick(&mut self) -> &'a Vec<u8> {
        &self.kept[self.rng.usize(..self.kept.len())]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.rng.usize(..=input.len());
        let end = at + self.rng.usize(..=(input.len() - at).min(16));
        match self.rng.u32(..12) {
            0 if at < input.len() => input[at] ^= 1 << self.rng.u32(..8),
            1 if at < input.len() => input[at] = self.rng.u8(..),
            2 if at < input.len() => {
                let step = self.rng.u8(1..8);
                let up = self.rng.bool();
                input[at] = if up { input[at].wrapping_add(step) } else { input[at].wrapping_sub(step) };
            }
            3 => {
                let bytes = 1 << self.rng.u32(..4);
                let edge = EDGES[self.rng.usize(..EDGES.len())].to_le_bytes();
                let mut number = edge[..bytes].to_vec();
                if self.rng.bool() {
                    number.reverse();
                }
                overwrite(input, at, &number);
            }
            4 => drop(input.drain(at..end)),
            5 => {
                let copy = input[at..end].to_vec();
                input.splice(at..at, copy);
            }
            6 => {
                let to = self.rng.usize(..=input.len());
                let copy = input[at..end].to_vec();
                overwrite(input, to, &copy);
            }
            7 | 8 if !self.target.words.is_empty() => {
                let word = self.target.words[self.rng.usize(..self.target.words.len())];
                if self.rng.bool() {
                    input.splice(at..at, word.iter().copied());
                } else {
                    overwrite(input, at, word);
                }
            }
            9 => {
                let (other, from) = (self.pick(), self.rng.f32());
                let from = (from * other.len() as f32) as usize;
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            10 => input.truncate(at),
            _ => {
                let bytes = [self.rng.u8(..), self.rng.u8(..)];
                input.splice(at..at, bytes);
            }
        }
    }
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    let room = &mut input[at..];
    let count = room.len().min(bytes.len());
    room[..count].copy_from_slice(&bytes[..count]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ALL;

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let kept = [b"some input".to_vec(), b"another".to_vec()];
        let inputs = |seed| {
            let mut mutator = Mutator::new(&ALL[0], &kept, seed);
            (0..1000).map(|_| mutator.next_input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        let mut different = inputs(1);
        different.sort();
        different.dedup();
        assert!(different.len() > 800, "only {} of 1000 differ", different.len());
    }
}
