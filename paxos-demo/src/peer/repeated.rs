//! What an old message is worth that arrives once more.
//!
//! Datagrams are doubled and overtake each other, and whoever listens on the network can send one again, with keys
//! too: its tag stays right. Most messages do no harm then, for they say what is true for ever in the view, the
//! life or the attempt that they name. Others are of their moment. A question is answered with much more than it
//! took to ask it, and a sign of life would keep alive what is dead. Those count only the first time (U9); all of
//! them are said again by whoever still means them. The table is in `paper-notes/safety.md`.

use super::PeerMessage;

impl PeerMessage {
    /// Whether it counts only if it is the sender's newest.
    pub fn is_of_its_moment(&self) -> bool {
        match self {
            Self::Suspect { .. }
            | Self::StartViewChange { .. }
            | Self::Fetching { .. }
            | Self::StartView { .. }
            | Self::AskStartView { .. }
            | Self::Recovery { .. }
            | Self::NotNormal { .. }
            | Self::NeedPrepares { .. }
            | Self::GetState { .. }
            | Self::GetSnapshot { .. } => true,
            // Without bytes it says "wait".
            Self::SnapshotChunk { total_bytes, .. } => *total_bytes == 0,
            Self::Hello { .. }
            | Self::Welcome { .. }
            | Self::Refused { .. }
            | Self::Stable { .. }
            | Self::DoViewChange { .. }
            | Self::RecoveryResponse { .. }
            | Self::NewState { .. }
            | Self::StateGone { .. } => false,
        }
    }
}
