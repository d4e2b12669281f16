//! Compiles the programs and generates their skeletons into `OUT_DIR`.

use std::{env, path::PathBuf};

use libbpf_cargo::SkeletonBuilder;

/// Source of each object, and its skeleton.
const OBJECTS: [(&str, &str); 2] =
    [("src/electrode.bpf.c", "electrode.skel.rs"), ("src/faults.bpf.c", "faults.skel.rs")];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Debian keeps <asm/types.h> in the multiarch folder, which the bpf target does not search.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let multiarch = format!("/usr/include/{arch}-linux-gnu");
    for (source, skeleton) in OBJECTS {
        let result = SkeletonBuilder::new()
            .source(source)
            // v3: compare-and-swap and 32-bit ALU.
            .clang_args(["-mcpu=v3", "-Wall", "-Werror", "-Wno-unused-function", "-idirafter", &multiarch])
            .build_and_generate(out.join(skeleton));
        if let Err(error) = result {
            panic!(
                "cannot compile {source}: {error:?}\n\
                 The kernel programs need clang (apt-get install clang libelf-dev zlib1g-dev pkg-config make).\n\
                 Without them build with --no-default-features: kernel UDP only."
            );
        }
    }
    println!("cargo:rerun-if-changed=src");
}
