//! Kernel programs of Electrode: the generated libbpf skeletons and the ABI types, nothing else.
//!
//! `src/electrode.bpf.c` is where to start reading. `src/faults.bpf.c` belongs to the tests' virtual network.

#[allow(clippy::all, missing_docs)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/electrode.skel.rs"));
}

/// Faults on the cables of a test fabric.
#[allow(clippy::all, missing_docs)]
pub mod faults {
    include!(concat!(env!("OUT_DIR"), "/faults.skel.rs"));
}

pub use skeleton::*;
