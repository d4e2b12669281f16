//! Which tests can run here. Tests of `bench` use this file, too.

use std::io::Write;

/// Whether virtual hosts can be made: use as `if !privileged("name") { return; }`. A skip is shown; under
/// `ELECTRODE_REQUIRE_EBPF=1` it is a failure.
pub fn privileged(test: &str) -> bool {
    let Err(reason) = electrode::fabric::available() else { return true };
    assert!(
        std::env::var_os("ELECTRODE_REQUIRE_EBPF").is_none_or(|value| value != "1"),
        "{test} must not be skipped: {reason}"
    );
    // Not `eprintln`: the harness captures that, and a skip that nobody sees is a defect.
    writeln!(std::io::stderr(), "SKIPPED {test}: {reason}").expect("standard error is open");
    false
}
