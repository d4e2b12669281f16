//! The leader sends one Prepare to one follower and has its ack: the shortest round there is.

use bench::{Comparison, Effort, Group, GroupConfig, Site};
use criterion::{Criterion, criterion_group, criterion_main};
use electrode::config::Offloads;

fn ack_round_trip(criterion: &mut Criterion) {
    let site = Site::new(2);
    for payload_bytes in [64, 512, 1350] {
        let name = format!("ack_round_trip/{payload_bytes}_bytes");
        let mut comparison = Comparison::new(criterion, name, Effort::Normal);
        for backend in site.unicast_backends() {
            let config = GroupConfig { members: 2, backend, offloads: Offloads::ALL, payload_bytes };
            let mut group = Group::open(&site, config);
            comparison.way(backend.name(), |iterations| group.rounds(iterations));
            group.settle();
            group.verify();
        }
        comparison.finish();
    }
}

criterion_group!(benches, ack_round_trip);
criterion_main!(benches);
