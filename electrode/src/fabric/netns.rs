//! Anonymous network namespaces: they have no name, so they live only as long as somebody holds them.
//!
//! What holds one: the descriptor in [`NetNs`], the threads and processes inside it, and its sockets. A named
//! namespace (`ip netns`) survives SIGKILL of whoever made it, because its name is a mount; one of these
//! does not. The kernel takes it apart in a work queue of its own shortly after the last holder is gone.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use super::FabricError;

/// The namespace of the thread that opens it, unlike `/proc/self`, which is the main thread's.
const THREAD_NETNS: &str = "/proc/thread-self/ns/net";

/// A network namespace, held open.
///
/// Dropping it lets go of the namespace; the kernel destroys it, with all links in it, once nothing else
/// holds it. The descriptor is close-on-exec, so children do not keep it by accident.
#[derive(Debug)]
pub struct NetNs {
    // Shared only with commands that are still to be spawned (`confine`).
    file: Arc<OwnedFd>,
}

impl NetNs {
    /// Makes a new, empty namespace (with a loopback interface that is down).
    ///
    /// The calling thread stays where it is: a thread of its own makes the namespace and ends.
    pub fn new() -> Result<Self, FabricError> {
        on_thread("netns-new", Self::unshare_current_thread)
    }

    /// The namespace in which the calling thread is.
    pub fn current() -> Result<Self, FabricError> {
        Self::open(Path::new(THREAD_NETNS))
    }

    /// Opens the namespace behind a path such as [`NetNs::path`] of another process or `/proc/<pid>/ns/net`.
    pub fn open(path: &Path) -> Result<Self, FabricError> {
        let file =
            File::open(path).map_err(|e| FabricError::kernel(format!("open {}", path.display()), e))?;
        Ok(Self { file: Arc::new(file.into()) })
    }

    /// Moves the calling thread into a new namespace and returns that.
    ///
    /// For short-lived threads only: the thread never comes back.
    pub(super) fn unshare_current_thread() -> Result<Self, FabricError> {
        // SAFETY: no pointers; changes nothing but the calling thread's network namespace.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(FabricError::kernel("make a network namespace", io::Error::last_os_error()));
        }
        Self::current()
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it.
    ///
    /// A socket that is opened in `work` stays in the namespace wherever it is used later. A panic of
    /// `work` goes on in the caller.
    pub fn run<T, F>(&self, work: F) -> Result<T, FabricError>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        on_thread("netns-run", || {
            self.enter_current_thread()?;
            Ok(work())
        })
    }

    /// Moves the calling thread, and no other, into the namespace.
    ///
    /// Threads and processes that it starts from then on begin there. To move a whole program, call it
    /// first thing in `main`.
    pub fn enter_current_thread(&self) -> Result<(), FabricError> {
        enter(self.file.as_fd()).map_err(|e| FabricError::kernel("enter a network namespace", e))
    }

    /// A path by which other processes (with the right to look into this one) can open the namespace, for
    /// [`enter_path`] or `nsenter --net=`. Valid while this value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// The namespace's inode number: `readlink /proc/<pid>/ns/net` shows it for the processes inside.
    pub fn inode(&self) -> Result<u64, FabricError> {
        let describe = |e| FabricError::kernel("look at a network namespace", e);
        let file = File::from(self.file.try_clone().map_err(describe)?);
        Ok(file.metadata().map_err(describe)?.ino())
    }

    /// A command for `program` that starts inside the namespace and dies with this process;
    /// see [`NetNs::confine`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        self.confine(&mut command);
        command
    }

    /// Makes `command` start its process inside the namespace, and that process die (SIGKILL) with the
    /// thread that spawns it.
    ///
    /// **With the thread, not the process**: that is how the kernel defines `PR_SET_PDEATHSIG`. Spawn from
    /// the main thread, or from one that lives as long as the child should. A process that changes its
    /// credentials afterwards or executes a setuid program loses the signal; and since user and group of
    /// a [`Command`] are set before it enters the namespace, leave them alone here.
    ///
    /// The command holds the namespace open until it is dropped. The child sees the file systems of its
    /// parent, `/sys` included: there `/sys/class/net` shows the parent's interfaces. Use netlink,
    /// or `/proc/net`.
    pub fn confine(&self, command: &mut Command) {
        let file = Arc::clone(&self.file);
        let parent = std::process::id();
        let inside = move || {
            die_with_parent(parent)?;
            enter(file.as_fd())
        };
        // SAFETY: between fork and exec only prctl, getppid and setns are called, all async-signal-safe;
        // nothing allocates (an `io::Error` of an error number does not either).
        unsafe { command.pre_exec(inside) };
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Moves the calling thread into the namespace behind `path`: for a child that was given
/// [`NetNs::path`] of its parent. Call it before starting other threads.
pub fn enter_path(path: &Path) -> Result<(), FabricError> {
    NetNs::open(path)?.enter_current_thread()
}

/// `setns`, restricted to network namespaces: any other descriptor is refused. Async-signal-safe.
fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers; the descriptor is open as long as it is borrowed.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Asks for SIGKILL when the thread that forked this process ends. Async-signal-safe.
fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a number, no pointer.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The parent may have died before the request: then no signal ever comes.
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::getppid() } as u32 != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Runs `work` on a scoped thread, so that what it does to its namespace ends with the thread.
pub(super) fn on_thread<T, F>(name: &str, work: F) -> Result<T, FabricError>
where
    F: FnOnce() -> Result<T, FabricError> + Send,
    T: Send,
{
    thread::scope(|scope| {
        thread::Builder::new()
            .name(name.into())
            .spawn_scoped(scope, work)
            .map_err(|e| FabricError::kernel("start a thread", e))?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
