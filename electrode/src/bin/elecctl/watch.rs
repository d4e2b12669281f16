//! `elecctl watch`

use std::io::Write;

use crate::Failure;

#[cfg(feature = "ebpf")]
pub fn run(out: &mut dyn Write) -> Result<(), Failure> {
    use std::time::{Duration, Instant};

    let stop = signals::Stop::block()?;
    let since = Instant::now();
    let mut before = crate::installed()?;
    loop {
        if stop.within(Duration::from_secs(1)) {
            return Ok(());
        }
        let now = crate::installed()?;
        let time = since.elapsed().as_secs();
        if now.is_empty() {
            writeln!(out, "{time:>4} s  nothing of Electrode is attached in this network namespace")?;
        }
        for endpoint in &now {
            writeln!(out, "{time:>4} s  {}", line(endpoint, &before))?;
        }
        out.flush()?;
        before = now;
    }
}

#[cfg(not(feature = "ebpf"))]
pub fn run(_out: &mut dyn Write) -> Result<(), Failure> {
    Err("this build has no kernel programs, and attaches none; build with feature `ebpf`".into())
}

/// One endpoint: its gate, and what it has counted since the last look.
#[cfg(feature = "ebpf")]
fn line(endpoint: &electrode::inspect::Installed, before: &[electrode::inspect::Installed]) -> String {
    use crate::status::text;

    let program = |e: &electrode::inspect::Installed| e.attachments.first().map(|a| a.program_id);
    let old = before.iter().find(|e| program(e) == program(endpoint));
    let counters: Vec<_> = endpoint
        .counters
        .iter()
        .map(|&(verdict, count)| {
            let was = old.and_then(|o| o.counters.iter().find(|(v, _)| *v == verdict)).map_or(0, |(_, n)| *n);
            (verdict, count.saturating_sub(was))
        })
        .collect();
    let owner = match endpoint.owners.processes.as_slice() {
        [] => "no owner".to_owned(),
        [first, ..] => format!("pid {}", first.pid),
    };
    format!(
        "{}, {owner}: {}; in this second {}",
        text::identity(endpoint.identity.as_ref()),
        text::gate(endpoint.gate.as_ref()),
        match text::counters(&counters).as_str() {
            "all zero" => "nothing",
            counted => counted,
        }
    )
}

/// Ctrl-C as something to wait for: there is nothing to clean up, but it is no failure either.
#[cfg(feature = "ebpf")]
mod signals {
    use std::io;
    use std::time::Duration;

    pub struct Stop(libc::sigset_t);

    impl Stop {
        pub fn block() -> io::Result<Self> {
            // SAFETY: the set is initialised by sigemptyset before anything reads it; all pointers are valid.
            unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut set);
                for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                    libc::sigaddset(&raw mut set, signal);
                }
                match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                    0 => Ok(Self(set)),
                    error => Err(io::Error::from_raw_os_error(error)),
                }
            }
        }

        /// Sleeps; true if a signal came.
        pub fn within(&self, time: Duration) -> bool {
            let time = libc::timespec {
                tv_sec: time.as_secs() as libc::time_t,
                tv_nsec: libc::c_long::from(time.subsec_nanos()),
            };
            // SAFETY: an initialised set and time; nobody wants the details of the signal.
            unsafe { libc::sigtimedwait(&raw const self.0, std::ptr::null_mut(), &raw const time) > 0 }
        }
    }
}

#[cfg(all(test, feature = "ebpf"))]
mod tests {
    use electrode::abi::Verdict;
    use electrode::inspect::{Installed, Owners};

    #[test]
    fn a_line_tells_the_difference() {
        let at = |count| Installed {
            attachments: Vec::new(),
            owners: Owners::default(),
            identity: None,
            gate: None,
            counters: vec![(Verdict::TxAck, count)],
        };
        assert!(super::line(&at(50), &[at(20)]).contains("tx_ack 30"));
        assert!(super::line(&at(20), &[at(20)]).ends_with("nothing"));
        assert!(super::line(&at(20), &[]).contains("tx_ack 20"));
    }
}
