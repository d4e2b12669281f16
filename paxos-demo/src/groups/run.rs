//! One run: so many groups on the same hosts, each loaded by a generator of its own.

use std::sync::Arc;
use std::time::Duration;

use electrode::fabric::{Fabric, FabricConfig};
use hdrhistogram::Histogram;

use super::report::GroupsRun;
use crate::bench::BenchError;
use crate::bench::progress::Progress;
use crate::bench::run::{self, check_backend, check_counters, converge};
use crate::bench::under_load::under_load;
use crate::cli::{BackendChoice, Leaders};
use crate::cluster::{Cluster, ClusterError, Site};
use crate::measure::MachineCpu;
use crate::node::NodeStatus;
use crate::report::{Batch, Latency, round};
use crate::stop::Stop;
use crate::workload::{Load, Outcome};

/// Size of the values.
const PAYLOAD_BYTES: usize = 64;

/// What to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// How packets are sent and handled.
    pub backend: BackendChoice,
    /// How many groups.
    pub groups: u16,
    /// Where their leaders are.
    pub leaders: Leaders,
    /// Members of each.
    pub replicas: usize,
    /// Clients of each.
    pub clients: usize,
    /// Requests in a Prepare.
    pub batch: Batch,
    /// Length of the measured window.
    pub seconds: f64,
    /// Number of the repeat.
    pub repeat: usize,
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { backend, groups, replicas, clients, batch, .. } = self;
        let leaders = format!("{:?}", self.leaders).to_lowercase();
        write!(
            f,
            "{backend}: {groups} groups of {replicas}, leaders {leaders}, {clients} clients each, batch {batch}"
        )
    }
}

/// A run and what was wrong with it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// For the report.
    pub run: GroupsRun,
    /// Described.
    pub problems: Vec<String>,
    /// Ingress hook; empty without eBPF.
    pub hook: String,
    /// What carried the packets.
    pub fabric: &'static str,
}

/// Starts the groups of `spec`, one after the other, on hosts that they share.
pub fn start(spec: &Spec, of: &crate::cluster::Spec, stop: &Stop) -> Result<Vec<Cluster>, BenchError> {
    let hosts = FabricConfig { hosts: spec.replicas + 1, ..FabricConfig::default() };
    let fabric =
        Fabric::new(hosts).map_err(|source| ClusterError::Fabric { backend: spec.backend, source })?;
    let fabric = Arc::new(fabric);
    let group = |number: u16| {
        let mut of = of.clone();
        of.backend = spec.backend;
        of.batching = spec.batch.0;
        // The first replica leads the first view.
        let turn = if spec.leaders == Leaders::Spread { usize::from(number) } else { 0 };
        of.site = Some(Site { fabric: Arc::clone(&fabric), number, turn });
        Ok(Cluster::start(of, stop)?)
    };
    (0..spec.groups).map(group).collect()
}

/// Starts the groups, loads them, checks them and removes them.
pub fn measure(spec: &Spec, stop: &Stop, progress: &mut Progress) -> Result<Measured, BenchError> {
    let of = crate::cluster::Spec::new(spec.replicas)
        .map_err(|source| BenchError::System { action: "find this program", source })?;
    let mut clusters = start(spec, &of, stop)?;
    let before = statuses(&clusters)?;
    before.iter().try_for_each(|of_group| check_backend(spec.backend, of_group))?;
    let (busy, outcomes) = load(&mut clusters, spec, stop, progress)?;
    let converged = clusters.iter().map(|cluster| converge(cluster, stop)).collect::<Result<Vec<_>, _>>()?;
    let after = statuses(&clusters)?;
    let found = Found { outcomes: &outcomes, converged: &converged, before: &before, after: &after };
    let (problems, errors) = found.problems();

    let rates: Vec<f64> = outcomes.iter().map(rate).collect();
    let requests: u64 = outcomes.iter().map(|outcome| outcome.requests).sum();
    let answered = requests.max(1) as f64;
    // What the groups did in the whole run, whose requests are more than those of the window.
    let all = outcomes.iter().map(|outcome| outcome.checked).sum::<u64>().max(1) as f64;
    let run = GroupsRun {
        backend: spec.backend.as_str().to_owned(),
        groups: spec.groups,
        leaders: spec.leaders,
        replicas: spec.replicas,
        clients: spec.clients,
        batch: spec.batch,
        repeat: spec.repeat,
        requests,
        errors,
        throughput_rps: round(rates.iter().sum(), 1),
        by_group_rps: rates.iter().map(|rate| round(*rate, 1)).collect(),
        latency_us: Latency::of(&together(&outcomes)),
        cpu_us_per_request: round(busy.as_secs_f64() * 1e6 / answered, 2),
        foreign_per_request: round(found.grown(looks_at_others) as f64 / all, 2),
        view_changes: found.grown(view_changes),
    };
    let hook = before[0][0].node.hook.clone();
    Ok(Measured { run, problems, hook, fabric: clusters[0].fabric_name() })
}

/// What a run has left to be judged, by group.
struct Found<'a> {
    outcomes: &'a [Outcome],
    converged: &'a [Result<(), String>],
    before: &'a [Vec<NodeStatus>],
    after: &'a [Vec<NodeStatus>],
}

impl Found<'_> {
    /// What is wrong, in words, and how many errors that is.
    fn problems(&self) -> (Vec<String>, u64) {
        let (mut problems, mut errors) = (Vec::new(), 0);
        let groups = self.outcomes.iter().zip(self.converged).zip(self.after);
        for (number, ((outcome, converged), after)) in (1..).zip(groups) {
            let mut wrong = |text: &str, count: u64| {
                problems.push(format!("group {number}: {text}"));
                errors += count;
            };
            outcome.error_samples.iter().for_each(|text| wrong(text, 0));
            if outcome.requests == 0 {
                wrong("no answer in the window", 1);
            }
            if let Err(text) = converged {
                wrong(text, 1);
            }
            let heard = heard_of_others(after);
            if heard > 0 {
                wrong(&format!("heard {heard} packets of another group"), heard);
            }
            errors += outcome.errors;
        }
        let changes = self.grown(view_changes);
        if changes > 0 {
            problems.push(format!("{changes} view changes under load"));
        }
        (problems, errors)
    }

    /// By how much a counter grew, all replicas together.
    fn grown(&self, count: fn(&NodeStatus) -> u64) -> u64 {
        let sum = |all: &[Vec<NodeStatus>]| all.iter().flatten().map(count).sum::<u64>();
        sum(self.after).saturating_sub(sum(self.before))
    }
}

fn view_changes(status: &NodeStatus) -> u64 {
    status.replica.counters.view_changes
}

fn looks_at_others(status: &NodeStatus) -> u64 {
    status.node.verdicts.get("pass_foreign").copied().unwrap_or(0)
}

/// Packets that reached a replica though their header names another group or configuration.
pub fn heard_of_others(statuses: &[NodeStatus]) -> u64 {
    let count = |status: &NodeStatus| {
        let of = |counters: &std::collections::BTreeMap<String, u64>| {
            counters.get("pass_config").copied().unwrap_or(0)
        };
        // What the program passes user space refuses again.
        of(&status.node.verdicts).max(of(&status.node.endpoint))
    };
    statuses.iter().map(count).sum()
}

fn rate(outcome: &Outcome) -> f64 {
    if outcome.seconds > 0.0 { outcome.requests as f64 / outcome.seconds } else { 0.0 }
}

fn together(outcomes: &[Outcome]) -> Histogram<u64> {
    let mut all = outcomes[0].latency.clone();
    for outcome in &outcomes[1..] {
        all.add(&outcome.latency).expect("all have the same bounds");
    }
    all
}

/// What every replica says, by group.
fn statuses(clusters: &[Cluster]) -> Result<Vec<Vec<NodeStatus>>, BenchError> {
    let system = |source| BenchError::System { action: "read the counters", source };
    let of = |cluster: &Cluster| {
        let all = run::statuses(cluster)?;
        check_counters(&all).map_err(system)?;
        Ok(all)
    };
    clusters.iter().map(of).collect()
}

/// Loads all groups at once; the machine's busy time in the window, and what each generator found.
fn load(
    clusters: &mut [Cluster],
    spec: &Spec,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<(Duration, Vec<Outcome>), BenchError> {
    let load = Load { clients: spec.clients, payload_bytes: PAYLOAD_BYTES, rate: None };
    let length = Duration::from_secs_f64(spec.seconds);
    let cpu = || {
        MachineCpu::now()
            .map_err(|source| BenchError::System { action: "read the machine's CPU time", source })
    };
    under_load(clusters, load, stop, progress, |watch| {
        watch.warm_up()?;
        let before = cpu()?;
        watch.begin(length);
        watch.until(length)?;
        Ok(cpu()?.since(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(requests: u64) -> Outcome {
        Outcome {
            requests,
            seconds: 1.0,
            checked: requests,
            errors: 0,
            error_samples: Vec::new(),
            retries: 0,
            latency: Histogram::new(3).unwrap(),
        }
    }

    /// What is wrong with two groups of one replica, after `change`.
    fn wrong(
        change: impl FnOnce(&mut [Outcome], &mut [Result<(), String>], &mut [Vec<NodeStatus>]),
    ) -> (Vec<String>, u64) {
        let (mut outcomes, mut converged) = (vec![outcome(7), outcome(9)], vec![Ok(()), Ok(())]);
        let mut before = vec![vec![crate::soak::tests::status()]; 2];
        // Views that were left before the load are no matter of it.
        before[0][0].replica.counters.view_changes = 1;
        let mut after = before.clone();
        change(&mut outcomes, &mut converged, &mut after);
        let found = Found { outcomes: &outcomes, converged: &converged, before: &before, after: &after };
        found.problems()
    }

    #[test]
    fn whatever_is_wrong_with_a_group_is_said_of_it() {
        assert_eq!(wrong(|_, _, _| ()), (vec![], 0));
        let one = |text: &str, errors| (vec![text.to_owned()], errors);
        assert_eq!(wrong(|of, _, _| of[1] = outcome(0)), one("group 2: no answer in the window", 1));
        let several = |of: &mut [Outcome]| {
            of[0].errors = 3;
            of[0].error_samples.push("no answer".to_owned());
        };
        assert_eq!(wrong(|of, _, _| several(of)), one("group 1: no answer", 3));
        assert_eq!(wrong(|_, of, _| of[0] = Err("apart".to_owned())), one("group 1: apart", 1));
        let heard = |of: &mut NodeStatus| {
            of.node.verdicts.insert("pass_config".to_owned(), 4);
        };
        assert_eq!(
            wrong(|_, _, of| heard(&mut of[1][0])),
            one("group 2: heard 4 packets of another group", 4)
        );
    }

    #[test]
    fn a_view_change_in_the_middle_of_a_run_is_said() {
        let left = |of: &mut [Vec<NodeStatus>]| of[1][0].replica.counters.view_changes += 2;
        assert_eq!(wrong(|_, _, of| left(of)), (vec!["2 view changes under load".to_owned()], 0));
    }
}
