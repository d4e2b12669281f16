//! Why a request failed.

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing was applied: every copy was turned down, or it was a read.
    #[error("the group did not take the request: {reason}; nothing was applied, try again")]
    TryAgain {
        /// What the replicas said, if they said something.
        reason: &'static str,
    },
    /// Nobody answered in time: whether it was applied is not known.
    #[error(
        "no answer within {waited_ms} ms after {sends} sends; the request may have been applied or not. Is the leader \
         up and reachable?"
    )]
    Unknown {
        /// How long it was waited for.
        waited_ms: u64,
        /// Copies sent.
        sends: u32,
    },
    /// The group forgot the session: whether the request was applied is not known.
    #[error("the group does not know this session any more; the request may have been applied or not")]
    SessionLost,
    /// The command makes no sense to the group.
    #[error("the group refused the request as malformed")]
    Refused,
}
