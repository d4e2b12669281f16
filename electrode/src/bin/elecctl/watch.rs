//! `elecctl watch`

use std::io::Write;
use std::time::Duration;

use crate::Failure;

#[cfg(feature = "ebpf")]
pub fn run(out: &mut dyn Write, json: bool, count: Option<u64>, interval: Duration) -> Result<(), Failure> {
    let stop = signals::Stop::block()?;
    let netns = electrode::inspect::network_namespace()?;
    let mut looks = rates::Looks::begin(crate::installed()?);
    for number in 0.. {
        if Some(number) == count || stop.within(interval) {
            break;
        }
        let look = looks.next(crate::installed()?);
        if json {
            writeln!(out, "{}", look.json(netns))?;
        } else {
            write!(out, "{}", look.text())?;
        }
        out.flush()?;
    }
    Ok(())
}

#[cfg(not(feature = "ebpf"))]
pub fn run(_: &mut dyn Write, _: bool, _: Option<u64>, _: Duration) -> Result<(), Failure> {
    Err("this build has no kernel programs, and attaches none; build with feature `ebpf`".into())
}

/// What has changed between two looks.
#[cfg(feature = "ebpf")]
mod rates {
    use std::fmt::Write;
    use std::time::{Duration, Instant};

    use electrode::abi::Verdict;
    use electrode::inspect::Installed;
    use serde_json::{Value, json};

    use crate::status::text;

    /// The last look.
    pub struct Looks {
        began: Instant,
        at: Instant,
        endpoints: Vec<Installed>,
    }

    /// One look, compared with the one before.
    pub struct Look {
        /// Since the beginning.
        pub time: Duration,
        /// Since the look before.
        pub passed: Duration,
        pub endpoints: Vec<(Installed, Vec<(Verdict, f64)>)>,
        /// Those that were there the last time.
        pub gone: Vec<Installed>,
    }

    impl Looks {
        pub fn begin(endpoints: Vec<Installed>) -> Self {
            let now = Instant::now();
            Self { began: now, at: now, endpoints }
        }

        pub fn next(&mut self, endpoints: Vec<Installed>) -> Look {
            let now = Instant::now();
            let passed = now - self.at;
            let before = std::mem::replace(&mut self.endpoints, endpoints.clone());
            self.at = now;
            let (kept, gone): (Vec<_>, Vec<_>) =
                before.into_iter().partition(|e| endpoints.iter().any(|now| same(e, now)));
            let rated = |e: Installed| {
                let rates = rates(&e, kept.iter().find(|old| same(old, &e)), passed);
                (e, rates)
            };
            Look {
                time: now - self.began,
                passed,
                endpoints: endpoints.into_iter().map(rated).collect(),
                gone,
            }
        }
    }

    /// By their programs, whose ids come again only after a very long time.
    fn same(a: &Installed, b: &Installed) -> bool {
        let has = |e: &Installed, id| e.attachments.iter().any(|attachment| attachment.program_id == id);
        a.attachments.iter().any(|attachment| has(b, attachment.program_id))
    }

    /// Each counter's growth a second; of an endpoint that is new, since it was opened.
    fn rates(now: &Installed, before: Option<&Installed>, passed: Duration) -> Vec<(Verdict, f64)> {
        let was = |verdict: Verdict| {
            before.and_then(|e| e.counters.iter().find(|(v, _)| *v == verdict)).map_or(0, |(_, count)| *count)
        };
        let seconds = passed.as_secs_f64().max(1e-3);
        now.counters.iter().map(|&(v, count)| (v, count.saturating_sub(was(v)) as f64 / seconds)).collect()
    }

    impl Look {
        /// A line for people for each endpoint.
        pub fn text(&self) -> String {
            let mut text = String::new();
            let time = self.time.as_secs_f64();
            if self.endpoints.is_empty() {
                let _ = writeln!(
                    text,
                    "{time:>6.1} s  nothing of Electrode is attached in this network namespace"
                );
            }
            for (endpoint, rates) in &self.endpoints {
                let _ = writeln!(text, "{time:>6.1} s  {}; {}", describe(endpoint), counted(rates));
            }
            for endpoint in &self.gone {
                let _ = writeln!(text, "{time:>6.1} s  {}: gone", text::identity(endpoint.identity.as_ref()));
            }
            text
        }

        /// One document.
        pub fn json(&self, netns: u64) -> Value {
            let endpoint = |(endpoint, rates): &(Installed, Vec<(Verdict, f64)>)| {
                let mut value = serde_json::to_value(endpoint).expect("numbers and strings serialise");
                let rates = rates.iter().map(|(verdict, rate)| (verdict.name().to_owned(), json!(rate)));
                value["rates"] = Value::Object(rates.collect());
                value
            };
            json!({
                "schema": 1,
                "netns": netns,
                "time_ms": self.time.as_millis() as u64,
                "passed_ms": self.passed.as_millis() as u64,
                "endpoints": self.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
                "gone": self.gone,
            })
        }
    }

    fn describe(endpoint: &Installed) -> String {
        let owner = match endpoint.owners.processes.as_slice() {
            [] => "no owner".to_owned(),
            [first, ..] => format!("pid {}", first.pid),
        };
        let place = endpoint.attachments.first().map(|a| format!("{} {}, ", a.interface, a.hook.name()));
        format!(
            "{}{}, {owner}: {}",
            place.unwrap_or_default(),
            text::identity(endpoint.identity.as_ref()),
            text::gate(endpoint.gate.as_ref()),
        )
    }

    fn counted(rates: &[(Verdict, f64)]) -> String {
        let number = |rate: f64| if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
        let seen = rates.iter().filter(|(_, rate)| *rate > 0.0);
        let seen: Vec<_> =
            seen.map(|(verdict, rate)| format!("{} {}", verdict.name(), number(*rate))).collect();
        if seen.is_empty() { "nothing since".into() } else { format!("a second: {}", seen.join(", ")) }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use electrode::inspect::Owners;

        fn at(count: u64) -> Installed {
            Installed {
                attachments: Vec::new(),
                owners: Owners::default(),
                identity: None,
                gate: None,
                counters: vec![(Verdict::TxAck, count), (Verdict::DropVote, 0)],
            }
        }

        fn said(now: u64, before: Option<u64>, passed_ms: u64) -> String {
            let before = before.map(at);
            counted(&rates(&at(now), before.as_ref(), Duration::from_millis(passed_ms)))
        }

        #[test]
        fn a_rate_is_the_difference_a_second() {
            assert_eq!(said(50, Some(20), 1000), "a second: tx_ack 30");
            assert_eq!(said(50, Some(20), 100), "a second: tx_ack 300");
            assert_eq!(said(21, Some(20), 2000), "a second: tx_ack 0.5");
            assert_eq!(said(20, Some(20), 1000), "nothing since");
            assert_eq!(said(20, None, 1000), "a second: tx_ack 20");
        }

        #[test]
        fn a_document_has_totals_and_rates() {
            let rates = rates(&at(50), Some(&at(20)), Duration::from_millis(500));
            let look = Look {
                time: Duration::from_secs(2),
                passed: Duration::from_millis(500),
                endpoints: vec![(at(50), rates)],
                gone: vec![at(7)],
            };
            let json = look.json(4711);
            assert_eq!((&json["schema"], &json["netns"]), (&json!(1), &json!(4711)));
            let endpoint = &json["endpoints"][0];
            assert_eq!(endpoint["counters"]["tx_ack"], 50);
            assert_eq!(endpoint["rates"]["tx_ack"], 60.0);
            assert_eq!(json["gone"].as_array().unwrap().len(), 1);
            assert!(look.text().contains("gone"), "{}", look.text());
        }
    }
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
