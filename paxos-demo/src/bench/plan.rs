//! Which runs a comparison takes, and in which order.

use super::run::RunSpec;
use crate::cli::{BackendChoice, BenchArgs, Switch};
use crate::config::{Durability, OffloadChoice};
use crate::report::Setting;

/// All runs, in their order.
pub fn plan(args: &BenchArgs) -> Vec<RunSpec> {
    let settings = settings(args);
    let mut plan = Vec::new();
    for repeat in 0..usize::from(args.repeat) {
        for setting in &settings {
            let mut compared = compared(args, setting);
            // Nobody is always first on a machine that has just rested.
            if repeat % 2 == 1 {
                compared.reverse();
            }
            plan.extend(compared.into_iter().map(|(backend, offloads, setting)| RunSpec {
                backend,
                setting,
                offloads,
                hook: args.fast_path.hook,
                seconds: args.seconds,
                repeat,
                program: None,
            }));
        }
    }
    plan
}

/// Every combination of what the flags list, but for what is compared within one setting ([`compared`]).
fn settings(args: &BenchArgs) -> Vec<Setting> {
    let closed = [None];
    let open: Vec<_> = args.rate.iter().copied().map(Some).collect();
    let rates = if open.is_empty() { closed.as_slice() } else { &open };
    let mut settings = Vec::new();
    for &replicas in &args.replicas {
        for &clients in &args.clients {
            for &rate_rps in rates {
                for &batch in &args.batch {
                    for &log_slots in &args.log_slots {
                        settings.extend(args.payload_bytes.iter().map(|&payload_bytes| Setting {
                            replicas,
                            clients,
                            rate_rps,
                            payload_bytes,
                            batch,
                            durability: Durability::default(),
                            authentication: false,
                            log_slots,
                        }));
                    }
                }
            }
        }
    }
    distinct(settings)
}

/// What is compared is neighbours: backends, and each with itself under another promise.
fn compared(args: &BenchArgs, setting: &Setting) -> Vec<(BackendChoice, OffloadChoice, Setting)> {
    let mut compared = Vec::new();
    for &durability in &args.durability {
        for switch in &args.authentication {
            let setting = Setting { durability, authentication: *switch == Switch::On, ..*setting };
            let backends = args.backends.iter().flat_map(|backend| offloads(args, *backend));
            compared.extend(backends.map(|(backend, offloads)| (backend, offloads, setting)));
        }
    }
    distinct(compared)
}

/// A backend with the offloads that were asked for, and perhaps with each alone.
fn offloads(args: &BenchArgs, backend: BackendChoice) -> Vec<(BackendChoice, OffloadChoice)> {
    let none = OffloadChoice::NONE;
    let alone = [
        OffloadChoice { broadcast: true, ..none },
        OffloadChoice { fast_ack: true, ..none },
        OffloadChoice { quorum: true, ..none },
    ];
    let each = if args.each_offload && backend == BackendChoice::Ebpf { &alone[..] } else { &[] };
    each.iter().copied().chain([args.fast_path.offloads]).map(|offloads| (backend, offloads)).collect()
}

/// Who asks for the same twice gets it once: pairs are counted.
pub fn distinct<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::args;

    #[test]
    fn backends_are_interleaved_in_turning_order() {
        let plan = plan(&args("--replicas 3,5 --clients 1,16 --backends udp,ebpf --repeat 2"));
        assert_eq!(plan.len(), 2 * 2 * 2 * 2);
        for pair in plan.chunks(2) {
            assert_eq!(pair[0].setting, pair[1].setting);
            assert_eq!(pair[0].repeat, pair[1].repeat);
            assert_ne!(pair[0].backend, pair[1].backend);
        }
        assert_eq!(plan[0].backend, BackendChoice::Udp);
        assert_eq!(plan[8].backend, BackendChoice::Ebpf);
        assert_eq!(plan[8].repeat, 1);
    }

    #[test]
    fn runs_with_and_without_keys_are_neighbours() {
        let plan =
            plan(&args("--replicas 3 --clients 1,16 --backends udp,ebpf --authentication off,on --repeat 2"));
        assert_eq!(plan.len(), 2 * 2 * 2 * 2);
        for four in plan.chunks(4) {
            let with: Vec<_> = four.iter().filter(|spec| spec.setting.authentication).collect();
            assert_eq!(with.len(), 2);
            assert_ne!(with[0].backend, with[1].backend);
            assert!(four.iter().all(|spec| spec.setting.clients == four[0].setting.clients));
            assert!(four.iter().all(|spec| spec.repeat == four[0].repeat));
        }
        assert!(!plan[0].setting.authentication && plan[8].setting.authentication, "in turning order");
    }

    #[test]
    fn rates_and_single_offloads_are_runs_of_their_own() {
        let plan = plan(&args("--replicas 3 --clients 64 --rate 1000,2000 --each-offload --repeat 1"));
        let runs: Vec<_> = plan
            .iter()
            .map(|spec| (spec.setting.rate_rps, spec.backend, spec.offloads.names().len()))
            .collect();
        let (udp, ebpf) = (BackendChoice::Udp, BackendChoice::Ebpf);
        let at = |rate| [(rate, udp, 3), (rate, ebpf, 1), (rate, ebpf, 1), (rate, ebpf, 1), (rate, ebpf, 3)];
        assert_eq!(runs, [at(Some(1000)), at(Some(2000))].concat());
    }

    #[test]
    fn runs_in_memory_and_on_disk_are_neighbours() {
        let plan = plan(&args("--replicas 3 --backends udp,ebpf --durability memory,disk --repeat 1"));
        for four in plan.chunks(4) {
            assert_eq!(distinct(four.iter().map(|spec| spec.setting.clients)).len(), 1);
            let kept: Vec<_> = four.iter().map(|spec| (spec.setting.durability, spec.backend)).collect();
            let with = |durability| [(durability, BackendChoice::Udp), (durability, BackendChoice::Ebpf)];
            assert_eq!(kept, [with(Durability::Memory), with(Durability::Disk)].concat());
        }
        let one = args("--durability disk");
        assert_eq!(one.durability, [Durability::Disk], "as it was before it was a list");
    }

    #[test]
    fn sizes_of_the_log_are_settings() {
        let plan = plan(&args("--replicas 3 --clients 16 --log-slots 1024,16384 --repeat 1"));
        let slots: Vec<_> = plan.iter().map(|spec| spec.setting.log_slots).collect();
        assert_eq!(slots, [1024, 1024, 16_384, 16_384]);
    }

    /// `scripts/bench` asks for nothing that would be refused after half an hour.
    #[test]
    fn the_comparisons_of_the_script_can_be_made() {
        let script = include_str!("../../../scripts/bench");
        let listed = script.split("END").nth(1).unwrap();
        let lines: Vec<&str> = listed.lines().filter(|line| line.contains(" --")).collect();
        assert!(lines.len() > 5, "{listed}");
        for line in lines {
            let (_, options) = line.split_once(" --").unwrap();
            let args = args(&format!("--{options}"));
            assert_eq!(crate::bench::wrong_use(&args), None, "{line}");
            assert!(plan(&args).len() > 1, "{line}");
        }
    }

    #[test]
    fn nothing_runs_twice() {
        let count = |line| plan(&args(line)).len();
        assert_eq!(count("--replicas 3 --clients 4 --each-offload --offloads quorum --repeat 1"), 1 + 3);
        assert_eq!(count("--replicas 3,3 --clients 4,4 --backends udp,udp --repeat 1"), 1);
    }

    #[test]
    fn a_title_names_the_offloads_that_vary() {
        let titles: Vec<_> = plan(&args("--replicas 3 --clients 4 --each-offload --repeat 1"))
            .iter()
            .map(|spec| spec.title().split(':').next().unwrap().to_owned())
            .collect();
        assert_eq!(titles, ["udp", "ebpf (broadcast)", "ebpf (fast_ack)", "ebpf (quorum)", "ebpf"]);
    }
}
