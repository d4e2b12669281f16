//! Messages between the nodes as datagrams: several small ones in one, or one large one in several.
//!
//! Behind the tag of everything that replicas say to each other comes a byte that says which:
//!
//! | byte | then |
//! |---|---|
//! | 0 | messages (bincode), back to back |
//! | 1 | `id u32`, `index u16`, `count u16` (little-endian), and a part of one message |
//!
//! Only what brings a member up to date is large. Of a message in parts nothing is kept when one is missing or comes
//! out of turn: to the library it is lost, like any other.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use electrode::types::ReplicaId;
use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::PaxosMsg;
use paxos_demo::message::TAG_PEER;

use super::Op;

const WHOLE: u8 = 0;
const PART: u8 = 1;
/// Tag and kind.
const HEAD_BYTES: usize = 2;
const PART_HEAD_BYTES: usize = HEAD_BYTES + 8;
/// Longest message; a longer one is not sent.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MESSAGE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();

/// Why a datagram says nothing.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not what bincode writes.
    #[error("message between nodes is malformed: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// Not even a head.
    #[error("datagram of {0} bytes between nodes has no head that makes sense")]
    Head(usize),
}

/// What is on its way to one member.
#[derive(Debug, Default)]
struct Lane {
    /// A datagram that is not full yet; empty, or at least a head.
    bytes: Vec<u8>,
    /// There is something in it that somebody waits for.
    urgent: bool,
}

/// Messages that wait to be sent.
#[derive(Debug)]
pub struct Outbox {
    datagram_bytes_max: usize,
    lanes: Vec<Lane>,
    /// Full datagrams, in order.
    full: Vec<(ReplicaId, Vec<u8>)>,
    last_id: u32,
}

impl Outbox {
    /// For a group of so many members, where a datagram holds `datagram_bytes_max`.
    pub fn new(members: usize, datagram_bytes_max: usize) -> Self {
        let lanes = (0..members).map(|_| Lane::default()).collect();
        Self { datagram_bytes_max, lanes, full: Vec::new(), last_id: 0 }
    }

    /// Queues a message for its receiver.
    pub fn push(&mut self, message: &Message<Op>) {
        let to = member_of(message.get_receiver());
        let Some(lane) = to.and_then(|to| self.lanes.get_mut(to.index())) else { return };
        let to = to.expect("it has a lane");
        if lane.bytes.is_empty() {
            lane.bytes.extend([TAG_PEER, WHOLE]);
        }
        let start = lane.bytes.len();
        if let Err(error) = bincode::serde::encode_into_std_write(message, &mut lane.bytes, CONFIG) {
            eprintln!("warning: a message to {to} is not sent: {error}");
            lane.bytes.truncate(start);
            return;
        }
        if lane.bytes.len() > self.datagram_bytes_max {
            let message = lane.bytes.split_off(start);
            let before = std::mem::take(&mut lane.bytes);
            if before.len() > HEAD_BYTES {
                self.full.push((to, before));
            }
            if HEAD_BYTES + message.len() > self.datagram_bytes_max {
                lane.urgent = false;
                return self.push_parts(to, &message);
            }
            lane.bytes.extend([TAG_PEER, WHOLE]);
            lane.bytes.extend(message);
            lane.urgent = false;
        }
        lane.urgent |= !can_wait(message);
    }

    fn push_parts(&mut self, to: ReplicaId, message: &[u8]) {
        let room = self.datagram_bytes_max - PART_HEAD_BYTES;
        let Ok(count) = u16::try_from(message.len().div_ceil(room)) else {
            eprintln!("warning: a message of {} bytes to {to} is not sent", message.len());
            return;
        };
        self.last_id = self.last_id.wrapping_add(1);
        for (index, part) in (0..count).zip(message.chunks(room)) {
            let mut datagram = Vec::with_capacity(PART_HEAD_BYTES + part.len());
            datagram.extend([TAG_PEER, PART]);
            datagram.extend(self.last_id.to_le_bytes());
            datagram.extend(index.to_le_bytes());
            datagram.extend(count.to_le_bytes());
            datagram.extend(part);
            self.full.push((to, datagram));
        }
    }

    /// Hands over the datagrams, in order for each member. Those with nothing but decided indexes and the like stay,
    /// unless `all` says that they have waited long enough.
    pub fn take<E>(
        &mut self,
        all: bool,
        mut send: impl FnMut(ReplicaId, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (to, datagram) in self.full.drain(..) {
            send(to, &datagram)?;
        }
        for (to, lane) in (0..).map(ReplicaId).zip(&mut self.lanes) {
            if !lane.bytes.is_empty() && (lane.urgent || all) {
                send(to, &lane.bytes)?;
                lane.bytes.clear();
                lane.urgent = false;
            }
        }
        Ok(())
    }

    /// Whether something waits for company.
    pub fn has_waiting(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.bytes.is_empty())
    }
}

/// The member that the library calls by this number: it counts from 1.
pub fn member_of(node: u64) -> Option<ReplicaId> {
    node.checked_sub(1).and_then(|index| u8::try_from(index).ok()).map(ReplicaId)
}

/// Nobody waits for a decided index, or to trim the log.
fn can_wait(message: &Message<Op>) -> bool {
    let Message::SequencePaxos(message) = message else { return false };
    matches!(message.msg, PaxosMsg::Decide(_) | PaxosMsg::Compaction(_))
}

/// A message of which parts are there.
#[derive(Debug, Default)]
struct Partial {
    id: u32,
    next: u16,
    bytes: Vec<u8>,
}

/// Datagrams of the others, made into messages.
#[derive(Debug)]
pub struct Inbox {
    partial: Vec<Partial>,
}

impl Inbox {
    /// For a group of so many members.
    pub fn new(members: usize) -> Self {
        Self { partial: (0..members).map(|_| Partial::default()).collect() }
    }

    /// Appends what a member's datagram completes to `messages`; `bytes` is what follows the tag.
    pub fn take(
        &mut self,
        from: ReplicaId,
        bytes: &[u8],
        messages: &mut Vec<Message<Op>>,
    ) -> Result<(), WireError> {
        match bytes.split_first() {
            Some((&WHOLE, rest)) => decode(from, rest, messages),
            Some((&PART, rest)) => {
                let head = rest.split_first_chunk::<8>().ok_or(WireError::Head(bytes.len()))?;
                let (&[a, b, c, d, e, f, g, h], part) = head;
                let id = u32::from_le_bytes([a, b, c, d]);
                let (index, count) = (u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h]));
                let partial = self.partial.get_mut(from.index()).ok_or(WireError::Head(bytes.len()))?;
                if index == 0 {
                    *partial = Partial { id, ..Partial::default() };
                }
                if partial.id != id || partial.next != index || partial.bytes.len() > MESSAGE_BYTES_MAX {
                    return Ok(());
                }
                partial.bytes.extend_from_slice(part);
                partial.next += 1;
                if partial.next < count {
                    return Ok(());
                }
                decode(from, &std::mem::take(partial).bytes, messages)
            }
            _ => Err(WireError::Head(bytes.len())),
        }
    }
}

fn decode(from: ReplicaId, mut bytes: &[u8], messages: &mut Vec<Message<Op>>) -> Result<(), WireError> {
    while !bytes.is_empty() {
        let (message, read): (Message<Op>, _) = bincode::serde::decode_from_slice(bytes, CONFIG)?;
        // A member speaks for itself.
        if member_of(message.get_sender()) == Some(from) {
            messages.push(message);
        }
        bytes = &bytes[read..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use omnipaxos::messages::sequence_paxos::{AcceptDecide, Decide, PaxosMessage};
    use omnipaxos::util::SequenceNumber;

    const DATAGRAM: usize = 200;

    fn accept(to: u64, commands: &[usize]) -> Message<Op> {
        let entries = (1..)
            .zip(commands)
            .map(|(request, bytes)| Op { client: u64::MAX, request, command: Bytes::from(vec![7; *bytes]) })
            .collect();
        let seq_num = SequenceNumber::default();
        let msg =
            PaxosMsg::AcceptDecide(AcceptDecide { n: Default::default(), seq_num, decided_idx: 3, entries });
        Message::SequencePaxos(PaxosMessage { from: 1, to, msg })
    }

    fn decide(to: u64, decided_idx: usize) -> Message<Op> {
        let msg = PaxosMsg::Decide(Decide {
            n: Default::default(),
            seq_num: SequenceNumber::default(),
            decided_idx,
        });
        Message::SequencePaxos(PaxosMessage { from: 1, to, msg })
    }

    /// What leaves, by receiver.
    fn sent(outbox: &mut Outbox, decides: bool) -> Vec<(usize, Vec<u8>)> {
        let mut all = Vec::new();
        outbox
            .take(decides, |to, datagram| {
                assert!(datagram.len() <= DATAGRAM);
                all.push((to.index(), datagram.to_vec()));
                Ok::<_, ()>(())
            })
            .unwrap();
        all
    }

    fn received(datagrams: &[(usize, Vec<u8>)]) -> Vec<String> {
        let mut inbox = Inbox::new(3);
        let mut messages = Vec::new();
        for (_, datagram) in datagrams {
            assert_eq!(datagram[0], TAG_PEER);
            inbox.take(ReplicaId(0), &datagram[1..], &mut messages).unwrap();
        }
        messages.iter().map(|message| format!("{message:?}")).collect()
    }

    fn texts(messages: &[Message<Op>]) -> Vec<String> {
        messages.iter().map(|message| format!("{message:?}")).collect()
    }

    #[test]
    fn messages_of_any_size_arrive_whole_and_in_order() {
        let messages = [
            decide(2, 1),
            accept(2, &[10, 20]),
            accept(2, &[DATAGRAM]),
            accept(2, &[150]),
            accept(2, &[DATAGRAM * 9, 0, 5]),
            decide(2, 2),
        ];
        let mut outbox = Outbox::new(3, DATAGRAM);
        messages.iter().for_each(|message| outbox.push(message));
        let datagrams = sent(&mut outbox, true);
        assert!(datagrams.iter().all(|(to, _)| *to == 1));
        assert_eq!(received(&datagrams), texts(&messages));
        assert!(!outbox.has_waiting() && sent(&mut outbox, true).is_empty(), "all of it has left");
    }

    #[test]
    fn decided_indexes_wait_for_company() {
        let mut outbox = Outbox::new(3, DATAGRAM);
        outbox.push(&decide(2, 1));
        outbox.push(&decide(3, 1));
        assert_eq!(sent(&mut outbox, false), []);
        outbox.push(&accept(2, &[8]));
        let together = sent(&mut outbox, false);
        assert_eq!((together.len(), received(&together).len()), (1, 2));
        assert!(outbox.has_waiting(), "for member 2");
        assert_eq!(sent(&mut outbox, true).len(), 1);
    }

    #[test]
    fn of_a_message_without_one_of_its_parts_nothing_is_left() {
        let mut outbox = Outbox::new(3, DATAGRAM);
        outbox.push(&accept(2, &[DATAGRAM * 4]));
        let parts = sent(&mut outbox, true);
        for missing in 0..parts.len() {
            let mut rest = parts.clone();
            rest.remove(missing);
            // The next one is whole again.
            rest.extend(parts.iter().cloned());
            assert_eq!(received(&rest).len(), 1);
            // Another one twice does not make up for it.
            let mut twice = parts.clone();
            twice[missing] = parts[(missing + 1) % parts.len()].clone();
            assert_eq!(received(&twice).len(), 0, "without part {missing}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_nobody_speaks_for_another() {
        let mut outbox = Outbox::new(3, DATAGRAM);
        outbox.push(&accept(2, &[8]));
        let datagram = sent(&mut outbox, true).remove(0).1;
        let mut messages = Vec::new();
        let mut inbox = Inbox::new(3);
        inbox.take(ReplicaId(2), &datagram[1..], &mut messages).unwrap();
        assert!(messages.is_empty(), "member 2 in the name of member 0");
        for cut in 3..datagram.len() {
            assert!(inbox.take(ReplicaId(0), &datagram[1..cut], &mut messages).is_err(), "cut to {cut}");
        }
        assert!(inbox.take(ReplicaId(0), &[], &mut messages).is_err());
        assert!(inbox.take(ReplicaId(0), &[9, 0], &mut messages).is_err());
        assert!(inbox.take(ReplicaId(0), &[PART, 1, 2], &mut messages).is_err());
        assert!(messages.is_empty());
    }
}
