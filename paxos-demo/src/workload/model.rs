//! What one session asks and what the answers have to be.
//!
//! A session's keys begin with its id, so nobody else writes them, and every value it writes is unique: the
//! model is exact. An answer that belongs to another session, an older write or a write that was lost cannot pass.

use crate::state_machine::{COMMAND_HEADER_BYTES, Command, Outcome};

/// Keys of a session.
const KEYS: usize = 4;
const KEY_BYTES: usize = 9;
/// One request in so many reads, ...
const GET_EVERY: u64 = 8;
/// ... and one in so many deletes.
const DELETE_EVERY: u64 = 64;

/// Bytes of a command besides the value.
pub const COMMAND_OVERHEAD_BYTES: usize = COMMAND_HEADER_BYTES + KEY_BYTES;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Asked {
    Set { key: usize, counter: u64 },
    Get { key: usize },
    Delete { key: usize },
}

/// The model of one session.
#[derive(Debug)]
pub struct Model {
    id: u64,
    counter: u64,
    asked: Asked,
    /// The counter of the write that each key holds.
    keys: [Option<u64>; KEYS],
    value: Vec<u8>,
    checks: usize,
}

impl Model {
    /// A session whose keys nobody has written yet.
    pub fn new(id: u64, payload_bytes: usize) -> Self {
        Self {
            id,
            counter: 0,
            asked: Asked::Get { key: 0 },
            keys: [None; KEYS],
            value: vec![0; payload_bytes],
            checks: 0,
        }
    }

    /// Appends the next command.
    pub fn next(&mut self, command: &mut Vec<u8>) {
        self.counter += 1;
        let counter = self.counter;
        let key = |n: u64| (n % KEYS as u64) as usize;
        self.asked = if counter.is_multiple_of(DELETE_EVERY) {
            Asked::Delete { key: key(counter / DELETE_EVERY) }
        } else if counter > DELETE_EVERY && counter % DELETE_EVERY == 1 {
            // What was just deleted has to be gone.
            Asked::Get { key: key(counter / DELETE_EVERY) }
        } else if counter.is_multiple_of(GET_EVERY) {
            Asked::Get { key: key(counter / GET_EVERY) }
        } else {
            Asked::Set { key: key(counter), counter }
        };
        self.encode(command);
    }

    /// Appends a read of a key that was not read for this purpose yet; false if all were.
    pub fn next_check(&mut self, command: &mut Vec<u8>) -> bool {
        if self.checks == KEYS {
            return false;
        }
        self.asked = Asked::Get { key: self.checks };
        self.checks += 1;
        self.encode(command);
        true
    }

    /// Appends a command as long as the longest.
    pub fn longest_command(&mut self, command: &mut Vec<u8>) {
        self.asked = Asked::Set { key: 0, counter: 0 };
        self.encode(command);
    }

    fn encode(&mut self, command: &mut Vec<u8>) {
        let (Asked::Set { key, .. } | Asked::Get { key } | Asked::Delete { key }) = self.asked;
        let key = key_of(self.id, key);
        let encoded = match self.asked {
            Asked::Set { counter, .. } => {
                write_value(self.id, counter, &mut self.value);
                Command::Set { key: &key, value: &self.value }.encode(command)
            }
            Asked::Get { .. } => Command::Get { key: &key }.encode(command),
            Asked::Delete { .. } => Command::Del { key: &key }.encode(command),
        };
        encoded.expect("a short key");
    }

    /// Checks the answer to the last command and remembers what it did.
    pub fn check(&mut self, result: &[u8]) -> Result<(), String> {
        let outcome = Outcome::parse(result).map_err(|error| format!("unreadable answer: {error}"))?;
        let wrong =
            |expected: &str| Err(format!("{:?} was answered {outcome:?}, expected {expected}", self.asked));
        match self.asked {
            Asked::Set { key, counter } => {
                if outcome != Outcome::Done {
                    return wrong("done");
                }
                self.keys[key] = Some(counter);
            }
            Asked::Get { key } => match self.keys[key] {
                None if outcome == Outcome::Absent => {}
                None => return wrong("absent"),
                Some(counter) => {
                    write_value(self.id, counter, &mut self.value);
                    if outcome != Outcome::Value(&self.value) {
                        return wrong(&format!("the value of write {counter}"));
                    }
                }
            },
            Asked::Delete { key } => {
                let expected = if self.keys[key].is_some() { Outcome::Done } else { Outcome::Absent };
                if outcome != expected {
                    return wrong(&format!("{expected:?}"));
                }
                self.keys[key] = None;
            }
        }
        Ok(())
    }
}

fn key_of(id: u64, key: usize) -> [u8; KEY_BYTES] {
    let mut bytes = [key as u8; KEY_BYTES];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes
}

/// Fills a value that no other write of any session has, as far as its size allows.
fn write_value(id: u64, counter: u64, value: &mut [u8]) {
    let mut head = [0; 16];
    head[..8].copy_from_slice(&counter.to_le_bytes());
    head[8..].copy_from_slice(&id.to_le_bytes());
    let split = value.len().min(head.len());
    let (front, rest) = value.split_at_mut(split);
    front.copy_from_slice(&head[..split]);
    for (i, byte) in rest.iter_mut().enumerate() {
        *byte = (counter as u8).wrapping_add(i as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_machine::KvStore;

    fn answer(store: &mut KvStore, command: &[u8]) -> Vec<u8> {
        let mut result = Vec::new();
        // As a leader does: a read is no op, and may return more.
        if Command::parse(command).unwrap().is_read() {
            store.read(command, &mut result);
        } else {
            store.apply(command, &mut result);
        }
        result
    }

    #[test]
    fn a_correct_store_passes_with_every_kind_of_request() {
        for payload_bytes in [0, 3, 8, 64, 1300] {
            let mut store = KvStore::default();
            let mut sessions = [Model::new(1, payload_bytes), Model::new(2, payload_bytes)];
            let (mut gets, mut deletes, mut absent) = (0, 0, 0);
            for _ in 0..1000 {
                for session in &mut sessions {
                    let mut command = Vec::new();
                    session.next(&mut command);
                    gets += u32::from(matches!(session.asked, Asked::Get { .. }));
                    deletes += u32::from(matches!(session.asked, Asked::Delete { .. }));
                    let result = answer(&mut store, &command);
                    absent += u32::from(Outcome::parse(&result) == Ok(Outcome::Absent));
                    session.check(&result).unwrap();
                }
            }
            assert!(gets > 200 && deletes > 20 && absent > 0, "{gets} {deletes} {absent}");
            for session in &mut sessions {
                let mut checks = 0;
                let mut command = Vec::new();
                while session.next_check(&mut command) {
                    session.check(&answer(&mut store, &command)).unwrap();
                    command.clear();
                    checks += 1;
                }
                assert_eq!(checks, KEYS);
            }
        }
    }

    /// Runs until the first wrong answer; the store loses or mixes up writes as `harm` says.
    fn first_complaint(harm: impl Fn(u64, &mut Vec<u8>)) -> Option<String> {
        let mut store = KvStore::default();
        let mut session = Model::new(7, 64);
        for n in 0..200 {
            let mut command = Vec::new();
            session.next(&mut command);
            harm(n, &mut command);
            if let Err(text) = session.check(&answer(&mut store, &command)) {
                return Some(text);
            }
        }
        None
    }

    #[test]
    fn wrong_stores_are_found_out() {
        assert_eq!(first_complaint(|_, _| {}), None);
        // A write is answered and lost.
        let lost = first_complaint(|n, command| {
            if n == 4 {
                command[COMMAND_HEADER_BYTES..COMMAND_OVERHEAD_BYTES].fill(9);
            }
        });
        assert!(lost.is_some());
        // A value is one byte off.
        let bent = first_complaint(|n, command| {
            if n == 4 {
                *command.last_mut().unwrap() ^= 1;
            }
        });
        assert!(
            bent.unwrap().contains("expected the value of write 5"),
            "n = 4 is write 5, to the key read next"
        );
    }

    #[test]
    fn an_answer_of_the_wrong_kind_is_a_complaint() {
        let mut session = Model::new(7, 8);
        session.next(&mut Vec::new());
        assert!(session.check(&[]).unwrap_err().contains("unreadable"));
        assert!(session.check(&[0]).unwrap_err().contains("expected done"));
        assert!(session.check(&[1]).is_ok());
    }

    #[test]
    fn values_are_unique_across_writes_and_sessions() {
        let value = |id, counter| {
            let mut value = vec![0; 16];
            write_value(id, counter, &mut value);
            value
        };
        assert_ne!(value(1, 1), value(1, 2));
        assert_ne!(value(1, 1), value(2, 1));
    }
}
