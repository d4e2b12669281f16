//! Normal operation of whole groups in a hostile network: whatever is lost, duplicated or overtaken, every
//! request is executed exactly once, every reply is right, and all replicas end equal.
//!
//! A failing run prints its seed; `SEED=n cargo test --test normal_operation` runs that one alone, `SEEDS=n`
//! that many.

mod client;
mod fast_path;
mod history;
mod network;

use electrode::types::ReplicaId;
use network::{Faults, MS, Network};
use paxos_demo::batcher::Batching;
use paxos_demo::replica::ReplicaConfig;
use paxos_demo::status::RoleName;

/// Says which seed failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with SEED={}", self.0);
        }
    }
}

fn for_each_seed(count: u64, run: impl Fn(u64)) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let all = 0..number("SEEDS").unwrap_or(count);
    for seed in number("SEED").map_or(all, |seed| seed..seed + 1) {
        let _named = Seed(seed);
        run(seed);
    }
}

/// Everybody who lives has applied everything.
fn converged(network: &Network) -> bool {
    let ops = network.history.ops();
    network.statuses().iter().all(|status| status.applied.0 == ops)
}

/// Runs clients to their end and checks all that must hold then.
fn run_to_the_end(network: &mut Network, clients: u64, requests: u64) {
    for _ in 0..clients {
        network.add_client(requests);
    }
    assert!(network.run_until(60_000 * MS, Network::clients_done), "stuck: {:#?}", network.statuses());
    let until = network.now + 20_000 * MS;
    assert!(network.run_until(until, converged), "not converged: {:#?}", network.statuses());

    assert_eq!(network.history.ops(), clients * requests, "every request is in the log once");
    network.history.check_answers();
    let statuses = network.statuses();
    for status in &statuses {
        assert_eq!(status.digest, statuses[0].digest, "replica {} diverged", status.id);
        assert_eq!(status.client_sessions, clients);
        assert_eq!(status.role == RoleName::Leader, status.id == ReplicaId(0));
    }
}

/// A group with everything that may vary drawn from the seed.
fn random_group(seed: u64, faults: Faults) -> (Network, u64) {
    let mut rng = fastrand::Rng::with_seed(!seed);
    let members = [1, 2, 3, 3, 4, 5, 5, 7][rng.usize(0..8)];
    let batching = if rng.bool() { Batching::One } else { Batching::Auto };
    let (pipeline_batches, window_ops) = (rng.usize(1..5), 1 << rng.u64(0..7));
    let (repair_ops, resend_batches) = (rng.u64(1..20), rng.usize(1..20));
    let configs = (0..members).map(|id| ReplicaConfig {
        batching,
        pipeline_batches,
        window_ops,
        repair_ops,
        resend_batches,
        payload_bytes_max: 200,
        ..ReplicaConfig::new(ReplicaId(id as u8), members, 1 + id as u32, 7)
    });
    // A minority may be late or never come; the leader of view 0 is needed.
    let minority = (members - 1) / 2;
    let start_at: Vec<_> = (0..members)
        .map(|id| match (id > 0 && id <= minority).then(|| rng.u8(0..4)) {
            Some(0) => None,
            Some(1) => Some(rng.u64(0..800) * MS),
            _ => Some(rng.u64(0..40) * MS),
        })
        .collect();
    let clients = rng.u64(1..7);
    (Network::new(seed, faults, configs.collect(), &start_at), clients)
}

#[test]
fn groups_of_all_kinds_in_all_weathers() {
    for_each_seed(2000, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let faults = Faults {
            loss_percent: [0, 1, 5, 10, 20, 30][rng.usize(0..6)],
            duplication_percent: [0, 5, 30][rng.usize(0..3)],
            straggler_percent: [0, 2, 20][rng.usize(0..3)],
        };
        let (mut network, clients) = random_group(seed, faults);
        run_to_the_end(&mut network, clients, 8);
    });
}

#[test]
fn the_worst_weather() {
    for_each_seed(300, |seed| {
        let faults = Faults { loss_percent: 30, duplication_percent: 30, straggler_percent: 30 };
        let (mut network, clients) = random_group(seed, faults);
        run_to_the_end(&mut network, clients, 12);
    });
}

#[test]
fn memory_is_given_back_when_everybody_holds_everything() {
    for_each_seed(50, |seed| {
        let faults = Faults { loss_percent: 0, duplication_percent: 10, straggler_percent: 10 };
        let configs = (0..5).map(|id| ReplicaConfig::new(ReplicaId(id), 5, 1, 7)).collect();
        let mut network = Network::new(seed, faults, configs, &[Some(0); 5]);
        run_to_the_end(&mut network, 4, 20);
        let emptied = network.run_until(network.now + 1000 * MS, |network| {
            network.statuses().iter().all(|status| status.log_bytes == 0)
        });
        assert!(emptied, "{:#?}", network.statuses());
    });
}
