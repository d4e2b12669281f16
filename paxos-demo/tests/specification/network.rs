//! The network: a set of messages that only grows.
//!
//! Every message that was ever sent can be delivered at any time, any number of times, or never. So loss,
//! duplication and reordering need no steps of their own.

use crate::state::{Id, Life, Log, Op, Value, View};

/// Leader to all: log this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prepare {
    pub from: Id,
    pub view: View,
    pub opening: Life,
    pub op: Op,
    pub value: Value,
}

/// "I hold 1..=op as this opening of this view's leader ordered them" (F9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ack {
    pub from: Id,
    pub life: Life,
    pub view: View,
    pub opening: Life,
    pub op: Op,
    /// The source address is that of `from`.
    pub genuine: bool,
}

/// DoViewChange: the vote for a new view. (StartViewChange is sent with it and says nothing that it does not.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vote {
    pub from: Id,
    pub life: Life,
    pub view: View,
    pub last_normal_view: View,
    pub log: Log,
}

/// A log that a leader offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offer {
    pub kind: OfferKind,
    pub view: View,
    pub opening: Life,
    pub log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OfferKind {
    /// StartView: the log with which the view starts.
    Start,
    /// NewState: state transfer, the log as it was at some later time.
    State,
}

/// Answer to a Recovery. The nonce of the question is the life that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Answer {
    pub from: Id,
    pub to: Id,
    pub life: Life,
    pub view: View,
    pub opening: Life,
    /// Only the view's leader sends its log.
    pub log: Option<Log>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    prepares: Vec<Prepare>,
    acks: Vec<Ack>,
    votes: Vec<Vote>,
    offers: Vec<Offer>,
    answers: Vec<Answer>,
}

/// No replica has this number.
const STRANGER: Id = 9;

impl Network {
    /// Nobody has sent anything, but for an attacker (A7): a Prepare whose source is not the leader's, an ack
    /// that claims to be a member's, and one of no member.
    pub fn with_forgeries() -> Self {
        let forged = Value { op: 1, view: 0, life: 0 };
        let ack = |from| Ack { from, life: 1, view: 0, opening: 1, op: 1, genuine: false };
        Self {
            prepares: vec![Prepare { from: STRANGER, view: 0, opening: 1, op: 1, value: forged }],
            acks: vec![ack(2), ack(STRANGER)],
            votes: Vec::new(),
            offers: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub fn prepares(&self) -> &[Prepare] {
        &self.prepares
    }

    /// All acks, of which the cumulative ones stand for the smaller ones before them.
    pub fn acks(&self) -> &[Ack] {
        &self.acks
    }

    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }

    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }

    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    pub fn send_prepare(&mut self, prepare: Prepare) {
        insert(&mut self.prepares, prepare);
    }

    /// Acks are cumulative: only the highest of an opening is kept, for a leader that hears it needs no other,
    /// and a leader that hears none is a leader that did not look.
    pub fn send_ack(&mut self, ack: Ack) {
        let same = |other: &Ack| Ack { op: ack.op, ..*other } == ack;
        match self.acks.iter_mut().find(|other| same(other)) {
            Some(other) => other.op = other.op.max(ack.op),
            None => insert(&mut self.acks, ack),
        }
    }

    pub fn send_vote(&mut self, vote: Vote) {
        insert(&mut self.votes, vote);
    }

    pub fn send_offer(&mut self, offer: Offer) {
        insert(&mut self.offers, offer);
    }

    pub fn send_answer(&mut self, answer: Answer) {
        insert(&mut self.answers, answer);
    }

    /// What that opening of a view's leader ordered at `op`: inherited with the view, or proposed in it.
    pub fn ordered(&self, view: View, opening: Life, op: Op) -> Option<Value> {
        let started = self
            .offers
            .iter()
            .find(|offer| (offer.kind, offer.view, offer.opening) == (OfferKind::Start, view, opening))
            .and_then(|offer| offer.log.get(op));
        let proposed = || {
            let one = |p: &&Prepare| (p.view, p.opening, p.op) == (view, opening, op) && p.from != STRANGER;
            self.prepares.iter().find(one).map(|prepare| prepare.value)
        };
        started.or_else(proposed)
    }
}

/// Into a sorted set without duplicates.
fn insert<T: Ord>(set: &mut Vec<T>, message: T) {
    if let Err(place) = set.binary_search(&message) {
        set.insert(place, message);
    }
}
