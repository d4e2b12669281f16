//! `paxos-demo groups`: several groups on the same hosts and interfaces, backends side by side.
//!
//! Each group has an id, a port, clients and, with eBPF, programs of its own; the programs of all of them are in a row on
//! each interface, so a packet meets those of the groups before its own as well. As in `bench` what is compared is
//! neighbours, in turning order.

pub mod report;
pub mod run;

use self::report::GroupsReport;
use self::run::Spec;
use crate::bench::plan::distinct;
use crate::bench::progress::Progress;
use crate::bench::table::{grouped, short};
use crate::bench::{self, BenchError};
use crate::cli::{BackendChoice, EXIT_DONE, EXIT_FAILED, EXIT_USAGE, GroupsArgs};
use crate::cluster::ready::write_atomically;
use crate::stop::Stop;

/// Runs the comparison; the exit code tells whether every answer was right and no group heard another.
pub fn run(args: &GroupsArgs, stop: &Stop) -> Result<u8, BenchError> {
    if let Some(backend) =
        args.backends.iter().find(|b| matches!(b, BackendChoice::Auto | BackendChoice::UdpMulticast))
    {
        eprintln!("error: --backends {backend}: use ebpf, udp or udp-sendto");
        return Ok(EXIT_USAGE);
    }
    let plan = plan(args);
    let mut progress = Progress::new(plan.len());
    let (mut runs, mut problems, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for spec in &plan {
        progress.begin(&spec.to_string());
        let measured = match run::measure(spec, stop, &mut progress) {
            Ok(measured) => measured,
            Err(error) => return bench::interrupted(error),
        };
        places.push((measured.hook, measured.fabric));
        progress.end(&format!(
            "{} requests/s, p50 {} us, p99 {} us, {} us CPU a request",
            grouped(measured.run.throughput_rps),
            short(measured.run.latency_us.p50),
            short(measured.run.latency_us.p99),
            short(measured.run.cpu_us_per_request)
        ));
        problems.extend(measured.problems.iter().map(|problem| format!("{spec}: {problem}")));
        runs.push(measured.run);
    }
    progress.finish();
    let host = bench::host(places.iter().map(|(hook, fabric)| (hook.as_str(), *fabric)));
    let report = GroupsReport::new(host, runs);
    println!("{}", report.table());
    if let Some(path) = &args.json {
        write_atomically(path, &report.to_json())
            .map_err(|source| BenchError::Write { path: path.clone(), source })?;
    }
    problems.iter().for_each(|problem| eprintln!("error: {problem}"));
    Ok(if problems.is_empty() { EXIT_DONE } else { EXIT_FAILED })
}

/// All runs, in their order.
fn plan(args: &GroupsArgs) -> Vec<Spec> {
    let mut plan = Vec::new();
    let (leaders, groups) = (distinct(args.leaders.clone()), distinct(args.groups.clone()));
    for repeat in 0..usize::from(args.repeat) {
        for &leaders in &leaders {
            for &groups in &groups {
                let mut backends = distinct(args.backends.clone());
                // Nobody is always first on a machine that has just rested.
                if repeat % 2 == 1 {
                    backends.reverse();
                }
                plan.extend(backends.into_iter().map(|backend| Spec {
                    backend,
                    groups,
                    leaders,
                    replicas: args.replicas,
                    clients: args.clients,
                    batch: args.batch,
                    seconds: args.seconds,
                    repeat,
                }));
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn backends_are_neighbours_in_turning_order() {
        let line = "paxos-demo groups --groups 1,8 --leaders together,spread --repeat 2";
        let Command::Groups(args) = Cli::parse_from(line.split_whitespace()).command else { panic!() };
        let plan = plan(&args);
        assert_eq!(plan.len(), 2 * 2 * 2 * 2);
        for pair in plan.chunks(2) {
            assert_eq!((pair[0].groups, pair[0].leaders), (pair[1].groups, pair[1].leaders));
            assert_eq!(pair[0].repeat, pair[1].repeat);
            assert_ne!(pair[0].backend, pair[1].backend);
        }
        assert_eq!((plan[0].backend, plan[8].backend), (BackendChoice::Udp, BackendChoice::Ebpf));
    }

    #[test]
    fn nothing_runs_twice() {
        let line = "paxos-demo groups --groups 2,2 --leaders spread,spread --backends udp,udp --repeat 1";
        let Command::Groups(args) = Cli::parse_from(line.split_whitespace()).command else { panic!() };
        assert_eq!(plan(&args).len(), 1);
    }
}
