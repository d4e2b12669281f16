//! Which CPU does what: pinning, and the counters of an endpoint's programs, CPU by CPU.

use electrode::abi::Verdict;
use electrode::fabric::Host;
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

/// CPUs that this process may run on.
pub fn online() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub fn pin_to(cpu: usize) {
    // SAFETY: all-zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: plain arithmetic on a set of our own.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: a set of the size that is stated.
    let pinned = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(pinned, 0, "CPU {cpu}: {}", std::io::Error::last_os_error());
}

/// The counters of the one endpoint that is open on a host.
pub struct Counters(MapHandle);

/// Verdicts that a packet which meets the ingress program ends with, once a packet.
fn is_end(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Rang)
        && !verdict.name().starts_with("carrier")
        && !verdict.name().starts_with("clone")
}

impl Counters {
    pub fn of(host: &Host) -> Self {
        let attached = host.netns().run(electrode::inspect::attachments).unwrap().unwrap();
        let ids: Vec<_> = attached.iter().filter(|a| a.electrode).map(|a| a.program_id).collect();
        let options = ProgInfoQueryOptions::default().include_map_ids(true);
        let programs = ProgInfoIter::with_query_opts(options).filter(|p| ids.contains(&p.id));
        let mut maps =
            programs.flat_map(|program| program.map_ids).map(|id| MapHandle::from_map_id(id).unwrap());
        Self(maps.find(|map| map.name() == "elec_counters").expect("an endpoint"))
    }

    /// Each CPU's counters, by verdict.
    pub fn by_cpu(&self) -> Vec<Vec<(Verdict, u64)>> {
        let per_cpu = self.0.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
        let counters = |bytes: &Vec<u8>| {
            let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
            Verdict::ALL.iter().copied().zip(words).collect()
        };
        per_cpu.iter().map(counters).collect()
    }

    /// Packets of ours that the programs have judged: all but those of strangers.
    pub fn judged(&self) -> u64 {
        let ours = |(verdict, _): &&(Verdict, u64)| is_end(*verdict) && *verdict != Verdict::PassForeign;
        self.by_cpu().iter().flatten().filter(ours).map(|(_, count)| count).sum()
    }

    /// Packets with one of these verdicts.
    pub fn count(&self, verdicts: &[Verdict]) -> u64 {
        self.by_cpu().iter().flatten().filter(|(v, _)| verdicts.contains(v)).map(|(_, count)| count).sum()
    }

    /// # Panics
    /// Unless each of the CPUs that sent has run the programs.
    pub fn assert_parallel(&self, cpus: usize, verdicts: &[Verdict]) {
        for (cpu, counters) in self.by_cpu().iter().enumerate().take(cpus) {
            let count: u64 =
                counters.iter().filter(|(v, _)| verdicts.contains(v)).map(|(_, count)| count).sum();
            assert!(count > 0, "no program on CPU {cpu}: {:?}", self.by_cpu());
            println!("CPU {cpu}: {count} of {verdicts:?}");
        }
    }
}
