//! From `elec_broadcast` to the quorum event at the leader, one round at a time: the paper's whole fast path.
//!
//! All followers' work is in the figure: with sockets they read and answer every Prepare, with the kernel's
//! help they look into their log every 64 ops.

use bench::{Comparison, Effort, Group, GroupConfig, Site};
use criterion::{Criterion, criterion_group, criterion_main};
use electrode::config::Offloads;

fn quorum_round(criterion: &mut Criterion) {
    for members in [3, 5, 7] {
        let site = Site::new(members);
        for payload_bytes in [64, 1350] {
            let name = format!("quorum_round/{members}_replicas_{payload_bytes}_bytes");
            let mut comparison = Comparison::new(criterion, name, Effort::Normal);
            for backend in site.backends() {
                let config = GroupConfig { members, backend, offloads: Offloads::ALL, payload_bytes };
                let mut group = Group::open(&site, config);
                comparison.way(backend.name(), |iterations| group.rounds(iterations));
                group.settle();
                group.verify();
            }
            comparison.finish();
        }
    }
}

criterion_group!(benches, quorum_round);
criterion_main!(benches);
