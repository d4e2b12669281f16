//! Kernel programs of Electrode: the generated libbpf skeleton and the ABI types, nothing else.
//!
//! `src/electrode.bpf.c` is where to start reading.

#[allow(clippy::all, missing_docs)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/electrode.skel.rs"));
}

pub use skeleton::*;
