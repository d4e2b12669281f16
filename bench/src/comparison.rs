//! The same work done in several ways, measured by criterion and summed up in one line each.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

/// How long criterion looks at one figure.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Nearly all of the time that passes is measured.
    Normal,
    /// Most of the time that passes is preparation: only a little of it counts, and criterion's clock is that
    /// of the measured part.
    MostlyPreparation,
}

/// Ways to do one thing; the first is the baseline of [`Comparison::finish`].
pub struct Comparison<'a> {
    name: String,
    group: BenchmarkGroup<'a, WallTime>,
    medians_ns: Vec<(String, f64)>,
}

/// Samples that a median needs to mean anything: criterion's `--test` takes one.
const SAMPLES_MIN: usize = 5;

impl<'a> Comparison<'a> {
    /// `name` is the work: `broadcast/2_peers_64_bytes`.
    pub fn new(criterion: &'a mut Criterion, name: String, effort: Effort) -> Self {
        let mut group = criterion.benchmark_group(name.clone());
        let (warm_up_ms, measure_ms) = match effort {
            Effort::Normal => (150, 600),
            Effort::MostlyPreparation => (2, 10),
        };
        group
            .sample_size(20)
            .warm_up_time(Duration::from_millis(warm_up_ms))
            .measurement_time(Duration::from_millis(measure_ms));
        Self { name, group, medians_ns: Vec::new() }
    }

    /// Measures one way. `routine` does the work that often and says how long it took.
    pub fn way(&mut self, name: &str, mut routine: impl FnMut(u64) -> Duration) {
        let mut samples = Vec::new();
        self.group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let took = routine(iterations);
                samples.push(took.as_nanos() as f64 / iterations as f64);
                took
            });
        });
        if samples.len() >= SAMPLES_MIN {
            self.medians_ns.push((name.to_owned(), median(&mut samples)));
        }
    }

    /// Prints the line, each way as a multiple of the first one's speed.
    pub fn finish(self) {
        let baseline = self.medians_ns.first().map(|(_, ns)| *ns);
        self.finish_against(baseline);
    }

    /// Prints the line for figures of different things.
    pub fn finish_list(self) {
        self.finish_against(None);
    }

    fn finish_against(self, baseline_ns: Option<f64>) {
        self.group.finish();
        if !self.medians_ns.is_empty() {
            println!("== {}: {}\n", self.name, summary(&self.medians_ns, baseline_ns));
        }
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Every figure, and how many times faster than the baseline it is.
fn summary(medians_ns: &[(String, f64)], baseline_ns: Option<f64>) -> String {
    let figure = |(name, ns): &(String, f64)| match baseline_ns {
        Some(baseline_ns) => format!("{name} {} (x{:.2})", time(*ns), baseline_ns / ns),
        None => format!("{name} {}", time(*ns)),
    };
    medians_ns.iter().map(figure).collect::<Vec<_>>().join(", ")
}

fn time(ns: f64) -> String {
    if ns < 1000.0 { format!("{ns:.0} ns") } else { format!("{:.2} us", ns / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_set_against_the_baseline() {
        let figures = [("udp-sendto".to_owned(), 9000.0), ("ebpf".to_owned(), 450.0)];
        let line = "udp-sendto 9.00 us (x1.00), ebpf 450 ns (x20.00)";
        assert_eq!(summary(&figures, Some(9000.0)), line);
        assert_eq!(summary(&figures[1..], None), "ebpf 450 ns");
    }

    #[test]
    fn the_median_ignores_one_bad_sample() {
        assert_eq!(median(&mut [5.0, 1e9, 4.0]), 5.0);
    }
}
