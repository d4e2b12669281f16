//! `elecctl detach`

use std::io::Write;

use crate::Failure;

/// Returns false if something should have gone and did not.
#[cfg(feature = "ebpf")]
pub fn run(out: &mut dyn Write) -> Result<bool, Failure> {
    let done = electrode::inspect::sweep()?;
    for attachment in &done.removed {
        writeln!(out, "removed  {attachment}")?;
    }
    for interface in &done.qdiscs_removed {
        writeln!(out, "removed  {interface}: clsact qdisc, which nothing was left on")?;
    }
    for (attachment, reason) in &done.kept {
        writeln!(out, "kept     {attachment}: {reason}")?;
    }
    for (attachment, reason) in &done.failed {
        eprintln!("elecctl: cannot remove {attachment}: {reason}");
    }
    if done.removed.is_empty() && done.failed.is_empty() {
        writeln!(out, "nothing to remove in this network namespace")?;
    }
    Ok(done.failed.is_empty())
}

#[cfg(not(feature = "ebpf"))]
pub fn run(_out: &mut dyn Write) -> Result<bool, Failure> {
    Err("this build has no kernel programs, and attaches none; build with feature `ebpf`".into())
}
