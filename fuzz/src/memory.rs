//! How much memory a piece of code holds at its worst: a length field must not allocate what it claims.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has allocated and not freed, and the most that was since [`held`] last asked.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    // A thread that is ending counts no more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call goes to `System` with the same arguments; counting touches no memory of the allocation, and
// its thread-locals are initialised without one.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Old and new may be there at once while it moves.
        count(bytes as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What `work` returns, and the most bytes that it held at a time beyond those held before.
pub fn held<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

/// What `work` returns.
///
/// # Panics
/// If it held more than `bytes_max` at a time.
pub fn bounded<T>(bytes_max: usize, work: impl FnOnce() -> T) -> T {
    let (result, bytes) = held(work);
    assert!(bytes <= bytes_max, "{bytes} bytes held at a time, {bytes_max} are enough for this input");
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted() {
        assert_eq!(held(|| ()).1, 0);
        assert_eq!(held(|| drop(vec![0u8; 1000])).1, 1000);
        let (kept, bytes) = held(|| [vec![0u8; 300], vec![0u8; 500]]);
        assert_eq!((kept.len(), bytes), (2, 800));
        assert_eq!(held(move || drop(kept)).1, 0);
    }

    #[test]
    #[should_panic = "bytes held at a time"]
    fn a_length_that_is_trusted_is_noticed() {
        let claimed = 1 << 30;
        bounded(4096, || Vec::<u8>::with_capacity(claimed));
    }
}
