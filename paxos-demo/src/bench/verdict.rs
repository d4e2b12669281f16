//! Whether a comparison succeeded.

use super::plan::distinct;
use super::run::Measured;
use crate::cli::{BackendChoice, EXIT_DONE, EXIT_FAILED};
use crate::report::{BASELINE, Report};

/// Says whether all was right, and the exit code for it.
pub fn verdict(report: &Report, measured: &[Measured]) -> u8 {
    let checked: u64 = measured.iter().map(|m| m.checked).sum();
    match fault(report, checked) {
        Some(text) => {
            eprintln!("error: {text}");
            EXIT_FAILED
        }
        None => {
            println!(
                "All {checked} answers were right, and in every run all replicas ended in the same state."
            );
            EXIT_DONE
        }
    }
}

fn fault(report: &Report, checked: u64) -> Option<String> {
    if report.errors() > 0 {
        return Some(format!("{} of {checked} answers were wrong or missing (see above)", report.errors()));
    }
    let silent = report.runs.iter().find(|run| run.requests == 0)?;
    Some(format!("{} answered nothing in a whole window ({})", silent.backend, silent.setting))
}

/// Where ebpf with all that was asked for is less than `floor` times as fast as udp, or was not compared with it in every
/// repeat, if anywhere.
pub fn below(report: &Report, floor: f64, repeats: usize) -> Option<String> {
    let ebpf = BackendChoice::Ebpf.as_str();
    distinct(report.runs.iter().map(|run| run.setting)).into_iter().find_map(|setting| {
        let mut compared = report.summary.iter().filter(|s| s.setting == setting);
        let compared = compared.find(|s| s.backend == ebpf && s.vs == BASELINE);
        let pairs = compared.map_or(0, |s| s.pairs);
        if pairs != repeats {
            return Some(format!(
                "--at-least {floor}: {pairs} of {repeats} pairs were compared ({setting}); it takes --backends udp,ebpf \
                 and an answer in every run"
            ));
        }
        let ratio = compared.map(|s| s.throughput_ratio).filter(|ratio| *ratio < floor)?;
        Some(format!("ebpf was {ratio} times as fast as udp, less than {floor} ({setting}; {pairs} pairs)"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{host, run};

    #[test]
    fn a_ratio_below_the_floor_is_a_failure() {
        let report = Report::new(host(), vec![run("udp", 0, 100.0), run("ebpf", 0, 150.0)]);
        assert_eq!(below(&report, 1.5, 1), None);
        assert!(below(&report, 1.6, 1).unwrap().contains("1.5 times"));
    }

    #[test]
    fn every_setting_takes_all_its_pairs() {
        let mut runs = vec![run("udp", 0, 100.0), run("ebpf", 0, 150.0), run("udp", 1, 100.0)];
        let said = |runs: &[_]| below(&Report::new(host(), runs.to_vec()), 1.0, 2);
        assert!(said(&runs).unwrap().contains("1 of 2 pairs"));
        runs.push(run("ebpf", 1, 150.0));
        assert_eq!(said(&runs), None);
        let mut alone = run("ebpf", 0, 150.0);
        alone.setting.clients = 1;
        runs.push(alone);
        let text = said(&runs).unwrap();
        assert!(text.contains("0 of 2 pairs") && text.contains("1 client,"), "{text}");
    }

    #[test]
    fn a_run_that_answers_nothing_is_a_failure() {
        let mut runs = vec![run("udp", 0, 100.0), run("ebpf", 0, 0.0)];
        let said = |runs: &[_]| fault(&Report::new(host(), runs.to_vec()), 500);
        assert!(said(&runs).unwrap().contains("ebpf answered nothing"));
        assert_eq!(said(&runs[..1]), None);
        runs[0].errors = 3;
        assert!(said(&runs).unwrap().contains("3 of 500 answers"));
    }
}
