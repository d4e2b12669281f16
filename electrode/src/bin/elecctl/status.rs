//! `elecctl status`

use std::io::Write;

use crate::Failure;

#[cfg(feature = "ebpf")]
pub fn run(out: &mut dyn Write, json: bool) -> Result<(), Failure> {
    let endpoints = crate::installed()?;
    let netns = electrode::inspect::network_namespace()?;
    if json {
        let document = serde_json::json!({ "schema": 1, "netns": netns, "endpoints": endpoints });
        writeln!(out, "{document:#}")?;
        return Ok(());
    }
    if endpoints.is_empty() {
        writeln!(
            out,
            "nothing of Electrode is attached in this network namespace; replicas in namespaces of their own \
             show up with --netns /proc/PID/ns/net"
        )?;
    }
    if !endpoints.is_empty() {
        writeln!(out, "network namespace net:[{netns}]")?;
    }
    for endpoint in &endpoints {
        write!(out, "{}", text::endpoint(endpoint))?;
    }
    Ok(())
}

#[cfg(not(feature = "ebpf"))]
pub fn run(_out: &mut dyn Write, _json: bool) -> Result<(), Failure> {
    Err("this build has no kernel programs, and attaches none; build with feature `ebpf`".into())
}

/// What people read.
#[cfg(feature = "ebpf")]
pub mod text {
    use std::fmt::Write;

    use electrode::abi::Verdict;
    use electrode::inspect::{Gate, Identity, Installed, Owners};

    /// An endpoint in one line.
    pub fn identity(identity: Option<&Identity>) -> String {
        match identity {
            Some(i) => format!("{} (group {}, member {} of {})", i.addr, i.group, i.member, i.members),
            None => "an endpoint of another version of Electrode".into(),
        }
    }

    /// A gate in a few words.
    pub fn gate(gate: Option<&Gate>) -> String {
        let Some(gate) = gate else { return "unknown".into() };
        let lease = match gate.lease_ms {
            None => String::new(),
            Some(left) if left > 0 => format!(", lease for {left} ms more"),
            Some(_) => ", lease has run out: nothing is acknowledged".into(),
        };
        let Gate { state, epoch, view, leader, op, .. } = gate;
        format!("{state}, epoch {epoch}, view {view} of member {leader}, tail {op}{lease}")
    }

    /// Counters that are not zero.
    pub fn counters(counters: &[(Verdict, u64)]) -> String {
        let seen: Vec<_> = counters
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(verdict, count)| format!("{} {count}", verdict.name()))
            .collect();
        if seen.is_empty() { "all zero".into() } else { seen.join(", ") }
    }

    fn owners(owners: &Owners) -> String {
        let names: Vec<_> =
            owners.processes.iter().map(|p| format!("process {} ({})", p.pid, p.name)).collect();
        match (names.is_empty(), owners.unreadable) {
            (false, _) => names.join(", "),
            (true, 0) => "nobody: its process is gone; `elecctl detach` removes it".into(),
            (true, n) => format!("not found ({n} processes cannot be looked into; run as root)"),
        }
    }

    /// An endpoint in full.
    pub fn endpoint(endpoint: &Installed) -> String {
        let mut text = identity(endpoint.identity.as_ref());
        text.push('\n');
        if let Some(identity) = &endpoint.identity {
            let offloads = identity.offloads;
            let on: Vec<_> = [
                ("broadcast", offloads.broadcast),
                ("fast-ack", offloads.fast_ack),
                ("quorum", offloads.quorum),
            ]
            .into_iter()
            .filter_map(|(name, on)| on.then_some(name))
            .collect();
            let on = if on.is_empty() { "none".into() } else { on.join(", ") };
            let keys = if identity.authenticated { "; authenticated" } else { "" };
            let _ = writeln!(text, "  offloads  {on}; incarnation {}{keys}", identity.incarnation);
        }
        for attachment in &endpoint.attachments {
            let _ = writeln!(text, "  program   {attachment}");
        }
        let _ = writeln!(text, "  owner     {}", owners(&endpoint.owners));
        let _ = writeln!(text, "  gate      {}", gate(endpoint.gate.as_ref()));
        let _ = writeln!(text, "  verdicts  {}", counters(&endpoint.counters));
        text
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_ownerless_endpoint_says_what_to_do() {
            let endpoint = Installed {
                attachments: Vec::new(),
                owners: Owners::default(),
                identity: None,
                gate: Some(Gate {
                    state: "follow",
                    epoch: 2,
                    view: 7,
                    leader: 1,
                    op: 40,
                    lease_ms: Some(-3),
                }),
                counters: vec![(Verdict::TxAck, 40), (Verdict::DropVote, 0)],
            };
            let text = super::endpoint(&endpoint);
            assert!(text.contains("elecctl detach"), "{text}");
            assert!(
                text.contains("follow, epoch 2, view 7 of member 1, tail 40, lease has run out"),
                "{text}"
            );
            assert!(text.contains("tx_ack 40") && !text.contains("drop_vote"), "{text}");
        }
    }
}
