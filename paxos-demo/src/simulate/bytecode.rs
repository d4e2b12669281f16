//! The bytecode of one machine's life, and what it comes to when a run of it fails.

use electrode::Result;
use electrode::config::EndpointConfig;
use electrode::simulation::FastPath;

use super::check::Violation;
#[cfg(feature = "ebpf")]
use super::wire::MAC;

#[cfg(not(feature = "ebpf"))]
pub(super) use self::none::{Object, TestRunError};
#[cfg(feature = "ebpf")]
pub(super) use electrode::simulation::{Bytecode as Object, TestRunError};

/// Loads the programs of a new life. Every member has a hook of its own for a whole seed, which is drawn apart from
/// all else: the same happens without bytecode.
#[cfg(feature = "ebpf")]
pub(super) fn load(seed: u64, config: &EndpointConfig, now: u64) -> Result<(Object, Box<dyn FastPath>)> {
    use electrode::simulation::TestHook;
    let mut rng = fastrand::Rng::with_seed(seed.rotate_left(17) ^ u64::from(config.me.0));
    let hook = if rng.bool() { TestHook::Tc } else { TestHook::Xdp };
    Object::load(config, hook, MAC, now)
}

#[cfg(not(feature = "ebpf"))]
pub(super) fn load(_: u64, _: &EndpointConfig, _: u64) -> Result<(Object, Box<dyn FastPath>)> {
    Err(electrode::simulation::kernel_programs().expect_err("this build has none"))
}

/// C7 is the programs' to keep; anything else that fails leaves nothing to judge.
pub(super) fn failed(node: usize, error: &TestRunError) -> Violation {
    #[cfg(feature = "ebpf")]
    let checker = if matches!(error, TestRunError::Changed) { "C7" } else { "bytecode" };
    #[cfg(not(feature = "ebpf"))]
    let checker = "bytecode";
    Violation::new(checker, node, error.to_string())
}

/// A build without kernel programs has no object.
#[cfg(not(feature = "ebpf"))]
mod none {
    use electrode::model::{Kernel, Outcome};
    use electrode::types::{OpNumber, View};

    pub(in super::super) enum Object {}
    pub(in super::super) type TestRunError = std::convert::Infallible;

    impl Object {
        pub fn run(&mut self, _: &mut Kernel, _: &[u8], _: u64) -> Result<Outcome, TestRunError> {
            match *self {}
        }

        pub fn fetch(&self, _: &mut Kernel) {
            match *self {}
        }

        pub fn meet_carrier(&self) {
            match *self {}
        }

        pub fn miss(&self, _: OpNumber, _: View, _: usize) {
            match *self {}
        }
    }
}
