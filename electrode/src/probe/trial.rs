//! Whether the kernel takes a program from this process at all. Capabilities do not tell: those of a user
//! namespace do not count, and containers filter the system call.

use std::fmt;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use serde::Serialize;

/// What came of loading `return 0` as a TC program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// It was taken.
    pub loads: bool,
    /// Why not.
    pub error: Option<String>,
    /// Number of that error.
    pub errno: Option<i32>,
}

impl Trial {
    pub(super) fn from_result(result: io::Result<()>) -> Self {
        match result {
            Ok(()) => Self { loads: true, error: None, errno: None },
            Err(e) => Self { loads: false, error: Some(e.to_string()), errno: e.raw_os_error() },
        }
    }

    /// What an error means here.
    pub(super) fn meaning(&self) -> &'static str {
        match self.errno {
            Some(libc::EPERM | libc::EACCES) => {
                "capabilities are missing, or do not count: those of a user namespace do not, and containers \
                 may filter bpf(); run as root on the host, or in a privileged container"
            }
            Some(libc::ENOSYS) => "this kernel is built without bpf(): use one with CONFIG_BPF_SYSCALL",
            Some(libc::EINVAL) => "this kernel is built without TC programs: use one with CONFIG_NET_CLS_BPF",
            Some(libc::ENOMEM) => "memory, or the memory limit of this control group, is used up",
            _ => "`dmesg` may tell more",
        }
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            None => f.write_str("loads"),
            Some(error) => write!(f, "is refused: {error}: {}", self.meaning()),
        }
    }
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

#[repr(C)]
struct Instruction {
    opcode: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The head of `union bpf_attr` for BPF_PROG_LOAD: the kernel takes the rest to be zero.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Loads `r0 = 0; exit` and lets it go. Straight through the system call, so that a build without libbpf
/// can tell as well.
pub(super) fn load() -> Trial {
    let program = [
        Instruction { opcode: 0xb7, registers: 0, offset: 0, immediate: 0 },
        Instruction { opcode: 0x95, registers: 0, offset: 0, immediate: 0 },
    ];
    let mut name = [0; 16];
    name[..10].copy_from_slice(b"elec_trial");
    let attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_SCHED_CLS,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Dual BSD/GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name,
    };
    // SAFETY: the attributes point to instructions and a string that outlive the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, size_of::<LoadAttributes>())
    };
    if fd < 0 {
        return Trial::from_result(Err(io::Error::last_os_error()));
    }
    // SAFETY: a descriptor that was just made and that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Trial::from_result(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_try() {
        let refused = |errno| Trial::from_result(Err(io::Error::from_raw_os_error(errno))).to_string();
        assert!(refused(libc::EPERM).contains("run as root"), "{}", refused(libc::EPERM));
        assert!(refused(libc::ENOSYS).contains("CONFIG_BPF_SYSCALL"));
        assert_eq!(Trial::from_result(Ok(())).to_string(), "loads");
    }

    #[test]
    fn the_attributes_have_the_layout_of_the_kernel() {
        assert_eq!(size_of::<LoadAttributes>(), 64);
        assert_eq!(std::mem::offset_of!(LoadAttributes, name), 48);
        assert_eq!(size_of::<Instruction>(), 8);
    }

    /// Whoever may load programs can load this one: any error but a refusal is our mistake.
    #[test]
    fn the_program_itself_is_sound() {
        let trial = load();
        assert!(
            trial.loads || matches!(trial.errno, Some(libc::EPERM | libc::EACCES | libc::ENOSYS)),
            "{trial}"
        );
    }
}
