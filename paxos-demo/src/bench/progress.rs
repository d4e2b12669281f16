//! Visible progress: a bar on a terminal, one line a run elsewhere. On standard error, so that the results on
//! standard output can be redirected.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Steps of the bar for one run.
const STEPS: u64 = 100;

/// Progress over a number of runs.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    runs: usize,
    done: usize,
    title: String,
}

impl Progress {
    /// Of so many runs.
    pub fn new(runs: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(runs as u64 * STEPS), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style);
            bar
        });
        Self { bar, runs, done: 0, title: String::new() }
    }

    /// A run begins.
    pub fn begin(&mut self, title: &str) {
        self.title = format!("[{}/{}] {title}", self.done + 1, self.runs);
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: starting", self.title)),
            None => eprintln!("{} ...", self.title),
        }
    }

    /// So much of the run is over, at this rate.
    pub fn moved(&mut self, fraction: f64, requests_per_second: f64) {
        if let Some(bar) = &self.bar {
            let steps = (fraction.clamp(0.0, 1.0) * STEPS as f64) as u64;
            bar.set_position(self.done as u64 * STEPS + steps);
            bar.set_message(format!("{}: {requests_per_second:.0} requests/s", self.title));
        }
    }

    /// The run is over.
    pub fn end(&mut self, result: &str) {
        self.done += 1;
        self.note(&format!("{}: {result}", self.title));
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64 * STEPS);
        }
    }

    /// A line that stays.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// All runs are over: the bar goes.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
