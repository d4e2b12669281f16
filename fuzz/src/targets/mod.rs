//! The targets, one a file: what they read, and what must hold of it.

mod batch;
mod client_message;
mod cluster_config;
mod frame;
mod peer_message;
mod resp;
mod snapshot;
mod wal;
mod wire;

/// A parser under test.
pub struct Target {
    /// Names corpus and regressions.
    pub name: &'static str,
    /// Judges one input.
    ///
    /// # Panics
    /// If a property does not hold.
    pub run: fn(&[u8]),
    /// Inputs made of real encodings, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What mutations put in.
    pub words: &'static [&'static [u8]],
    /// Longest input that is worth making.
    pub bytes_max: usize,
    /// Executions in `scripts/test`, in thousands.
    pub thousands: u64,
}

/// All of them; those that take longest come first, so that all are done at about the same time.
pub const ALL: [Target; 9] = [
    resp::TARGET,
    cluster_config::TARGET,
    wal::TARGET,
    batch::TARGET,
    frame::TARGET,
    snapshot::TARGET,
    peer_message::TARGET,
    client_message::TARGET,
    wire::TARGET,
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    static TARGETS: [Target; 9] = ALL;
    TARGETS.iter().find(|target| target.name == name)
}
