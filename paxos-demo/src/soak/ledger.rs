//! The books of a group to the packet: what was sent is what arrived, was refused or is known to be lost.
//!
//! Each equation has two sides made of counters of different places, kernel and user space, sender and receiver, so a
//! packet that nobody counted shows as a difference. Only the kernel's own counters of lost packets may explain one, and
//! only a smaller right side: there is no excuse for a packet that arrived and was never sent.

use serde::Serialize;

use super::cut::{Counts, Cut};

/// Where an ack ends at a leader.
const VOTES: [&str; 7] = [
    "drop_vote",
    "drop_vote_repeated",
    "drop_vote_stale",
    "drop_vote_stranger",
    "drop_quorum_quiet",
    "pass_quorum",
    "pass_contended",
];
/// Where a Prepare or a Commit ends at a follower.
const FROM_LEADER: [&str; 11] = [
    "tx_ack",
    "tx_ack_repeated",
    "drop_logged",
    "drop_commit",
    "drop_not_durable",
    "drop_ack_failed",
    "pass_gap",
    "pass_overlap",
    "pass_log_full",
    "pass_busy",
    "pass_raced",
];
/// Where a packet ends of which the counter does not say what it was.
const ANY_KIND: [&str; 15] = [
    "pass_framing",
    "pass_malformed",
    "pass_config",
    "pass_offload_off",
    "pass_frozen",
    "pass_lease",
    "pass_view_new",
    "pass_too_large",
    "pass_hardware_address",
    "drop_checksum",
    "drop_view_old",
    "drop_source",
    "drop_target",
    "drop_key",
    "drop_tag",
];
const SENT: [&str; 5] = ["sent_prepare", "sent_ack", "sent_commit", "sent_message", "sent_outside"];
const HEARD: [&str; 5] = ["heard_prepare", "heard_ack", "heard_commit", "heard_message", "heard_outside"];

/// One counter's part in an equation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Term {
    /// The counter.
    pub name: String,
    /// Its growth while the books were open.
    pub count: u64,
}

/// Two sums that must be one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Equation {
    /// What is balanced.
    pub name: String,
    /// What left.
    pub left: Vec<Term>,
    /// What became of it.
    pub right: Vec<Term>,
    /// Counted losses, of which the counter does not say whether they belong here.
    pub losses: Vec<Term>,
    /// Left less right.
    pub difference: i128,
    /// The difference is zero, or a loss that was counted.
    pub holds: bool,
}

fn sum(terms: &[Term]) -> i128 {
    terms.iter().map(|term| i128::from(term.count)).sum()
}

impl Equation {
    fn new(name: impl Into<String>, left: Vec<Term>, right: Vec<Term>, losses: Vec<Term>) -> Self {
        let difference = sum(&left) - sum(&right);
        let holds = (0..=sum(&losses)).contains(&difference);
        Self { name: name.into(), left, right, losses, difference, holds }
    }

    /// Several that share their losses.
    fn together(name: &str, parts: &[&Self], losses: Vec<Term>) -> Self {
        let all = |side: fn(&Self) -> &Vec<Term>| parts.iter().flat_map(|part| side(part)).cloned().collect();
        Self::new(name, all(|part| &part.left), all(|part| &part.right), losses)
    }
}

impl std::fmt::Display for Equation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = |terms: &[Term]| {
            let shown = terms.iter().filter(|term| term.count > 0);
            let text = shown.map(|term| format!("{} {}", term.name, term.count)).collect::<Vec<_>>();
            if text.is_empty() { "0".to_owned() } else { text.join(" + ") }
        };
        let (left, right) = (sum(&self.left), sum(&self.right));
        write!(f, "{}: {left} = {right}", self.name)?;
        if self.difference != 0 {
            write!(f, ", difference {}, counted losses {}", self.difference, side(&self.losses))?;
        }
        write!(f, " [{} | {}]", side(&self.left), side(&self.right))
    }
}

/// The books between two moments of quiet.
pub fn balance(before: &Cut, after: &Cut) -> Vec<Equation> {
    let members = after.since(before);
    let mut equations: Vec<Equation> =
        members.iter().enumerate().flat_map(|(id, counts)| of_replica(id, counts, members.len())).collect();
    equations.extend(of_group(&members, after.switch_drops.saturating_sub(before.switch_drops)));
    equations
}

fn terms(names: &[&str], counter: impl Fn(&str) -> u64) -> Vec<Term> {
    names.iter().map(|name| Term { name: (*name).to_owned(), count: counter(name) }).collect()
}

/// Carriers that are known to be lost and of which the socket may have said so.
fn refused_carriers(counts: &Counts) -> u64 {
    counts.user("carriers_lost").min(counts.user("send_failed"))
}

/// What `carriers` would have become. While all peers are reached, which is so once a group has formed, each goes to all
/// of them.
fn unsent_copies(carriers: u64, members: usize) -> Term {
    Term { name: "copies of refused carriers".to_owned(), count: carriers * (members as u64 - 1) }
}

/// What one replica's counters must agree on among themselves.
fn of_replica(id: usize, counts: &Counts, members: usize) -> Vec<Equation> {
    let user = |names: &[&str]| terms(names, |name| counts.user(name));
    let kernel = |names: &[&str]| terms(names, |name| counts.kernel(name));
    let name = |what: &str| format!("replica {id}: {what}");
    let mut equations = vec![
        Equation::new(
            name("what was queued was handed to the socket"),
            [user(&SENT), user(&["carriers"])].concat(),
            user(&["carried", "sent", "send_failed"]),
            vec![],
        ),
        Equation::new(
            name("what the socket gave was read"),
            user(&["received"]),
            [user(&HEARD), user(&["malformed"])].concat(),
            vec![],
        ),
    ];
    if !counts.has_programs() {
        return equations;
    }
    // Only what the socket refused may not have met the program; where it got lost otherwise nobody counted.
    let refused = user(&["send_failed"]);
    let unsent = vec![unsent_copies(refused_carriers(counts), members)];
    let mut socket = user(&["received"]);
    socket.push(Term { name: "dropped by the full socket".to_owned(), count: counts.socket_drops });
    let passed: Vec<&str> = VOTES.into_iter().chain(FROM_LEADER).chain(ANY_KIND).collect();
    let passed: Vec<&str> = passed.into_iter().filter(|name| name.starts_with("pass_")).collect();
    equations.extend([
        Equation::new(
            name("every carrier met the broadcast program"),
            user(&["carriers"]),
            kernel(&["carrier"]),
            refused.clone(),
        ),
        Equation::new(
            name("every lost carrier was refused by the socket"),
            user(&["carriers_lost"]),
            vec![],
            refused,
        ),
        Equation::new(
            name("every carrier became its copies"),
            user(&["carried"]),
            kernel(&["clone_sent", "clone_failed", "clone_unresolved"]),
            unsent,
        ),
        Equation::new(
            name("what the programs passed reached the socket"),
            [kernel(&passed), kernel(&["pass_message"])].concat(),
            socket,
            kernel(&["pass_framing", "pass_hardware_address"]),
        ),
    ]);
    equations
}

/// What senders and receivers must agree on.
fn of_group(members: &[Counts], switch_drops: u64) -> Vec<Equation> {
    let all = |names: &[&str], counter: fn(&Counts, &str) -> u64| {
        terms(names, |name| members.iter().map(|counts| counter(counts, name)).sum())
    };
    let (user, kernel) =
        (|names: &[&str]| all(names, Counts::user), |names: &[&str]| all(names, Counts::kernel));
    let programs = members.iter().any(Counts::has_programs);
    let dropped = |name: &str, count| Term { name: name.to_owned(), count };
    let interfaces = dropped(
        "dropped by interfaces",
        switch_drops + members.iter().map(|counts| counts.interface_drops).sum::<u64>(),
    );
    let sockets = dropped("dropped by full sockets", members.iter().map(|counts| counts.socket_drops).sum());
    // A refused carrier is a datagram that was refused, and as many missing ones as it had destinations.
    let carriers = members.iter().map(refused_carriers).sum();
    let singles = members.iter().map(|counts| counts.user("send_failed")).sum::<u64>() - carriers;
    let mut lost = vec![dropped("refused single datagrams", singles), unsent_copies(carriers, members.len())];
    lost.extend(kernel(&["carrier_malformed", "clone_failed", "clone_unresolved"]));
    lost.push(interfaces);
    // A program judges before the socket can drop; what user space is to read may be lost there too.
    let mut lost_to_user = lost.clone();
    lost_to_user.push(sockets);
    let (acks, from_leader, lost) = if programs {
        lost.extend(kernel(&ANY_KIND));
        (kernel(&VOTES), kernel(&FROM_LEADER), lost)
    } else {
        (user(&["heard_ack"]), user(&["heard_prepare", "heard_commit"]), lost_to_user.clone())
    };
    let mut by_kernel = kernel(&["tx_ack", "tx_ack_repeated"]);
    by_kernel.extend(user(&["sent_ack"]));
    if programs {
        lost_to_user.extend(kernel(&ANY_KIND));
    }
    let prepares = Equation::new(
        "every Prepare and Commit was judged once by a follower",
        user(&["sent_prepare", "sent_commit"]),
        from_leader,
        lost.clone(),
    );
    let acks = Equation::new("every ack was judged once by the leader", by_kernel, acks, lost.clone());
    let messages = Equation::new(
        "every message between members was read",
        user(&["sent_message"]),
        user(&["heard_message"]),
        lost_to_user.clone(),
    );
    // The same loss excuses one packet, whichever it was.
    let judged = Equation::together("no loss excuses a Prepare and an ack", &[&prepares, &acks], lost);
    let all = Equation::together("no loss excuses two packets", &[&prepares, &acks, &messages], lost_to_user);
    vec![prepares, acks, messages, judged, all]
}

#[cfg(test)]
mod tests;
