//! Whether what a process holds grows.

use super::sample::Holding;

/// Below so many seconds nothing is said about memory: allocators and tables are still filling.
pub const MEMORY_SECONDS_MIN: f64 = 60.0;
/// What resident memory may grow by after the warm-up, KiB, by the line through all samples.
///
/// The workload has a fixed number of sessions and keys, sessions remember one answer each, and snapshots cut the log,
/// whose slots were all touched within the first second: nothing may grow by the request. What is left is what the
/// allocator does, which gives pages back late. In ten minutes a group answers tens of millions of requests, so a
/// twentieth of a byte a request shows.
pub const MEMORY_GROWTH_MAX_KIB: f64 = 1024.0;

/// The samples of one replica: when, in seconds since the load began, and what.
pub type Series = Vec<(f64, Holding)>;

/// What is wrong with a replica, in words; `end` is what it held when all was quiet again.
pub fn judge(id: usize, series: &Series, end: &Holding) -> Vec<String> {
    let Some(&(length, _)) = series.last() else {
        return vec![format!("replica {id}: no samples were taken")];
    };
    // The first quarter is the warm-up: what was held then may be held in the end, but not what somebody held for a moment.
    let warm = |at: f64| at <= length / 4.0;
    let mut findings = Vec::new();
    type Count = (&'static str, fn(&Holding) -> u64);
    let counts: [Count; 5] = [
        ("descriptors", |h| h.descriptors),
        ("threads", |h| h.threads),
        ("BPF maps", |h| h.maps.len() as u64),
        ("BPF programs", |h| h.programs.len() as u64),
        ("BPF links", |h| h.links.len() as u64),
    ];
    for (name, count) in counts {
        let mut warm: Vec<_> =
            series.iter().filter(|(at, _)| warm(*at)).map(|(_, held)| count(held)).collect();
        warm.sort_unstable();
        let before = warm.get(warm.len() / 2).copied().unwrap_or_else(|| count(&series[0].1));
        if count(end) > before {
            findings.push(format!(
                "replica {id}: {name} grew from {before} after the warm-up to {} in the end",
                count(end)
            ));
        }
    }
    if memory_is_judged(series) {
        let rest: Vec<_> = series.iter().filter(|(at, _)| !warm(*at)).collect();
        let points: Vec<_> = rest.iter().map(|(at, held)| (*at, held.resident_kib as f64)).collect();
        let span = points.last().map_or(0.0, |last| last.0 - points[0].0);
        let growth = slope(&points) * span;
        if growth > MEMORY_GROWTH_MAX_KIB {
            findings.push(format!(
                "replica {id}: resident memory grew by {growth:.0} KiB in {span:.0} s after the warm-up, more than \
                 {MEMORY_GROWTH_MAX_KIB}"
            ));
        }
    }
    findings
}

/// Whether the samples are of a time long enough to say something about memory.
pub fn memory_is_judged(series: &Series) -> bool {
    series.last().is_some_and(|(length, _)| *length >= MEMORY_SECONDS_MIN)
}

/// Of the line with the least squares; 0 of fewer than two points.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len().max(1) as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
    let over = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    let under = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    if under > 0.0 { over / under } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(seconds: u32, at: impl Fn(u32) -> Holding) -> Series {
        (1..=seconds).map(|second| (f64::from(second), at(second))).collect()
    }

    fn flat() -> Holding {
        Holding { resident_kib: 50_000, descriptors: 30, threads: 3, ..Holding::default() }
    }

    #[test]
    fn a_process_that_holds_what_it_held_is_well() {
        let noisy = |second: u32| Holding {
            // It filled its tables in the warm-up, and goes up and down by 1 MiB since.
            resident_kib: 40_000 + u64::from(second.min(100)) * 100 + u64::from(second % 7) * 170,
            ..flat()
        };
        assert!(judge(0, &series(600, noisy), &flat()).is_empty());
        // A thread that came and went again.
        let busy = |second: u32| Holding { threads: 3 + u64::from(second == 300), ..flat() };
        assert!(judge(0, &series(600, busy), &flat()).is_empty());
    }

    #[test]
    fn a_leak_is_named() {
        let leaky = |second: u32| Holding { resident_kib: 50_000 + u64::from(second) * 6, ..flat() };
        let found = judge(2, &series(600, leaky), &flat());
        assert!(found.len() == 1 && found[0].contains("replica 2: resident memory grew by 2"), "{found:?}");
        assert!(judge(2, &series(50, leaky), &flat()).is_empty(), "too short to say");
        assert!(memory_is_judged(&series(60, leaky)) && !memory_is_judged(&series(59, leaky)));

        let end = Holding { descriptors: 31, ..flat() };
        let found = judge(1, &series(8, |_| flat()), &end);
        assert_eq!(found, ["replica 1: descriptors grew from 30 after the warm-up to 31 in the end"]);
        for (end, word) in [
            (Holding { threads: 4, ..flat() }, "threads"),
            (Holding { maps: [1].into(), ..flat() }, "BPF maps"),
            (Holding { programs: [1].into(), ..flat() }, "BPF programs"),
            (Holding { links: [1].into(), ..flat() }, "BPF links"),
        ] {
            let found = judge(1, &series(8, |_| flat()), &end);
            assert!(found.len() == 1 && found[0].contains(word), "{found:?}");
        }
    }

    #[test]
    fn what_was_held_for_a_moment_hides_no_leak() {
        let busy = |second: u32| Holding { descriptors: 30 + 5 * u64::from(second == 3), ..flat() };
        let end = Holding { descriptors: 35, ..flat() };
        assert_eq!(judge(0, &series(40, busy), &end).len(), 1);
    }

    #[test]
    fn nothing_sampled_is_not_well() {
        assert_eq!(judge(0, &Vec::new(), &flat()), ["replica 0: no samples were taken"]);
    }
}
