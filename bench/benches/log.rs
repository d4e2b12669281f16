//! A follower's log: Prepares into it and, by `elec_poll_message`, out of it. Per op.
//!
//! With the kernel's help an op is logged and acknowledged on arrival and read from mapped memory; with
//! sockets it waits in the socket and is logged, and acknowledged, by the poll. Ops that are sent together get
//! one ack from a poll, but one each from the kernel, whose way to the leader's vote is in the figure as well.

use std::time::{Duration, Instant};

use bench::{Comparison, Effort, Group, GroupConfig, Site};
use criterion::{Criterion, criterion_group, criterion_main};
use electrode::config::Offloads;

const FOLLOWER: usize = 1;

#[derive(Copy, Clone)]
enum Part {
    AppendAndPoll,
    Poll,
}

fn log(criterion: &mut Criterion) {
    let site = Site::new(2);
    for (part, name, effort) in [
        (Part::AppendAndPoll, "append_and_poll", Effort::Normal),
        (Part::Poll, "poll", Effort::MostlyPreparation),
    ] {
        for (ops, payload_bytes) in [(1, 64), (64, 64), (64, 1350)] {
            let name = format!("log/{name}_{ops}_ops_{payload_bytes}_bytes");
            let mut comparison = Comparison::new(criterion, name, effort);
            for backend in site.unicast_backends() {
                let config = GroupConfig { members: 2, backend, offloads: Offloads::ALL, payload_bytes };
                let mut group = Group::open(&site, config);
                comparison.way(backend.name(), |iterations| run(&mut group, part, ops, iterations));
                group.verify();
            }
            comparison.finish();
        }
    }
}

/// `iterations` ops in batches of `ops` that are sent together and polled together.
fn run(group: &mut Group, part: Part, ops: u64, iterations: u64) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let batch = left.min(ops);
        let mut since = Instant::now();
        for _ in 0..batch {
            group.queue();
        }
        group.flush();
        if matches!(part, Part::Poll) {
            since = Instant::now();
        }
        group.until_logged(FOLLOWER);
        took += since.elapsed();
        group.settle();
        left -= batch;
    }
    took
}

criterion_group!(benches, log);
criterion_main!(benches);
