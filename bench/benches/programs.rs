//! What each kernel program costs: by itself (`BPF_PROG_TEST_RUN`), then in traffic.
//!
//! `partial` is a checksum that a virtual device left to hardware, which is how packets arrive on veth and is
//! taken as it is; `full` is one that a network card delivered without vouching for it, and is summed.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use bench::frames::{self, Checksum, FOLLOWER, LEADER};
use bench::programs::{Hook, Programs};
use bench::run_stats::{Attached, Direction, RunStats, Runs};
use bench::{Comparison, Effort, Group, GroupConfig, Site, skipped};
use criterion::{Criterion, criterion_group, criterion_main};
use electrode::abi::Verdict;
use electrode::config::{Backend, Offloads};

const INGRESS: [Hook; 2] = [Hook::Tc, Hook::Xdp];
const CHECKSUMS: [(&str, Checksum); 2] = [("partial", Checksum::Partial), ("full", Checksum::Full)];
/// Rounds in flight, as in `broadcast`.
const CHUNK: u64 = 32;

fn follower(criterion: &mut Criterion) {
    let programs = match Programs::load(FOLLOWER) {
        Ok(programs) => programs,
        Err(e) => return skipped(&format!("cost of the follower's programs: {e}")),
    };
    let clock = INGRESS.map(|hook| programs.clock_of(hook));
    println!("reading the clock takes {clock:?} ns at {INGRESS:?}: not in the figures\n");
    let tail = Cell::new(0);
    for bytes in [64, 512, 1350] {
        for (name, checksum) in CHECKSUMS {
            let name = format!("programs/new_op_{bytes}_bytes_{name}");
            each(criterion, &programs, name, Verdict::TxAck, |_| {
                tail.set(tail.get() + 1);
                frames::prepare(tail.get(), bytes, checksum)
            });
        }
    }
    // The filter may have left out all new ops.
    tail.set(tail.get() + 1);
    let logged = frames::prepare(tail.get(), 64, Checksum::Partial);
    programs.each(Hook::Tc, Verdict::TxAck, 1, |_| logged.clone());
    let name = "programs/duplicate_64_bytes_partial".to_owned();
    each(criterion, &programs, name, Verdict::TxAckRepeated, |_| logged.clone());
    let commit = frames::commit(1, Checksum::Partial);
    repeat(criterion, &programs, "programs/commit", Some(Verdict::DropCommit), &commit, &INGRESS);
    let message = frames::message(512);
    repeat(
        criterion,
        &programs,
        "programs/message_512_bytes",
        Some(Verdict::PassMessage),
        &message,
        &INGRESS,
    );
    let foreign = frames::foreign(512);
    repeat(
        criterion,
        &programs,
        "programs/foreign_512_bytes",
        Some(Verdict::PassForeign),
        &foreign,
        &INGRESS,
    );
    repeat(criterion, &programs, "programs/foreign_512_bytes_sent", None, &foreign, &[Hook::TcEgress]);
}

fn leader(criterion: &mut Criterion) {
    let programs = match Programs::load(LEADER) {
        Ok(programs) => programs,
        Err(e) => return skipped(&format!("cost of the leader's programs: {e}")),
    };
    let op = Cell::new(0);
    for (name, checksum) in CHECKSUMS {
        each(criterion, &programs, format!("programs/vote_{name}"), Verdict::DropVote, |programs| {
            op.set(op.get() + 1);
            programs.begin_round(op.get());
            frames::ack(op.get(), checksum)
        });
    }
    // The test filter may have left out all votes.
    programs.begin_round(op.get().max(1));
    let vote = frames::ack(op.get().max(1), Checksum::Partial);
    programs.each(Hook::Tc, Verdict::DropVote, 1, |_| vote.clone());
    repeat(criterion, &programs, "programs/vote_repeated", Some(Verdict::DropVoteRepeated), &vote, &INGRESS);
}

/// A figure from runs with a packet of their own.
fn each(
    criterion: &mut Criterion,
    programs: &Programs,
    name: String,
    verdict: Verdict,
    next: impl Fn(&Programs) -> Vec<u8>,
) {
    let mut comparison = Comparison::new(criterion, name, Effort::MostlyPreparation);
    for hook in INGRESS {
        comparison.way(hook.name(), |count| programs.each(hook, verdict, count, &next));
    }
    comparison.finish();
}

/// A figure from runs that change nothing.
fn repeat(
    criterion: &mut Criterion,
    programs: &Programs,
    name: &str,
    verdict: Option<Verdict>,
    frame: &[u8],
    hooks: &[Hook],
) {
    let mut comparison = Comparison::new(criterion, name.to_owned(), Effort::Normal);
    for &hook in hooks {
        comparison.way(hook.name(), |count| programs.repeat(hook, verdict, frame, count));
    }
    comparison.finish();
}

fn in_traffic(criterion: &mut Criterion) {
    let site = Site::new(3);
    if !site.has_ebpf() {
        return;
    }
    let _on = match RunStats::enable() {
        Ok(on) => on,
        Err(e) => return skipped(&format!("cost of programs in traffic: {e}")),
    };
    if let Err(e) = rounds(criterion, &site).and_then(|()| broadcasts(criterion)) {
        skipped(&format!("cost of programs in traffic: {e}"));
    }
}

/// Both ingress programs' work while rounds go on.
fn rounds(criterion: &mut Criterion, site: &Site) -> io::Result<()> {
    for payload_bytes in [64, 512, 1350] {
        let name = format!("programs/in_traffic_{payload_bytes}_bytes");
        let mut comparison = Comparison::new(criterion, name, Effort::MostlyPreparation);
        for (name, member) in [("new_op", FOLLOWER), ("vote", LEADER)] {
            let offloads = Offloads::ALL;
            let config = GroupConfig { members: 3, backend: Backend::Ebpf, offloads, payload_bytes };
            let mut group = Group::open(site, config);
            let program = attached(site, member.index(), Direction::Ingress)?;
            comparison.way(name, |count| {
                let runs = runs_in(&program, || {
                    for _ in 0..count {
                        group.queue();
                        group.flush();
                        group.until_quorum();
                    }
                    group.settle();
                });
                assert!(runs.count >= count, "{runs:?} in {count} rounds");
                Duration::from_nanos((runs.ns_each() * count as f64) as u64)
            });
            group.verify();
        }
        comparison.finish();
    }
    Ok(())
}

/// The egress program on carriers. Each copy but the last passes the hook once more, inside the carrier's
/// own run: that is part of the figure, once.
fn broadcasts(criterion: &mut Criterion) -> io::Result<()> {
    let name = "programs/in_traffic_broadcast_64_bytes".to_owned();
    let mut comparison = Comparison::new(criterion, name, Effort::MostlyPreparation);
    for peers in [2, 4, 6] {
        let site = Site::new(peers + 1);
        let offloads = Offloads { broadcast: true, ..Offloads::NONE };
        let config = GroupConfig { members: peers + 1, backend: Backend::Ebpf, offloads, payload_bytes: 64 };
        let mut group = Group::open(&site, config);
        let program = attached(&site, LEADER.index(), Direction::Egress)?;
        let passing = runs_in(&program, || group.send_messages(200)).ns_each();
        comparison.way(&format!("to_{peers}"), |count| {
            let runs = runs_in(&program, || {
                for sent in 1..=count {
                    group.queue();
                    group.flush();
                    if sent % CHUNK == 0 {
                        group.settle();
                    }
                }
                group.settle();
            });
            assert_eq!(runs.count, count * peers as u64, "a carrier and its copies");
            let again = passing * (runs.count - count) as f64;
            Duration::from_nanos((runs.ns as f64 - again) as u64)
        });
        group.verify();
    }
    comparison.finish();
    Ok(())
}

fn attached(site: &Site, member: usize, direction: Direction) -> io::Result<Attached> {
    let fabric = site.fabric().expect("kernel programs run on virtual hosts");
    Attached::find(fabric.host(member), direction)
}

fn runs_in(program: &Attached, work: impl FnOnce()) -> Runs {
    let runs = || program.runs().expect("an open program tells its counters");
    let before = runs();
    work();
    runs().since(before)
}

criterion_group!(benches, follower, leader, in_traffic);
criterion_main!(benches);
