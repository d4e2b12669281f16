//! One `elec_broadcast` and `flush`: what it costs the leader until each copy is in its peer's socket.
//!
//! The kernel takes the broadcast only, so that all ways end in the same place; the whole fast path is
//! `quorum_round`. What the peers and the leader do afterwards is not measured.

use std::time::{Duration, Instant};

use bench::{Comparison, Effort, Group, GroupConfig, Site};
use criterion::{Criterion, criterion_group, criterion_main};
use electrode::config::Offloads;

/// Broadcasts between two clean-ups; all copies of them fit into the peers' sockets and the kernel's queue.
const CHUNK: u64 = 32;

fn broadcast(criterion: &mut Criterion) {
    for peers in [2, 4, 6] {
        let site = Site::new(peers + 1);
        for payload_bytes in [64, 512, 1350] {
            let name = format!("broadcast/{peers}_peers_{payload_bytes}_bytes");
            let mut comparison = Comparison::new(criterion, name, Effort::Normal);
            for backend in site.backends() {
                let offloads = Offloads { broadcast: true, ..Offloads::NONE };
                let config = GroupConfig { members: peers + 1, backend, offloads, payload_bytes };
                let mut group = Group::open(&site, config);
                comparison.way(backend.name(), |iterations| send(&mut group, iterations));
                group.verify();
            }
            comparison.finish();
        }
    }
}

fn send(group: &mut Group, iterations: u64) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let chunk = left.min(CHUNK);
        let since = Instant::now();
        for _ in 0..chunk {
            group.queue();
            group.flush();
        }
        took += since.elapsed();
        group.settle();
        left -= chunk;
    }
    took
}

criterion_group!(benches, broadcast);
criterion_main!(benches);
