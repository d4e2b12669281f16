//! A request to stop: Ctrl-C, SIGTERM or SIGHUP. Whoever waits looks at it often, and cleans up on its way out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How long a wait goes on after the request at most.
const GLANCE: Duration = Duration::from_millis(20);

/// The request; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    flag: Arc<AtomicBool>,
}

impl Stop {
    /// Turns the signals into the request. A second signal ends the process at once: children and namespaces
    /// go with it all the same, the kernel sees to that.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let flag = stop.flag();
            let request = move || {
                if flag.swap(true, Ordering::Relaxed) {
                    signal_hook::low_level::exit(1);
                }
            };
            // One action, for a signal that came between two would meet the first alone and be lost.
            // SAFETY: swapping an atomic and `_exit` are async-signal-safe, and nothing in it can panic.
            unsafe { signal_hook::low_level::register(signal, request) }?;
        }
        Ok(stop)
    }

    /// Whether it was asked for.
    pub fn requested(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Asks for it.
    pub fn request(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// The flag itself, for a loop that has no use for the rest.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Sleeps; true if the request came before the time was over.
    pub fn sleep(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.requested() {
                return true;
            }
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(GLANCE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_ends_with_its_time_or_with_the_request() {
        let stop = Stop::default();
        assert!(!stop.sleep(Duration::from_millis(1)));
        let other = stop.clone();
        let thread = std::thread::spawn(move || other.sleep(Duration::from_secs(600)));
        stop.request();
        assert!(thread.join().unwrap());
        assert!(stop.requested());
    }
}
