//! Ratios of eBPF to each other system, from pairs of runs that were neighbours.

use paxos_demo::report::{Pairs, Repeat};
use serde::Serialize;

use super::{PeerRun, System};

/// eBPF over another system, with so many clients.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The other system.
    pub to: System,
    /// Closed-loop clients.
    pub clients: usize,
    /// Repeats that have both.
    pub pairs: usize,
    /// Median ratio of requests a second; above 1 is better for eBPF.
    pub throughput: f64,
    /// Its quartiles.
    pub throughput_quartiles: [f64; 2],
    /// Median ratio of the median latencies; below 1 is better for eBPF.
    pub p50: f64,
    /// Median ratio of the 99th percentiles.
    pub p99: f64,
    /// Median ratio of CPU a request.
    pub cpu: f64,
}

/// Of all systems and numbers of clients, in the order of first appearance. A run without a single answer has no
/// ratio: its pair is left out, and `pairs` shows it.
pub fn ratios(runs: &[PeerRun]) -> Vec<Ratio> {
    let mut groups: Vec<(System, usize)> = Vec::new();
    for run in runs {
        if run.system != System::Ebpf && !groups.contains(&(run.system, run.clients)) {
            groups.push((run.system, run.clients));
        }
    }
    groups.into_iter().filter_map(|(to, clients)| ratio(runs, to, clients)).collect()
}

fn ratio(runs: &[PeerRun], to: System, clients: usize) -> Option<Ratio> {
    let of = |system| runs.iter().filter(move |run| run.system == system && run.clients == clients);
    let pairs = Pairs::of(of(System::Ebpf), of(to));
    Some(Ratio {
        to,
        clients,
        pairs: pairs.count(),
        throughput: pairs.median(|run| run.throughput_rps)?,
        throughput_quartiles: pairs.quartiles(|run| run.throughput_rps)?,
        p50: pairs.median(|run| run.latency_us.p50)?,
        p99: pairs.median(|run| run.latency_us.p99)?,
        cpu: pairs.median(|run| run.cpu_us_per_request)?,
    })
}

impl Repeat for PeerRun {
    fn repeat(&self) -> usize {
        self.repeat
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use paxos_demo::config::Batching;
    use paxos_demo::report::{Batch, Latency};

    pub fn run(system: System, clients: usize, repeat: usize, throughput_rps: f64) -> PeerRun {
        PeerRun {
            system,
            replicas: 5,
            clients,
            payload_bytes: 64,
            batch: Batch(Batching::Auto),
            repeat,
            seconds: 2.0,
            requests: throughput_rps as u64 * 2,
            errors: 0,
            throughput_rps,
            latency_us: Latency {
                p50: 1e6 / throughput_rps,
                p99: 3e6 / throughput_rps,
                ..Latency::default()
            },
            cpu_us_per_request: 2e6 / throughput_rps,
        }
    }

    /// A machine that is twice as slow in one repeat changes no ratio: both sides of a pair are slow.
    #[test]
    fn pairs_are_of_one_repeat_and_one_number_of_clients() {
        let mut runs = Vec::new();
        for (repeat, speed) in [(0, 1.0), (1, 0.5), (2, 1.0)] {
            for clients in [1, 16] {
                let rate = speed * clients as f64 * 1000.0;
                runs.push(run(System::Ebpf, clients, repeat, 4.0 * rate));
                runs.push(run(
                    System::Omnipaxos,
                    clients,
                    repeat,
                    if clients == 1 { 2.0 } else { 1.0 } * rate,
                ));
            }
        }
        let found: Vec<_> =
            ratios(&runs).iter().map(|r| (r.to, r.clients, r.pairs, r.throughput, r.p50, r.cpu)).collect();
        let to = System::Omnipaxos;
        assert_eq!(found, [(to, 1, 3, 2.0, 0.5, 0.5), (to, 16, 3, 4.0, 0.25, 0.25)]);
    }

    #[test]
    fn a_pair_that_lacks_a_side_is_left_out() {
        let runs = [
            run(System::Ebpf, 1, 0, 3000.0),
            run(System::Udp, 1, 0, 1000.0),
            run(System::Ebpf, 1, 1, 9000.0),
            run(System::Udp, 1, 1, 0.0),
            run(System::Ebpf, 1, 2, 9000.0),
            run(System::Etcd, 16, 0, 10.0),
        ];
        let ratios = ratios(&runs);
        assert_eq!(ratios.len(), 1, "etcd ran with other clients");
        assert_eq!((ratios[0].pairs, ratios[0].throughput), (1, 3.0));
        assert_eq!(ratios[0].throughput_quartiles, [3.0, 3.0]);
    }
}
