//! One replica as a child process that cannot outlive its parent.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a child may take to end by itself once it was asked to.
const GRACE: Duration = Duration::from_millis(1500);
/// How much of a dead child's log an error shows.
const TAIL_BYTES: u64 = 2000;

/// A running child. Dropping it ends and reaps it, by its process id.
#[derive(Debug)]
pub struct ReplicaProcess {
    child: Child,
    log: PathBuf,
}

impl ReplicaProcess {
    /// Starts `command` with its output appended to `log`.
    ///
    /// The child dies with the *thread* that calls this (`PR_SET_PDEATHSIG`), so call it from the main
    /// thread or from one that lives as long. It gets a process group of its own: Ctrl-C on the terminal
    /// reaches the parent alone, which then ends its children in order.
    pub fn spawn(mut command: Command, log: &Path) -> io::Result<Self> {
        // Where others may write, a link that they put there is not followed.
        let output = File::options().create(true).append(true).custom_flags(libc::O_NOFOLLOW).open(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let parent = std::process::id();
        let tie = move || die_with_parent(parent);
        // SAFETY: between fork and exec only prctl and getppid are called, both async-signal-safe, and nothing
        // allocates.
        unsafe { command.pre_exec(tie) };
        Ok(Self { child: command.spawn()?, log: log.to_owned() })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did. Does not block.
    pub fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The end of what it wrote, for an error message.
    pub fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// Asks it to end (SIGTERM). [`ReplicaProcess::reap`] waits for it.
    pub fn terminate(&self) {
        if let Ok(pid) = libc::pid_t::try_from(self.child.id()) {
            // SAFETY: takes numbers only. The child has not been reaped, so the id is still its own; if it was
            // reaped, `exited` was called and dropped processes are not terminated twice by anyone.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Waits for its end until `deadline`, then kills it.
    fn reap(&mut self, deadline: Instant) {
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ = self.kill();
    }
}

impl Drop for ReplicaProcess {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.terminate();
            self.reap(Instant::now() + GRACE);
        }
    }
}

/// Ends several children together: all are asked first, so that the wait is that of the slowest.
pub fn end_all<'a>(processes: impl Iterator<Item = &'a mut ReplicaProcess>) {
    let mut running: Vec<_> = processes.filter_map(|p| p.exited().ok()?.is_none().then_some(p)).collect();
    running.iter().for_each(|process| process.terminate());
    let deadline = Instant::now() + GRACE;
    running.iter_mut().for_each(|process| process.reap(deadline));
}

/// Asks the kernel for SIGKILL when the thread that forked this process ends. Async-signal-safe.
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

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    Ok(if text.is_empty() { "(it wrote nothing)".to_owned() } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, log: &Path) -> ReplicaProcess {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        ReplicaProcess::spawn(command, log).unwrap()
    }

    fn alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_dropped_child_is_gone_and_reaped() {
        let dir = tempfile::tempdir().unwrap();
        let child = sh("exec sleep 600", &dir.path().join("log"));
        let pid = child.pid();
        assert!(alive(pid));
        drop(child);
        assert!(!alive(pid));
    }

    #[test]
    fn a_child_that_ignores_the_request_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut child = sh("trap '' TERM; echo ready; while :; do sleep 0.05; done", &log);
        while !child.log_tail().contains("ready") {
            assert!(child.exited().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(2));
        }
        let pid = child.pid();
        end_all(std::iter::once(&mut child));
        assert!(!alive(pid));
    }

    #[test]
    fn what_a_dead_child_said_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = sh("echo out; echo because >&2; exit 3", &dir.path().join("log"));
        let status = loop {
            if let Some(status) = child.exited().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert_eq!(status.code(), Some(3));
        assert_eq!(child.log_tail(), "out\nbecause");
    }

    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut child = std::thread::spawn(move || sh("exec sleep 600", &log)).join().unwrap();
        let status = loop {
            if let Some(status) = child.exited().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
}
