//! Numbers that no correct member sends.
//!
//! A member's word is believed, but not every number: a view or an op near the end of its range would be
//! promised and stored, and leave no way on.

use super::{PeerMessage, ViewStart};
use electrode::types::{OpNumber, View};

/// More views than a group goes through in a very long life.
const VIEWS_AHEAD_MAX: u64 = 1 << 32;
/// The gate word has 48 bits for an op.
const OP_MAX: u64 = (1 << 48) - 1;

impl PeerMessage {
    /// Whether a correct member can have sent this to a replica in view `own`.
    pub fn is_plausible(&self, own: View) -> bool {
        let views = |view: &View| view.0 <= own.0.saturating_add(VIEWS_AHEAD_MAX);
        let ops = |op: &OpNumber| op.0 <= OP_MAX;
        let starts = |start: &ViewStart| {
            views(&start.origin) && ops(&start.length) && ops(&start.last_op) && ops(&start.commit)
        };
        match self {
            Self::Hello { .. } | Self::Welcome { .. } | Self::Refused { .. } | Self::NotNormal { .. } => true,
            Self::Suspect { view }
            | Self::StartViewChange { view }
            | Self::Fetching { view }
            | Self::AskStartView { view }
            | Self::Recovery { view, .. } => views(view),
            Self::NeedPrepares { view, have: one, upto: other }
            | Self::GetState { view, after: one, upto: other } => views(view) && ops(one) && ops(other),
            Self::Stable { view, op } | Self::StateGone { view, oldest: op } => views(view) && ops(op),
            Self::DoViewChange { view, vote } => {
                views(view) && views(&vote.last_normal_view) && ops(&vote.last_op) && ops(&vote.commit)
            }
            Self::StartView { view, start } => views(view) && starts(start),
            Self::RecoveryResponse { view, start, .. } => views(view) && start.as_ref().is_none_or(starts),
            Self::NewState { view, ordered_in, first, last, .. } => {
                views(view) && views(ordered_in) && first <= last && ops(last)
            }
            Self::GetSnapshot { op, .. } => ops(op),
            Self::SnapshotChunk { view, op, .. } => views(view) && ops(op),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Vote;
    use bytes::Bytes;

    #[test]
    fn numbers_near_their_end_are_not_believed() {
        let with = |view: u64, op: u64| {
            let (view, op, payload) = (View(view), OpNumber(op), Bytes::new());
            let start = ViewStart { origin: view, length: op, last_op: op, commit: op };
            [
                PeerMessage::NeedPrepares { view, have: op, upto: op },
                PeerMessage::Stable { view, op },
                PeerMessage::DoViewChange {
                    view,
                    vote: Vote { last_normal_view: view, last_op: op, commit: op },
                },
                PeerMessage::StartView { view, start },
                PeerMessage::RecoveryResponse { nonce: 1, view, start: Some(start) },
                PeerMessage::GetState { view, after: op, upto: op },
                PeerMessage::NewState { view, ordered_in: view, first: op, last: op, payload },
                PeerMessage::StateGone { view, oldest: op },
                PeerMessage::SnapshotChunk {
                    view,
                    op,
                    total_bytes: 1,
                    offset: 0,
                    bytes: Bytes::from_static(b"x"),
                },
            ]
        };
        let of_view = |view: u64| {
            let view = View(view);
            [
                PeerMessage::Suspect { view },
                PeerMessage::StartViewChange { view },
                PeerMessage::Fetching { view },
                PeerMessage::AskStartView { view },
                PeerMessage::Recovery { nonce: 1, view },
            ]
        };
        let own = View(5);
        let all = |view: u64, op: u64| with(view, op).into_iter().chain(of_view(view));
        assert!(all(5, 1).all(|message| message.is_plausible(own)));
        assert!(all(5 + (1 << 32), OP_MAX).all(|message| message.is_plausible(own)));
        assert!(!all(6 + (1 << 32), 1).any(|message| message.is_plausible(own)));
        assert!(!all(u64::MAX, 1).any(|message| message.is_plausible(own)));
        for op in [OP_MAX + 1, u64::MAX] {
            assert!(!with(5, op).iter().any(|message| message.is_plausible(own)));
            assert!(!PeerMessage::GetSnapshot { op: OpNumber(op), offset: 0 }.is_plausible(own));
        }
    }
}
