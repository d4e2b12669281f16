//! `paxos-demo demo`: a stranger sees it work, and what it is worth.

use std::time::Duration;

use crate::bench::progress::Progress;
use crate::bench::run::RunSpec;
use crate::bench::{self, BenchError, table};
use crate::cli::{BackendChoice, DemoArgs, HookChoice};
use crate::cluster::{Cluster, Spec};
use crate::config::{Batching, Durability, LOG_SLOTS_DEFAULT, OffloadChoice};
use crate::report::{Batch, Setting};
use crate::stop::Stop;

/// Clients and batching of each block of the table. One request a Prepare is the paper's setting.
const BLOCKS: [(usize, Batching); 3] = [(16, Batching::One), (16, Batching::Auto), (1, Batching::One)];
const PAYLOAD_BYTES: usize = 64;

/// Runs the demo; the exit code tells whether every answer was right.
pub fn run(args: &DemoArgs, stop: &Stop) -> Result<u8, BenchError> {
    show(args, stop).or_else(bench::interrupted)
}

fn show(args: &DemoArgs, stop: &Stop) -> Result<u8, BenchError> {
    let backends = backends(args, stop)?;
    let plan: Vec<RunSpec> = BLOCKS
        .into_iter()
        .flat_map(|(clients, batching)| {
            let setting = Setting {
                replicas: args.replicas,
                clients,
                rate_rps: None,
                payload_bytes: PAYLOAD_BYTES,
                batch: Batch(batching),
                durability: Durability::Memory,
                authentication: args.authenticated,
                log_slots: LOG_SLOTS_DEFAULT,
            };
            backends.iter().map(move |&backend| RunSpec {
                backend,
                setting,
                offloads: OffloadChoice::ALL,
                hook: HookChoice::Auto,
                seconds: args.seconds,
                repeat: 0,
                program: None,
            })
        })
        .collect();
    let mut progress = Progress::new(plan.len());
    let measured = bench::run_all(&plan, stop, &mut progress)?;
    progress.finish();

    let report = bench::report(&measured);
    println!("{}", table::side_by_side(&report));
    println!(
        "CPU is the whole machine's busy time over the requests: clients, softirq and the virtual network included."
    );
    if let Some(path) = &args.json {
        bench::write_json(&report, path)?;
    }
    Ok(bench::verdict(&report, &measured))
}

/// Which backends to show; says first what runs where, and why not eBPF where that cannot be.
fn backends(args: &DemoArgs, stop: &Stop) -> Result<Vec<BackendChoice>, BenchError> {
    let mut spec = Spec::new(args.replicas)
        .map_err(|source| BenchError::System { action: "find this program", source })?;
    spec.backend = args.backend;
    spec.authenticated = args.authenticated;
    println!("Starting {} replicas to see what runs here ...", args.replicas);
    let cluster = Cluster::start(spec, stop)?;
    let statuses = cluster.statuses(Duration::from_secs(2))?;
    let node = statuses.iter().flatten().map(|status| &status.node).next();
    let ebpf = node.is_some_and(|node| node.backend == BackendChoice::Ebpf.as_str());
    if ebpf {
        let hook = node.map_or("", |node| node.hook.as_str());
        println!(
            "Each in a network namespace of its own, over eBPF: broadcast at TC egress, fast acknowledgement and quorum at {hook} ingress."
        );
    } else if let Some(reason) = cluster.loopback_reason() {
        println!("On the loopback address and over kernel UDP, because: {reason}");
    } else if args.backend == BackendChoice::Auto {
        let reason = node.and_then(|node| node.fallback.as_deref()).unwrap_or("no replica says why");
        println!("Over kernel UDP, because: {reason}");
    }
    Ok(match args.backend {
        BackendChoice::Auto if ebpf => vec![BackendChoice::Udp, BackendChoice::Ebpf],
        BackendChoice::Auto => vec![BackendChoice::Udp],
        one => vec![one],
    })
}
