//! What a process holds: memory, descriptors, threads, and of the kernel's BPF objects.

use std::collections::BTreeSet;
use std::io;

use serde::Serialize;

/// One process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Holding {
    /// Resident memory, KiB (`smaps_rollup`, which is exact where `statm` is not).
    pub resident_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Ids of its BPF maps.
    #[serde(skip)]
    pub maps: BTreeSet<u32>,
    /// Ids of its BPF programs, and of those that its links hold.
    #[serde(skip)]
    pub programs: BTreeSet<u32>,
    /// Ids of its BPF links.
    #[serde(skip)]
    pub links: BTreeSet<u32>,
}

impl Holding {
    /// Of a running process.
    pub fn read(pid: u32) -> io::Result<Self> {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "smaps_rollup has no Rss");
        let mut holding =
            Self { resident_kib: resident_kib(&rollup).ok_or_else(malformed)?, ..Self::default() };
        holding.threads = std::fs::read_dir(format!("/proc/{pid}/task"))?.count() as u64;
        for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            holding.descriptors += 1;
            // It may have been closed since it was listed.
            if let Ok(info) = std::fs::read_to_string(entry?.path()) {
                holding.note(&info);
            }
        }
        Ok(holding)
    }

    /// A descriptor, as `/proc/PID/fdinfo` describes it.
    fn note(&mut self, info: &str) {
        let id = |field: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse::<u32>().ok())
        };
        self.programs.extend(id("prog_id"));
        self.maps.extend(id("map_id"));
        self.links.extend(id("link_id"));
    }
}

fn resident_kib(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_say_which_objects_they_are() {
        let mut holding = Holding::default();
        holding.note("pos:\t0\nflags:\t02000002\nmap_type:\t2\nmap_id:\t7\n");
        holding.note("pos:\t0\nlink_type:\ttcx\nlink_id:\t3\nprog_tag:\tabc\nprog_id:\t9\n");
        holding.note("pos:\t0\nprog_type:\t3\nprog_id:\t9\n");
        assert_eq!((holding.maps, holding.links, holding.programs), ([7].into(), [3].into(), [9].into()));
    }

    #[test]
    fn a_descriptor_more_is_seen() {
        let own = || Holding::read(std::process::id()).unwrap();
        assert!(own().resident_kib > 0 && own().threads > 0);
        // Other tests of this process open and close theirs meanwhile: more than they all use.
        let before = own().descriptors;
        let files: Vec<_> = (0..500).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(own().descriptors >= before + 300, "{} more files", files.len());
    }
}
