//! Capabilities of the calling thread. Everything here is async-signal-safe: it runs in signal handlers and
//! between fork and exec, so nothing allocates and errors are numbers.

use std::ptr;

/// Of the interface with two words a set.
const VERSION_3: u32 = 0x2008_0522;
/// More than there are; the kernel refuses what it does not know.
const CAPABILITIES_MAX: libc::c_ulong = 64;
/// Its bit, in the lower word.
const CAP_SETPCAP: u32 = 1 << 8;

#[repr(C)]
struct Header {
    version: u32,
    /// 0: the calling thread.
    pid: i32,
}

#[repr(C)]
#[derive(Copy, Clone, Default)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn errno() -> i32 {
    // SAFETY: always a valid pointer to this thread's own number.
    unsafe { *libc::__errno_location() }
}

fn checked(result: libc::c_long) -> Result<(), i32> {
    if result == 0 { Ok(()) } else { Err(errno()) }
}

fn read() -> Result<[Word; 2], i32> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut words = [Word::default(); 2];
    // SAFETY: the two structures of version 3 of the interface.
    checked(unsafe { libc::syscall(libc::SYS_capget, ptr::from_ref(&header), words.as_mut_ptr()) })?;
    Ok(words)
}

fn write(words: &[Word; 2]) -> Result<(), i32> {
    let header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: the two structures of version 3 of the interface, which change this thread alone.
    checked(unsafe { libc::syscall(libc::SYS_capset, ptr::from_ref(&header), words.as_ptr()) })
}

/// The permitted set.
pub(super) fn permitted() -> Result<u64, i32> {
    let words = read()?;
    Ok(u64::from(words[0].permitted) | u64::from(words[1].permitted) << 32)
}

/// Makes `set` the effective and permitted set, and empties the others as far as this thread may.
pub(crate) fn limit_to(set: u64) -> Result<(), i32> {
    // The bounding set first: emptying it takes CAP_SETPCAP, which whoever has just become another user may use but
    // does not (it is permitted, not effective). Without it, nothing is lost by failing: what the thread executes later
    // gains nothing all the same (no_new_privs).
    let mut words = read()?;
    if words[0].permitted & CAP_SETPCAP != 0 {
        words[0].effective |= CAP_SETPCAP;
        write(&words)?;
    }
    for capability in 0..CAPABILITIES_MAX {
        // SAFETY: numbers only.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    let clear_all = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    // SAFETY: numbers only.
    checked(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear_all, 0, 0, 0) }.into())?;
    let word = |set: u32| Word { effective: set, permitted: set, inheritable: 0 };
    write(&[word(set as u32), word((set >> 32) as u32)])?;
    // SAFETY: numbers only.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0, 0, 0) }.into())
}
