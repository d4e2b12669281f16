//! Native XDP on virtual hosts: what a member's veth sends from XDP arrives only if the bridge's end of the
//! cable runs an XDP program too.

use std::fmt;

use electrode::fabric::Fabric;

use crate::cli::HookChoice;

/// The programs at the bridge's ports; dropping it takes them off.
#[derive(Default)]
pub struct XdpPorts {
    #[cfg(feature = "ebpf")]
    _stubs: Vec<electrode::PassStub>,
}

impl fmt::Debug for XdpPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdpPorts").finish_non_exhaustive()
    }
}

impl XdpPorts {
    /// Puts a program that passes everything on the ports of the first `members` hosts, if the hook asks for it.
    #[cfg(feature = "ebpf")]
    pub fn prepare(fabric: &Fabric, members: usize, hook: HookChoice) -> Result<Self, String> {
        if hook != HookChoice::Xdp {
            return Ok(Self::default());
        }
        let attach = || (0..members).map(|i| electrode::attach_pass_stub(&fabric.port_name(i))).collect();
        let stubs: electrode::Result<Vec<_>> = fabric.switch().run(attach).map_err(|e| e.to_string())?;
        stubs.map(|stubs| Self { _stubs: stubs }).map_err(|e| e.to_string())
    }

    /// Without kernel programs no hook is used.
    #[cfg(not(feature = "ebpf"))]
    pub fn prepare(_: &Fabric, _: usize, _: HookChoice) -> Result<Self, String> {
        Ok(Self::default())
    }
}
