//! libFuzzer around one target, chosen by `ELECTRODE_FUZZ_TARGET`: one build serves them all. `scripts/fuzz` builds
//! and runs it.
#![no_main]

use std::sync::LazyLock;

use electrode_fuzz::{Target, targets};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("ELECTRODE_FUZZ_TARGET").expect("ELECTRODE_FUZZ_TARGET names a target");
    targets::find(&name).unwrap_or_else(|| panic!("no target is called {name}"))
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
