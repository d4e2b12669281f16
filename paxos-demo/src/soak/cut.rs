//! All counters of a group at one moment, though they are read one after the other: taken while nothing moves.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::bench::BenchError;
use crate::bench::run::check_counters;
use crate::cluster::{Cluster, ClusterError};
use crate::node::NodeStatus;
use crate::stop::Stop;

/// How long a quiet moment may be looked for: idle leaders speak twenty times a second, a look takes a few milliseconds,
/// and a replica on a busy machine may be silent for a while.
const PATIENCE: Duration = Duration::from_secs(20);
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// What a status request and its answer change, whoever asks.
const OF_A_LOOK: [&str; 4] = ["received", "sent", "heard_outside", "sent_outside"];

/// One replica's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    verdicts: BTreeMap<String, u64>,
    endpoint: BTreeMap<String, u64>,
    has_programs: bool,
    /// Datagrams that its full socket dropped.
    pub socket_drops: u64,
    /// Packets that its interface dropped, in either direction; none on loopback, which it shares with the whole host.
    pub interface_drops: u64,
}

impl Counts {
    /// Verdict of a kernel program.
    pub fn kernel(&self, name: &str) -> u64 {
        self.verdicts.get(name).copied().unwrap_or(0)
    }

    /// What the endpoint counted in user space.
    pub fn user(&self, name: &str) -> u64 {
        self.endpoint.get(name).copied().unwrap_or(0)
    }

    /// Whether kernel programs run for it.
    pub fn has_programs(&self) -> bool {
        self.has_programs
    }

    fn since(&self, before: &Self) -> Self {
        let grown = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            let by = |(name, n): (&String, &u64)| {
                (name.clone(), n.saturating_sub(then.get(name).copied().unwrap_or(0)))
            };
            now.iter().map(by).collect()
        };
        Self {
            verdicts: grown(&self.verdicts, &before.verdicts),
            endpoint: grown(&self.endpoint, &before.endpoint),
            has_programs: self.has_programs,
            socket_drops: self.socket_drops.saturating_sub(before.socket_drops),
            interface_drops: self.interface_drops.saturating_sub(before.interface_drops),
        }
    }
}

/// The whole group's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    members: Vec<Counts>,
    /// Packets that the members' ports of the switch dropped.
    pub switch_drops: u64,
}

impl Cut {
    /// Of these members.
    #[cfg(test)]
    pub(super) fn of(members: Vec<Counts>, switch_drops: u64) -> Self {
        Self { members, switch_drops }
    }

    /// Looks until two looks in a row find nothing changed but what looks themselves change: between them nothing was on
    /// its way.
    pub fn take(cluster: &Cluster, stop: &Stop) -> Result<Self, BenchError> {
        let system = |action| move |source: io::Error| BenchError::System { action, source };
        let start = Instant::now();
        let mut never = String::new();
        while start.elapsed() <= PATIENCE {
            match Self::look(cluster).map_err(system("read all counters at one moment"))? {
                Ok(cut) => return Ok(cut),
                Err(reason) => never = reason,
            }
            if stop.sleep(Duration::from_millis(7)) {
                return Err(ClusterError::Interrupted.into());
            }
        }
        Err(system("read all counters at one moment")(io::Error::new(io::ErrorKind::TimedOut, never)))
    }

    /// Looks twice; or why that was not a quiet moment.
    fn look(cluster: &Cluster) -> io::Result<Result<Self, String>> {
        let first = match statuses(cluster)? {
            Ok(statuses) => statuses,
            Err(silent) => return Ok(Err(silent)),
        };
        let cut = Self::read(cluster, &first)?;
        let second = match statuses(cluster)? {
            Ok(statuses) => statuses,
            Err(silent) => return Ok(Err(silent)),
        };
        let quiet = first.iter().zip(&second).all(|(before, after)| only_looked_at(before, after));
        Ok(quiet.then_some(cut).ok_or_else(|| "the group is never quiet without load".to_owned()))
    }

    /// What was counted since, by member.
    pub fn since(&self, before: &Self) -> Vec<Counts> {
        self.members.iter().zip(&before.members).map(|(now, then)| now.since(then)).collect()
    }

    fn read(cluster: &Cluster, statuses: &[NodeStatus]) -> io::Result<Self> {
        let mut members = Vec::with_capacity(statuses.len());
        for (id, status) in statuses.iter().enumerate() {
            let net = format!("/proc/{}/net", status.node.pid);
            let port = cluster.config().replicas[id].port();
            let mut counts = Counts {
                verdicts: status.node.verdicts.clone(),
                endpoint: status.node.endpoint.clone(),
                has_programs: status.node.has_programs(),
                ..Counts::default()
            };
            // One of the two has the socket; a kernel without IPv6 has only one.
            let tables = ["udp", "udp6"].map(|table| std::fs::read_to_string(format!("{net}/{table}")));
            let drops = tables.iter().flatten().find_map(|table| socket_drops(table, port));
            counts.socket_drops = drops.ok_or_else(|| {
                io::Error::other(format!("{net}/udp has no socket of replica {id} on port {port}"))
            })?;
            if let Some(fabric) = cluster.fabric() {
                let own = [fabric.host(id).interface().to_owned()];
                counts.interface_drops =
                    interface_drops(&std::fs::read_to_string(format!("{net}/dev"))?, &own);
            }
            members.push(counts);
        }
        let Some(fabric) = cluster.fabric() else { return Ok(Self { members, switch_drops: 0 }) };
        let table = fabric.switch().run(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
        let table = table.map_err(io::Error::other)??;
        // The clients' port is none of the members': what it drops excuses nothing between them.
        let ports: Vec<_> = (0..members.len()).map(|id| fabric.port_name(id)).collect();
        Ok(Self { members, switch_drops: interface_drops(&table, &ports) })
    }
}

/// Every replica's answer, with counters; or who is silent.
fn statuses(cluster: &Cluster) -> io::Result<Result<Vec<NodeStatus>, String>> {
    let found = cluster.statuses(STATUS_TIMEOUT).map_err(io::Error::other)?;
    if let Some(id) = found.iter().position(Option::is_none) {
        return Ok(Err(format!("replica {id} does not answer")));
    }
    let statuses: Vec<_> = found.into_iter().flatten().collect();
    check_counters(&statuses)?;
    Ok(Ok(statuses))
}

/// Whether nothing happened between two answers but questions and answers, as many as it took.
fn only_looked_at(before: &NodeStatus, after: &NodeStatus) -> bool {
    let grown = |then: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>, name: &str| {
        let count = |of: &BTreeMap<String, u64>| of.get(name).copied().unwrap_or(0);
        count(now).wrapping_sub(count(then))
    };
    let looks = grown(&before.node.endpoint, &after.node.endpoint, "received");
    let by_looks =
        |then: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>, looked: &[&str], any: &[&str]| {
            let names = then.keys().chain(now.keys()).map(String::as_str).chain(looked.iter().copied());
            names
                .filter(|name| !any.contains(name))
                .all(|name| grown(then, now, name) == if looked.contains(&name) { looks } else { 0 })
        };
    // Neighbours' own chatter is nobody's.
    let passed = if after.node.has_programs() { &["pass_message"][..] } else { &[] };
    looks > 0
        && by_looks(&before.node.verdicts, &after.node.verdicts, passed, &["pass_foreign"])
        && by_looks(&before.node.endpoint, &after.node.endpoint, &OF_A_LOOK, &[])
}

/// The last column of `/proc/net/udp` at the socket on a port.
fn socket_drops(table: &str, port: u16) -> Option<u64> {
    let suffix = format!(":{port:04X}");
    let mut lines = table.lines().skip(1).map(|line| line.split_ascii_whitespace());
    let on_port = |words: &std::str::SplitAsciiWhitespace<'_>| {
        words.clone().nth(1).is_some_and(|local| local.ends_with(&suffix))
    };
    lines.find(on_port)?.last()?.parse().ok()
}

/// Dropped packets of these interfaces in `/proc/net/dev`, received and sent.
fn interface_drops(table: &str, names: &[String]) -> u64 {
    let drops = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        names.iter().find(|of| *of == name.trim())?;
        let numbers: Vec<u64> =
            numbers.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        Some(numbers.get(3)? + numbers.get(11)?)
    };
    table.lines().filter_map(drops).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn counts(verdicts: &[(&str, u64)], endpoint: &[(&str, u64)]) -> Counts {
        let named = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        Counts {
            verdicts: named(verdicts),
            endpoint: named(endpoint),
            has_programs: !verdicts.is_empty(),
            ..Counts::default()
        }
    }

    #[test]
    fn the_kernels_tables_are_understood() {
        let udp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                   3: 01004C0A:1BBC 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0 41\n\
                   4: 01004C0A:1BBD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 6 2 0 7\n";
        assert_eq!(socket_drops(udp, 7100), Some(41));
        assert_eq!(socket_drops(udp, 7102), None);
        let dev = "Inter-|   Receive |  Transmit\n face |bytes packets errs drop fifo\n\
                   \u{20}   lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n\
                   \u{20} eth0:     100       2    0    3    0     0          0         0      200       4    0    5    0     0       0          0\n\
                   \u{20}port2:     100       2    0    9    0     0          0         0      200       4    0    9    0     0       0          0\n";
        assert_eq!(
            interface_drops(dev, &["lo".to_owned(), "eth0".to_owned()]),
            8,
            "another's losses are no excuse"
        );
    }

    #[test]
    fn a_quiet_moment_is_one_in_which_only_questions_moved() {
        let status = |received: u64, sent: u64, commits: u64, passed: u64, foreign: u64| {
            let mut status = crate::soak::tests::status();
            status.node.hook = "tc".to_owned();
            status.node.endpoint = [("received", received), ("heard_outside", received)]
                .into_iter()
                .chain([("sent", sent), ("sent_outside", sent), ("sent_commit", commits)])
                .map(|(name, n)| (name.to_owned(), n))
                .collect();
            status.node.verdicts =
                [("pass_message".to_owned(), passed), ("pass_foreign".to_owned(), foreign)].into();
            status
        };
        let first = status(5, 5, 9, 5, 0);
        assert!(only_looked_at(&first, &status(6, 6, 9, 6, 0)));
        assert!(only_looked_at(&first, &status(6, 6, 9, 6, 3)), "an ARP request is nobody's");
        assert!(only_looked_at(&first, &status(8, 8, 9, 8, 0)), "who was slow was asked again");
        assert!(!only_looked_at(&first, &status(6, 6, 10, 6, 0)), "the leader spoke");
        assert!(!only_looked_at(&first, &status(7, 6, 9, 7, 0)), "one question waits for its answer");
        assert!(!only_looked_at(&first, &status(6, 6, 9, 7, 0)), "one question waits in the socket");
        assert!(!only_looked_at(&first, &first), "it cannot have answered");
    }
}
