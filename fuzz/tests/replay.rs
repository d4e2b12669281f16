//! The kept corpus on every target, without any fuzzer: what `cargo test` runs.

use electrode_fuzz::{ALL, Target, corpus};

fn replay(target: &Target) {
    let kept = corpus::read(target.name).unwrap();
    assert!(kept.len() >= 10, "{}: a corpus of {}", target.name, kept.len());
    for (line, input) in kept.iter().enumerate() {
        run(target, input, &format!("line {} of the corpus", line + 1));
    }
    for (path, input) in corpus::files(&corpus::regressions(target.name)).unwrap() {
        run(target, &input, &path.display().to_string());
    }
    for (number, input) in (target.seeds)().iter().enumerate() {
        run(target, input, &format!("seed {number}"));
    }
}

fn run(target: &Target, input: &[u8], what: &str) {
    if let Err(panic) = std::panic::catch_unwind(|| (target.run)(input)) {
        eprintln!("{}: {what}: {}", target.name, input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

macro_rules! replay {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            replay(electrode_fuzz::targets::find(stringify!($name)).unwrap());
        })*

        #[test]
        fn no_target_is_left_out() {
            assert_eq!([$(stringify!($name)),*], ALL.map(|target| target.name));
        }
    };
}

replay!(resp, cluster_config, wal, batch, frame, snapshot, peer_message, client_message, wire);

/// A file that belongs to no target is replayed by nobody.
#[test]
fn every_file_has_its_target() {
    let home = corpus::home();
    for (dir, suffix) in [("corpus", ".txt"), ("regressions", "")] {
        for entry in std::fs::read_dir(home.join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let target = name.strip_suffix(suffix).unwrap_or_else(|| panic!("{dir}/{name}"));
            assert!(electrode_fuzz::targets::find(target).is_some() || name == "README.md", "{dir}/{name}");
        }
    }
}
