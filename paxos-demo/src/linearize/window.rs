//! Which operations are placed, and which may be placed next.

/// Times of an operation that was answered.
#[derive(Copy, Clone, Debug)]
pub(super) struct Span {
    pub called: u64,
    pub answered: u64,
}

/// A set over operations in the order of their calls. All before `first` are in it; of those behind, only
/// some that overlap with the first that is not.
#[derive(Debug)]
pub(super) struct Window {
    spans: Vec<Span>,
    placed: Vec<u64>,
    first: usize,
    count: usize,
}

/// What may be next: every operation that was called before any that is not placed was answered.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub operations: Vec<usize>,
    /// The earliest answer among those that are not placed.
    pub until: u64,
    /// Everything from here on is not placed.
    end: usize,
}

impl Window {
    /// Nothing is placed. `spans` are in the order of their calls.
    pub fn new(spans: Vec<Span>) -> Self {
        let placed = vec![0; spans.len().div_ceil(64)];
        Self { spans, placed, first: 0, count: 0 }
    }

    pub fn is_complete(&self) -> bool {
        self.count == self.spans.len()
    }

    /// How many are placed.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn place(&mut self, i: usize) {
        debug_assert!(!self.contains(i));
        self.placed[i / 64] |= 1 << (i % 64);
        self.count += 1;
        while self.first < self.spans.len() && self.contains(self.first) {
            // A whole word at a time where one operation was slow and thousands overtook it.
            let ones = (self.placed[self.first / 64] >> (self.first % 64)).trailing_ones() as usize;
            self.first += ones;
        }
    }

    pub fn take_back(&mut self, i: usize) {
        debug_assert!(self.contains(i));
        self.placed[i / 64] &= !(1 << (i % 64));
        self.count -= 1;
        self.first = self.first.min(i);
    }

    pub fn contains(&self, i: usize) -> bool {
        self.placed[i / 64] >> (i % 64) & 1 == 1
    }

    /// Finds what may be next.
    pub fn candidates(&self, into: &mut Candidates) {
        into.operations.clear();
        into.until = u64::MAX;
        let mut i = self.first;
        while i < self.spans.len() {
            let ones = (self.placed[i / 64] >> (i % 64)).trailing_ones() as usize;
            if ones > 0 {
                i += ones;
                continue;
            }
            let span = self.spans[i];
            // Later ones are called even later, and so answered: they cannot lower the limit.
            if span.called > into.until {
                break;
            }
            into.until = into.until.min(span.answered);
            into.operations.push(i);
            i += 1;
        }
        into.end = i.min(self.spans.len());
    }

    /// The set in few words: the first that is missing, and the bits up to where everything is missing.
    pub fn key(&self, candidates: &Candidates) -> (u32, Box<[u64]>) {
        let (from, shift) = (self.first / 64, self.first % 64);
        let to = candidates.end.div_ceil(64);
        let mut words: Vec<u64> = self.placed.get(from..to).unwrap_or_default().to_vec();
        if let Some(word) = words.first_mut() {
            *word &= u64::MAX << shift;
        }
        while words.last() == Some(&0) {
            words.pop();
        }
        (self.first as u32, words.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(spans: &[(u64, u64)]) -> Window {
        Window::new(spans.iter().map(|&(called, answered)| Span { called, answered }).collect())
    }

    fn next(window: &Window) -> (Vec<usize>, u64) {
        let mut candidates = Candidates::default();
        window.candidates(&mut candidates);
        (candidates.operations, candidates.until)
    }

    #[test]
    fn only_what_was_called_before_the_first_answer_may_be_next() {
        let mut window = window(&[(0, 10), (1, 5), (5, 7), (6, 20)]);
        assert_eq!(next(&window), (vec![0, 1, 2], 5));
        window.place(1);
        assert_eq!(next(&window), (vec![0, 2, 3], 7));
        window.place(2);
        window.place(0);
        assert_eq!(next(&window), (vec![3], 20));
        window.take_back(0);
        assert_eq!(next(&window), (vec![0, 3], 10));
        window.place(0);
        window.place(3);
        assert!(window.is_complete());
    }

    /// One operation is slow, a thousand overtake it: sets that differ have keys that differ.
    #[test]
    fn keys_tell_sets_apart() {
        let mut spans = vec![(0, 5000)];
        spans.extend((1..1000).map(|i| (2 * i, 2 * i + 1)));
        let mut window = window(&spans);
        let mut seen = std::collections::HashSet::new();
        for i in 1..1000 {
            let mut candidates = Candidates::default();
            window.candidates(&mut candidates);
            assert_eq!(candidates.operations, [0, i]);
            assert!(seen.insert(window.key(&candidates)));
            window.place(i);
        }
        window.place(0);
        assert!(window.is_complete());
        window.take_back(500);
        let mut candidates = Candidates::default();
        window.candidates(&mut candidates);
        assert_eq!((candidates.operations.as_slice(), candidates.until), (&[500][..], 1001));
        assert!(seen.insert(window.key(&candidates)));
    }
}
