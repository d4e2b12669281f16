//! The clock that kernel programs read too, and who else wants the CPU while it is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A yield that takes longer has let somebody else run.
const YIELD_CONTENDED: Duration = Duration::from_micros(5);

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    // SAFETY: all-zero is a valid timespec.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Offers this CPU to whoever waits for it; whether somebody took it. For loops that look for something without sleeping:
/// they should end then.
pub fn gave_way() -> bool {
    let before = Instant::now();
    std::thread::yield_now();
    before.elapsed() > YIELD_CONTENDED
}

/// The time of day at which virtual time begins: as good as any.
const VIRTUAL_EPOCH_MS: u64 = 1_700_000_000_000;

/// What an endpoint takes for the time.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// CLOCK_MONOTONIC.
    #[default]
    Monotonic,
    /// A time that somebody else moves.
    Virtual(Arc<AtomicU64>),
}

impl Clock {
    /// Nanoseconds from the clock's origin.
    pub fn now_ns(&self) -> u64 {
        match self {
            Self::Monotonic => monotonic_ns(),
            Self::Virtual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// The time of day in milliseconds since 1970; a clock before that is a clock that was not set.
    pub fn unix_ms(&self) -> u64 {
        match self {
            Self::Monotonic => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                since.map_or(0, |since| since.as_millis() as u64)
            }
            Self::Virtual(_) => VIRTUAL_EPOCH_MS + self.now_ns() / 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Keeps the calling thread on the first CPU that it may use.
    fn stay_on_one_cpu() {
        // SAFETY: an all-zero set is empty; the pointers are to sets of the size that is given; thread 0 is the caller.
        unsafe {
            let mut allowed: libc::cpu_set_t = std::mem::zeroed();
            let mut one = allowed;
            let size = size_of::<libc::cpu_set_t>();
            assert_eq!(libc::sched_getaffinity(0, size, &raw mut allowed), 0);
            let first = (0..libc::CPU_SETSIZE as usize).find(|cpu| libc::CPU_ISSET(*cpu, &allowed)).unwrap();
            libc::CPU_SET(first, &mut one);
            assert_eq!(libc::sched_setaffinity(0, size, &raw const one), 0);
        }
    }

    /// Whether a yield ever has this answer.
    fn ever(answer: bool) -> bool {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if gave_way() == answer {
                return true;
            }
        }
        false
    }

    #[test]
    fn a_yield_tells_whether_somebody_else_ran() {
        assert!(ever(false), "sometimes nobody waits for this CPU");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                stay_on_one_cpu();
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let gave_way = scope.spawn(|| {
                stay_on_one_cpu();
                ever(true)
            });
            let gave_way = gave_way.join();
            done.store(true, Ordering::Relaxed);
            assert!(gave_way.unwrap(), "the other thread wants this CPU all the time");
        });
    }
}
