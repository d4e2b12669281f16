//! What a test run takes and gives at each hook.

use super::TestRunError;
use crate::model::Action;

/// Where the program would be attached.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum TestHook {
    /// TC ingress.
    Tc,
    /// XDP in the driver.
    Xdp,
}

impl TestHook {
    /// Name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Tc => "elec_rx_tc",
            Self::Xdp => "elec_rx_xdp",
        }
    }

    /// Name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tc => "bytecode at TC ingress",
            Self::Xdp => "bytecode at XDP",
        }
    }

    /// TEST_RUN takes no frame without a packet behind its Ethernet header, at TC none that is too short for
    /// the IP header that it announces.
    pub fn takes(self, frame: &[u8]) -> bool {
        let least = match (self, frame.get(12..14)) {
            (Self::Tc, Some([0x08, 0x00])) => 34,
            (Self::Tc, Some([0x86, 0xdd])) => 54,
            _ => 15,
        };
        frame.len() >= least
    }

    /// What became of `frame`, by the program's code and what it `left`; a passed frame is what it was (C7).
    pub fn action(self, code: u32, frame: &[u8], left: &[u8]) -> Result<Action, TestRunError> {
        // TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT; XDP_PASS, XDP_DROP, XDP_TX.
        let [pass, drop, reply] = if self == Self::Tc { [u32::MAX, 2, 7] } else { [2, 1, 3] };
        match code {
            code if code == pass && left == frame => Ok(Action::Pass),
            code if code == pass => Err(TestRunError::Changed),
            code if code == drop => Ok(Action::Drop),
            code if code == reply => Ok(Action::Reply(left.to_vec())),
            other => Err(TestRunError::Code(other)),
        }
    }
}
