//! The endpoint's events become the replica's inputs.

use std::collections::VecDeque;
use std::net::SocketAddr;

use electrode::Event;
use electrode::types::OpNumber;

use crate::codec;
use crate::message::Packet;
use crate::replica::{Action, Replica};

/// Status requests answered between two polls; more are dropped, for anybody can ask.
const STATUS_MAX: usize = 4;
/// Warnings of one kind are printed once in so many nanoseconds.
const WARN_EVERY_NS: u64 = 1_000_000_000;

/// Sees what the endpoint hands to the replica and what the replica wants done, for checkers.
pub trait Observer: Send {
    /// Is about to be handed to the replica.
    fn event(&mut self, event: &Event<'_>);
    /// Is about to be carried out.
    fn action(&mut self, action: &Action);
}

/// A status request.
#[derive(Copy, Clone, Debug)]
pub(super) struct Asked {
    pub by: SocketAddr,
    pub nonce: u64,
    /// Longest reply: whoever asks in somebody else's name has others send no more than it sends itself.
    pub bytes_max: usize,
}

/// Where the endpoint's events go.
#[derive(Default)]
pub(super) struct Inbox {
    /// Status requests to answer.
    pub asked: VecDeque<Asked>,
    warned_at: u64,
    pub observer: Option<Box<dyn Observer>>,
}

impl Inbox {
    /// Tells the operator; where somebody observes, there is none.
    pub fn warn(&self, warning: &str) {
        if self.observer.is_none() {
            eprintln!("warning: {warning}");
        }
    }

    pub fn take(&mut self, replica: &mut Replica, now: u64, event: &Event<'_>) {
        if let Some(observer) = &mut self.observer {
            observer.event(event);
        }
        match *event {
            Event::Logged { view, first, last, payload } => {
                replica.on_logged(now, view, first, last, OpNumber(0), payload);
            }
            Event::Commit { view, commit } => replica.on_commit(view, commit),
            Event::Quorum { last, .. } => replica.on_quorum(now, last),
            Event::Gap { have, missing } => replica.on_gap(now, have, missing),
            Event::NewerView { view, .. } => replica.on_newer_view(now, view),
            Event::Message { from, sender, incarnation, fresh, payload } => match Packet::parse(payload) {
                Ok(Packet::Request(request)) => replica.on_request(now, from, request),
                Ok(Packet::Part(part)) => replica.on_part(now, from, part),
                Ok(Packet::Have(have)) => replica.on_have(now, from, have),
                Ok(Packet::Peer(bytes)) => {
                    if let (Some(sender), Ok(message)) = (sender, codec::decode(bytes)) {
                        if fresh {
                            replica.on_member_heard(now, sender, incarnation);
                            replica.on_peer_message(now, sender, incarnation, message);
                        } else {
                            replica.on_old_message(now, sender, incarnation, message);
                        }
                    }
                }
                Ok(Packet::StatusRequest { nonce, bytes }) if self.asked.len() < STATUS_MAX => {
                    self.asked.push_back(Asked { by: from, nonce, bytes_max: bytes });
                }
                Ok(Packet::StatusRequest { .. }) => {}
                // Replies are for clients; what is malformed was counted by nobody's wish.
                Ok(Packet::Reply(_) | Packet::StatusReply { .. }) | Err(_) => {}
            },
            Event::Misconfigured { from, config_hash, keys_differ }
                if now.saturating_sub(self.warned_at) >= WARN_EVERY_NS =>
            {
                self.warned_at = now;
                self.warn(&if keys_differ {
                    format!(
                        "{from} is not heard: one of us has a key, the other has none; give every member the key, \
                         or none"
                    )
                } else {
                    format!(
                        "{from} has another configuration (hash {config_hash:#018x}): not heard; give every \
                         member the same cluster.toml"
                    )
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::PeerMessage;
    use crate::replica::ReplicaConfig;
    use electrode::types::{ReplicaId, View};

    const HASH: u64 = 5;

    /// What replica 0 of three does about a message from there.
    fn takes(replica: &mut Replica, sender: Option<u8>, fresh: bool, message: &PeerMessage) -> Vec<Action> {
        let payload = codec::encode(message);
        let from = ([10, 0, 0, 2], 7100).into();
        let sender = sender.map(ReplicaId);
        let event = Event::Message { from, sender, incarnation: 7, fresh, payload: &payload };
        Inbox::default().take(replica, 0, &event);
        std::iter::from_fn(|| replica.next_action()).collect()
    }

    fn replica() -> Replica {
        let mut replica = Replica::new(0, ReplicaConfig::new(ReplicaId(0), 3, 1, HASH)).unwrap();
        while replica.next_action().is_some() {}
        replica
    }

    /// Whoever sends it, from whatever address: no member, no message between members.
    #[test]
    fn messages_between_members_are_members() {
        let hello = PeerMessage::Hello { config_hash: HASH, born: 7 };
        for sender in [None, Some(0), Some(3), Some(255)] {
            assert_eq!(takes(&mut replica(), sender, true, &hello), [], "{sender:?}");
        }
        assert_ne!(takes(&mut replica(), Some(1), true, &hello), []);
    }

    #[test]
    fn a_question_that_was_heard_before_is_not_answered() {
        let mut replica = replica();
        takes(&mut replica, Some(1), true, &PeerMessage::Hello { config_hash: HASH, born: 7 });
        let welcome = PeerMessage::Welcome { config_hash: HASH, incarnation: 1, born: 7 };
        takes(&mut replica, Some(1), true, &welcome);
        replica.on_tick(u64::MAX / 2);
        while replica.next_action().is_some() {}
        assert!(replica.is_leading());
        let question = PeerMessage::AskStartView { view: View(0) };
        assert_eq!(takes(&mut replica, Some(1), false, &question), []);
        assert_eq!(takes(&mut replica, Some(1), true, &question).len(), 1);
    }
}
