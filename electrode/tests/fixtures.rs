//! Packet fixtures as data: `fixtures/*.toml`, each a packet, the state that it meets and what must come of
//! it. The format is described in `fixtures/format.rs`.
//!
//! Every fixture runs on every [`Target`]: the model here, and whatever else claims to do the same.

#[cfg(feature = "ebpf")]
#[path = "fixtures/bytecode.rs"]
mod bytecode;
#[path = "fixtures/check.rs"]
mod check;
#[cfg(feature = "ebpf")]
mod common;
#[path = "fixtures/format.rs"]
mod format;
#[path = "fixtures/mutation.rs"]
mod mutation;
#[path = "fixtures/packet.rs"]
mod packet;
#[path = "fixtures/trace/mod.rs"]
mod trace;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use electrode::abi::Verdict;
use electrode::model::{Kernel, Outcome};
use electrode::types::ReplicaId;
use format::{Case, File};

/// Fewer say that some were lost; `there_are_enough_and_no_two_alike` says what is counted.
const FIXTURES_MIN: usize = 400;

/// Something that judges frames as `electrode::model` does.
pub trait Target {
    /// Name for messages.
    fn name(&self) -> &'static str;

    /// Whether the target can be brought into this state and be given this frame at all.
    fn supports(&self, before: &Kernel, frame: &[u8]) -> bool;

    /// Puts `kernel` into the target's memory, runs `frame`, and reads the memory back. A frame that is
    /// passed must come back byte-identical (C7), or this fails.
    fn run(&mut self, kernel: &mut Kernel, frame: &[u8]) -> Result<Outcome, String>;
}

struct Model;

impl Target for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn supports(&self, _before: &Kernel, _frame: &[u8]) -> bool {
        true
    }

    fn run(&mut self, kernel: &mut Kernel, frame: &[u8]) -> Result<Outcome, String> {
        Ok(kernel.process(frame))
    }
}

/// All fixtures, over each IP version that they ask for.
fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut cases = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "toml")) {
        let text = std::fs::read_to_string(path).unwrap();
        let file: File = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        cases.extend(file.fixture.into_iter().flat_map(|fixture| fixture.cases(&stem)));
    }
    cases
}

/// Runs every fixture that `target` supports; returns how many it does not.
fn run_all(target: &mut dyn Target) -> usize {
    let (mut failures, mut skipped) = (Vec::new(), 0);
    for case in cases() {
        let (before, frame) = (case.kernel(), case.frame());
        if !target.supports(&before, &frame) {
            skipped += 1;
            continue;
        }
        let mut after = before.clone();
        let result = target
            .run(&mut after, &frame)
            .and_then(|outcome| check::check(&case, &frame, &before, &after, &outcome));
        if let Err(problem) = result {
            failures.push(format!("{}: {problem}", case.name()));
        }
    }
    assert!(failures.is_empty(), "{}:\n{}", target.name(), failures.join("\n"));
    skipped
}

#[test]
fn model_agrees_with_every_fixture() {
    assert_eq!(run_all(&mut Model), 0);
}

/// The kernel programs against the same packets, and against the model on mutations of them.
#[cfg(feature = "ebpf")]
mod kernel_programs {
    use super::bytecode::{Bytecode, Hook};
    use super::*;

    /// Packets a hook.
    const MUTATIONS: u64 = 20_000;

    #[test]
    fn agree_with_every_fixture() {
        if !common::privileged("fixtures on the kernel programs") {
            return;
        }
        // Over both IP versions: three frames that end within or behind their Ethernet header, three acks that
        // fail; at TC the five frames that are cut inside their IP header as well.
        assert_eq!(run_all(&mut Bytecode::new(Hook::Tc)), 17);
        assert_eq!(run_all(&mut Bytecode::new(Hook::Xdp)), 12);
    }

    #[test]
    fn agree_with_the_model_on_mutations() {
        if !common::privileged("mutations on the kernel programs") {
            return;
        }
        let cases = cases();
        for hook in [Hook::Tc, Hook::Xdp] {
            let mut target = Bytecode::new(hook);
            let verdicts = mutation::compare(&cases, &mut Model, &mut target, 0..MUTATIONS);
            // Mutations reach nearly everything; if they stop doing so, this says nothing any more.
            assert!(verdicts.len() >= 25, "only {verdicts:?} in {MUTATIONS} packets");
        }
    }
}

/// One table in a file is one fixture: a packet, the state that it meets, the verdict that must follow. Most run
/// over both IP versions; that does not count twice.
#[test]
fn there_are_enough_and_no_two_alike() {
    let (cases, mut titles, mut seen) = (cases(), BTreeSet::new(), HashMap::new());
    for case in &cases {
        let name = case.name();
        let (title, version) = name.rsplit_once('/').unwrap();
        titles.insert((title.to_owned(), version.to_owned()));
        if let Some(other) = seen.insert((case.kernel(), case.frame()), name.clone()) {
            panic!("{name} is the same packet in the same state as {other}");
        }
    }
    assert_eq!(titles.len(), cases.len(), "two fixtures of a file have one name");
    let tables: BTreeSet<_> = titles.iter().map(|(title, _)| title).collect();
    assert!(tables.len() >= FIXTURES_MIN, "only {} fixtures", tables.len());
}

/// F11: each way through ingress has a packet, over IPv4 and IPv6; those that all kinds share, at a follower and
/// at a leader.
#[test]
fn every_ingress_verdict_has_a_packet() {
    use Verdict::*;
    // Two programs at once, or user space between two steps of one: `electrode::model`'s explorer has them.
    let interleavings = [PassRaced, PassContended];
    // No helper fails on demand under TEST_RUN: fixtures of the model alone.
    let model_only = [DropAckFailed];
    let at_both = [
        PassForeign,
        PassFraming,
        PassMalformed,
        PassConfig,
        PassHardwareAddress,
        PassMessage,
        PassOffloadOff,
        PassFrozen,
        PassLease,
        PassViewNew,
        DropChecksum,
        DropViewOld,
        DropSource,
    ];
    let mut seen = BTreeMap::new();
    for case in cases() {
        let (kernel, frame) = (case.kernel(), case.frame());
        let leads = kernel.params.me == ReplicaId(0);
        let row = seen.entry((case.expect_verdict(), case.ipv6)).or_insert([false; 4]);
        row[usize::from(leads)] = true;
        #[cfg(feature = "ebpf")]
        for (hook, at) in [(bytecode::Hook::Tc, 2), (bytecode::Hook::Xdp, 3)] {
            row[at] |= bytecode::Bytecode::new(hook).supports(&kernel, &frame);
        }
        #[cfg(not(feature = "ebpf"))]
        let _ = frame;
    }
    let ingress = Verdict::ALL.iter().take_while(|verdict| **verdict != Carrier);
    for verdict in ingress.chain([&PassHardwareAddress]) {
        if interleavings.contains(verdict) {
            continue;
        }
        for ipv6 in [false, true] {
            let story = format!("{}, ipv6 {ipv6}", verdict.name());
            let [follows, leads, tc, xdp] = *seen.get(&(*verdict, ipv6)).expect(&story);
            assert!(follows && leads || !at_both.contains(verdict), "{story}: not at both roles");
            if cfg!(feature = "ebpf") {
                let on_programs = !model_only.contains(verdict);
                assert_eq!((tc, xdp), (on_programs, on_programs), "{story}: on the programs");
            }
        }
    }
}

/// The runner can fail: a target that is wrong in one way is told apart by some fixture.
mod a_wrong_target_is_noticed {
    use super::*;
    use electrode::model::{Action, Plants};

    /// The model with one thing broken.
    struct Broken<F: Fn(&mut Kernel, &[u8]) -> Outcome>(F);

    impl<F: Fn(&mut Kernel, &[u8]) -> Outcome> Target for Broken<F> {
        fn name(&self) -> &'static str {
            "broken"
        }

        fn supports(&self, _before: &Kernel, _frame: &[u8]) -> bool {
            true
        }

        fn run(&mut self, kernel: &mut Kernel, frame: &[u8]) -> Result<Outcome, String> {
            Ok((self.0)(kernel, frame))
        }
    }

    fn with(plants: Plants) -> impl Fn(&mut Kernel, &[u8]) -> Outcome {
        move |kernel, frame| {
            kernel.plants = plants;
            let outcome = kernel.process(frame);
            kernel.plants = Plants::default();
            outcome
        }
    }

    fn reply_with(change: fn(&mut Vec<u8>)) -> impl Fn(&mut Kernel, &[u8]) -> Outcome {
        move |kernel, frame| {
            let mut outcome = kernel.process(frame);
            if let Action::Reply(reply) = &mut outcome.action {
                change(reply);
            }
            outcome
        }
    }

    #[test]
    #[should_panic = "drop_source"]
    fn that_checks_no_source() {
        run_all(&mut Broken(with(Plants { source_unchecked: true, ..Plants::default() })));
    }

    #[test]
    #[should_panic = "pass_log_full"]
    fn that_reuses_any_slot() {
        run_all(&mut Broken(with(Plants { reuse_unreleased: true, ..Plants::default() })));
    }

    #[test]
    #[should_panic = "drop_not_durable"]
    fn that_acks_before_the_fsync() {
        run_all(&mut Broken(with(Plants { durable_ignored: true, ..Plants::default() })));
    }

    #[test]
    #[should_panic = "hop limit"]
    fn that_forgets_the_hop_limit() {
        run_all(&mut Broken(reply_with(|reply| {
            let at = if reply[12] == 8 { 22 } else { 21 };
            reply[at] = 3;
        })));
    }

    #[test]
    #[should_panic = "IPv4 header checksum"]
    fn that_leaves_the_ip_checksum() {
        run_all(&mut Broken(reply_with(|reply| {
            if reply[12] == 8 {
                reply[24] ^= 1;
            }
        })));
    }

    #[test]
    #[should_panic = "UDP checksum"]
    fn that_leaves_the_udp_checksum() {
        run_all(&mut Broken(reply_with(|reply| *reply.last_mut().unwrap() ^= 1)));
    }

    #[test]
    #[should_panic = "counter"]
    fn that_does_not_count() {
        run_all(&mut Broken(|kernel, frame| {
            let outcome = kernel.process(frame);
            kernel.counters[outcome.verdict as usize] = 0;
            outcome
        }));
    }

    #[test]
    #[should_panic = "memory"]
    fn that_touches_what_it_should_not() {
        run_all(&mut Broken(|kernel, frame| {
            let outcome = kernel.process(frame);
            if outcome.verdict == Verdict::PassViewNew {
                kernel.config.view += 1;
            }
            outcome
        }));
    }

    #[test]
    #[should_panic = "differ"]
    fn by_mutations_as_well() {
        let plants = Plants { reuse_unreleased: true, ..Plants::default() };
        mutation::compare(&cases(), &mut Model, &mut Broken(with(plants)), 0..20_000);
    }
}
