//! The same seed with the model's programs and with the bytecode: whatever differs is a bug of one of them.

use super::check::Violation;
use super::run::{Outcome, Setting, run_once};
use super::whole::Programs;

/// Runs a seed both ways. The outcome is the bytecode's; a difference is a violation unless a rule was broken in
/// both.
pub(super) fn compare(seed: u64, setting: &Setting) -> Outcome {
    let run = |programs, trace| run_once(seed, &Setting { programs, trace, ..*setting });
    let (model, mut bytecode) = (run(Programs::Whole, setting.trace), run(Programs::Bytecode, setting.trace));
    if is_same(&model, &bytecode) {
        return bytecode;
    }
    let lines = if setting.trace {
        (model.lines, bytecode.lines.clone())
    } else {
        (run(Programs::Whole, true).lines, run(Programs::Bytecode, true).lines)
    };
    let what = first_difference(&lines.0, &lines.1);
    bytecode.violation = Some(Violation::new("differs", 0, what));
    bytecode
}

/// The trace has all events, frames, verdicts, counters and memory; the rest is what it comes to.
fn is_same(one: &Outcome, other: &Outcome) -> bool {
    let key = |of: &Outcome| (of.trace_hash, of.events, of.ops, of.answers, of.virtual_ns, of.coverage);
    key(one) == key(other) && one.verdicts == other.verdicts && one.violation == other.violation
}

/// The first line in which two traces differ.
fn first_difference(model: &[String], bytecode: &[String]) -> String {
    let same = model.iter().zip(bytecode).take_while(|(one, other)| one == other).count();
    let line = |lines: &[String]| lines.get(same).cloned().unwrap_or_else(|| "nothing more".into());
    format!("line {}:\n     model: {}\n  bytecode: {}", same + 1, line(model), line(bytecode))
}
