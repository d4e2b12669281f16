//! CPU time from `/proc`: of the whole machine, and of one process.
//!
//! The kernel fast path runs in softirq context, on the account of whoever was interrupted or sent the
//! packet. So the figure to compare is the busy time of the whole machine; process times only say where it went.

use std::io;
use std::time::Duration;

/// Busy time of all CPUs together since boot: user, nice, system, irq and softirq. Idle, iowait and time
/// stolen by the hypervisor are not ours; guest time is part of user already.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MachineCpu {
    busy_ticks: u64,
}

impl MachineCpu {
    /// Reads it now.
    pub fn now() -> io::Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat")?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/stat has no 'cpu' line"))
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else { return None };
        Some(Self { busy_ticks: user + nice + system + irq + softirq })
    }

    /// Busy time between `earlier` and this reading.
    pub fn since(self, earlier: Self) -> Duration {
        ticks(self.busy_ticks.saturating_sub(earlier.busy_ticks))
    }
}

/// CPU time of one process with all its threads, in steps of a clock tick (10 ms).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessCpu {
    /// In user space.
    pub user: Duration,
    /// In the kernel on its behalf, and on its account.
    pub system: Duration,
}

impl ProcessCpu {
    /// Both together.
    pub fn total(self) -> Duration {
        self.user + self.system
    }

    /// Between `earlier` and this reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// CPU time of a process so far.
pub fn process_cpu(pid: u32) -> io::Result<ProcessCpu> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_process(&stat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is malformed")))
}

fn parse_process(stat: &str) -> Option<ProcessCpu> {
    // The name in parentheses may hold anything, blanks and parentheses too: fields count from the last ')'.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut time = || Some(ticks(fields.next()?.parse().ok()?));
    Some(ProcessCpu { user: time()?, system: time()? })
}

fn ticks(count: u64) -> Duration {
    // SAFETY: sysconf reads a constant and touches no memory of ours.
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let hz = u64::try_from(hz).ok().filter(|hz| *hz > 0).unwrap_or(100);
    Duration::from_nanos(count.saturating_mul(1_000_000_000 / hz))
}

/// CPUs of this machine that the process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Release of the running kernel, for reports: only its number.
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| version(text.trim()).to_owned())
}

/// The number in a kernel's release; what follows names who built it.
fn version(release: &str) -> &str {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let number = release[..end].trim_end_matches('.');
    if number.is_empty() { release } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_counts_neither_idle_nor_stolen_nor_guest_time_twice() {
        let stat = "cpu  100 20 30 4000 500 6 7 80 9 1\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(MachineCpu::parse(stat), Some(MachineCpu { busy_ticks: 100 + 20 + 30 + 6 + 7 }));
        assert_eq!(MachineCpu::parse("intr 1 2 3\n"), None);
        assert_eq!(MachineCpu::parse("cpu  1 2\n"), None);
    }

    #[test]
    fn a_kernel_is_its_number() {
        for (release, number) in
            [("6.18.44", "6.18.44"), ("6.18.44-1-amd64", "6.18.44"), ("6.18.0+deb13", "6.18.0")]
        {
            assert_eq!(version(release), number);
        }
        assert_eq!(version("unknown"), "unknown");
        let release = kernel_release();
        assert_eq!(release, version(&release), "reports carry no more");
    }

    #[test]
    fn differences_do_not_go_below_zero() {
        let (a, b) = (MachineCpu { busy_ticks: 5 }, MachineCpu { busy_ticks: 8 });
        assert_eq!(a.since(b), Duration::ZERO);
        assert!(b.since(a) > Duration::ZERO);
    }

    #[test]
    fn process_times_are_found_behind_any_name() {
        let stat = "42 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 99 0 0";
        assert_eq!(parse_process(stat), Some(ProcessCpu { user: ticks(150), system: ticks(50) }));
        assert_eq!(parse_process("42 (short) S 1"), None);
    }

    #[test]
    fn this_process_burns_cpu_time_that_the_machine_shows_too() {
        let (machine, own) = (MachineCpu::now().unwrap(), process_cpu(std::process::id()).unwrap());
        // Until the accounts moved; a hang here is the failure.
        while process_cpu(std::process::id()).unwrap().since(own).total() < Duration::from_millis(50) {
            std::hint::black_box((0..1000u64).sum::<u64>());
        }
        assert!(MachineCpu::now().unwrap().since(machine) > Duration::ZERO);
        assert!(cpus() >= 1 && !kernel_release().is_empty());
    }
}
