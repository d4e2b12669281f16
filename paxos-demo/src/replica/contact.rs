//! Whether a leader still hears a quorum.
//!
//! Its heartbeats may arrive everywhere while nothing comes back: then nobody suspects it, and the clients are
//! sent to one who does not hear them. Acks tell as long as there are ops; an idle leader asks. The question is a
//! Hello, which whoever knows it answers with a Welcome: no op, nothing in the log.

use super::{NEVER, ReplicaConfig};
use crate::peer::PeerMessage;
use electrode::types::ReplicaId;

/// When the others were heard last, at a leader.
#[derive(Debug)]
pub(super) struct Contact {
    heard: Vec<u64>,
    ask_at: u64,
    /// Since when it asks in vain. A process that was stopped for long asks before it believes to be alone.
    asks_since: u64,
}

impl Contact {
    /// A view begins: those who voted for it were heard just now, for the others there is as much time.
    pub fn new(now: u64, config: &ReplicaConfig) -> Self {
        Self { heard: vec![now; config.members], ask_at: now + config.step_down_ns / 2, asks_since: NEVER }
    }

    /// Anything that a member sent in its current life, and had not sent before.
    pub fn hear(&mut self, now: u64, from: ReplicaId) {
        if let Some(at) = self.heard.get_mut(from.index()) {
            *at = now;
        }
    }

    /// When a member said something last that it had not said before.
    pub fn heard_at(&self, from: ReplicaId) -> u64 {
        self.heard.get(from.index()).copied().unwrap_or_default()
    }

    /// When a quorum was heard last, the leader itself among it.
    fn quorum_heard_at(&self, config: &ReplicaConfig) -> u64 {
        let mut others: Vec<u64> = self.heard.clone();
        others.remove(config.me.index());
        others.sort_unstable_by(|a, b| b.cmp(a));
        others.get(config.quorum().wrapping_sub(2)).copied().unwrap_or(NEVER)
    }

    pub fn deadline(&self) -> u64 {
        self.ask_at
    }

    /// What is to be asked now, and whether it is too long that a quorum was heard.
    pub fn tick(&mut self, now: u64, config: &ReplicaConfig) -> (Option<PeerMessage>, bool) {
        if now < self.ask_at {
            return (None, false);
        }
        let enough_until = self.quorum_heard_at(config).saturating_add(config.step_down_ns / 2);
        if now < enough_until {
            (self.ask_at, self.asks_since) = (enough_until, NEVER);
            return (None, false);
        }
        self.asks_since = self.asks_since.min(now);
        let lost = now >= self.asks_since + config.step_down_ns / 2;
        // More than once before it counts as lost: a datagram may be.
        self.ask_at = now + (config.step_down_ns / 8).max(1);
        let ReplicaConfig { config_hash, born, .. } = *config;
        (Some(PeerMessage::Hello { config_hash, born }), lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP_DOWN: u64 = 800;

    fn config(members: usize) -> ReplicaConfig {
        ReplicaConfig { step_down_ns: STEP_DOWN, ..ReplicaConfig::new(ReplicaId(1), members, 1, 0) }
    }

    fn asks(contact: &mut Contact, now: u64, config: &ReplicaConfig) -> (bool, bool) {
        let (question, lost) = contact.tick(now, config);
        (question.is_some(), lost)
    }

    #[test]
    fn a_quorum_is_asked_for_before_it_counts_as_lost() {
        let config = config(5);
        let mut contact = Contact::new(0, &config);
        assert_eq!(asks(&mut contact, 399, &config), (false, false));
        assert_eq!(asks(&mut contact, 400, &config), (true, false));
        assert_eq!(asks(&mut contact, 499, &config), (false, false), "not all the time");
        contact.hear(450, ReplicaId(0));
        assert_eq!(asks(&mut contact, 500, &config), (true, false), "one of four is no quorum");
        contact.hear(550, ReplicaId(4));
        assert_eq!(asks(&mut contact, 600, &config), (false, false));
        assert_eq!(contact.deadline(), 450 + 400, "two of four, the earlier of them");
        for now in [850, 950, 1050, 1150] {
            assert_eq!(asks(&mut contact, now, &config), (true, false));
        }
        assert_eq!(asks(&mut contact, 1250, &config), (true, true));

        let mut stopped = Contact::new(0, &config);
        assert_eq!(asks(&mut stopped, 10_000, &config), (true, false), "it asks first");
    }

    #[test]
    fn who_is_alone_has_its_quorum() {
        let mut alone = ReplicaConfig { me: ReplicaId(0), ..config(1) };
        alone.step_down_ns = 1;
        let mut contact = Contact::new(0, &alone);
        assert_eq!(asks(&mut contact, 1_000_000, &alone), (false, false));
        assert_eq!(contact.deadline(), NEVER);
    }
}
