//! The ingress program through BPF_PROG_TEST_RUN: no interface, no packets but those handed in, the clock too.
//!
//! What a test run cannot give: the program is never stopped half way, a packet never comes with a checksum that
//! the device left undone, several segments or an out-of-band VLAN tag, and egress, which asks for the socket of
//! a packet, does not run.

mod hook;
mod view;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

pub use self::hook::TestHook;
use self::view::View;
use super::object::Object;
use super::{Ebpf, params};
use crate::abi::Verdict;
use crate::backend::FastPath;
use crate::config::EndpointConfig;
use crate::error::Result;
use crate::model::frame::Mac;
use crate::model::{Action, Kernel, Outcome};
use crate::types::{OpNumber, View as ViewNumber};

/// Larger than any frame that a test run is given, replies included.
const FRAME_BYTES_MAX: usize = 4096;

/// Why a program did not do what it may.
#[derive(Debug, thiserror::Error)]
pub enum TestRunError {
    /// The frame did not get to the program.
    #[error("BPF_PROG_TEST_RUN: {0}")]
    Refused(#[from] io::Error),
    /// C7.
    #[error("a frame that was passed was changed")]
    Changed,
    /// No way to leave the hook.
    #[error("the program returned {0}")]
    Code(u32),
    /// F11: there is one counter for each way through.
    #[error("counters raised: {0:?}")]
    Counters(Vec<Verdict>),
}

/// The loaded ingress program of one endpoint and its memory. Both last as long as this or the fast path that was
/// made with it.
pub struct Bytecode {
    hook: TestHook,
    program: OwnedFd,
    view: View,
    left: Vec<u8>,
}

impl Bytecode {
    /// Loads the program of one hook with an endpoint's constants, as opening the endpoint would, but for the
    /// clock, which is [`Bytecode::run`]'s, and the hooks. The fast path is the one that ships; its carriers reach
    /// all peers. Frames for it are addressed to `mac`.
    pub fn load(
        config: &EndpointConfig,
        hook: TestHook,
        mac: Mac,
        now_ns: u64,
    ) -> Result<(Self, Box<dyn FastPath>)> {
        let payload_bytes_max = config.payload_bytes_max.unwrap_or(config.payload_room(1500));
        let mut params = params(config, 0, 0, payload_bytes_max, false);
        params.virtual_clock = 1;
        let (program, maps) = Object::load_ingress(&params, hook.program())?;
        let view = View::new(&maps)?;
        view.resolve_all();
        view.set_own_mac(mac);
        let path = Ebpf::with_maps(config, maps, false, now_ns)?;
        Ok((Self { hook, program, view, left: vec![0; FRAME_BYTES_MAX] }, Box::new(path)))
    }

    /// Runs the program over a frame at a time; `kernel` becomes what it left in memory.
    pub fn run(
        &mut self,
        kernel: &mut Kernel,
        frame: &[u8],
        now_ns: u64,
    ) -> std::result::Result<Outcome, TestRunError> {
        self.view.set_now(now_ns);
        let (code, bytes) = test_run(&self.program, frame, &mut self.left)?;
        let action = self.hook.action(code, frame, &self.left[..bytes])?;
        let before = kernel.counters;
        self.view.fetch_counters(kernel)?;
        self.view.fetch(kernel);
        outcome(kernel, &before, action)
    }

    /// `kernel` becomes what is in memory, counters excepted, which only the programs change.
    pub fn fetch(&self, kernel: &mut Kernel) {
        self.view.fetch(kernel);
    }

    /// What the egress program does when it meets a carrier.
    pub fn meet_carrier(&self) {
        self.view.meet_carrier();
    }

    /// L7: what the egress program does when the copy of the Prepare of `op` for `peer` does not leave.
    pub fn miss(&self, op: OpNumber, view: ViewNumber, peer: usize) {
        self.view.miss(op, view, peer);
    }
}

/// One run; the program's code and how many bytes of the frame it left in `out`.
fn test_run(program: &OwnedFd, frame: &[u8], out: &mut [u8]) -> io::Result<(u32, usize)> {
    let mut opts = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_out: out.as_mut_ptr().cast(),
        data_size_in: frame.len() as u32,
        data_size_out: out.len() as u32,
        ..Default::default()
    };
    // SAFETY: options of the size that they state, with two buffers that are as long as they say.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok((opts.retval, opts.data_size_out as usize))
}

/// The verdict is the one counter that was raised beside the doorbell's.
pub fn outcome(
    kernel: &Kernel,
    before: &[u64; Verdict::ALL.len()],
    action: Action,
) -> std::result::Result<Outcome, TestRunError> {
    let raised = |verdict: &Verdict| kernel.counter(*verdict) - before[*verdict as usize];
    let counted = Verdict::ALL.iter().filter(|verdict| **verdict != Verdict::Rang && raised(verdict) != 0);
    match counted.copied().collect::<Vec<_>>()[..] {
        [verdict] if raised(&verdict) == 1 => {
            Ok(Outcome { verdict, action, rang: raised(&Verdict::Rang) != 0 })
        }
        ref verdicts => Err(TestRunError::Counters(verdicts.to_vec())),
    }
}
