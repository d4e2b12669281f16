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
    [false, true].iter().for_each(|keys| follower_with(criterion, *keys));
}

/// `keyed`: the group has a key.
fn follower_with(criterion: &mut Criterion, keys: bool) {
    let keyed = if keys { "keyed_" } else { "" };
    let programs = match Programs::load(FOLLOWER, keys) {
        Ok(programs) => programs,
        Err(e) => return skipped(&format!("cost of the follower's programs: {e}")),
    };
    let clock = INGRESS.map(|hook| programs.clock_of(hook));
    println!("reading the clock takes {clock:?} ns at {INGRESS:?}: not in the figures\n");
    let tail = Cell::new(0);
    for bytes in [64, 512, 1392] {
        for (checksum_name, checksum) in CHECKSUMS {
            let name = format!("{keyed}new_op_{bytes}_bytes_{checksum_name}");
            measure(criterion, &programs, &name, Some(Verdict::TxAck), &INGRESS, |_| {
                tail.set(tail.get() + 1);
                frames::prepare(tail.get(), bytes, checksum)
            });
        }
    }
    // A filter may have left out all new ops.
    tail.set(tail.get() + 1);
    let logged = frames::prepare(tail.get(), 64, Checksum::Partial);
    programs.run(Hook::Tc, Some(Verdict::TxAck), 1, |_| logged.clone());
    let mut same = |name, verdict, frame: Vec<u8>| {
        measure(criterion, &programs, &format!("{keyed}{name}"), Some(verdict), &INGRESS, |_| frame.clone());
    };
    same("duplicate_64_bytes", Verdict::TxAckRepeated, logged);
    same("commit", Verdict::DropCommit, frames::commit(1, Checksum::Partial));
    same("message_512_bytes", Verdict::PassMessage, frames::message(512));
    same("foreign_512_bytes", Verdict::PassForeign, frames::foreign(512));
    if keys {
        return;
    }
    measure(criterion, &programs, "foreign_512_bytes_sent", None, &[Hook::TcEgress], |_| {
        frames::foreign(512)
    });
}

fn leader(criterion: &mut Criterion) {
    [false, true].iter().for_each(|keys| leader_with(criterion, *keys));
}

fn leader_with(criterion: &mut Criterion, keys: bool) {
    let keyed = if keys { "keyed_" } else { "" };
    let programs = match Programs::load(LEADER, keys) {
        Ok(programs) => programs,
        Err(e) => return skipped(&format!("cost of the leader's programs: {e}")),
    };
    let op = Cell::new(0);
    let next_ack = |programs: &Programs, checksum| {
        op.set(op.get() + 1);
        programs.begin_round(op.get());
        frames::ack(op.get(), checksum)
    };
    for (checksum_name, checksum) in CHECKSUMS {
        let name = format!("{keyed}vote_{checksum_name}");
        measure(criterion, &programs, &name, Some(Verdict::DropVote), &INGRESS, |programs| {
            next_ack(programs, checksum)
        });
    }
    let vote = next_ack(&programs, Checksum::Partial);
    programs.run(Hook::Tc, Some(Verdict::DropVote), 1, |_| vote.clone());
    let repeated = Some(Verdict::DropVoteRepeated);
    measure(criterion, &programs, &format!("{keyed}vote_repeated"), repeated, &INGRESS, |_| vote.clone());
}

/// One figure a hook.
fn measure(
    criterion: &mut Criterion,
    programs: &Programs,
    name: &str,
    verdict: Option<Verdict>,
    hooks: &[Hook],
    next: impl Fn(&Programs) -> Vec<u8>,
) {
    let mut comparison = Comparison::new(criterion, format!("programs/{name}"), Effort::MostlyPreparation);
    for &hook in hooks {
        comparison.way(hook.name(), |count| programs.run(hook, verdict, count, &next));
    }
    comparison.finish_list();
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
                    group.rounds(count);
                    group.settle();
                });
                assert!(runs.count >= count, "{runs:?} in {count} rounds");
                Duration::from_nanos((runs.ns_each() * count as f64) as u64)
            });
            group.verify();
        }
        comparison.finish_list();
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
    comparison.finish_list();
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
