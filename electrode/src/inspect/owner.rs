//! Which process holds a program, link or map, as far as /proc shows it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Process {
    /// Its id, as this process sees it.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// Who holds an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Owners {
    /// Processes that hold one of its maps, programs or links.
    pub processes: Vec<Process>,
    /// Processes whose descriptors could not be read: the owner may be among them.
    pub unreadable: usize,
}

/// Holders of all BPF objects, by kind and id; read once for many questions.
#[derive(Default)]
pub(super) struct Holders {
    by_program: HashMap<u32, Vec<Process>>,
    by_map: HashMap<u32, Vec<Process>>,
    unreadable: usize,
}

impl Holders {
    /// Reads /proc; this process itself, which looks at objects by opening them, is left out.
    pub fn read(proc: &Path) -> io::Result<Self> {
        let mut holders = Self::default();
        for entry in fs::read_dir(proc)?.filter_map(Result::ok) {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if pid != std::process::id() && holders.add(&entry.path(), pid).is_err() {
                holders.unreadable += 1;
            }
        }
        Ok(holders)
    }

    fn add(&mut self, dir: &Path, pid: u32) -> io::Result<()> {
        let fds = match fs::read_dir(dir.join("fd")) {
            Ok(fds) => fds,
            // It has ended.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut process = None;
        for fd in fds.filter_map(Result::ok) {
            let is_bpf = fs::read_link(fd.path())
                .is_ok_and(|to| to.to_str().is_some_and(|to| to.starts_with("anon_inode:bpf")));
            if !is_bpf {
                continue;
            }
            let Ok(info) = fs::read_to_string(dir.join("fdinfo").join(fd.file_name())) else { continue };
            let process = process.get_or_insert_with(|| Process {
                pid,
                name: fs::read_to_string(dir.join("comm")).unwrap_or_default().trim().to_owned(),
            });
            // A link names its program, too.
            let tables = [("prog_id", &mut self.by_program), ("map_id", &mut self.by_map)];
            for (field, table) in tables {
                if let Some(id) = number(&info, field) {
                    let holders = table.entry(id).or_default();
                    if !holders.contains(process) {
                        holders.push(process.clone());
                    }
                }
            }
        }
        Ok(())
    }

    /// Who holds one of these.
    pub fn owners(&self, programs: &[u32], maps: &[u32]) -> Owners {
        let by_program = programs.iter().filter_map(|id| self.by_program.get(id));
        let by_map = maps.iter().filter_map(|id| self.by_map.get(id));
        let mut processes: Vec<_> = by_program.chain(by_map).flatten().cloned().collect();
        processes.sort_by_key(|p| p.pid);
        processes.dedup();
        Owners { processes, unreadable: self.unreadable }
    }
}

/// A field of a file in fdinfo.
fn number(info: &str, field: &str) -> Option<u32> {
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let info = "pos:\t0\nflags:\t02\nlink_type:\ttcx\nlink_id:\t3\nprog_id:\t41\n";
        assert_eq!(number(info, "prog_id"), Some(41));
        assert_eq!(number(info, "map_id"), None);
        assert_eq!(number(info, "prog"), None);
    }

    #[test]
    fn holders_of_either_kind_are_found_once() {
        let process = |pid| Process { pid, name: "replica".into() };
        let mut holders = Holders { unreadable: 2, ..Holders::default() };
        holders.by_program.insert(7, vec![process(20)]);
        holders.by_map.insert(9, vec![process(10), process(20)]);
        let owners = holders.owners(&[7], &[9, 100]);
        assert_eq!(owners.processes, [process(10), process(20)]);
        assert_eq!(owners.unreadable, 2);
        assert!(holders.owners(&[8], &[]).processes.is_empty());
    }
}
