//! Dropping capabilities on every thread: each has sets of its own, and only the thread itself can change them. So
//! each is sent a signal whose handler does, and /proc tells who still holds something.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{failed, limit_to};
use crate::error::{Error, Result};

/// How often /proc is asked.
const GLANCE: Duration = Duration::from_micros(200);
/// Looks in a row that find nobody new and nobody with privileges, before it is believed.
const LOOKS: u32 = 3;
/// How long a thread may sit in a system call that no signal interrupts, or block signals, which every thread does
/// for a moment while it starts.
const PATIENCE: Duration = Duration::from_secs(10);
/// Looks that it may take as well: time says little on a machine where everybody waits for a processor.
const PATIENT_LOOKS: u32 = 1000;

/// Signals are the process's: one call at a time.
static ALONE: Mutex<()> = Mutex::new(());
/// What the kernel told a handler that failed, 0 if none has.
static REFUSED: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    // SAFETY: always a valid pointer to this thread's own number; whoever was interrupted may be about to read it.
    let errno = unsafe { *libc::__errno_location() };
    if let Err(refused) = limit_to(0) {
        REFUSED.store(refused, Ordering::Relaxed);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// A thread as /proc shows it.
struct Thread {
    id: i32,
    /// It holds a capability, or what it executes could gain one.
    privileged: bool,
    blocks_signal: bool,
    name: String,
}

pub(super) fn drop_all() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    REFUSED.store(0, Ordering::Relaxed);
    // Threads that this one starts are without from now on.
    limit_to(0).map_err(|errno| failed("drop all capabilities", errno))?;
    let signal = libc::SIGRTMAX();
    let before = handle(signal, on_signal as *const () as libc::sighandler_t)?;
    // On failure the handler stays: a signal that is still under way would end the process otherwise.
    broadcast(signal)?;
    // SAFETY: what the kernel gave a moment ago.
    unsafe { libc::sigaction(signal, &raw const before, std::ptr::null_mut()) };
    Ok(())
}

fn handle(signal: libc::c_int, handler: libc::sighandler_t) -> Result<libc::sigaction> {
    // SAFETY: all-zero is a valid sigaction, filled in before use; the handler is async-signal-safe.
    let (before, result) = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        let mut before: libc::sigaction = std::mem::zeroed();
        let result = libc::sigaction(signal, &raw const action, &raw mut before);
        (before, result)
    };
    if result != 0 {
        return Err(Error::io("sigaction")(io::Error::last_os_error()));
    }
    Ok(before)
}

fn broadcast(signal: libc::c_int) -> Result<()> {
    let (since, mut asked) = (Instant::now(), BTreeSet::new());
    // Threads that a look found without privileges. One look is not enough: the list leaves out threads while others
    // end, and one that starts may be the child of a thread that was told only after. Whoever has none can give none.
    let (mut clean, mut looks, mut looks_in_all) = (BTreeSet::new(), 0, 0);
    loop {
        let (threads, complete) = threads(signal)?;
        looks_in_all += 1;
        let patient = since.elapsed() < PATIENCE || looks_in_all < PATIENT_LOOKS;
        let (privileged, bare): (Vec<_>, Vec<_>) = threads.into_iter().partition(|t| t.privileged);
        let settled = complete && privileged.is_empty() && bare.iter().all(|t| clean.contains(&t.id));
        looks = if settled { looks + 1 } else { 0 };
        if looks == LOOKS {
            return Ok(());
        }
        clean.extend(bare.iter().map(|t| t.id));
        if privileged.is_empty() && !patient {
            return Err(Error::Kernel {
                what: "drop all capabilities".into(),
                reason: "threads come and go faster than they can be looked at".into(),
                hint: "drop them before such threads are started".into(),
            });
        }
        for thread in &privileged {
            let stuck = |reason: &str| Error::Kernel {
                what: "drop all capabilities".into(),
                reason: format!("thread {} ({}) {reason}", thread.id, thread.name),
                hint: "drop them before such threads are started".into(),
            };
            if !patient {
                let blocked = "blocks SIGRTMAX, by which it would be told";
                return Err(stuck(if thread.blocks_signal { blocked } else { "does not answer" }));
            }
            if asked.insert(thread.id) {
                // SAFETY: numbers only. A thread that has ended meanwhile needs no telling.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.id, signal) };
            }
        }
        match REFUSED.load(Ordering::Relaxed) {
            0 => std::thread::sleep(GLANCE),
            errno => return Err(failed("drop all capabilities", errno)),
        }
    }
}

/// The threads of this process that can still run, and whether these are all.
///
/// The list breaks off at a thread that ends while it is read. It says so in no way if that thread had lost its number but
/// not its place: one that stays like this for a while, because its processor was taken from the virtual machine, hides all
/// that came after it. So the kernel's own count has to agree, and none of those listed may have ended since.
fn threads(signal: libc::c_int) -> Result<(Vec<Thread>, bool)> {
    let read = || -> io::Result<(Vec<Thread>, bool)> {
        let (mut threads, mut listed, mut vanished) = (Vec::new(), 0, false);
        for entry in fs::read_dir("/proc/self/task")? {
            let path: PathBuf = entry?.path();
            let Some(id) = path.file_name().and_then(|n| n.to_str()?.parse().ok()) else { continue };
            listed += 1;
            let Ok(status) = fs::read_to_string(path.join("status")) else {
                // It has ended since it was listed.
                vanished = true;
                continue;
            };
            match parse(id, &status, signal) {
                Some(thread) => threads.push(thread),
                // The main thread may have ended before the others and stays listed.
                None if id == std::process::id() as i32 => {}
                // Another one is about to vanish; what it started may have come after the list.
                None => vanished = true,
            }
        }
        let counted = count(&fs::read_to_string("/proc/self/status")?);
        Ok((threads, !vanished && counted == Some(listed)))
    };
    read().map_err(Error::io("reading /proc/self/task, to find all threads"))
}

/// How many threads a process has, by its status.
fn count(status: &str) -> Option<u64> {
    field(status, "Threads").and_then(|number| number.parse().ok())
}

fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// What its status says of a thread; nothing if it has ended.
fn parse(id: i32, status: &str, signal: libc::c_int) -> Option<Thread> {
    let field = |name| field(status, name);
    let set = |name| field(name).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    if field("State").is_some_and(|state| state.starts_with(['Z', 'X'])) {
        return None;
    }
    let unprivileged = ["CapInh", "CapPrm", "CapEff", "CapAmb"].into_iter().all(|name| set(name) == Some(0))
        && field("NoNewPrivs") == Some("1");
    Some(Thread {
        id,
        privileged: !unprivileged,
        blocks_signal: set("SigBlk").is_some_and(|blocked| blocked >> (signal - 1) & 1 == 1),
        name: field("Name").unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "Name:\tx\nState:\tS (sleeping)\nSigBlk:\t0000000000000000\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n\
        CapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";

    #[test]
    fn a_thread_that_keeps_anything_is_seen() {
        assert!(!parse(1, CLEAN, 64).unwrap().privileged);
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let kept = CLEAN.replace(&format!("{name}:\t0000"), &format!("{name}:\t0001"));
            assert!(parse(1, &kept, 64).unwrap().privileged, "{name}");
        }
        assert!(parse(1, &CLEAN.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0"), 64).unwrap().privileged);
        assert!(parse(1, "", 64).unwrap().privileged, "what cannot be read is not believed to be nothing");
        assert!(parse(1, &CLEAN.replace("S (sleeping)", "Z (zombie)"), 64).is_none());
    }

    #[test]
    fn the_kernel_counts_too() {
        assert_eq!(count("Name:\tThreads: 9\nThreads:\t102\n"), Some(102));
        assert_eq!(count("Name:\tx\n"), None, "then no look is complete");
    }

    #[test]
    fn a_blocked_signal_is_seen() {
        assert!(!parse(1, CLEAN, 64).unwrap().blocks_signal);
        let blocked = CLEAN.replace("SigBlk:\t0", "SigBlk:\t8");
        assert!(parse(1, &blocked, 64).unwrap().blocks_signal);
        assert!(!parse(1, &blocked, 63).unwrap().blocks_signal);
    }
}
